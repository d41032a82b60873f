import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceModel
import MillraceRouting
import Testing

@testable import MillraceBroker

/// What must not get lost, stuck or kept, where a queue's messages are many, large or in nobody's hands.
@Suite struct QueueSafetyTests {
  @Test("thousands of dead letters whose content was let go of are read and passed on, in order")
  func manyLetters() throws {
    let world = try QueueHostWorld()
    try world.declare("q", ["x-dead-letter-exchange": .string(""), "x-dead-letter-routing-key": .string("dead")])
    try world.declare("dead")
    let pad = String(repeating: "x", count: 4000)
    let bodies = (0..<3000).map { "\($0) \(pad)" }
    for start in stride(from: 0, to: 3000, by: 500) {
      try world.publishAndWait(Array(bodies[start..<(start + 500)]), to: "q")
    }
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 3000 }
    for (delivery, consumer) in notes.deliveries { consumer.settle(delivery.position, .discard) }
    try world.check { world.queues.whenDurable($0) }
    try world.restart()
    #expect(try world.queues.inspect("q", in: "/", owner: nil).messageCount == 0)
    let dead = DeliveryNotes()
    _ = try world.consume("dead", into: dead)
    try world.until { dead.deliveries.count == 3000 }
    #expect(dead.bodies == bodies)
  }

  @Test("a dead letter whose copies are more than one commit takes reaches all its queues and leaves its own")
  func largeLetter() throws {
    let world = try QueueHostWorld()
    try world.declare("q", ["x-dead-letter-exchange": .string("amq.fanout")])
    for index in 0..<3 {
      try world.declare("dead\(index)")
      try world.check {
        world.queues.bind(
          Binding(source: "amq.fanout", destination: .queue("dead\(index)"), key: ""), in: "/", owner: nil,
          completion: $0)
      }
    }
    try world.publishAndWait([String(repeating: "x", count: 14 << 20)], to: "q")
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 1 }
    notes.deliveries[0].consumer.settle(notes.deliveries[0].delivery.position, .discard)
    try world.check { world.queues.whenDurable($0) }
    try world.restart()
    #expect(try world.queues.inspect("q", in: "/", owner: nil).messageCount == 0)
    for index in 0..<3 { #expect(try world.queues.inspect("dead\(index)", in: "/", owner: nil).messageCount == 1) }
  }

  @Test("with at-least-once a letter that could only go round in a circle stays in its queue")
  func circle() throws {
    let world = try QueueHostWorld()
    try world.declare(
      "q",
      [
        "x-queue-type": .string("quorum"), "x-message-ttl": .int64(10), "x-dead-letter-exchange": .string(""),
        "x-dead-letter-routing-key": .string("q"), "x-dead-letter-strategy": .string("at-least-once"),
        "x-overflow": .string("reject-publish"),
      ])
    try world.publishAndWait(["a"], to: "q")
    try world.pass(.seconds(3))
    try world.restart()
    // Undone in its log, it is found again.
    let hosted = try #require(world.queues.find("q", in: "/"))
    #expect(hosted.queue.length == 1)
    // It is still the one that was published, not a copy of it.
    #expect(hosted.logs[0].nextOffset == 1)
  }

  @Test("a transaction that a full queue would refuse does nothing at all")
  func refusedTransaction() throws {
    let world = try QueueHostWorld()
    try world.declare("in")
    try world.declare("full", ["x-max-length": .int64(1), "x-overflow": .string("reject-publish")])
    try world.publishAndWait(["order"], to: "in")
    let notes = DeliveryNotes()
    _ = try world.consume("in", into: notes)
    try world.until { notes.deliveries.count == 1 }
    var transaction = QueueTransaction()
    transaction.publications = [world.publication("1", to: "full"), world.publication("2", to: "full")]
    transaction.settlements = [(notes.deliveries[0].consumer, notes.deliveries[0].delivery.position, .acknowledge)]
    let result = try world.machine.wait { world.queues.commit(transaction, completion: $0) }
    guard case .failure(let error) = result else {
      Issue.record("the transaction was committed")
      return
    }
    #expect(error.code == .preconditionFailed)
    try world.restart()
    #expect(try world.queues.inspect("in", in: "/", owner: nil).messageCount == 1)
    #expect(try world.queues.inspect("full", in: "/", owner: nil).messageCount == 0)
  }

  @Test("a transaction discards what must be read first, all in one commit")
  func transactionWithLetters() throws {
    let world = try QueueHostWorld()
    try world.declare("q", ["x-dead-letter-exchange": .string(""), "x-dead-letter-routing-key": .string("dead")])
    try world.declare("dead")
    let pad = String(repeating: "x", count: 100_000)
    try world.publishAndWait((0..<100).map { "\($0) \(pad)" }, to: "q")
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 100 }
    var transaction = QueueTransaction()
    transaction.publications = [world.publication("done", to: "dead")]
    transaction.settlements = notes.deliveries.map { ($0.consumer, $0.delivery.position, .discard) }
    #expect(try world.machine.wait { world.queues.commit(transaction, completion: $0) }.get() == [1])
    try world.restart()
    #expect(try world.queues.inspect("q", in: "/", owner: nil).messageCount == 0)
    #expect(try world.queues.inspect("dead", in: "/", owner: nil).messageCount == 101)
  }

  @Test("a consumer that is cancelled is forgotten once it holds nothing")
  func cancelledConsumers() throws {
    let world = try QueueHostWorld()
    try world.declare("q")
    let hosted = try #require(world.queues.find("q", in: "/"))
    let notes = DeliveryNotes()
    let idle = try world.consume("q", into: notes)
    idle.cancel()
    #expect(hosted.consumers.isEmpty)
    try world.publishAndWait(["a"], to: "q")
    let busy = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 1 }
    busy.cancel()
    #expect(hosted.consumers.count == 1)
    notes.acknowledgeAll()
    #expect(hosted.consumers.isEmpty)
  }

  @Test("records that cannot be decompressed are passed over by who reads their topic as a queue")
  func unreadableRecords() throws {
    let world = try QueueHostWorld()
    try world.declare("s", ["x-queue-type": .string("stream")])
    try world.publishAndWait(["before"], to: "s")
    var builder = RecordBatchBuilder()
    builder.append(Record(value: Bytes("never seen"), timestamp: Timestamp(milliseconds: 1)))
    let bad = builder.finish(codec: .gzip, compress: { _ in Bytes("this is no gzip") })
    let topic = try #require(world.broker.topic("s"))
    _ = try world.machine.wait { world.broker.produce(topic, 0, records: bad, completion: $0) }.get()
    try world.publishAndWait(["behind"], to: "s")
    let notes = DeliveryNotes()
    var options = ConsumerOptions()
    options.credit = 10
    _ = try world.queues.consume("s", in: "/", owner: nil, options: options, from: .first, sink: notes)
    try world.until { notes.deliveries.count == 2 }
    #expect(notes.bodies == ["before", "behind"])
  }

  @Test("a message that was recognised is confirmed behind its first copy")
  func duplicateWaits() throws {
    let world = try QueueHostWorld()
    try world.declare("q", ["x-deduplication-count": .int64(100)])
    let first = try world.publish("a", to: "q", "id=1")
    let second = try world.publish("a again", to: "q", "id=1")
    #expect(!world.confirmed.contains(second))
    try world.until { world.confirmed.contains(second) }
    #expect(world.confirmed.contains(first))
  }

  @Test("what is published while a queue still reads the ids it has seen is waited for")
  func heldPublications() throws {
    let world = try QueueHostWorld()
    try world.declare("q", ["x-deduplication-count": .int64(100)])
    try world.publishAndWait(["a"], to: "q", "id=1")
    try world.restart()
    try #require(world.queues.find("q", in: "/")?.isRemembering == true)
    try world.publish("b", to: "q", "id=2")
    try world.check { world.queues.whenDurable($0) }
    try world.restart()
    #expect(try world.queues.inspect("q", in: "/", owner: nil).messageCount == 2)
  }

  @Test("once the broker is closed nobody is told that a settlement is durable")
  func settledTooLate() throws {
    let world = try QueueHostWorld()
    try world.declare("q")
    try world.publishAndWait(["a"], to: "q")
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { !notes.deliveries.isEmpty }
    world.broker.close { _ in }
    notes.acknowledgeAll()
    var answers: [RoutingError?] = []
    for _ in 0..<2 { world.queues.whenDurable { answers.append($0) } }
    try world.until { answers.count == 2 }
    #expect(answers.allSatisfy { $0?.code == .internalError })
  }

  @Test("an acknowledgement that finds no room on a full disk is not promised before there is room, and holds then")
  func settlementOnFullDisk() throws {
    let world = try QueueHostWorld(QueueHostWorld.smallJournal)
    try world.declare("q")
    let count = 600
    try world.publishAndWait((0..<count).map { "\($0)" }, to: "q")
    let notes = DeliveryNotes()
    let consumer = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == count }
    try world.fillDisk()
    // The log tries to make room once more, half a second after it failed: what comes first then waits for that, and is refused.
    var promised = 0
    var asked = 0
    while asked < count, promised == asked {
      try world.pass(.milliseconds(600))
      #expect(consumer.settle(notes.deliveries[asked].delivery.position, .acknowledge))
      asked += 1
      try world.pass(.microseconds(1))
      world.queues.whenDurable { error in
        #expect(error == nil)
        promised += 1
      }
      try world.pass(.milliseconds(100))
    }
    try #require(promised < asked, "the disk is not full")
    let before = promised
    try world.pass(.seconds(3))
    #expect(promised == before)
    world.machine.disk.capacity = 1 << 40
    try world.restart()
    // What was not promised may come again, what was may not.
    let again = DeliveryNotes()
    _ = try world.consume("q", into: again)
    try world.until { again.deliveries.count >= count - asked }
    try world.pass(.seconds(1))
    #expect(Set(again.bodies).isDisjoint(with: (0..<before).map { "\($0)" }))
    #expect(again.bodies.count <= count - before)
  }

  @Test("an orderly end says that a publication found no room, though nobody asked for a confirm")
  func publicationOnFullDisk() throws {
    let world = try QueueHostWorld(QueueHostWorld.smallJournal)
    try world.declare("q")
    try world.fillDisk()
    // Then the log tries to make room once more, and the publication waits for that.
    try world.pass(.milliseconds(600))
    _ = try world.queues.publish(world.publication("lost", to: "q"), nil)
    try world.pass(.microseconds(1))
    var answers: [RoutingError?] = []
    world.queues.whenDurable { answers.append($0) }
    try world.until { !answers.isEmpty }
    #expect(answers[0] != nil)
    // Later ones are not told of it again.
    world.machine.disk.capacity = 1 << 40
    try world.pass(.seconds(1))
    try world.check { world.queues.whenDurable($0) }
  }

  @Test("a deletion that finds no room on a full disk is answered when there is room, and holds")
  func deletionOnFullDisk() throws {
    let world = try QueueHostWorld(QueueHostWorld.smallJournal)
    let names = (0..<400).map { "q\($0)" }
    for name in names { try world.declare(name) }
    try world.fillDisk()
    var answered = 0
    var asked = 0
    for name in names where asked == answered {
      asked += 1
      world.queues.delete(name, in: "/", owner: nil) { result in
        answered += 1
        #expect(throws: Never.self) { try result.get() }
      }
      try world.pass(.milliseconds(100))
    }
    try #require(answered < asked, "the disk is not full")
    var isDeclared = false
    let again = QueueDeclaration(name: names[asked - 1], virtualHost: "/", isDurable: true)
    world.queues.declare(again, in: "/", owner: nil) { _ in isDeclared = true }
    try world.pass(.seconds(3))
    #expect(answered < asked && !isDeclared, "it comes behind the deletion")
    world.machine.disk.capacity = 1 << 40
    try world.until { answered == asked && isDeclared }
    try world.restart()
    #expect(Set(world.queues.allQueues.map(\.name)) == Set(names[(asked - 1)...] + ["filler"]))
  }
}
