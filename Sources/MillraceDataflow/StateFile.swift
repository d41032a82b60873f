// StateFile: where keyed state lies that a job's memory has no room for.

import MillraceBase

/// A file of one segment of keyed state: written once from its beginning to its end, then read at any place. It need not
/// outlive the run: what is in it follows from the state log.
///
/// Used by one of the job's threads at a time. The file is given back when nobody holds the value any more.
public protocol StateFile: AnyObject, Sendable {
  /// Writes behind what was written before.
  /// - Throws: `.stateFileFailed` when not all of it was written; the file is not written to any more then.
  func append(_ bytes: UnsafeRawBufferPointer) throws(JobError)

  /// Fills `buffer` with what was written at `position`.
  /// - Throws: `.stateFileFailed`, also when not as much is there.
  func read(at position: Int, into buffer: UnsafeMutableRawBufferPointer) throws(JobError)
}

/// A state file in memory: for jobs that are tested, and to see what a job does when files fail.
///
/// Safety: `@unchecked Sendable` because a state file is used by one thread at a time.
public final class MemoryStateFile: StateFile, @unchecked Sendable {
  private var bytes: [UInt8] = []
  private let fault: @Sendable () -> Fault?

  /// What goes wrong in a call.
  public enum Fault: Sendable {
    /// The call fails.
    case fails
    /// There is no room for what is written.
    case isFull
    /// A bit of what is read is another one.
    case flipsBit
  }

  /// An empty file.
  /// - Parameter fault: asked in each call what goes wrong in it; nil when nothing does.
  public init(fault: @escaping @Sendable () -> Fault? = { nil }) { self.fault = fault }

  /// Appends.
  public func append(_ bytes: UnsafeRawBufferPointer) throws(JobError) {
    let fault = fault()
    guard fault != .fails, fault != .isFull else { throw JobError(.stateFileFailed, "write: there is no room") }
    self.bytes.append(contentsOf: bytes)
  }

  /// Copies.
  public func read(at position: Int, into buffer: UnsafeMutableRawBufferPointer) throws(JobError) {
    let fault = fault()
    guard fault != .fails, position >= 0, buffer.count <= bytes.count - position else {
      throw JobError(.stateFileFailed, "read: \(buffer.count) bytes at \(position) of \(bytes.count)")
    }
    buffer.copyBytes(from: bytes[position..<position + buffer.count])
    if fault == .flipsBit, !buffer.isEmpty { buffer[buffer.count / 2] ^= 16 }
  }
}
