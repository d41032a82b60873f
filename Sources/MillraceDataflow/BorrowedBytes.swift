// BorrowedBytes: bytes lent to an operator for the duration of a call, and the values that can be written as bytes.

import MillraceBase

/// Bytes of a record that is being processed. Valid only inside the call that receives them: copy what is to be kept.
public struct BorrowedBytes {
  /// The memory.
  public let buffer: UnsafeRawBufferPointer

  /// Lends `buffer`.
  @inlinable
  public init(_ buffer: UnsafeRawBufferPointer) { self.buffer = buffer }

  /// Number of bytes.
  @inlinable public var count: Int { buffer.count }
  /// The bytes as text; invalid UTF-8 is replaced by U+FFFD.
  public var text: String { String(decoding: buffer, as: UTF8.self) }
  /// A copy that may be kept.
  public var copy: Bytes { Bytes(copying: buffer) }
}

/// A value that can stand as a record's key or value.
public protocol BytesRepresentable: SendableMetatype {
  /// Calls `body` with the bytes, which are valid inside it only.
  func withBytes(_ body: (UnsafeRawBufferPointer) -> Void)
}

/// A value by which streams are keyed: equal keys have equal bytes.
public protocol StreamKey: BytesRepresentable {
  /// The key that ``BytesRepresentable/withBytes(_:)`` gave as `bytes`.
  init(keyBytes bytes: UnsafeRawBufferPointer)
}

/// A value that keyed state holds: 64 bits, or where it is.
public protocol StateValue {
  /// The value from its bits.
  init(stateBits: UInt64)
  /// The bits that go into the state log, unless there is a ``codec``.
  var stateBits: UInt64 { get }
  /// The bits for an entry of a table to keep.
  func ownedStateBits() -> UInt64
  /// What keeps values that the bits only say the place of; nil when the bits are the value.
  static var codec: (any StateCodec)? { get }
}

extension StateValue {
  /// The bits themselves.
  @inlinable public func ownedStateBits() -> UInt64 { stateBits }
  /// None.
  public static var codec: (any StateCodec)? { nil }
}

extension BorrowedBytes: StreamKey {
  /// The bytes themselves.
  @inlinable @inline(__always)
  public func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) { body(buffer) }
  /// Lends the bytes.
  @inlinable
  public init(keyBytes bytes: UnsafeRawBufferPointer) { buffer = bytes }
}

extension Bytes: StreamKey {
  /// The bytes themselves.
  @inlinable
  public func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
    body(buffer)
    extendLifetime(self)
  }
  /// A copy of the bytes.
  public init(keyBytes bytes: UnsafeRawBufferPointer) { self.init(copying: bytes) }
}

extension String: StreamKey {
  /// The UTF-8 of the text.
  @inlinable
  public func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
    var text = self
    text.withUTF8 { body(UnsafeRawBufferPointer($0)) }
  }
  /// The text of the UTF-8 bytes.
  public init(keyBytes bytes: UnsafeRawBufferPointer) { self = String(decoding: bytes, as: UTF8.self) }
}

extension Int64: BytesRepresentable, StateValue {
  /// The number as decimal text.
  public func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
    withUnsafeTemporaryAllocation(byteCount: 20, alignment: 1) { digits in
      var rest = magnitude
      var at = 20
      repeat {
        at -= 1
        digits[at] = UInt8(truncatingIfNeeded: 48 + rest % 10)
        rest /= 10
      } while rest > 0
      if self < 0 {
        at -= 1
        digits[at] = 45
      }
      body(UnsafeRawBufferPointer(rebasing: digits[at..<20]))
    }
  }
  /// The number from its two's complement.
  @inlinable public init(stateBits: UInt64) { self.init(bitPattern: stateBits) }
  /// Two's complement.
  @inlinable public var stateBits: UInt64 { UInt64(bitPattern: self) }
}

extension Double: BytesRepresentable, StateValue {
  /// The shortest decimal text that reads back as the same number.
  public func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) { description.withBytes(body) }
  /// The number from its IEEE 754 pattern.
  @inlinable public init(stateBits: UInt64) { self.init(bitPattern: stateBits) }
  /// IEEE 754 pattern.
  @inlinable public var stateBits: UInt64 { bitPattern }
}
