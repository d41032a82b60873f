// QueueAPI: Millrace's own request on Kafka's port for queues, exchanges and bindings, of which Kafka's protocol knows nothing.
//
// Request:  header v1 with API key 31001 and version 0; virtual host text; operation uint8 and its fields (QueueRequest.swift).
// Response: header v0; kind uint8 and its fields (QueueAnswer.swift).
//
// Numbers are big endian. A text is a uint32 length and UTF-8, bytes are a uint32 length and bytes, a list is a uint32 count
// and its members; tables, exchanges and bindings lie as in Sources/MillraceRouting/RoutingCoding.swift. The key is not
// advertised, so that clients never meet it; `millrace queue`, `exchange`, `bind` and `unbind` ask for it. Answers are
// bounded: a list ends behind 1,000 entries or 1 MiB and says where it goes on; messages end behind 1 MiB, or the first.

import MillraceBase
import MillraceDelivery
import MillraceKafkaProtocol
import MillraceRouting

/// The request behind `millrace queue` and its like.
public enum QueueAPI {
  /// Beside that of ``FiguresAPI``.
  public static let key: Int16 = 31_001
  /// The one version there is.
  public static let version: Int16 = 0
  /// Most entries of a page.
  public static let mostEntries = 1000
  /// Bytes behind which a page ends.
  public static let pageBytes = 1 << 20
  /// Most messages that one request publishes.
  public static let mostPublications = 10_000

  /// A whole request frame.
  public static func request(_ call: QueueCall, correlationID: Int32, clientID: String?) -> [Bytes] {
    var writer = ByteWriter(capacity: 256)
    writer.int32(0)
    RequestHeader(apiKey: key, apiVersion: version, correlationID: correlationID, clientID: clientID)
      .encode(to: &writer)
    call.encode(to: &writer)
    writer.patchInt32(Int32(writer.count - 4), at: 0)
    return writer.finish()
  }

  /// A whole response frame.
  static func response(_ answer: QueueAnswer, correlationID: Int32) -> [Bytes] {
    var writer = ByteWriter(capacity: 256)
    writer.int32(0)
    writer.int32(correlationID)
    answer.encode(to: &writer)
    writer.patchInt32(Int32(writer.count - 4), at: 0)
    return writer.finish()
  }

  /// What a response says, without its size.
  public static func answer(
    ofResponse frame: Bytes
  ) throws(DecodingError) -> (correlationID: Int32, answer: QueueAnswer) {
    var reader = ByteReader(frame)
    let correlationID = try reader.int32()
    let answer = try QueueAnswer(from: &reader)
    try reader.expectEnd()
    return (correlationID, answer)
  }
}

extension ByteWriter {
  mutating func text(_ text: String) {
    uint32(UInt32(text.utf8.count))
    utf8(text)
  }

  mutating func bytes(_ bytes: Bytes) {
    uint32(UInt32(bytes.count))
    append(bytes)
  }

  mutating func flags(_ flags: Bool...) {
    uint8(flags.enumerated().reduce(0) { $0 | ($1.element ? 1 << UInt8($1.offset) : 0) })
  }

  mutating func optional<Value>(_ value: Value?, _ body: (inout ByteWriter, Value) -> Void) {
    bool(value != nil)
    if let value { body(&self, value) }
  }

  mutating func position(_ position: Position) {
    uint8(position.lane)
    int64(position.offset)
  }
}

extension ByteReader {
  mutating func text() throws(DecodingError) -> String { try string(Int(try uint32())) }

  /// Shares the reader's memory.
  mutating func bytes() throws(DecodingError) -> Bytes { try slice(Int(try uint32())) }

  /// The lowest `count` bits of a byte; the others must not be set.
  mutating func flags(_ count: Int) throws(DecodingError) -> [Bool] {
    let at = position
    let flags = try uint8()
    guard flags >> UInt8(count) == 0 else { throw DecodingError("flags \(flags)", at: at) }
    return (0..<count).map { flags >> UInt8($0) & 1 == 1 }
  }

  mutating func flag() throws(DecodingError) -> Bool { try flags(1)[0] }

  mutating func optional<Value>(
    _ body: (inout ByteReader) throws(DecodingError) -> Value
  ) throws(DecodingError) -> Value? {
    try flag() ? try body(&self) : nil
  }

  mutating func place() throws(DecodingError) -> Position {
    let lane = try uint8()
    return Position(lane: lane, offset: try int64())
  }

  /// A list whose members take at least `size` bytes each.
  mutating func list<Value>(
    ofSize size: Int, atMost limit: Int = .max, _ body: (inout ByteReader) throws(DecodingError) -> Value
  ) throws(DecodingError) -> [Value] {
    let at = position
    let count = Int(try uint32())
    guard count <= remaining / size else {
      throw DecodingError("\(count) members announced, \(remaining) bytes are left", at: at)
    }
    guard count <= limit else { throw DecodingError("\(count) members, at most \(limit) are allowed", at: at) }
    var values: [Value] = []
    for _ in 0..<count { values.append(try body(&self)) }
    return values
  }

  func expectEnd() throws(DecodingError) {
    if remaining > 0 { throw DecodingError("\(remaining) bytes too many", at: position) }
  }
}
