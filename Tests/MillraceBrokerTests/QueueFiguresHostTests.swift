// QueueFiguresHostTests: what a queue's meter hears of the queue is what happens to it.

import MillraceBase
import MillraceDelivery
import MillraceQueueing
import MillraceRouting
import Testing

@testable import MillraceBroker

@Suite struct QueueFiguresHostTests {
  private func figures(_ name: String, _ world: QueueHostWorld) throws -> QueueFigures {
    try #require(world.queues.find(name, in: "/")).figures(now: world.queues.exactNow)
  }

  @Test("Little's law holds of a queue, from its publications to the ends of its messages", arguments: [true, false])
  func littlesLaw(isDurable: Bool) throws {
    let world = try QueueHostWorld()
    try world.declare(
      "q", isDurable: isDurable,
      ["x-dead-letter-exchange": .string(""), "x-dead-letter-routing-key": .string("dead")])
    try world.declare("dead", isDurable: isDurable)
    let notes = DeliveryNotes()
    let consumer = try world.consume("q", credit: 7, into: notes)
    var random = SeededRandom(seed: 17)
    for step in 0..<400 {
      let bodies = (0..<Int.random(in: 0...3, using: &random)).map { "\(step) \($0)" }
      for body in bodies { _ = try world.publish(body, to: "q", random.oneIn(4) ? "ttl=20" : "") }
      try world.pass(.milliseconds(Int.random(in: 1...30, using: &random)))
      while let (delivery, holder) = notes.deliveries.first, !random.oneIn(3) {
        notes.deliveries.removeFirst()
        switch Int.random(in: 0...9, using: &random) {
        case 0: holder.settle(delivery.position, .discard)
        case 1: holder.settle(delivery.position, .requeue(isFailure: true))
        default: holder.settle(delivery.position, .acknowledge)
        }
      }
      guard step % 20 == 19 else { continue }
      try world.pass(.milliseconds(1))
      let now = try figures("q", world)
      #expect(abs(now.littlesLaw.relativeResidual) < 0.01, "step \(step): \(now.littlesLaw)")
      #expect(now.littlesLaw.presentAtEnd == now.length + now.unacknowledged)
      #expect(now.consumers == 1 && now.busyConsumers == (now.unacknowledged > 0 ? 1 : 0))
    }
    consumer.close(isFailure: false)
    try world.pass(.milliseconds(100))
    let end = try figures("q", world)
    let totals = end.totals
    #expect(totals.redelivered > 0 && totals.removed[.rejected] > 0 && totals.removed[.expired] > 0)
    #expect(totals.deadLettered == totals.removed)
    #expect(totals.arrived == totals.departed + UInt64(end.length))
    #expect(end.consumers == 0 && end.unacknowledged == 0)
    let dead = try figures("dead", world)
    #expect(dead.totals.arrived == totals.deadLettered.sum && UInt64(dead.length) == dead.totals.arrived)
    #expect(try #require(dead.oldestAgeSeconds) > 1)
    // In memory they are there at once; otherwise a commit takes its time.
    #expect((end.transfer.maximumNanoseconds > 0) == isDurable)
  }

  @Test("a backlog is counted from the start, purged messages and those taken one by one have left")
  func backlog() throws {
    let world = try QueueHostWorld()
    try world.declare("q")
    try world.publishAndWait((0..<3000).map { "m\($0)" }, to: "q")
    try world.restart()
    try world.pass(.seconds(2))
    let notes = DeliveryNotes()
    let getter = try world.queues.attach("q", in: "/", owner: nil, sink: notes)
    for isNoAck in [true, false] {
      let got = try #require(try world.machine.wait { getter.get(isNoAck: isNoAck, completion: $0) })
      if !isNoAck { getter.settle(got.delivery.position, .acknowledge) }
    }
    _ = try world.machine.wait { world.queues.purge("q", in: "/", owner: nil, completion: $0) }
    try world.pass(.seconds(1))
    let figures = try figures("q", world)
    #expect(figures.totals.arrived == 0 && figures.totals.acknowledged == 2 && figures.totals.removed[.purged] == 2998)
    #expect(figures.length == 0 && figures.consumers == 0)
    #expect(abs(figures.littlesLaw.relativeResidual) < 0.01, "\(figures.littlesLaw)")
  }

  /// How many durations lie at or below each edge, by its seconds.
  private func cumulated(_ times: TimeBuckets) -> [Double: UInt64] {
    var seen: UInt64 = 0
    var out: [Double: UInt64] = [:]
    for (edge, held) in zip(TimeBuckets.edges, times.counts) {
      seen += held
      out[Double(edge) / 1e9] = seen
    }
    return out
  }

  @Test("a virtual host's histograms have the waits of all its queues, deleted ones too, and nothing of others")
  func virtualHostTimes() throws {
    let world = try QueueHostWorld()
    try world.check { world.queues.createVirtualHost("other", completion: $0) }
    for name in ["a", "b"] { try world.declare(name, isDurable: false) }
    // Known waits: a message comes, so much time passes, and somebody takes it.
    let waits: [(queue: String, time: Duration, isNoAck: Bool)] = [
      ("a", .milliseconds(4), true), ("b", .milliseconds(40), true), ("a", .seconds(20), false),
      ("b", .seconds(7200), true),
    ]
    for (queue, time, isNoAck) in waits {
      _ = try world.publish("m", to: queue)
      try world.pass(.zero)
      try world.pass(time)
      let getter = try world.queues.attach(queue, in: "/", owner: nil, sink: DeliveryNotes())
      let got = try #require(try world.machine.wait { getter.get(isNoAck: isNoAck, completion: $0) })
      // One that is settled takes a consumer three quarters of a second.
      if !isNoAck {
        try world.pass(.milliseconds(750))
        #expect(getter.settle(got.delivery.position, .acknowledge))
      }
      getter.close(isFailure: false)
    }
    let times = try #require(world.queues.virtualHostTimes("/"))
    let waited = cumulated(times.waiting)
    #expect(times.waiting.count == 4)
    #expect(waited[0.0025] == 0 && waited[0.005] == 1 && waited[0.025] == 1 && waited[0.05] == 2)
    #expect(waited[10] == 2 && waited[30] == 3 && waited[3600] == 3 && waited[21600] == 4)
    #expect(abs(Double(times.waiting.sumNanoseconds) / 1e9 - 7220.044) < 0.01)
    #expect(times.processing.count == 1 && cumulated(times.processing)[0.5] == 0 && cumulated(times.processing)[1] == 1)
    #expect(world.queues.timedVirtualHosts == ["/"] && world.queues.virtualHostTimes("other") == nil)
    // A counter that went back with a queue would look like a restart.
    _ = try world.machine.wait { world.queues.delete("a", in: "/", owner: nil, completion: $0) }.get()
    #expect(world.queues.virtualHostTimes("/")?.waiting.count == 4)
  }
}
