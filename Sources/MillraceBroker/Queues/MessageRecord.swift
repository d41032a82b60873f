// MessageRecord: how a queue's message lies in the log of its lane.
//
// A record of a plain batch (magic 2, not compressed, no producer id): no key; the value is the body; the timestamp is
// when the message entered the queue; one header, without a name, holds the envelope:
//
//   version      uint8    1
//   flags        uint8    bit 0 durable; the others are 0
//   format       uint8    form of the properties, 1 for AMQP 0-9-1's
//   size         varint   bytes that count for limits, at least the body's
//   exchange     varint length and UTF-8
//   routing key  varint length and UTF-8
//   properties   varint length and bytes
//   then fields by a tag, uint8, in rising order, each at most once:
//   1 expiration int64 ms · 2 not before int64 ms · 3 group key · 4 deduplication id: varint length and bytes
//
// Numbers are big endian; varints are zig-zag LEB128, as in the record around them. The priority is the lane's number.

import MillraceBase
import MillraceDelivery
import MillraceModel

/// A message that cannot be read from its log.
public struct MessageRecordError: Error, Equatable, CustomStringConvertible {
  /// The lane's log.
  public let partition: PartitionLogID
  /// The message, or the first of its batch, or as far as was read.
  public let offset: Offset
  /// What is wrong, with the values.
  public let reason: String

  /// Partition, offset and reason.
  public var description: String { "partition \(partition), offset \(offset): \(reason)" }
}

/// Writes messages as records.
public enum MessageRecord {
  /// Envelopes of this version are written and read.
  static let version: UInt8 = 1

  /// Form of properties: those of an AMQP 0-9-1 content header, property flags first.
  public static let amqpProperties: UInt8 = 1

  enum Tag: UInt8 {
    case expiration = 1
    case notBefore = 2
    case groupKey = 3
    case deduplicationID = 4
  }

  /// Bytes that the message takes in a batch at most, the batch's header left out.
  public static func size(of message: Message) -> Int { envelopeSize(of: message) + message.body.count + 40 }

  /// Adds the message to a batch; its offset is the record's place in the batch, and its priority the lane's number.
  /// - Parameter message: body and envelope must fit into 2³¹ − 64 bytes.
  /// - Complexity: O(bytes), each copied once.
  public static func append(_ message: Message, to builder: inout RecordBatchBuilder) {
    builder.append(
      value: message.body.buffer, timestamp: message.timestamp, headerSize: envelopeSize(of: message)
    ) { envelope in
      var out = EnvelopeWriter(at: envelope)
      out.uint8(version)
      out.uint8(message.isDurable ? 1 : 0)
      out.uint8(message.format)
      out.varint(message.size)
      out.text(message.exchange)
      out.text(message.routingKey)
      out.bytes(message.properties)
      if message.expiration.milliseconds >= 0 {
        out.uint8(Tag.expiration.rawValue)
        out.int64(message.expiration.milliseconds)
      }
      if message.notBefore.milliseconds >= 0 {
        out.uint8(Tag.notBefore.rawValue)
        out.int64(message.notBefore.milliseconds)
      }
      if let key = message.groupKey {
        out.uint8(Tag.groupKey.rawValue)
        out.bytes(key)
      }
      if let id = message.deduplicationID {
        out.uint8(Tag.deduplicationID.rawValue)
        out.bytes(id)
      }
    }
    extendLifetime(message)
  }

  /// Whether two messages become the same record: bodies that lie in different memory are not compared.
  static func isSame(_ one: Message, _ other: Message) -> Bool {
    func isEqual(_ one: Bytes?, _ other: Bytes?) -> Bool {
      guard let one, let other else { return one == nil && other == nil }
      return one.isSameMemory(other) || one == other
    }
    return one.body.isSameMemory(other.body) && one.timestamp == other.timestamp && one.size == other.size
      && one.isDurable == other.isDurable && one.format == other.format && one.expiration == other.expiration
      && one.notBefore == other.notBefore && isEqual(one.groupKey, other.groupKey)
      && isEqual(one.deduplicationID, other.deduplicationID) && one.routingKey == other.routingKey
      && one.exchange == other.exchange && isEqual(one.properties, other.properties)
  }

  private static func envelopeSize(of message: Message) -> Int {
    func field(_ count: Int) -> Int { ByteWriter.varintSize(Int64(count)) + count }
    var size = 3 + ByteWriter.varintSize(Int64(message.size))
    size += field(message.exchange.utf8.count) + field(message.routingKey.utf8.count) + field(message.properties.count)
    if message.expiration.milliseconds >= 0 { size += 9 }
    if message.notBefore.milliseconds >= 0 { size += 9 }
    if let key = message.groupKey { size += 1 + field(key.count) }
    if let id = message.deduplicationID { size += 1 + field(id.count) }
    return size
  }
}

/// Lays an envelope out in memory that is large enough.
private struct EnvelopeWriter {
  // Safety: `MessageRecord.envelopeSize` counts what is written, field by field.
  var at: UnsafeMutableRawPointer

  mutating func uint8(_ value: UInt8) {
    at.storeBytes(of: value, as: UInt8.self)
    at += 1
  }

  mutating func int64(_ value: Int64) {
    at.storeBytes(of: value.bigEndian, as: Int64.self)
    at += 8
  }

  mutating func varint(_ value: Int) {
    var rest = UInt64(bitPattern: Int64((value << 1) ^ (value >> 63)))
    while rest >= 0x80 {
      uint8(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    uint8(UInt8(rest))
  }

  mutating func copy(_ buffer: UnsafeRawBufferPointer) {
    guard let from = buffer.baseAddress, buffer.count > 0 else { return }
    at.copyMemory(from: from, byteCount: buffer.count)
    at += buffer.count
  }

  mutating func bytes(_ bytes: Bytes) {
    varint(bytes.count)
    bytes.withBuffer { copy($0) }
  }

  mutating func text(_ text: String) {
    var text = text
    text.withUTF8 {
      varint($0.count)
      copy(UnsafeRawBufferPointer($0))
    }
  }
}
