// ProcessFigures: what the system counts of this process.

import Glibc

/// Figures of this process.
public enum ProcessFigures {
  /// Processor time of all threads so far, in user mode and in the kernel.
  public static var processorTime: Duration {
    var usage = rusage()
    guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return .zero }
    return .seconds(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
      + .microseconds(Int64(usage.ru_utime.tv_usec) + Int64(usage.ru_stime.tv_usec))
  }

  /// Descriptors that are open; nil when the system does not say.
  public static var openDescriptors: Int? {
    var status = stat()
    // Linux 6.2 and newer tell their number as the size of the folder.
    if stat("/proc/self/fd", &status) == 0, status.st_size > 0 { return Int(status.st_size) }
    guard let folder = opendir("/proc/self/fd") else { return nil }
    defer { closedir(folder) }
    var count = 0
    while readdir(folder) != nil { count += 1 }
    // Without `.`, `..` and the folder's own.
    return max(0, count - 3)
  }

  /// How many may be open; nil without a limit.
  public static var mostDescriptors: UInt64? {
    var limit = rlimit()
    let which = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    guard getrlimit(which, &limit) == 0, limit.rlim_cur != rlim_t.max else { return nil }
    return UInt64(limit.rlim_cur)
  }
}
