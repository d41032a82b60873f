// ProcessMemory: how much memory this process holds.

import CMillraceSystem

/// Memory of this process.
public enum ProcessMemory {
  /// Bytes in physical memory now; 0 when the system does not say.
  public static var resident: Int64 { max(0, mr_resident_bytes()) }
  /// Gives memory that is not in use back to the system, which takes some time where there is much. Any thread may call.
  public static func trim() { mr_trim_memory() }
  /// The most bytes that were in physical memory at once; 0 when the system does not say.
  public static var peak: Int64 { max(0, mr_peak_resident_bytes()) }
}
