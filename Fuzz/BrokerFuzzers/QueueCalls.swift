// QueueCalls: Millrace's own request for queues: its bytes, and what a client that means harm can ask a running broker.

import FuzzHarness
import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceKafkaProtocol
import MillraceKafkaServer
import MillraceModel
import MillraceRouting
import MillraceSimulation

/// One of every kind.
private let calls: [QueueRequest] = [
  .declareQueue(name: "q", isDurable: true, isAutoDelete: false, arguments: ["x-max-length": .int64(9)]),
  .declareQueue(
    name: "m", isDurable: false, isAutoDelete: true,
    arguments: ["x-dead-letter-exchange": .string(""), "x-dead-letter-routing-key": .string("q")]),
  .listQueues(after: "a"),
  .declareExchange(
    name: "e", type: "topic", isDurable: true, isAutoDelete: false, isInternal: false,
    arguments: ["alternate-exchange": .string("amq.fanout"), "t": .array([.null, .double(1)])]),
  .listExchanges(after: nil),
  .bind(Binding(source: "e", destination: .queue("q"), key: "a.#")),
  .listBindings(after: BindingCursor(exchange: "e", count: 0)),
  .publish(
    QueuePublication(
      exchange: "", routingKey: Bytes("q"), format: 1,
      messages: [
        NewQueueMessage(properties: Bytes([0, 0]), body: Bytes("one")),
        NewQueueMessage(
          properties: BasicProperties.build {
            $0.deliveryMode = 2
            $0.encodedHeaders = AMQPFieldTable([("n", .int32(5))]).encoded
          }.encoded, body: Bytes("two")),
      ])),
  .publish(
    QueuePublication(
      exchange: "e", routingKey: Bytes("a.b"), delayMilliseconds: 5, format: 1,
      messages: [NewQueueMessage(properties: Bytes([0, 0]), body: Bytes("late"))])),
  .browse(queue: "q", .scheduled, from: nil, limit: 10),
  .browse(queue: "q", .all, from: Position(lane: 0, offset: 1), limit: 10),
  .take(queue: "q", limit: 1),
  .settle(isAcknowledged: true),
  .remove(queue: "q", Position(lane: 0, offset: 2)),
  .move(queue: "q", to: "m", limit: 5),
  .move(queue: "q", to: nil, limit: 5),
  .purgeQueue(name: "q"),
  .unbind(Binding(source: "e", destination: .exchange("amq.topic"), key: "a.#")),
  .deleteExchange(name: "e", ifUnused: true),
  .deleteQueue(name: "q", ifUnused: true, ifEmpty: true),
]

private func encoded(_ request: QueueRequest) -> [UInt8] {
  var writer = ByteWriter()
  QueueCall(request, in: "/").encode(to: &writer)
  return writer.finishJoined().array
}

private func answers() -> [QueueAnswer] {
  var message = QueueMessage(
    position: Position(lane: 1, offset: 7), timestamp: Timestamp(milliseconds: 5), format: 1,
    properties: Bytes([0, 0]), body: Bytes("b"))
  message.due = Timestamp(milliseconds: 9)
  let refusal = QueueRefusal(code: 404, name: "NOT_FOUND", message: "no queue")
  return [
    .refused(refusal), .done, .declared(name: "q", messages: 1, consumers: 2), .count(3),
    .queues([QueueEntry(name: "q", type: "quorum", arguments: ["a": .bool(true)])], isMore: true),
    .bindings(
      [Binding(source: "e", destination: .topic("t"), key: "k")], next: BindingCursor(exchange: "e", count: 1)),
    .published([.confirmed, .unroutable, .refused], problem: refusal),
    .messages([message], left: 4, next: Position(lane: 0, offset: 1)),
  ]
}

/// A request, or an answer as a client reads it; what is accepted must survive writing and reading again.
let queueRequests = FuzzTarget(
  name: "queue-requests",
  seeds: {
    calls.map { [0] + encoded($0) }
      + answers().map { answer in
        var writer = ByteWriter()
        answer.encode(to: &writer)
        return [1, 0, 0, 0, 7] + writer.finishJoined().array
      }
  }
) { input in
  var choices = Choices(input)
  let isRequest = choices.byte() % 2 == 0
  let bytes = choices.rest()
  do throws(DecodingError) {
    if isRequest {
      var reader = ByteReader(bytes)
      let call = try QueueCall(from: &reader)
      var first = ByteWriter()
      call.encode(to: &first)
      let once = first.finishJoined()
      var again = ByteReader(once)
      var second = ByteWriter()
      try QueueCall(from: &again).encode(to: &second)
      precondition(second.finishJoined() == once, "a call changes when written and read again: \(call)")
    } else {
      let answer = try QueueAPI.answer(ofResponse: bytes).answer
      var first = ByteWriter()
      answer.encode(to: &first)
      let once = first.finishJoined()
      var again = ByteReader(once)
      var second = ByteWriter()
      try QueueAnswer(from: &again).encode(to: &second)
      precondition(second.finishJoined() == once, "an answer changes when written and read again: \(answer)")
    }
  } catch {
    precondition(error.position >= 0 && error.position <= input.count, "position \(error.position) of \(input.count)")
  }
}

/// Requests with a right size and header, out of the input: two bytes of length, body. Every answer must be one that a client
/// can read, and in order.
let queueCalls = FuzzTarget(
  name: "queue-calls", allowance: 8 << 20, limit: .milliseconds(400),
  seeds: {
    let all = calls.map { encoded($0) }
    func piece(_ body: [UInt8]) -> [UInt8] { [UInt8(body.count >> 8), UInt8(body.count & 255)] + body }
    return [[0] + all.flatMap(piece), [1] + all.flatMap(piece)] + all.map { [0] + piece(all[0]) + piece($0) }
  }
) { input in
  let machine: Machine
  do throws(BrokerError) {
    machine = try Machine()
  } catch {
    preconditionFailure("the broker does not start: \(error)")
  }
  defer { machine.end() }
  let client = machine.connect()
  var choices = Choices(input)
  let isPiecewise = choices.byte() % 2 == 1
  var sent: Int32 = 0
  while !choices.isEmpty, sent < 50, !client.isClosed {
    let body = choices.bytes(choices.number(below: 1 << 16))
    var writer = ByteWriter()
    writer.int32(0)
    RequestHeader(apiKey: QueueAPI.key, apiVersion: QueueAPI.version, correlationID: sent).encode(to: &writer)
    body.withBuffer { writer.copy($0) }
    writer.patchInt32(Int32(writer.count - 4), at: 0)
    client.write(writer.finishJoined())
    sent += 1
    if isPiecewise { machine.world.run(for: .milliseconds(3)) }
  }
  machine.world.run(for: .milliseconds(40))
  check(client, sent: sent)
  client.close()
  machine.world.run(for: .milliseconds(5))
}

private func check(_ client: SimulatedClientConnection, sent: Int32) {
  var reader = ByteReader(Bytes(client.received))
  var next: Int32 = 0
  do throws(DecodingError) {
    while reader.remaining >= 4 {
      let size = Int(try reader.int32())
      guard reader.remaining >= size else { return }
      let (correlationID, _) = try QueueAPI.answer(ofResponse: try reader.slice(size))
      precondition(correlationID == next && next < sent, "answer \(correlationID) instead of \(next) of \(sent)")
      next += 1
    }
  } catch {
    preconditionFailure("an answer cannot be read: \(error)")
  }
}
