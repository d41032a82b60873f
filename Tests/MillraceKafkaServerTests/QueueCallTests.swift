// QueueCallTests: queues by Millrace's own request, on a simulated machine.

import MillraceAMQPProtocol
import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceModel
import MillraceRouting
import Testing

@testable import MillraceKafkaServer

/// One connection that asks for queues.
private final class QueueClient {
  let world: ServerWorld
  let connection: PlayedConnection
  let handler: KafkaConnection
  private var sent: Int32 = 0

  init(_ world: ServerWorld) {
    self.world = world
    if world.broker.queues.format(1) == nil { world.broker.queues.register(AMQPMessageFormat.shared) }
    (connection, handler) = world.connect()
  }

  func send(_ request: QueueRequest, in virtualHost: String = "/") {
    sent += 1
    let call = QueueCall(request, in: virtualHost)
    connection.receive(QueueAPI.request(call, correlationID: sent, clientID: "test").flatMap(\.array))
  }

  func ask(_ request: QueueRequest, in virtualHost: String = "/") throws -> QueueAnswer {
    send(request, in: virtualHost)
    try wait(answers: Int(sent))
    let (id, answer) = try QueueAPI.answer(ofResponse: connection.answers.last)
    try #require(id == sent)
    return answer
  }

  /// Runs events until there are so many answers, while the system takes what is written and offers what was received.
  func wait(answers: Int) throws {
    for _ in 0..<1000 where connection.answers.ids.count < answers {
      world.world.run(for: .milliseconds(2))
      connection.flush()
      handler.connectionDrained()
      connection.offer()
    }
    try #require(connection.answers.ids.count >= answers)
  }

  func declare(
    _ name: String, isDurable: Bool = true, _ arguments: RoutingTable = .empty
  ) throws {
    let request = QueueRequest.declareQueue(
      name: name, isDurable: isDurable, isAutoDelete: false, arguments: arguments)
    let answer = try ask(request)
    guard case .declared = answer else { throw Unexpected(answer: answer) }
  }

  func publish(
    _ bodies: [String], to queue: String, delay: Int64 = 0, properties: Bytes = QueueClient.persistent
  ) throws -> QueueAnswer {
    try ask(
      .publish(
        QueuePublication(
          exchange: "", routingKey: Bytes(queue), delayMilliseconds: delay, format: 1,
          messages: bodies.map { NewQueueMessage(properties: properties, body: Bytes($0)) })))
  }

  func messages(_ request: QueueRequest) throws -> (messages: [QueueMessage], left: Int64, next: Position?) {
    let answer = try ask(request)
    guard case .messages(let messages, let left, let next) = answer else { throw Unexpected(answer: answer) }
    return (messages, left, next)
  }

  func length(_ queue: String) throws -> Int64 {
    let answer = try ask(.listQueues(after: nil))
    guard case .queues(let queues, _) = answer else { throw Unexpected(answer: answer) }
    return try #require(queues.first { $0.name == queue }).length
  }

  static let persistent = BasicProperties.build { $0.deliveryMode = 2 }.encoded
}

private struct Unexpected: Error { let answer: QueueAnswer }

private func refusal(_ answer: QueueAnswer) -> UInt16? {
  if case .refused(let refusal) = answer { return refusal.code }
  return nil
}

@Test("messages that were taken are gone once they are acknowledged, and not before", arguments: [true, false])
func takenUntilSettled(isDurable: Bool) throws {
  let client = QueueClient(try ServerWorld())
  try client.declare("q", isDurable: isDurable)
  #expect(
    try client.publish(["a", "b", "c"], to: "q") == .published([.confirmed, .confirmed, .confirmed], problem: nil))
  let taken = try client.messages(.take(queue: "q", limit: 2))
  #expect(taken.messages.map(\.body.text) == ["a", "b"] && taken.left == 1)
  #expect(taken.messages.map(\.isRedelivered) == [false, false])
  #expect(refusal(try client.ask(.take(queue: "q", limit: 1))) == 406)
  #expect(try client.ask(.settle(isAcknowledged: true)) == .count(2))
  #expect(try client.ask(.settle(isAcknowledged: true)) == .count(0))
  // What is given back has not failed.
  #expect(try client.messages(.take(queue: "q", limit: 5)).messages.map(\.body.text) == ["c"])
  #expect(try client.ask(.settle(isAcknowledged: false)) == .count(0))
  let again = try client.messages(.take(queue: "q", limit: 5)).messages
  #expect(again.map(\.body.text) == ["c"] && again[0].isRedelivered && again[0].failures == 0)
  #expect(try client.ask(.settle(isAcknowledged: true)) == .count(1))
  #expect(try client.messages(.take(queue: "q", limit: 5)).messages.isEmpty)
  // Nothing was taken, so that nothing has to be settled first.
  #expect(try client.messages(.take(queue: "q", limit: 5)).messages.isEmpty)
}

@Test("a connection that goes before it has settled gives back what it took, as failed")
func lostConnectionGivesBack() throws {
  let world = try ServerWorld()
  let client = QueueClient(world)
  try client.declare("q")
  _ = try client.publish(["a", "b"], to: "q")
  #expect(try client.messages(.take(queue: "q", limit: 2)).messages.count == 2)
  client.handler.connectionClosed(nil)
  let other = QueueClient(world)
  let taken = try other.messages(.take(queue: "q", limit: 5)).messages
  #expect(taken.map(\.body.text) == ["a", "b"] && taken.map(\.failures) == [1, 1])
}

@Test("pages of queues, exchanges and bindings follow each other without a gap, none longer than it may be")
func listsAreWhole() throws {
  let client = QueueClient(try ServerWorld())
  let queues: QueueBroker = client.world.broker.queues
  let names = (0..<2100).map { "q\(String(10_000 + $0 * 11 % 2100))" }
  for name in names {
    queues.declare(QueueDeclaration(name: name, virtualHost: "/"), in: "/", owner: nil) { _ in }
  }
  var found: [String] = []
  var pages = 0
  while true {
    guard case .queues(let page, let isMore) = try client.ask(.listQueues(after: found.last)) else { break }
    found += page.map(\.name)
    pages += 1
    #expect(page.count <= 1000)
    if !isMore { break }
  }
  #expect(found == names.sorted() && pages == 3)
  for number in 0..<1005 {
    queues.declareExchange(try Exchange(name: "e\(number)", type: "direct"), in: "/") { _ in }
  }
  for number in 0..<1500 {
    let binding = Binding(
      source: number < 1100 ? "e7" : "e\(number % 5)", destination: .queue(names[number]), key: "k\(number)")
    queues.bind(binding, in: "/", owner: nil) { _ in }
  }
  var exchanges: [String] = []
  while true {
    guard case .exchanges(let page, let isMore) = try client.ask(.listExchanges(after: exchanges.last)) else { break }
    exchanges += page.map(\.name)
    if !isMore { break }
  }
  #expect(exchanges.count == 1012 && Set(exchanges).count == 1012 && exchanges.first == "")
  var bindings: [Binding] = []
  var next: BindingCursor?
  repeat {
    guard case .bindings(let page, let cursor) = try client.ask(.listBindings(after: next)) else { break }
    bindings += page
    next = cursor
    #expect(page.count <= 1000)
  } while next != nil
  #expect(bindings.count == 1500 && Set(bindings.map(\.key.text)).count == 1500)
}

@Test("a page ends by its bytes, too: of long arguments, of bodies that are taken, and of those that are looked at")
func pagesAreBounded() throws {
  let client = QueueClient(try ServerWorld())
  for number in 0..<5 {
    try client.declare(
      "q\(number)", isDurable: false, ["long": .string(Bytes([UInt8](repeating: 65, count: 600_000)))])
  }
  guard case .queues(let page, let isMore) = try client.ask(.listQueues(after: nil)) else { return }
  #expect(page.count == 2 && isMore)
  for _ in 0..<5 { _ = try client.publish([String(repeating: "x", count: 600_000)], to: "q0") }
  #expect(try client.messages(.take(queue: "q0", limit: 1000)).messages.count == 2)
  #expect(try client.ask(.settle(isAcknowledged: false)) == .count(0))
  var seen = 0
  var next: Position?
  repeat {
    let page = try client.messages(.browse(queue: "q0", .ready, from: next, limit: 1000))
    #expect(page.messages.count <= 2)
    seen += page.messages.count
    next = page.next
  } while next != nil
  #expect(seen == 5)
}

@Test("messages that wait for a time are listed, counted and cancelled; what is not there cannot be")
func delayedMessages() throws {
  let client = QueueClient(try ServerWorld())
  try client.declare("q")
  _ = try client.publish(["now"], to: "q")
  _ = try client.publish(["later", "much later"], to: "q", delay: 60_000)
  let waiting = try client.messages(.browse(queue: "q", .scheduled, from: nil, limit: 10)).messages
  #expect(waiting.map(\.body.text) == ["later", "much later"] && waiting.allSatisfy { $0.due != nil })
  #expect(try client.messages(.browse(queue: "q", .ready, from: nil, limit: 10)).messages.map(\.body.text) == ["now"])
  #expect(try client.messages(.browse(queue: "q", .all, from: nil, limit: 10)).messages.count == 3)
  #expect(try client.ask(.remove(queue: "q", waiting[0].position)) == .count(1))
  #expect(try client.ask(.remove(queue: "q", waiting[0].position)) == .count(0))
  #expect(try client.ask(.remove(queue: "q", Position(lane: 0, offset: 99))) == .count(0))
  #expect(try client.ask(.remove(queue: "q", Position(lane: 9, offset: 0))) == .count(0))
  let left = try client.messages(.browse(queue: "q", .scheduled, from: nil, limit: 10)).messages
  #expect(left.map(\.body.text) == ["much later"])
  // One that is with a consumer stays.
  let taken = try client.messages(.take(queue: "q", limit: 1)).messages
  #expect(try client.ask(.remove(queue: "q", taken[0].position)) == .count(0))
}

@Test(
  "messages are moved, and dead letters go back without their history; a history that a client made up counts for nothing"
)
func movedAndRedriven() throws {
  let client = QueueClient(try ServerWorld())
  try client.declare("dead")
  try client.declare(
    "work",
    [
      "x-dead-letter-exchange": .string(""), "x-dead-letter-routing-key": .string("dead"),
      "x-max-length": .int64(1),
    ])
  _ = try client.publish(["one", "two"], to: "work")
  let death: AMQPValue = ["queue": "work", "reason": "expired"]
  let made = AMQPFieldTable([("x-death", .array(AMQPFieldArray([death])))])
  var forged = BasicProperties.build { $0.encodedHeaders = made.encoded }.encoded.array
  forged[1] |= 2
  _ = try client.publish(["forged"], to: "dead", properties: Bytes(forged))
  #expect(try client.length("dead") == 2)
  #expect(try client.ask(.purgeQueue(name: "work")) == .count(1))
  #expect(try client.ask(.move(queue: "dead", to: nil, limit: .max)) == .count(1))
  let back = try client.messages(.browse(queue: "work", .all, from: nil, limit: 5)).messages
  #expect(back.map(\.body.text) == ["one"] && back[0].properties == QueueClient.persistent)
  #expect(try client.ask(.move(queue: "dead", to: "work", limit: 5)) == .count(1))
  #expect(refusal(try client.ask(.move(queue: "work", to: "work", limit: 1))) == 406)
  #expect(refusal(try client.ask(.move(queue: "work", to: "none", limit: 1))) == 404)
  #expect(refusal(try client.ask(.move(queue: "work", to: "dead", limit: 0))) == 406)
}

@Test("each message of a request has its outcome; the first that makes no sense ends it")
func outcomes() throws {
  let client = QueueClient(try ServerWorld())
  try client.declare("q", ["x-max-length": .int64(2), "x-overflow": .string("reject-publish")])
  #expect(
    try client.publish(["a", "b", "c"], to: "q") == .published([.confirmed, .confirmed, .refused], problem: nil))
  #expect(try client.publish(["a"], to: "none") == .published([.unroutable], problem: nil))
  #expect(try client.publish([], to: "q") == .published([], problem: nil))
  guard
    case .published([], let unreadable?) = try client.publish(["a"], to: "q", properties: Bytes([0x80, 0])),
    case .published([], let invalid?) = try client.publish(
      ["a"], to: "q", properties: BasicProperties.build { $0.expiration = "soon" }.encoded)
  else {
    Issue.record("properties that make no sense were accepted")
    return
  }
  #expect(unreadable.code == 502 && invalid.code == 406 && invalid.message.contains("soon"))
  var publication = QueuePublication(exchange: "none", routingKey: Bytes(), format: 1, messages: [])
  #expect(refusal(try client.ask(.publish(publication))) == 404)
  publication.format = 9
  #expect(refusal(try client.ask(.publish(publication))) == 406)
  #expect(refusal(try client.ask(.purgeQueue(name: "q"), in: "nowhere")) == 530)
}

@Test("requests that come at once are answered one after the other, a delivery from disk included")
func pipelined() throws {
  let world = try ServerWorld()
  let client = QueueClient(world)
  try client.declare("q")
  // More than the queue keeps in memory.
  let answer = try client.publish((0..<2500).map { "\($0)" }, to: "q")
  try #require(answer == .published([PublicationOutcome](repeating: .confirmed, count: 2500), problem: nil))
  let before = client.connection.answers.ids.count
  for _ in 0..<4 {
    client.send(.take(queue: "q", limit: 1000))
    client.send(.settle(isAcknowledged: true))
    client.send(.browse(queue: "q", .all, from: Position(lane: 0, offset: 2490), limit: 3))
  }
  try client.wait(answers: before + 12)
  let ids = client.connection.answers.ids
  #expect(ids == Array(1...Int32(ids.count)))
  #expect(try client.length("q") == 0)
}

@Test("a version that there is not, and bytes that make no sense, end the connection")
func badRequestsEndTheConnection() throws {
  let world = try ServerWorld()
  for bytes: [UInt8] in [
    [0, 0, 0, 10, 0x79, 0x19, 0, 1, 0, 0, 0, 1, 0xff, 0xff],
    [0, 0, 0, 11, 0x79, 0x19, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 9],
  ] {
    let (connection, _) = world.connect()
    connection.receive(bytes)
    #expect(connection.isClosing && connection.answers.ids.isEmpty)
  }
}

@Test("requests with changed bytes are answered or end the connection, and the broker goes on")
func changedRequests() throws {
  let world = try ServerWorld()
  let seed: UInt64 = 5
  var random = SeededRandom(seed: seed)
  let calls: [QueueRequest] = [
    .declareQueue(name: "q", isDurable: true, isAutoDelete: false, arguments: ["x-max-length": .int64(3)]),
    .declareExchange(
      name: "e", type: "topic", isDurable: true, isAutoDelete: false, isInternal: false, arguments: .empty),
    .bind(Binding(source: "e", destination: .queue("q"), key: "#")), .listBindings(after: nil),
    .publish(
      QueuePublication(
        exchange: "e", routingKey: Bytes("q"), delayMilliseconds: 3, format: 1,
        messages: [
          NewQueueMessage(properties: QueueClient.persistent, body: Bytes("a")),
          NewQueueMessage(
            properties: BasicProperties.build { $0.encodedHeaders = AMQPFieldTable([("n", .int32(5))]).encoded }
              .encoded,
            body: Bytes("b")),
        ])),
    .browse(queue: "q", .all, from: Position(lane: 0, offset: 0), limit: 5), .take(queue: "q", limit: 5),
    .settle(isAcknowledged: true), .remove(queue: "q", Position(lane: 0, offset: 1)),
    .move(queue: "q", to: nil, limit: 3), .purgeQueue(name: "q"), .listQueues(after: nil),
    .deleteQueue(name: "q", ifUnused: true, ifEmpty: true),
  ]
  var (answered, ended) = (0, 0)
  for round in 0..<400 {
    let client = QueueClient(world)
    for (index, call) in calls.enumerated() where !client.connection.isClosing {
      var bytes = QueueAPI.request(QueueCall(call, in: "/"), correlationID: Int32(index), clientID: nil).flatMap(
        \.array)
      if random.next() % 3 == 0 {
        // Behind the header, so that it is this request.
        for _ in 0...(random.next() % 2) {
          let at = 14 + Int(random.next() % UInt64(bytes.count - 14))
          bytes[at] = random.next() % 2 == 0 ? bytes[at] ^ (1 << UInt8(random.next() % 8)) : UInt8(random.next() & 255)
        }
      }
      client.connection.receive(bytes)
      world.world.run(for: .milliseconds(2))
      client.connection.flush()
      client.handler.connectionDrained()
    }
    let (ids, last) = client.connection.answers
    #expect(ids == Array(0..<Int32(ids.count)), "seed \(seed), round \(round)")
    if !ids.isEmpty {
      #expect(throws: Never.self, "seed \(seed), round \(round)") { try QueueAPI.answer(ofResponse: last) }
    }
    answered += ids.count
    ended += client.connection.isClosing ? 1 : 0
    client.handler.connectionClosed(nil)
  }
  #expect(answered > 1000 && ended > 50, "\(answered) answers, \(ended) connections ended")
  let client = QueueClient(world)
  try client.declare("after", isDurable: true)
  #expect(try client.publish(["a"], to: "after") == .published([.confirmed], problem: nil))
}
