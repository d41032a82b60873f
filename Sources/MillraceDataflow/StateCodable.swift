// StateCodable: values of any size that keyed state holds, and how they stand in the state log.
//
// A value in the state log begins with a fingerprint of its encoding's name, uint32, so that a job whose state has become of
// another type is refused instead of reading nonsense. Then comes what the type writes.

import MillraceBase

/// What reading state back throws: our own error, under a name that does not hide the one of the standard library.
public typealias StateDecodingError = DecodingError

/// A value that keyed state holds, of any size.
///
///     struct Visit: StateCodable {
///       var page: String
///       var seconds: Int64
///       static var stateEncoding: String { "visit/1" }
///       func encode(into writer: inout ByteWriter) {
///         page.encode(into: &writer)
///         seconds.encode(into: &writer)
///       }
///       init(from reader: inout ByteReader) throws(StateDecodingError) {
///         page = try String(from: &reader)
///         seconds = try Int64(from: &reader)
///       }
///     }
public protocol StateCodable: ExchangeValue, SendableMetatype {
  /// Names the encoding. Changes whenever the bytes do; state under another name is refused.
  static var stateEncoding: String { get }
  /// Writes the value.
  func encode(into writer: inout ByteWriter)
  /// Reads the value back.
  /// - Throws: when the bytes are none of this type.
  init(from reader: inout ByteReader) throws(DecodingError)
}

extension Int64: StateCodable {
  /// Eight bytes, big endian.
  public static var stateEncoding: String { "int64" }
  /// Writes the number.
  public func encode(into writer: inout ByteWriter) { writer.int64(self) }
  /// Reads a number.
  public init(from reader: inout ByteReader) throws(DecodingError) { self = try reader.int64() }
}

extension Double: StateCodable {
  /// IEEE 754, big endian.
  public static var stateEncoding: String { "float64" }
  /// Writes the number.
  public func encode(into writer: inout ByteWriter) { writer.float64(self) }
  /// Reads a number.
  public init(from reader: inout ByteReader) throws(DecodingError) { self = try reader.float64() }
}

extension Bool: StateCodable {
  /// One byte.
  public static var stateEncoding: String { "bool" }
  /// Writes 0 or 1.
  public func encode(into writer: inout ByteWriter) { writer.bool(self) }
  /// Reads 0 or 1.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let byte = try reader.uint8()
    guard byte < 2 else { throw DecodingError("a bool of \(byte)", at: reader.position - 1) }
    self = byte == 1
  }
}

extension String: StateCodable {
  /// Length, varint, and UTF-8.
  public static var stateEncoding: String { "string" }
  /// Writes the text.
  public func encode(into writer: inout ByteWriter) {
    writer.unsignedVarint(UInt32(utf8.count))
    writer.utf8(self)
  }
  /// Reads a text.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    self = try reader.string(Int(try reader.unsignedVarint()))
  }
}

extension Bytes: StateCodable {
  /// Length, varint, and the bytes.
  public static var stateEncoding: String { "bytes" }
  /// Writes the bytes.
  public func encode(into writer: inout ByteWriter) {
    writer.unsignedVarint(UInt32(count))
    withBuffer { writer.copy($0) }
  }
  /// Reads a copy of the bytes.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    self = try reader.slice(Int(try reader.unsignedVarint())).withBuffer { Bytes(copying: $0) }
  }
}

extension Optional: StateCodable where Wrapped: StateCodable {
  /// A bool, and the value when there is one.
  public static var stateEncoding: String { "optional<\(Wrapped.stateEncoding)>" }
  /// Writes the value, if any.
  public func encode(into writer: inout ByteWriter) {
    writer.bool(self != nil)
    self?.encode(into: &writer)
  }
  /// Reads a value, if any.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    self = try Bool(from: &reader) ? try Wrapped(from: &reader) : nil
  }
}

extension Array: StateCodable where Element: StateCodable {
  /// Count, varint, and the elements.
  public static var stateEncoding: String { "array<\(Element.stateEncoding)>" }
  /// Writes the elements.
  public func encode(into writer: inout ByteWriter) {
    writer.unsignedVarint(UInt32(count))
    for element in self { element.encode(into: &writer) }
  }
  /// Reads elements; no more are allocated than bytes are there.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let count = try reader.unsignedVarint()
    self = []
    for _ in 0..<count {
      let before = reader.remaining
      append(try Element(from: &reader))
      guard reader.remaining < before else {
        throw DecodingError("\(count) elements that take no bytes", at: reader.position)
      }
    }
  }
}

/// State of any size where 64 bits are expected: they say where it is.
///
/// Owned by the table whose entry holds the bits: it is kept while the entry is.
public struct Boxed<Content: StateCodable>: StateValue {
  @usableFromInline
  final class Box {
    @usableFromInline var content: Content
    @usableFromInline init(_ content: Content) { self.content = content }
  }

  @usableFromInline let box: Box

  /// State of its own.
  @inlinable public init(_ content: Content) { box = Box(content) }

  /// The state; what is changed here is changed in the table.
  @inlinable public var content: Content {
    get { box.content }
    nonmutating _modify { yield &box.content }
  }

  /// The state that `stateBits` say.
  @inlinable
  public init(stateBits: UInt64) {
    guard let pointer = UnsafeRawPointer(bitPattern: UInt(stateBits)) else { preconditionFailure("no state at 0") }
    box = Unmanaged<Box>.fromOpaque(pointer).takeUnretainedValue()
  }

  /// Where it is.
  @inlinable
  public var stateBits: UInt64 { UInt64(UInt(bitPattern: Unmanaged.passUnretained(box).toOpaque())) }

  /// Where it is, for an entry to keep.
  @inlinable
  public func ownedStateBits() -> UInt64 { UInt64(UInt(bitPattern: Unmanaged.passRetained(box).toOpaque())) }

  /// Keeps boxes.
  public static var codec: (any StateCodec)? { BoxCodec<Content>() }
}

/// Writes boxes as what is in them.
final class BoxCodec<Content: StateCodable>: PlaceCodec {
  private let fingerprint: UInt32

  init() {
    let name = Content.stateEncoding
    fingerprint = UInt32(truncatingIfNeeded: Bytes(name).withBuffer { Hashing.stable($0) })
  }

  func write(_ bits: UInt64, into writer: inout ByteWriter) {
    writer.uint32(fingerprint)
    Boxed<Content>(stateBits: bits).content.encode(into: &writer)
  }

  func read(_ value: UnsafeRawBufferPointer) throws(JobError) -> UInt64 {
    let bytes = Bytes(copying: value)
    var reader = ByteReader(bytes)
    do throws(DecodingError) {
      let found = try reader.uint32()
      guard found == fingerprint else {
        throw DecodingError("another type's, of fingerprint \(found), not \(fingerprint)", at: 0)
      }
      let content = try Content(from: &reader)
      guard reader.remaining == 0 else {
        throw DecodingError("\(reader.remaining) bytes too many", at: reader.position)
      }
      return Boxed(content).ownedStateBits()
    } catch {
      throw JobError(.corruptState, "state of \(value.count) bytes that is no \(Content.stateEncoding): \(error)")
    }
  }

  func release(_ bits: UInt64) {
    guard let pointer = UnsafeRawPointer(bitPattern: UInt(bits)) else { return }
    Unmanaged<Boxed<Content>.Box>.fromOpaque(pointer).release()
  }
}
