// RecordHeadersTests: properties of AMQP as headers of a topic's record, and back.

import MillraceAMQPProtocol
import MillraceBase
import MillraceModel
import Testing

@testable import MillraceAMQPServer

private let format = AMQPMessageFormat.shared

private func record(_ headers: [RecordHeader], key: Bytes? = nil) -> Record {
  Record(key: key, value: Bytes("v"), headers: headers)
}

private func texts(_ properties: BasicProperties) -> [String] {
  format.recordHeaders(properties.encoded).map { "\($0.key)=\($0.value?.text ?? "nil")" }
}

private func back(_ properties: BasicProperties) -> Bytes {
  format.properties(of: record(format.recordHeaders(properties.encoded)))
}

@Test("all properties go through a record unchanged, under their names and as text")
func propertiesAsHeaders() {
  let all = BasicProperties.build {
    $0.contentType = "text/plain"
    $0.contentEncoding = "gzip"
    $0.deliveryMode = 2
    $0.priority = 5
    $0.correlationID = "c"
    $0.replyTo = "r"
    $0.expiration = "1000"
    $0.messageID = "m"
    $0.timestamp = 1_700_000_000
    $0.type = "t"
    $0.userID = "guest"
    $0.appID = "a"
    $0.clusterID = "k"
  }
  #expect(
    texts(all) == [
      "amqp.content-type=text/plain", "amqp.content-encoding=gzip", "amqp.delivery-mode=2", "amqp.priority=5",
      "amqp.correlation-id=c", "amqp.reply-to=r", "amqp.expiration=1000", "amqp.message-id=m",
      "amqp.timestamp=1700000000", "amqp.type=t", "amqp.user-id=guest", "amqp.app-id=a", "amqp.cluster-id=k",
    ])
  #expect(back(all) == all.encoded)
  #expect(texts(BasicProperties()).isEmpty && back(BasicProperties()) == BasicProperties().encoded)
}

@Test("headers of every type go through a record unchanged; texts need no note of their type")
func typedHeaders() {
  let plain = BasicProperties.build { $0.encodedHeaders = AMQPFieldTable([("a", "text"), ("b", "")]).encoded }
  #expect(texts(plain) == ["a=text", "b="] && back(plain) == plain.encoded)
  let every: [(String, AMQPValue)] = [
    ("t", true), ("b", .int8(-5)), ("B", .uint8(200)), ("s", .int16(-300)), ("u", .uint16(40_000)),
    ("I", .int32(-70_000)), ("i", .uint32(3_000_000_000)), ("l", .int64(-1 << 50)), ("f", .float(0.1)),
    ("d", .double(0.1)), ("nan", .double(.nan)), ("D", .decimal(scale: 2, value: 314)), ("T", .timestamp(7)),
    ("S", "text"), ("x", .binary(Bytes([0, 255]))), ("A", ["one", 2, ["three": 3]]), ("F", ["deep": ["er": 1]]),
    ("V", .void), ("odd,name:%2C", 7),
  ]
  let typed = BasicProperties.build { $0.encodedHeaders = AMQPFieldTable(every).encoded }
  #expect(back(typed) == typed.encoded)
  #expect(texts(typed).prefix(3) == ["t=true", "b=-5", "B=200"])
  #expect(texts(typed).last?.hasSuffix("odd%2Cname%3A%252C:I") ?? false)
}

@Test("names that look like properties, names that repeat, and headers without any go through a record unchanged")
func awkwardHeaders() {
  for entries: [(String, AMQPValue)] in [
    [("amqp.priority", "high"), ("amqp.types", 1), ("amqp.header.x", "y")], [("a", "1"), ("a", 1), ("a", "2")],
    [("a", 1), ("a", "1")], [("", "empty"), ("n", .void)], [],
  ] {
    let awkward = BasicProperties.build { $0.encodedHeaders = AMQPFieldTable(entries).encoded }
    #expect(back(awkward) == awkward.encoded, "\(entries)")
  }
}

@Test("random headers go through a record unchanged")
func oracleRandomHeaders() {
  for seed in 1...300 as ClosedRange<UInt64> {
    var random = SeededRandom(seed: seed)
    let names = ["a", "b", "amqp.x", "amqp.header.", "amqp.types", ",", ":", "%", "%25", "amqp.priority", ""]
    func value(_ depth: Int) -> AMQPValue {
      switch Int.random(in: 0..<(depth > 2 ? 9 : 11), using: &random) {
      case 0: .bool(random.oneIn(2))
      case 1: .int32(Int32.random(in: .min ... .max, using: &random))
      case 2: .int64(Int64.random(in: .min ... .max, using: &random))
      case 3: .double(Double(bitPattern: random.next()))
      case 4: .float(Float(bitPattern: UInt32(truncatingIfNeeded: random.next())))
      case 5: .void
      case 6: .timestamp(random.next())
      case 7: .binary(Bytes([UInt8.random(in: 0...255, using: &random)]))
      case 8: .string(Bytes([UInt8.random(in: 0...255, using: &random)]))
      case 9: .array(AMQPFieldArray((0..<3).map { _ in value(depth + 1) }))
      default:
        .table(AMQPFieldTable((0..<3).map { _ in (names.randomElement(using: &random) ?? "", value(depth + 1)) }))
      }
    }
    let entries = (0..<Int.random(in: 0...6, using: &random)).map { _ in
      (names.randomElement(using: &random) ?? "", value(0))
    }
    let properties = BasicProperties.build { $0.encodedHeaders = AMQPFieldTable(entries).encoded }
    #expect(back(properties) == properties.encoded, "seed \(seed): \(entries)")
  }
}

@Test("records of others: headers are texts, none is void, and a key that cannot be a routing key is a header")
func foreignRecords() throws {
  let foreign = format.properties(
    of: record(
      [
        RecordHeader("a", Bytes("1")), RecordHeader("a", nil), RecordHeader("amqp.priority", Bytes("high")),
        RecordHeader("amqp.delivery-mode", Bytes("2")), RecordHeader(String(repeating: "n", count: 300), Bytes()),
      ], key: Bytes("key")))
  let decoded = try BasicProperties(decoding: foreign)
  #expect(decoded.deliveryMode == 2 && decoded.priority == nil)
  #expect(try decoded.headers() == ["a": "1", "a": .void, "amqp.priority": "high"])
  for key in [Bytes([255]), Bytes([UInt8](repeating: 97, count: 256))] {
    let odd = try BasicProperties(decoding: format.properties(of: record([], key: key)))
    #expect(try odd.headers()?["x-record-key"] == .binary(key))
  }
  #expect(format.properties(of: record([])) == BasicProperties().encoded)
  // A list of types that says what is not so.
  let wrong = format.properties(
    of: record([RecordHeader("n", Bytes("x")), RecordHeader("amqp.types", Bytes("n:I,:,n:F="))]))
  #expect(try BasicProperties(decoding: wrong).headers() == ["n": "x"])
}
