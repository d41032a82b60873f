// CRC32C: the Castagnoli checksum that record batches, commits and blocks carry.

import CMillraceSystem

/// CRC-32C (polynomial 0x1EDC6F41). Source: RFC 3720, appendix B.4.
public enum CRC32C {
  /// The checksum of `buffer`, continuing from `seed` (0 to start).
  /// - Complexity: O(bytes), about 20 GB/s where the processor has the instruction.
  @inlinable
  public static func checksum(_ buffer: UnsafeRawBufferPointer, continuing seed: UInt32 = 0) -> UInt32 {
    guard let start = buffer.baseAddress else { return seed }
    return mr_crc32c(seed, start, buffer.count)
  }

  /// The checksum of two runs of bytes one behind the other, from the checksum of each and the second's length.
  /// - Complexity: O(log length), about half a microsecond; worth it from some KiB on.
  public static func combined(_ first: UInt32, _ second: UInt32, secondLength: Int) -> UInt32 {
    mr_crc32c_combine(first, second, secondLength)
  }

  /// The same by table, to compare against.
  public static func tableChecksum(_ buffer: UnsafeRawBufferPointer, continuing seed: UInt32 = 0) -> UInt32 {
    guard let start = buffer.baseAddress else { return seed }
    return mr_crc32c_table(seed, start, buffer.count)
  }
}
