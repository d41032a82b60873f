// TLSRecords: where records end in a stream of ciphertext, by the lengths in their headers.

import MillraceBase

/// Follows a peer's records.
///
/// A record has a header of five bytes, of which the last two are how many follow; it is decrypted whole or not at all. Source: RFC 8446, 5.1.
struct TLSRecords {
  private static let headerSize = 5
  /// Change of cipher, alert, handshake, data of the application, heartbeat.
  private static let kinds: ClosedRange<UInt8> = 20...24
  /// Bytes of the header under way that have come.
  private var header = 0
  /// What follows the header under way, as far as it has come.
  private var length = 0
  /// Something came that is no record, such as the first message of a client that begins as SSL 2 did.
  private var isLost = false
  /// What followed the newest whole header.
  private var size = 0
  /// What of it has not come.
  private var rest = 0

  /// Ciphertext goes by.
  /// - Complexity: O(records).
  mutating func pass(_ bytes: Bytes) {
    bytes.withBuffer { buffer in
      var at = 0
      while at < buffer.count && !isLost {
        if rest > 0 {
          let step = min(rest, buffer.count - at)
          rest -= step
          at += step
          continue
        }
        if header == 0 && !TLSRecords.kinds.contains(buffer[at]) { isLost = true }
        if header >= TLSRecords.headerSize - 2 { length = length << 8 | Int(buffer[at]) }
        header += 1
        at += 1
        if header == TLSRecords.headerSize {
          rest = length
          size = length
          header = 0
          length = 0
        }
      }
    }
  }

  /// The least ciphertext that must come before there are `plain` bytes more; 0 when any may give some.
  ///
  /// The record under way gives at most what it holds, and each one holds more than it gives.
  func bytesBefore(_ plain: Int) -> Int { isLost ? 0 : rest + max(0, plain - (rest > 0 ? size : 0)) }
}
