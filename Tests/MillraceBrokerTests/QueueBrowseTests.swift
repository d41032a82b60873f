import MillraceBase
import MillraceDelivery
import MillraceModel
import MillraceRouting
import Testing

@testable import MillraceBroker

/// Looking into queues, taking single messages out, moving messages, and publications that wait for a time.
@Suite struct QueueBrowseTests {
  private func numbers(_ range: Range<Int>) -> [String] { range.map { "m\($0)" } }

  private func page(_ world: QueueHostWorld, _ queue: String, from: Position? = nil, limit: Int) throws -> BrowsedPage {
    try world.machine.wait {
      world.queues.browse(queue, in: "/", owner: nil, from: from, limit: limit, completion: $0)
    }.get()
  }

  private func browse(_ world: QueueHostWorld, _ queue: String, pages limit: Int = 1000) throws -> [BrowsedMessage] {
    var found: [BrowsedMessage] = []
    var next: Position?
    repeat {
      let page = try page(world, queue, from: next, limit: limit)
      #expect(page.messages.count <= limit)
      found += page.messages
      next = page.next
    } while next != nil
    return found
  }

  private func remove(_ world: QueueHostWorld, _ message: BrowsedMessage, from queue: String) throws -> Bool {
    try world.machine.wait {
      world.queues.remove(
        message.position, size: message.message.size, from: queue, in: "/", owner: nil, completion: $0)
    }.get()
  }

  /// Publishes a message that waits.
  private func schedule(_ world: QueueHostWorld, _ body: String, to queue: String, after delay: Duration) throws {
    var publication = world.publication(body, to: queue)
    publication.notBefore = Timestamp(
      milliseconds: world.broker.reactor.wallClock.milliseconds + delay.inMilliseconds)
    var isSettled = false
    let publisher = QueuePublisher(world.queues) { _, isAccepted in
      #expect(isAccepted)
      isSettled = true
    }
    #expect(try publisher.publish(publication, tag: 1) == 1)
    try world.until { isSettled }
  }

  @Test("shows a backlog far longer than the window in its order, in pages of every size", arguments: [7, 100, 5000])
  func backlog(limit: Int) throws {
    let world = try QueueHostWorld()
    try world.declare("q", ["x-max-priority": .int64(2)])
    for start in stride(from: 0, to: 3000, by: 500) {
      try world.publishAndWait(numbers(start..<start + 500), to: "q")
    }
    try world.publishAndWait(["first"], to: "q", "priority=2")
    let notes = DeliveryNotes()
    let consumer = try world.consume("q", credit: 3, into: notes)
    try world.until { notes.deliveries.count == 3 }
    let found = try browse(world, "q", pages: limit)
    #expect(found.map { $0.message.body.text } == ["first"] + numbers(0..<3000))
    #expect(found.filter(\.isInFlight).map { $0.message.body.text } == ["first", "m0", "m1"])
    consumer.close(isFailure: false)
    try world.restart()
    #expect(try browse(world, "q", pages: limit).map { $0.message.body.text } == ["first"] + numbers(0..<3000))
  }

  @Test("takes single messages out for good, wherever they are, but none that is in flight")
  func removesOne() throws {
    let world = try QueueHostWorld()
    try world.declare("q")
    for start in stride(from: 0, to: 3000, by: 500) {
      try world.publishAndWait(numbers(start..<start + 500), to: "q")
    }
    let notes = DeliveryNotes()
    _ = try world.consume("q", credit: 2, into: notes)
    try world.until { notes.deliveries.count == 2 }
    let all = try browse(world, "q")
    // In flight; in the window; far behind it; at the end.
    #expect(try !remove(world, all[1], from: "q"))
    for index in [5, 6, 2000, 2001, 2999] { #expect(try remove(world, all[index], from: "q")) }
    #expect(try !remove(world, all[2000], from: "q"))
    #expect(try world.queues.inspect("q", in: "/", owner: nil).messageCount == 2993)
    try world.restart()
    let left = numbers(0..<3000).enumerated().filter { ![5, 6, 2000, 2001, 2999].contains($0.offset) }.map(\.element)
    #expect(try browse(world, "q").map { $0.message.body.text } == left)
    let again = DeliveryNotes()
    _ = try world.consume("q", into: again)
    try world.until { again.deliveries.count == left.count }
    #expect(again.bodies == left)
    again.acknowledgeAll()
    try world.until { world.queues.find("q", in: "/")?.queue.length == 0 }
    #expect(world.queues.find("q", in: "/")?.queue.lengthBytes == 0)
  }

  @Test(
    "a publication waits for its time in any queue, over restarts too, and can be found and taken out",
    arguments: [true, false])
  func scheduled(isDurable: Bool) throws {
    let world = try QueueHostWorld()
    try world.declare("q", isDurable: isDurable)
    try schedule(world, "late", to: "q", after: .seconds(60))
    try schedule(world, "never", to: "q", after: .seconds(60))
    try schedule(world, "soon", to: "q", after: .seconds(5))
    try world.publishAndWait(["now"], to: "q")
    if isDurable { try world.restart() }
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 1 }
    try world.pass(.seconds(1))
    #expect(notes.bodies == ["now"])
    let waiting = try browse(world, "q").filter { $0.due != nil }
    #expect(waiting.map { $0.message.body.text } == ["late", "never", "soon"])
    let due = try #require(waiting[0].due)
    #expect(abs(due.milliseconds - world.broker.reactor.wallClock.milliseconds - 59_000) < 2_000)
    #expect(try remove(world, waiting[1], from: "q"))
    try world.pass(.seconds(6))
    #expect(notes.bodies == ["now", "soon"])
    try world.pass(.seconds(120))
    #expect(notes.bodies == ["now", "soon", "late"])
    #expect(try browse(world, "q").allSatisfy { $0.isInFlight })
  }

  @Test("moves messages in order, each in one queue at any time, also through a power loss", arguments: [false, true])
  func moves(losesPower: Bool) throws {
    let world = try QueueHostWorld()
    try world.declare("q")
    try world.declare("other")
    try world.publishAndWait(numbers(0..<1500), to: "q", "k=v")
    var moved: Result<Int, RoutingError>?
    world.queues.move(
      from: "q", in: "/", owner: nil, limit: 1200,
      to: { MoveTarget(queue: $0.body.text == "m3" ? "nowhere" : "other", properties: $0.properties) },
      completion: { moved = $0 })
    if losesPower {
      try world.until { (world.queues.find("other", in: "/")?.queue.length ?? 0) > 0 }
    } else {
      try world.until { moved != nil }
      // One of those looked at has nowhere to go.
      #expect(try moved?.get() == 1199)
    }
    try world.restart()
    let (here, there) = (try browse(world, "q"), try browse(world, "other"))
    let goneThrough = there.map { $0.message.body.text }
    #expect(goneThrough == numbers(0..<1500).filter { $0 != "m3" }.prefix(goneThrough.count).map { $0 })
    #expect((here + there).count == 1500)
    #expect(Set((here + there).map { $0.message.body.text }).count == 1500)
    #expect(there.allSatisfy { $0.message.properties.text == "k=v" })
    if !losesPower { #expect(there.count == 1199) }
  }

  @Test("a move ends at a full queue, and passes deduplication")
  func movesIntoLimits() throws {
    let world = try QueueHostWorld()
    try world.declare("q")
    try world.declare("full", ["x-max-length": .int64(300), "x-overflow": .string("reject-publish")])
    try world.publishAndWait(numbers(0..<1000), to: "q")
    let answer: Result<Int, RoutingError> = try world.machine.wait {
      world.queues.move(
        from: "q", in: "/", owner: nil, limit: .max, to: { MoveTarget(queue: "full", properties: $0.properties) },
        completion: $0)
    }
    #expect(throws: RoutingError.self) { try answer.get() }
    #expect(try browse(world, "full").map { $0.message.body.text } == numbers(0..<256))
    #expect(try browse(world, "q").map { $0.message.body.text } == numbers(256..<1000))
    try world.declare("once", ["x-deduplication-count": .int64(10)])
    try world.publishAndWait(["x"], to: "once", "id=1")
    try world.publishAndWait(["x"], to: "once", "id=1")
    #expect(try browse(world, "once").count == 1)
    try world.declare("back")
    for (from, to) in [("once", "back"), ("back", "once")] {
      let moved: Result<Int, RoutingError> = try world.machine.wait {
        world.queues.move(
          from: from, in: "/", owner: nil, limit: .max, to: { MoveTarget(queue: to, properties: $0.properties) },
          completion: $0)
      }
      #expect(try moved.get() == 1)
    }
    #expect(try browse(world, "once").count == 1)
  }

  @Test("what is settled is said to be durable only when a dead letter that must be read is, too")
  func whenSettled() throws {
    let world = try QueueHostWorld()
    try world.declare("q", ["x-dead-letter-exchange": .string(""), "x-dead-letter-routing-key": .string("dead")])
    try world.declare("dead")
    // More in flight than is held in memory, so that the last one is read again.
    let body = String(repeating: "x", count: 1 << 20)
    for number in 0..<6 { try world.publishAndWait(["\(number)" + body], to: "q") }
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 6 }
    for (delivery, consumer) in notes.deliveries { #expect(consumer.settle(delivery.position, .discard)) }
    var isDurable = false
    world.queues.whenDurable { error in
      #expect(error == nil)
      isDurable = true
    }
    try world.until { isDurable }
    try world.restart()
    #expect(try browse(world, "dead").map { $0.message.body.text.first } == ["0", "1", "2", "3", "4", "5"])
    #expect(try world.queues.inspect("q", in: "/", owner: nil).messageCount == 0)
  }
}
