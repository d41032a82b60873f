// AMQPFieldTable: a table of named values in the form in which it travels; entries are read when they are asked for.
//
// A table is its bytes: key (short string), letter of the type, value, and so on, without the length in front. So one
// that was received is passed on unchanged, to the letter, and takes no memory beyond what was received: as values, an
// array of voids would take 32 times what it takes on the wire. Looking up a key is a walk; tables are short.

import MillraceBase

/// Named values in order. A key may occur more than once; look-ups find the first, as RabbitMQ's do.
///
/// Tables and arrays may nest ``deepest`` deep, the table itself included; RabbitMQ has no such bound. It holds for what is
/// received; who puts a received value one deeper makes what may not be readable here again.
///
/// Equality is that of the bytes: order and types count.
public struct AMQPFieldTable: Equatable, Sendable {
  /// The entries as they travel, without the length in front.
  public let encoded: Bytes

  /// How deep tables and arrays may nest.
  public static let deepest = 64

  /// A table that was checked before.
  init(checked encoded: Bytes) { self.encoded = encoded }

  /// No entries.
  public init() { encoded = Bytes() }

  /// Checks the entries and shares the bytes.
  /// - Parameter encoded: entries without the length in front.
  /// - Throws: when a value is cut off, of an unknown type, or nested too deep.
  /// - Complexity: O(bytes), no allocation.
  public init(encoded: Bytes) throws(DecodingError) {
    var reader = ByteReader(encoded)
    try reader.entries(true, until: encoded.count, depth: 1)
    self.encoded = encoded
  }

  /// A table of these entries, in this order.
  /// - Parameter entries: keys have at most 255 bytes.
  public init(_ entries: some Sequence<(String, AMQPValue)>) {
    var writer = ByteWriter()
    for (key, value) in entries {
      writer.shortText(key)
      writer.value(value)
    }
    encoded = writer.finishJoined()
  }

  /// Whether there are no entries.
  public var isEmpty: Bool { encoded.isEmpty }

  /// The first value with this key; nil when there is none.
  /// - Complexity: O(entries), no allocation.
  public subscript(key: String) -> AMQPValue? {
    for entry in self where entry.key == key { return entry.value }
    return nil
  }

  /// The table with `value` at `key`: in the place of the first value with that key, or else at the end. Other values
  /// with that key go; nil only takes away. Everything else keeps its bytes.
  /// - Parameter key: at most 255 bytes.
  public func setting(_ key: String, to value: AMQPValue?) -> AMQPFieldTable {
    var writer = ByteWriter()
    var rest = value
    func write(_ writer: inout ByteWriter) {
      guard let value = rest else { return }
      writer.shortText(key)
      writer.value(value)
      rest = nil
    }
    var entries = makeIterator()
    var start = 0
    while let entry = entries.next() {
      if entry.key == key {
        write(&writer)
      } else {
        encoded[start..<entries.position].withBuffer { writer.copy($0) }
      }
      start = entries.position
    }
    write(&writer)
    return AMQPFieldTable(checked: writer.finishJoined())
  }
}

extension AMQPFieldTable: Sequence {
  /// A key and its value.
  public typealias Element = (key: ShortString, value: AMQPValue)

  /// Reads entry after entry.
  public struct Iterator: IteratorProtocol {
    private var reader: ByteReader

    init(_ encoded: Bytes) { reader = ByteReader(encoded) }

    /// Where the next entry begins.
    var position: Int { reader.position }

    /// The next entry, sharing memory.
    public mutating func next() -> Element? {
      guard reader.remaining > 0 else { return nil }
      do throws(DecodingError) {
        return (try reader.shortString(), try reader.value(depth: nil))
      } catch {
        preconditionFailure("a table that was checked is malformed: \(error)")
      }
    }
  }

  /// The entries in order.
  public func makeIterator() -> Iterator { Iterator(encoded) }

  /// Nothing is known without reading all.
  public var underestimatedCount: Int { 0 }
}

extension AMQPFieldTable: ExpressibleByDictionaryLiteral, CustomStringConvertible {
  /// Entries in this order.
  public init(dictionaryLiteral entries: (String, AMQPValue)...) {
    self = entries.isEmpty ? AMQPFieldTable() : AMQPFieldTable(entries)
  }

  /// The entries as people read them.
  public var description: String {
    "{" + map { "\($0.key): \($0.value)" }.joined(separator: ", ") + "}"
  }
}

/// Values in order, in the form in which they travel; see ``AMQPFieldTable``.
public struct AMQPFieldArray: Equatable, Sendable {
  /// The values as they travel, without the length in front.
  public let encoded: Bytes

  /// An array that was checked before.
  init(checked encoded: Bytes) { self.encoded = encoded }

  /// These values.
  public init(_ values: some Sequence<AMQPValue>) {
    var writer = ByteWriter()
    for value in values { writer.value(value) }
    encoded = writer.finishJoined()
  }

  /// Whether there are no values.
  public var isEmpty: Bool { encoded.isEmpty }
}

extension AMQPFieldArray: Sequence, CustomStringConvertible {
  /// Reads value after value.
  public struct Iterator: IteratorProtocol {
    private var reader: ByteReader

    init(_ encoded: Bytes) { reader = ByteReader(encoded) }

    /// The next value, sharing memory.
    public mutating func next() -> AMQPValue? {
      guard reader.remaining > 0 else { return nil }
      do throws(DecodingError) {
        return try reader.value(depth: nil)
      } catch {
        preconditionFailure("an array that was checked is malformed: \(error)")
      }
    }
  }

  /// The values in order.
  public func makeIterator() -> Iterator { Iterator(encoded) }

  /// Nothing is known without reading all.
  public var underestimatedCount: Int { 0 }

  /// The values as people read them.
  public var description: String { "[" + map { "\($0)" }.joined(separator: ", ") + "]" }
}
