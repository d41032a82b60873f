// Bytes: an immutable slice of memory that keeps its owner alive; the currency between sockets, log and disk.

/// An immutable, reference-counted run of bytes. Slicing is O(1) and copies nothing.
///
/// Safety: the memory behind `start` is never written once a `Bytes` covers it (see ``Chunk``), and `owner` keeps it alive.
public struct Bytes: @unchecked Sendable {
  /// Keeps the memory alive; nil only for static or empty bytes.
  public let owner: AnyObject?
  /// First byte.
  public let start: UnsafeRawPointer
  /// Length in bytes.
  public let count: Int

  // Safety: never dereferenced, because the count beside it is 0.
  @usableFromInline static var nowhere: UnsafeRawPointer { UnsafeRawPointer(bitPattern: 16)! }

  /// Bytes at `start`, kept alive by `owner`.
  @inlinable
  public init(owner: AnyObject?, start: UnsafeRawPointer, count: Int) {
    self.owner = owner
    self.start = start
    self.count = count
  }

  /// No bytes.
  @inlinable
  public init() {
    self.init(owner: nil, start: Bytes.nowhere, count: 0)
  }

  /// A copy of `source`.
  public init(copying source: UnsafeRawBufferPointer) {
    guard let from = source.baseAddress, source.count > 0 else {
      self.init()
      return
    }
    if source.count <= SmallMemory.limit {
      self = SmallMemory.bytes(count: source.count) { $0.copyMemory(from: from, byteCount: source.count) }
      return
    }
    let chunk = Chunk(capacity: source.count)
    chunk.base.copyMemory(from: from, byteCount: source.count)
    self.init(owner: chunk, start: UnsafeRawPointer(chunk.base), count: source.count)
  }

  /// A copy of an array.
  public init(_ array: [UInt8]) {
    self = array.withUnsafeBytes { Bytes(copying: $0) }
  }

  /// A copy of a string's UTF-8.
  public init(_ text: String) {
    var text = text
    self = text.withUTF8 { Bytes(copying: UnsafeRawBufferPointer($0)) }
  }

  /// Whether there are no bytes.
  @inlinable public var isEmpty: Bool { count == 0 }

  /// The bytes as a buffer, valid while this value (or another slice of the owner) lives.
  @inlinable public var buffer: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }

  /// Calls `body` with the bytes while keeping the owner alive.
  @inlinable
  public func withBuffer<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    defer { extendLifetime(self) }
    return try body(buffer)
  }

  /// The byte at `index`.
  @inlinable
  public subscript(index: Int) -> UInt8 {
    precondition(index >= 0 && index < count, "byte \(index) of \(count)")
    defer { extendLifetime(self) }
    return start.load(fromByteOffset: index, as: UInt8.self)
  }

  /// The part in `range`, sharing the owner.
  @inlinable
  public subscript(range: Range<Int>) -> Bytes {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "slice \(range) of \(count) bytes")
    return Bytes(owner: owner, start: start + range.lowerBound, count: range.count)
  }

  /// A copy as an array.
  public var array: [UInt8] { withBuffer { [UInt8]($0) } }

  /// The bytes as text; invalid UTF-8 is replaced by U+FFFD.
  public var text: String { withBuffer { String(decoding: $0, as: UTF8.self) } }

  /// CRC-32C of the bytes.
  public var crc32c: UInt32 { withBuffer { CRC32C.checksum($0) } }
}

extension Bytes: Equatable {
  /// Compares the contents, not the owners.
  public static func == (left: Bytes, right: Bytes) -> Bool {
    left.count == right.count
      && left.withBuffer { l in right.withBuffer { r in l.elementsEqual(r) } }
  }
}
