// QueueCodecTests: the bytes of Millrace's own request for queues, and what is refused of them.

import MillraceBase
import MillraceDelivery
import MillraceModel
import MillraceRouting
import Testing

@testable import MillraceKafkaServer

private let table: RoutingTable = [
  "s": .string("text"), "n": .int64(-5), "b": .bool(true), "d": .double(0.5), "t": .table(["z": .null]),
  "a": .array([.timestamp(7), .bool(false)]),
]

private let requests: [QueueRequest] = [
  .declareQueue(name: "q", isDurable: true, isAutoDelete: false, arguments: table),
  .declareQueue(name: "", isDurable: false, isAutoDelete: true, arguments: .empty),
  .deleteQueue(name: "ü", ifUnused: true, ifEmpty: false), .deleteQueue(name: "q", ifUnused: false, ifEmpty: true),
  .purgeQueue(name: "q"), .listQueues(after: nil), .listQueues(after: ""),
  .declareExchange(
    name: "e", type: "x-made-up", isDurable: false, isAutoDelete: true, isInternal: true, arguments: table),
  .deleteExchange(name: "e", ifUnused: true), .listExchanges(after: "e"),
  .bind(Binding(source: "e", destination: .queue("q"), key: Bytes([0xff, 0]), arguments: table)),
  .unbind(Binding(source: "e", destination: .exchange("f"))), .listBindings(after: nil),
  .listBindings(after: BindingCursor(exchange: "e", count: 7)),
  .publish(QueuePublication(exchange: "", routingKey: Bytes("q"), delayMilliseconds: .max, format: 1, messages: [])),
  .publish(
    QueuePublication(
      exchange: "e", routingKey: Bytes(), format: 255,
      messages: [
        NewQueueMessage(properties: Bytes(), body: Bytes()),
        NewQueueMessage(properties: Bytes([1, 2]), body: Bytes([UInt8](repeating: 3, count: 20_000))),
      ])),
  .take(queue: "q", limit: .min), .settle(isAcknowledged: true), .settle(isAcknowledged: false),
  .browse(queue: "q", .all, from: nil, limit: 1),
  .browse(queue: "q", .scheduled, from: Position(lane: 255, offset: .max), limit: 1000),
  .remove(queue: "q", Position(lane: 3, offset: 4)), .move(queue: "q", to: nil, limit: 1),
  .move(queue: "q", to: "p", limit: .max),
]

private func bytes(_ request: QueueRequest) -> [UInt8] {
  var writer = ByteWriter()
  QueueCall(request, in: "/host").encode(to: &writer)
  return writer.finishJoined().array
}

private func answers() throws -> [QueueAnswer] {
  var entry = QueueEntry(name: "q", type: "classic", arguments: table)
  (entry.isDurable, entry.isAutoDelete, entry.length, entry.consumers) = (true, true, 5, .max)
  var message = QueueMessage(
    position: Position(lane: 9, offset: 8), timestamp: Timestamp(milliseconds: 7), format: 1,
    properties: Bytes([0, 0]), body: Bytes("body"))
  (message.isInFlight, message.isRedelivered, message.failures) = (true, true, 6)
  (message.exchange, message.routingKey) = ("e", "k")
  var late = message
  late.due = Timestamp(milliseconds: 1 << 50)
  let refusal = QueueRefusal(code: 404, name: "NOT_FOUND", message: "no queue 'q' in vhost '/'")
  return [
    .refused(refusal), .done, .declared(name: "q", messages: 1 << 40, consumers: 3), .count(-1),
    .queues([], isMore: false), .queues([entry, entry], isMore: true),
    .exchanges([try Exchange(name: "e", type: "fanout", isDurable: true, arguments: table)], isMore: true),
    .bindings([Binding(source: "e", destination: .topic("t"), key: "k", arguments: table)], next: nil),
    .bindings([], next: BindingCursor(exchange: "", count: .max)),
    .published([.confirmed, .unroutable, .refused], problem: nil), .published([], problem: refusal),
    .messages([message, late], left: 5, next: Position(lane: 1, offset: 2)), .messages([], left: -1, next: nil),
  ]
}

@Test("what is asked of queues is read as it was written")
func queueRequestsSurvive() throws {
  for request in requests {
    var reader = ByteReader(Bytes(bytes(request)))
    #expect(try QueueCall(from: &reader) == QueueCall(request, in: "/host"), "\(request)")
  }
}

@Test("what is answered of queues is read as it was written")
func queueAnswersSurvive() throws {
  for answer in try answers() {
    let frame = QueueAPI.response(answer, correlationID: 77).flatMap(\.array)
    let (id, read) = try QueueAPI.answer(ofResponse: Bytes(Array(frame.dropFirst(4))))
    #expect(id == 77 && read == answer, "\(answer)")
  }
}

@Test("a request or answer that is cut off anywhere, or goes on too long, is refused")
func everyCutIsRefused() throws {
  for request in requests {
    let whole = bytes(request)
    for count in (0..<min(whole.count, 600)) {
      var reader = ByteReader(Bytes(Array(whole.prefix(count))))
      #expect(throws: DecodingError.self, "\(request) at \(count)") { try QueueCall(from: &reader) }
    }
    var longer = ByteReader(Bytes(whole + [0]))
    #expect(throws: DecodingError.self) { try QueueCall(from: &longer) }
  }
  for answer in try answers() {
    let whole = Array(QueueAPI.response(answer, correlationID: 1).flatMap(\.array).dropFirst(4))
    for count in 0..<whole.count {
      #expect(throws: DecodingError.self, "\(answer) at \(count)") {
        try QueueAPI.answer(ofResponse: Bytes(Array(whole.prefix(count))))
      }
    }
    #expect(throws: DecodingError.self) { try QueueAPI.answer(ofResponse: Bytes(whole + [0])) }
  }
}

@Test("unknown operations, flags, selections and kinds are refused, and counts that the bytes do not hold")
func nonsenseIsRefused() {
  let host: [UInt8] = [0, 0, 0, 1, 0x2f]
  let name: [UInt8] = [0, 0, 0, 1, 0x71]
  let none: [UInt8] = [0, 0, 0, 0]
  let nonsense: [[UInt8]] = [
    host + [16], host + [255], host + [0] + name + [4] + none, host + [1] + name + [4], host + [5] + name + [2],
    host + [3, 2], host + [12, 2], host + [13] + name + [3, 0, 0, 0, 0, 1], [0xff, 0xff, 0xff, 0xff, 0x2f],
    // 2³² − 1 messages, and one more than may be.
    host + [10] + none + none + [UInt8](repeating: 0, count: 8) + [1, 0xff, 0xff, 0xff, 0xff],
    host + [10] + none + none + [UInt8](repeating: 0, count: 8) + [1, 0, 0, 0x27, 0x11]
      + [UInt8](repeating: 0, count: 80_008),
    // Invalid UTF-8 in a name.
    host + [2, 0, 0, 0, 1, 0xff],
  ]
  for bytes in nonsense {
    var reader = ByteReader(Bytes(bytes))
    #expect(throws: DecodingError.self, "\(bytes.prefix(40))") { try QueueCall(from: &reader) }
  }
  // The limit itself is allowed.
  var reader = ByteReader(
    Bytes(
      host + [10] + none + none + [UInt8](repeating: 0, count: 8) + [1, 0, 0, 0x27, 0x10]
        + [UInt8](repeating: 0, count: 80_000)))
  #expect(throws: Never.self) { try QueueCall(from: &reader) }
  for answer: [UInt8] in [[9], [0, 1], [4, 0xff, 0xff, 0xff, 0xff], [7, 0, 0, 0, 1, 3, 0], [8, 0, 0, 0, 1]] {
    #expect(throws: DecodingError.self, "\(answer)") { try QueueAPI.answer(ofResponse: Bytes([0, 0, 0, 1] + answer)) }
  }
}

@Test("arguments that nest deeper than they may are refused")
func deepArgumentsAreRefused() {
  func nested(_ levels: Int) -> RoutingTable {
    (0..<levels).reduce(RoutingTable.empty) { table, _ in ["t": .table(table)] }
  }
  for (levels, isAllowed) in [(31, true), (32, false), (1000, false)] {
    let request = QueueRequest.declareQueue(
      name: "q", isDurable: true, isAutoDelete: false, arguments: nested(levels))
    var reader = ByteReader(Bytes(bytes(request)))
    if isAllowed {
      #expect(throws: Never.self) { try QueueCall(from: &reader) }
    } else {
      #expect(throws: DecodingError.self, "\(levels)") { try QueueCall(from: &reader) }
    }
  }
}
