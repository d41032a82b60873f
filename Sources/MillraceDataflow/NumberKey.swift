// NumberKey: streams keyed by numbers.

import MillraceBase

/// A number, or two, as a key: 8 bytes each, big endian, which is cheaper to hash and to compare than text.
///
///     bids.keyBy { NumberKey($0.auction) }.count()
public struct NumberKey: StreamKey, ExchangeValue, Hashable, Sendable {
  /// The number.
  public let number: Int64
  /// The key of `number`.
  @inlinable public init(_ number: Int64) { self.number = number }
  /// It owns what it holds.
  public static var needsKeeping: Bool { false }
  /// The number's bytes.
  @inlinable @inline(__always)
  public func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
    var big = number.bigEndian
    withUnsafeBytes(of: &big) { body($0) }
  }
  /// The number from its 8 bytes; 0 from as many as no number has.
  @inlinable public init(keyBytes bytes: UnsafeRawBufferPointer) {
    number = bytes.count == 8 ? Int64(bigEndian: bytes.loadUnaligned(as: Int64.self)) : 0
  }
}

/// Two numbers as a key; see ``NumberKey``.
public struct NumberPairKey: StreamKey, ExchangeValue, Hashable, Sendable {
  /// The first one.
  public let first: Int64
  /// The second one.
  public let second: Int64
  /// The key of both.
  @inlinable public init(_ first: Int64, _ second: Int64) {
    self.first = first
    self.second = second
  }
  /// It owns what it holds.
  public static var needsKeeping: Bool { false }
  /// The bytes of both.
  @inlinable @inline(__always)
  public func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
    var big = (first.bigEndian, second.bigEndian)
    withUnsafeBytes(of: &big) { body($0) }
  }
  /// The numbers from their 16 bytes; 0 from as many as no two numbers have.
  @inlinable public init(keyBytes bytes: UnsafeRawBufferPointer) {
    guard bytes.count == 16 else {
      (first, second) = (0, 0)
      return
    }
    first = Int64(bigEndian: bytes.loadUnaligned(as: Int64.self))
    second = Int64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: Int64.self))
  }
}
