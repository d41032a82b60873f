// ShortString: AMQP's string of at most 255 bytes, kept as the bytes that were received.

import MillraceBase

/// A short string: at most 255 bytes, by convention UTF-8, without a copy of what was received.
///
/// It keeps the memory that it was read from alive; who stores one for long stores ``copied`` instead. Two are equal, and
/// hash alike, when their bytes do.
public struct ShortString: Hashable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
  /// The bytes.
  public let bytes: Bytes

  /// Most bytes that one may have.
  public static let limit = 255

  /// No bytes.
  public init() { bytes = Bytes() }

  /// These bytes, shared.
  /// - Returns: nil when there are more than 255.
  public init?(_ bytes: Bytes) {
    guard bytes.count <= ShortString.limit else { return nil }
    self.bytes = bytes
  }

  /// The UTF-8 of `text`, copied.
  /// - Returns: nil when it has more than 255 bytes.
  public init?(_ text: String) {
    guard text.utf8.count <= ShortString.limit else { return nil }
    bytes = Bytes(text)
  }

  /// A literal of at most 255 bytes; nothing is allocated.
  public init(stringLiteral text: StaticString) {
    precondition(text.hasPointerRepresentation, "a literal of one scalar")
    precondition(text.utf8CodeUnitCount <= ShortString.limit, "a short string of \(text.utf8CodeUnitCount) bytes")
    bytes = Bytes(owner: nil, start: UnsafeRawPointer(text.utf8Start), count: text.utf8CodeUnitCount)
  }

  /// Bytes whose number was checked.
  init(checked bytes: Bytes) { self.bytes = bytes }

  /// Length in bytes.
  public var count: Int { bytes.count }

  /// Whether there are no bytes.
  public var isEmpty: Bool { bytes.isEmpty }

  /// The bytes as text; invalid UTF-8 is replaced by U+FFFD.
  public var text: String { bytes.text }

  /// The same bytes in memory of their own, so that a whole receive buffer is not kept alive for a name.
  public var copied: ShortString {
    ShortString(checked: bytes.withBuffer { Bytes(copying: $0) })
  }

  /// Whether the bytes are the UTF-8 of `text`.
  public static func == (left: ShortString, right: String) -> Bool {
    guard left.count == right.utf8.count else { return false }
    return left.bytes.withBuffer { $0.elementsEqual(right.utf8) }
  }

  /// Hashes the bytes.
  public func hash(into hasher: inout Hasher) {
    bytes.withBuffer { hasher.combine(bytes: $0) }
  }

  /// The text.
  public var description: String { text }
}
