import MillraceBase
import MillraceDelivery
import MillraceModel
import MillraceRouting
import MillraceSimulation
import Testing

@testable import MillraceBroker

/// Queues over the log, on a simulated machine.
@Suite struct QueueHostTests {
  private func numbers(_ range: Range<Int>) -> [String] { range.map { "m\($0)" } }

  @Test(
    "messages of a durable queue come in order, and once more after a power loss when nobody acknowledged them",
    arguments: [true, false])
  func recoversMessages(isAcknowledged: Bool) throws {
    let world = try QueueHostWorld()
    try world.declare("q")
    try world.publishAndWait(numbers(0..<300), to: "q")
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 300 }
    #expect(notes.bodies == numbers(0..<300))
    if isAcknowledged {
      for (delivery, consumer) in notes.deliveries.prefix(200) { consumer.settle(delivery.position, .acknowledge) }
      try world.pass(.seconds(1))
    }
    try world.restart()
    let again = DeliveryNotes()
    _ = try world.consume("q", into: again)
    let expected = isAcknowledged ? numbers(200..<300) : numbers(0..<300)
    try world.until { again.deliveries.count == expected.count }
    try world.pass(.seconds(1))
    #expect(again.bodies == expected)
  }

  @Test("a backlog far longer than the window is read from the log")
  func backlog() throws {
    let world = try QueueHostWorld()
    try world.declare("q")
    for start in stride(from: 0, to: 5000, by: 500) {
      try world.publishAndWait(numbers(start..<(start + 500)), to: "q")
    }
    #expect(try world.queues.inspect("q", in: "/", owner: nil).messageCount == 5000)
    let notes = DeliveryNotes()
    _ = try world.consume("q", credit: 50, into: notes)
    var seen: [String] = []
    while seen.count < 5000 {
      try world.until { !notes.deliveries.isEmpty }
      #expect(notes.deliveries.count <= 50)
      seen += notes.bodies
      notes.acknowledgeAll()
    }
    #expect(seen == numbers(0..<5000))
    try world.pass(.seconds(1))
    #expect(try world.queues.inspect("q", in: "/", owner: nil).messageCount == 0)
    // What is done gives its space back: the lane's log begins at its end, or a commit before it.
    let hosted = try #require(world.queues.find("q", in: "/"))
    #expect(hosted.logs[0].startOffset > 4500)
  }

  @Test("a queue that is not durable is gone after a restart, and its messages never reach the log")
  func transient() throws {
    let world = try QueueHostWorld()
    try world.declare("t", isDurable: false)
    try world.publishAndWait(numbers(0..<10), to: "t")
    let notes = DeliveryNotes()
    _ = try world.consume("t", into: notes)
    try world.until { notes.deliveries.count == 10 }
    notes.acknowledgeAll()
    try world.pass(.milliseconds(10))
    #expect(world.queues.memoryUsed == 0)
    try world.restart()
    #expect(throws: RoutingError.self) { try world.queues.inspect("t", in: "/", owner: nil) }
  }

  @Test("a rejected message is dead-lettered with its reason, in the commit that takes it out of its queue")
  func deadLetter() throws {
    let world = try QueueHostWorld()
    try world.declare("q", ["x-dead-letter-exchange": .string(""), "x-dead-letter-routing-key": .string("dead")])
    try world.declare("dead")
    try world.publishAndWait(["a", "b"], to: "q", "k=v")
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 2 }
    try notes.settle("a", .discard)
    try notes.settle("b", .acknowledge)
    try world.until { world.queues.find("dead", in: "/")?.queue.length == 1 }
    try world.restart()
    let dead = DeliveryNotes()
    _ = try world.consume("dead", into: dead)
    try world.until { dead.deliveries.count == 1 }
    #expect(dead.bodies == ["a"])
    #expect(dead.properties == ["death=q:rejected;k=v"])
    #expect(try world.queues.inspect("q", in: "/", owner: nil).messageCount == 0)
  }

  @Test("expired messages leave by the clock alone, also those that must be read first")
  func expiry() throws {
    let world = try QueueHostWorld()
    try world.declare("q", ["x-message-ttl": .int64(1000), "x-dead-letter-exchange": .string("amq.fanout")])
    try world.declare("dead")
    try world.check {
      world.queues.bind(
        Binding(source: "amq.fanout", destination: .queue("dead"), key: ""), in: "/", owner: nil, completion: $0)
    }
    try world.publishAndWait(numbers(0..<2000), to: "q")
    try world.restart()
    try world.pass(.seconds(30))
    #expect(try world.queues.inspect("q", in: "/", owner: nil).messageCount == 0)
    #expect(try world.queues.inspect("dead", in: "/", owner: nil).messageCount == 2000)
  }

  @Test("priorities, refused publications, and messages taken one by one")
  func options() throws {
    let world = try QueueHostWorld()
    try world.declare("p", ["x-max-priority": .int64(5)])
    try world.publishAndWait(["low"], to: "p", "priority=1")
    try world.publishAndWait(["high"], to: "p", "priority=4")
    let notes = DeliveryNotes()
    let getter = try world.queues.attach("p", in: "/", owner: nil, sink: notes)
    for expected in ["high", "low"] {
      let got = try world.machine.wait { getter.get(isNoAck: true, completion: $0) }
      #expect(got?.delivery.message.body.text == expected)
    }
    #expect(try world.machine.wait { getter.get(isNoAck: true, completion: $0) } == nil)

    try world.declare("full", ["x-max-length": .int64(2), "x-overflow": .string("reject-publish")])
    let tags = try numbers(0..<4).map { try world.publish($0, to: "full") }
    try world.until { world.confirmed.count + world.refused.count >= 6 }
    #expect(world.refused == Set(tags.suffix(2)))
  }

  @Test("a transaction's publications and settlements survive a power loss together")
  func transaction() throws {
    let world = try QueueHostWorld()
    try world.declare("in")
    try world.declare("out")
    try world.publishAndWait(["order"], to: "in")
    let notes = DeliveryNotes()
    _ = try world.consume("in", into: notes)
    try world.until { notes.deliveries.count == 1 }
    var transaction = QueueTransaction()
    transaction.publications = [world.publication("receipt", to: "out")]
    transaction.settlements = [(notes.deliveries[0].consumer, notes.deliveries[0].delivery.position, .acknowledge)]
    #expect(try world.machine.wait { world.queues.commit(transaction, completion: $0) }.get() == [1])
    try world.restart()
    #expect(try world.queues.inspect("in", in: "/", owner: nil).messageCount == 0)
    #expect(try world.queues.inspect("out", in: "/", owner: nil).messageCount == 1)
  }

  @Test("deleting a queue tells its consumers, takes its bindings and gives its logs back, durably")
  func deletion() throws {
    let world = try QueueHostWorld()
    try world.declare("q")
    try world.check {
      world.queues.bind(
        Binding(source: "amq.direct", destination: .queue("q"), key: "k"), in: "/", owner: nil, completion: $0)
    }
    try world.publishAndWait(numbers(0..<3), to: "k", exchange: "amq.direct")
    let notes = DeliveryNotes()
    let consumer = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 3 }
    let count = try world.machine.wait { world.queues.delete("q", in: "/", owner: nil, completion: $0) }.get()
    #expect(count == 0)
    #expect(notes.ends == [.queueDeleted])
    #expect(!consumer.settle(notes.deliveries[0].delivery.position, .acknowledge))
    try world.restart()
    #expect(world.queues.routing.bindings(from: "amq.direct", in: "/").isEmpty)
    #expect(try world.routeCount(world.publication("x", to: "k", exchange: "amq.direct")) == 0)
    #expect(throws: RoutingError.self) { try world.queues.inspect("q", in: "/", owner: nil) }
  }

  @Test("an exclusive queue is its owner's alone and goes with it")
  func exclusive() throws {
    let world = try QueueHostWorld()
    let name = try world.declare("", isExclusive: true).name
    #expect(name.hasPrefix("amq.gen-"))
    let other = QueueOwner(name: "other")
    let error = #expect(throws: RoutingError.self) { try world.queues.inspect(name, in: "/", owner: other) }
    #expect(error?.code == .resourceLocked)
    world.queues.ownerClosed(world.owner)
    let gone = #expect(throws: RoutingError.self) { try world.queues.inspect(name, in: "/", owner: world.owner) }
    #expect(gone?.code == .notFound)
  }

  @Test("one message goes to many queues, and is confirmed when all of them have it")
  func fanout() throws {
    let world = try QueueHostWorld()
    for index in 0..<20 {
      try world.declare("q\(index)", isDurable: index % 2 == 0)
      try world.check {
        world.queues.bind(
          Binding(source: "amq.fanout", destination: .queue("q\(index)"), key: ""), in: "/", owner: nil, completion: $0)
      }
    }
    let large = String(repeating: "x", count: 1 << 20)
    try world.publishAndWait([large, "small"], to: "", exchange: "amq.fanout")
    for index in 0..<20 {
      #expect(try world.queues.inspect("q\(index)", in: "/", owner: nil).messageCount == 2)
    }
    try world.restart()
    for index in stride(from: 0, to: 20, by: 2) {
      #expect(try world.queues.inspect("q\(index)", in: "/", owner: nil).messageCount == 2)
    }
  }

  @Test(
    "a stream queue is a topic: what is published to it is read as often as one likes, from any offset, and as records")
  func stream() throws {
    let world = try QueueHostWorld()
    try world.declare("s", ["x-queue-type": .string("stream")])
    try world.check {
      world.queues.bind(
        Binding(source: "amq.topic", destination: .queue("s"), key: "a.*"), in: "/", owner: nil, completion: $0)
    }
    try world.publishAndWait(numbers(0..<5), to: "s", "kind=direct")
    try world.publishAndWait(numbers(5..<10), to: "a.b", exchange: "amq.topic", "kind=bound")
    for (start, first) in [(StreamStart.first, 0), (.offset(7), 7), (.last, 9), (.time(Timestamp(milliseconds: 0)), 0)]
    {
      let notes = DeliveryNotes()
      var options = ConsumerOptions()
      options.credit = 3
      let consumer = try world.queues.consume(
        "s", in: "/", owner: nil, options: options, from: start, sink: notes)
      var seen: [String] = []
      while seen.count < 10 - first {
        try world.until { !notes.deliveries.isEmpty }
        #expect(notes.deliveries.count <= 3)
        seen += notes.bodies
        notes.acknowledgeAll()
      }
      #expect(seen == numbers(first..<10))
      consumer.close(isFailure: false)
    }
    let topic = try #require(world.broker.topic("s"))
    let fetched = try world.machine.wait { done in
      world.broker.fetch(
        [FetchTarget(partition: world.broker.partition(topic, 0), offset: 0, limit: 1 << 20)], minimum: 0,
        limit: 1 << 20,
        wait: .zero, completion: done)
    }
    let records = try fetched[0].batches.flatMap { run in
      var records: [Record] = []
      var batches = RecordBatchRun(run)
      while let (batch, _) = try batches.next() { records += try Broker.records(of: batch) }
      return records
    }
    #expect(records.map { $0.value?.text } == numbers(0..<10))
    #expect(records.map { $0.key?.text } == [String?](repeating: nil, count: 5) + [String?](repeating: "a.b", count: 5))
    #expect(records[0].headers == [RecordHeader("kind", Bytes("direct"))])
    // Deleting the topic ends its readers and takes its bindings.
    let notes = DeliveryNotes()
    var options = ConsumerOptions()
    options.credit = 3
    _ = try world.queues.consume("s", in: "/", owner: nil, options: options, from: .next, sink: notes)
    try world.pass(.milliseconds(10))
    #expect(try world.machine.wait { world.queues.delete("s", in: "/", owner: nil, completion: $0) }.get() == 10)
    try world.until { notes.ends == [.queueDeleted] }
    #expect(try world.routeCount(world.publication("x", to: "a.b", exchange: "amq.topic")) == 0)
  }

  @Test("a message id is taken once, also when the first one was consumed and the power was lost in between")
  func deduplication() throws {
    let world = try QueueHostWorld()
    try world.declare("q", ["x-deduplication-count": .int64(100), "x-deduplication-time": .int64(3_600_000)])
    try world.publishAndWait(["a"], to: "q", "id=1")
    try world.publishAndWait(["a again"], to: "q", "id=1")
    try world.publishAndWait(["b"], to: "q", "id=2")
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 2 }
    #expect(notes.bodies == ["a", "b"])
    notes.acknowledgeAll()
    try world.pass(.seconds(1))
    try world.restart()
    try world.publishAndWait(["a once more"], to: "q", "id=1")
    try world.publishAndWait(["c"], to: "q", "id=3")
    let again = DeliveryNotes()
    _ = try world.consume("q", into: again)
    try world.until { !again.deliveries.isEmpty }
    try world.pass(.seconds(1))
    #expect(again.bodies == ["c"])
  }

  @Test("of a key at most one message is in flight, and a failed one comes again after its delay, in order")
  func keysAndRetries() throws {
    let world = try QueueHostWorld()
    try world.declare(
      "q", ["x-group-by": .string("customer"), "x-retry-delay": .int64(1000), "x-retry-growth": .string("exponential")])
    try world.publishAndWait(["a1"], to: "q", "customer=a")
    try world.publishAndWait(["a2"], to: "q", "customer=a")
    try world.publishAndWait(["b1"], to: "q", "customer=b")
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 2 }
    #expect(notes.bodies == ["a1", "b1"])
    try notes.settle("a1", .requeue(isFailure: true))
    try world.pass(.milliseconds(900))
    #expect(notes.bodies == ["b1"])
    try world.until { notes.deliveries.count == 2 }
    #expect(notes.bodies == ["b1", "a1"])
    try notes.settle("a1", .acknowledge)
    try world.until { notes.bodies == ["b1", "a2"] }
  }

  @Test("a delayed message waits on disk, through a power loss")
  func delay() throws {
    let world = try QueueHostWorld()
    try world.declare("q")
    let exchange = try Exchange(
      name: "later", type: "x-delayed-message", isDurable: true, arguments: ["x-delayed-type": .string("direct")])
    try world.check { world.queues.declareExchange(exchange, in: "/", completion: $0) }
    try world.check {
      world.queues.bind(
        Binding(source: "later", destination: .queue("q"), key: "k"), in: "/", owner: nil, completion: $0)
    }
    try world.publishAndWait(["late"], to: "k", exchange: "later", "delay=5000")
    try world.publishAndWait(["soon"], to: "k", exchange: "later", "delay=2000")
    try world.restart()
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.pass(.milliseconds(1000))
    #expect(notes.bodies == [])
    try world.until { notes.deliveries.count == 1 }
    #expect(notes.bodies == ["soon"])
    try world.until { notes.deliveries.count == 2 }
    #expect(notes.bodies == ["soon", "late"])
  }

  @Test("a delayed message comes no moment early, wherever in a millisecond the runs began", arguments: 0..<8)
  func delayToTheNanosecond(eighth: Int) throws {
    let world = try QueueHostWorld()
    try world.declare("q")
    let exchange = try Exchange(
      name: "later", type: "x-delayed-message", isDurable: true, arguments: ["x-delayed-type": .string("direct")])
    try world.check { world.queues.declareExchange(exchange, in: "/", completion: $0) }
    try world.check {
      world.queues.bind(
        Binding(source: "later", destination: .queue("q"), key: "k"), in: "/", owner: nil, completion: $0)
    }
    // The publishing run begins at one place within a millisecond, the delivering one at another.
    func restart(at nanoseconds: Int64) throws {
      let place = world.machine.world.now.nanoseconds % 1_000_000
      try world.pass(.nanoseconds((nanoseconds - place + 1_000_000) % 1_000_000))
      try world.restart()
    }
    try restart(at: 999_000)
    try world.pass(.nanoseconds(Int64(eighth) * 125_000))
    let published = world.machine.world.now
    try world.publishAndWait(["m"], to: "k", exchange: "later", "delay=5000")
    try restart(at: 1000)
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 1 }
    #expect(world.machine.world.now - published >= .milliseconds(5000))
  }

  @Test("a time to live of 0 reaches a consumer that waits, also through the log", arguments: [true, false])
  func timeToLiveZero(isDurable: Bool) throws {
    let world = try QueueHostWorld()
    try world.declare("q", isDurable: isDurable, ["x-message-ttl": .int64(0)])
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.publishAndWait(["now"], to: "q")
    try world.until { notes.bodies == ["now"] }
  }

  @Test("a time to live of 0 reaches a consumer that waits, although a turn takes its time", arguments: [true, false])
  func timeToLiveZeroOnABusyMachine(isDurable: Bool) throws {
    let world = try QueueHostWorld()
    try world.declare("q", isDurable: isDurable, ["x-message-ttl": .int64(0)])
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    let reactor = try #require(world.broker.reactor as? SimulatedReactor)
    // Every turn passes the end of a ms.
    reactor.turnTime = .microseconds(1_500)
    try world.publishAndWait(["a", "b", "c"], to: "q")
    try world.until { notes.bodies.count == 3 }
    #expect(notes.bodies == ["a", "b", "c"])
  }

  @Test("messages that memory keeps can be delayed as well")
  func delayInMemory() throws {
    let world = try QueueHostWorld()
    try world.declare("q", isDurable: false, isExclusive: true)
    let exchange = try Exchange(
      name: "later", type: "x-delayed-message", arguments: ["x-delayed-type": .string("direct")])
    try world.check { world.queues.declareExchange(exchange, in: "/", completion: $0) }
    try world.check {
      world.queues.bind(
        Binding(source: "later", destination: .queue("q"), key: "k"), in: "/", owner: world.owner, completion: $0)
    }
    for (body, delay) in [("last", 900), ("middle", 400), ("first", 0)] {
      try world.publishAndWait([body], to: "k", exchange: "later", "delay=\(delay)")
    }
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 3 }
    #expect(notes.bodies == ["first", "middle", "last"])
  }

  @Test("with the strategy at-least-once a dead letter stays until a queue takes it, through a power loss too")
  func atLeastOnce() throws {
    let world = try QueueHostWorld()
    try world.declare(
      "q",
      [
        "x-queue-type": .string("quorum"), "x-message-ttl": .int64(10), "x-dead-letter-exchange": .string("amq.fanout"),
        "x-dead-letter-strategy": .string("at-least-once"), "x-overflow": .string("reject-publish"),
      ])
    try world.publishAndWait(["a", "b"], to: "q")
    try world.pass(.seconds(3))
    try world.restart()
    try world.pass(.seconds(3))
    try world.declare("late")
    try world.check {
      world.queues.bind(
        Binding(source: "amq.fanout", destination: .queue("late"), key: ""), in: "/", owner: nil, completion: $0)
    }
    try world.until { world.queues.find("late", in: "/")?.queue.length == 2 }
    try world.restart()
    try world.pass(.seconds(3))
    #expect(try world.queues.inspect("late", in: "/", owner: nil).messageCount == 2)
    #expect(try world.queues.inspect("q", in: "/", owner: nil).messageCount == 0)
  }

  @Test("a message that one of two queues refuses is refused when the other one has it")
  func refusedByOne() throws {
    let world = try QueueHostWorld()
    try world.declare("full", ["x-max-length": .int64(1), "x-overflow": .string("reject-publish")])
    try world.declare("open")
    for queue in ["full", "open"] {
      try world.check {
        world.queues.bind(
          Binding(source: "amq.fanout", destination: .queue(queue), key: ""), in: "/", owner: nil, completion: $0)
      }
    }
    try world.publishAndWait(["a"], to: "", exchange: "amq.fanout")
    let tag = try world.publish("b", to: "", exchange: "amq.fanout")
    try world.until { world.refused.contains(tag) }
    #expect(try world.queues.inspect("open", in: "/", owner: nil).messageCount == 2)
    #expect(try world.queues.inspect("full", in: "/", owner: nil).messageCount == 1)
  }
}
