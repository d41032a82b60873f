// SystemProbe: what the kernel says of this machine and this process, for those who advise the machine's owner.

import CMillraceSystem
import Glibc
import MillraceBase

/// Questions to the kernel. Any thread may ask; each call may block for a moment.
public enum SystemProbe {
  /// The kernel's clock. Source: adjtimex(2).
  public struct ClockState: Equatable, Sendable {
    /// Something, such as chrony or ntpd, keeps the clock by another one.
    public var isSynchronised: Bool
    /// How far it was off when that something looked last, in ns.
    public var offsetNanoseconds: Int64
    /// How far it may be off at most, in µs; 16,000,000 and more mean that nobody knows.
    public var largestErrorMicroseconds: Int64

    /// A state.
    public init(isSynchronised: Bool, offsetNanoseconds: Int64, largestErrorMicroseconds: Int64) {
      self.isSynchronised = isSynchronised
      self.offsetNanoseconds = offsetNanoseconds
      self.largestErrorMicroseconds = largestErrorMicroseconds
    }
  }

  /// How the clock is kept.
  public static func clock() throws(IOError) -> ClockState {
    var state = mr_clock_state()
    try IOError.check(mr_clock_state(&state), "ask for", "the clock's state")
    return ClockState(
      isSynchronised: state.is_synchronised != 0, offsetNanoseconds: state.offset_ns,
      largestErrorMicroseconds: state.largest_error_us)
  }

  /// The magic number of the file system that holds `path`. Source of the numbers: statfs(2).
  public static func fileSystemType(_ path: String) throws(IOError) -> Int64 {
    try IOError.check(mr_file_system_type(path), "ask for the file system of", path)
  }

  /// Why there is no io_uring; nil when there is.
  public static func ringProblem() -> IOError? {
    var error: Int32 = 0
    guard let ring = mr_ring_create(1, &error) else { return IOError.system(-error, "create", "io_uring") }
    mr_ring_destroy(ring)
    return nil
  }

  /// Descriptors that this process may have open: now, and as far as it may raise that itself.
  public static var openFiles: (now: UInt64, most: UInt64) {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return (0, 0) }
    return (UInt64(limit.rlim_cur), UInt64(limit.rlim_max))
  }

  /// Whether this process may do so with a path. Source: access(2); `mode` are R_OK, W_OK and X_OK.
  public static func mayAccess(_ path: String, _ mode: Int32) -> Bool { access(path, mode) == 0 }

  /// The user that this process acts as.
  public static var user: UInt32 { geteuid() }
}
