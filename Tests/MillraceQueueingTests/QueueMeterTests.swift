// QueueMeterTests: what a meter makes of single events, of random histories, and of hosts that are wrong.

import MillraceBase
import Testing

@testable import MillraceQueueing

private func key(_ offset: Int64) -> MessageKey { MessageKey(offset: offset) }

@Suite("queue meter")
struct QueueMeterTests {
  @Test("one message's time is split into transfer, waiting and processing")
  func oneMessage() throws {
    var meter = QueueMeter(now: at(0))
    var consumer = ConsumerMeter()
    meter.joined(&consumer, now: at(0))
    meter.arrived(receivedAt: at(1), now: at(1.002))
    meter.observe(ready: 1, unacknowledged: 0, now: at(1.002))
    meter.delivered(key(0), arrivedAt: at(1.002), isRedelivered: false, to: &consumer, now: at(3.002))
    meter.observe(ready: 0, unacknowledged: 1, now: at(3.002))
    #expect(meter.arrival(of: key(0)) == at(1.002) && meter.arrival(of: key(1)) == nil)
    let before = meter.figures(now: at(4), oldest: at(1.002))
    #expect(before.unacknowledged == 1 && before.busyConsumers == 1 && before.consumers == 1)
    #expect(relative(try #require(before.oldestAgeSeconds), 2.998) < 1e-9)
    meter.acknowledged(key(0), by: &consumer, now: at(8.002))
    meter.observe(ready: 0, unacknowledged: 0, now: at(8.002))
    let figures = meter.figures(now: at(10))
    #expect(relative(figures.transfer.meanSeconds, 0.002) < 1e-9)
    #expect(relative(figures.waiting.meanSeconds, 2) < 1e-9)
    #expect(relative(figures.processing.meanSeconds, 5) < 1e-9)
    #expect(relative(figures.meanLength, 0.2) < 1e-9 && relative(figures.meanUnacknowledged, 0.5) < 1e-9)
    #expect(figures.utilisation == 0.5 && figures.busyConsumers == 0)
    #expect(figures.littlesLaw.verdict(tolerance: 1e-9) == .holds)
    #expect(relative(figures.littlesLaw.meanSojournSeconds, 7) < 1e-9)
    #expect(relative(figures.service.mean, 5) < 1e-9)
  }

  @Test("a returned message waits from its return, and is redelivered")
  func returned() {
    var meter = QueueMeter(now: at(0))
    var consumer = ConsumerMeter()
    meter.joined(&consumer, now: at(0))
    meter.arrived(receivedAt: at(0), now: at(0))
    meter.delivered(key(0), arrivedAt: at(0), isRedelivered: false, to: &consumer, now: at(1))
    meter.returned(key(0), by: &consumer, now: at(4))
    meter.delivered(key(0), arrivedAt: at(0), isRedelivered: true, to: &consumer, now: at(4.5))
    meter.returned(key(0), by: &consumer, now: at(5))
    meter.removed(key(0), reason: .deliveryLimit, isDeadLettered: true, arrivedAt: nil, now: at(5))
    let figures = meter.figures(now: at(6))
    #expect(figures.totals.delivered == 2 && figures.totals.redelivered == 1 && figures.totals.returned == 2)
    #expect(figures.totals.removed[.deliveryLimit] == 1 && figures.totals.deadLettered[.deliveryLimit] == 1)
    #expect(figures.totals.departed == 1)
    #expect(relative(figures.waiting.meanSeconds, (1 + 0.5) / 2) < 1e-9)
    #expect(relative(figures.processing.meanSeconds, (3 + 0.5) / 2) < 1e-9)
    #expect(relative(figures.littlesLaw.meanSojournSeconds, 5) < 1e-9)
    #expect(relative(figures.offeredRate, 3.0 / 6) < 1e-9)
  }

  @Test("a consumer that goes leaves what it had to the queue, and its time ends")
  func consumerGoes() {
    var meter = QueueMeter(now: at(0))
    var (one, other) = (ConsumerMeter(), ConsumerMeter())
    meter.joined(&one, now: at(0))
    meter.joined(&other, now: at(0))
    meter.arrived(receivedAt: at(0), now: at(0))
    meter.delivered(key(0), arrivedAt: at(0), isRedelivered: false, to: &one, now: at(0))
    meter.left(&one, now: at(2))
    meter.left(&one, now: at(2))
    meter.delivered(key(0), arrivedAt: at(0), isRedelivered: true, to: &other, now: at(3))
    meter.acknowledged(key(0), by: &other, now: at(4))
    let figures = meter.figures(now: at(4))
    #expect(figures.consumers == 1 && figures.busyConsumers == 0)
    #expect(relative(figures.busySeconds, 3) < 1e-9 && relative(figures.consumerSeconds, 6) < 1e-9)
    // Since when it waited for the second time nobody said, so it is not made up.
    #expect(figures.waiting.count == 1 && figures.processing.count == 1 && figures.totals.redelivered == 1)
  }

  @Test("who only asks now and then is no server of the queue")
  func passive() {
    var meter = QueueMeter(now: at(0))
    var consumer = ConsumerMeter(isServer: false)
    meter.joined(&consumer, now: at(0))
    meter.arrived(2, receivedAt: at(0), now: at(0))
    meter.delivered(key(0), arrivedAt: at(0), isRedelivered: false, to: &consumer, now: at(1))
    meter.deliveredForGood(key(1), arrivedAt: at(0), isRedelivered: false, now: at(2))
    meter.acknowledged(key(0), by: &consumer, now: at(5))
    meter.left(&consumer, now: at(6))
    let figures = meter.figures(now: at(6))
    #expect(figures.consumers == 0 && figures.utilisation == nil && figures.model == nil && figures.service.count == 0)
    #expect(figures.totals.acknowledged == 2 && figures.processing.count == 1 && figures.waiting.count == 2)
  }

  @Test("deliveries that are acknowledged together share the time since the last acknowledgement")
  func sharedTime() throws {
    var meter = QueueMeter(now: at(0))
    var consumer = ConsumerMeter()
    meter.joined(&consumer, now: at(0))
    meter.arrived(6, receivedAt: at(0), now: at(0))
    for offset in 0..<6 {
      meter.delivered(key(Int64(offset)), arrivedAt: at(0), isRedelivered: false, to: &consumer, now: at(0))
    }
    for offset in 0..<4 { meter.acknowledged(key(Int64(offset)), by: &consumer, now: at(2)) }
    for offset in 4..<6 { meter.acknowledged(key(Int64(offset)), by: &consumer, now: at(5)) }
    let figures = meter.figures(now: at(5))
    #expect(figures.service.count == 6 && relative(figures.service.mean, 5.0 / 6) < 1e-9)
    // Four times 1/2 and two times 3/2.
    #expect(relative(try #require(figures.service.squaredVariation), 0.384) < 1e-9)
    #expect(figures.utilisation == 1)
  }

  @Test("messages that come together are gaps of 0, and a long silence is none")
  func gaps() throws {
    var meter = QueueMeter(now: at(0))
    for time in [0.0, 1, 2, 3] { meter.arrived(2, receivedAt: at(time), now: at(time)) }
    // 0, 1, 0, 1, 0, 1, 0: mean 3/7, variance 2/7.
    #expect(relative(try #require(meter.figures(now: at(4)).arrivalVariability), 14.0 / 9) < 1e-9)
    meter.arrived(receivedAt: at(143), now: at(143))
    meter.arrived(receivedAt: at(144), now: at(144))
    meter.arrived(receivedAt: at(145), now: at(145))
    #expect(meter.figures(now: at(150)).arrivalVariability == 0)
  }

  @Test("a backlog counts from the start of the meter, however old its messages are")
  func backlog() {
    var meter = QueueMeter(now: at(100), backlog: 3)
    meter.observe(ready: 3, unacknowledged: 0, now: at(100))
    #expect(meter.heldBytes < 64, "nothing has happened yet")
    var consumer = ConsumerMeter()
    meter.joined(&consumer, now: at(100))
    meter.delivered(key(0), arrivedAt: at(-50), isRedelivered: false, to: &consumer, now: at(102))
    meter.observe(ready: 2, unacknowledged: 1, now: at(102))
    meter.acknowledged(key(0), by: &consumer, now: at(103))
    meter.removed(key(1), reason: .expired, isDeadLettered: false, arrivedAt: at(-3), now: at(103))
    meter.removed(1, reason: .purged, now: at(103))
    meter.observe(ready: 0, unacknowledged: 0, now: at(103))
    let figures = meter.figures(now: at(110))
    #expect(figures.totals.arrived == 0 && figures.totals.departed == 3)
    #expect(figures.littlesLaw.verdict(tolerance: 1e-9) == .holds)
    #expect(figures.waiting.nanoseconds(atQuantile: 1) == 152_000_000_000)
  }

  @Test("oracleHistories: window means, ends and Little's law of random histories are those of the histories")
  func oracleHistories() throws {
    for seed in 0..<30 { try history(seed: UInt64(seed)) }
  }

  private func history(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    var now = Double(Int.random(in: 0...50, using: &random))
    let start = now
    var meter = QueueMeter(now: at(now))
    var consumers = (0..<3).map { _ in ConsumerMeter() }
    for index in consumers.indices { meter.joined(&consumers[index], now: at(now)) }
    var ready: [Int64] = []
    var held: [(offset: Int64, consumer: Int)] = []
    var arrivals: [Int64: Double] = [:]
    // What is known of every moment: since when, how many were ready, with consumers, and consumers busy.
    var states: [(time: Double, ready: Int, unacknowledged: Int, busy: Int)] = [(now, 0, 0, 0)]
    var departed: [(time: Double, arrived: Double)] = []
    var next: Int64 = 0
    for _ in 0..<Int.random(in: 1...400, using: &random) {
      if !random.oneIn(4) { now += Double(Int.random(in: 0...900, using: &random)) / 1000 }
      if random.oneIn(150) { now += Double(Int.random(in: 60...300, using: &random)) }
      switch Int.random(in: 0...9, using: &random) {
      case 0...3:
        let count = Int.random(in: 1...3, using: &random)
        meter.arrived(count, receivedAt: at(now - 0.001), now: at(now))
        for _ in 0..<count {
          ready.append(next)
          arrivals[next] = now
          next += 1
        }
      case 4...5 where !ready.isEmpty:
        let offset = ready.remove(at: Int.random(in: 0..<ready.count, using: &random))
        let arrived = try #require(arrivals[offset])
        if random.oneIn(5) {
          meter.deliveredForGood(key(offset), arrivedAt: at(arrived), isRedelivered: false, now: at(now))
          departed.append((now, arrived))
        } else {
          let consumer = Int.random(in: 0..<3, using: &random)
          meter.delivered(
            key(offset), arrivedAt: at(arrived), isRedelivered: false, to: &consumers[consumer], now: at(now))
          held.append((offset, consumer))
        }
      case 6...7 where !held.isEmpty:
        let (offset, consumer) = held.remove(at: Int.random(in: 0..<held.count, using: &random))
        if random.oneIn(3) {
          meter.returned(key(offset), by: &consumers[consumer], now: at(now))
          ready.append(offset)
        } else {
          meter.acknowledged(key(offset), by: &consumers[consumer], now: at(now))
          departed.append((now, try #require(arrivals[offset])))
        }
      case 8 where !ready.isEmpty:
        let offset = ready.removeFirst()
        let arrived = try #require(arrivals[offset])
        meter.removed(key(offset), reason: .expired, isDeadLettered: true, arrivedAt: at(arrived), now: at(now))
        departed.append((now, arrived))
      default: break
      }
      meter.observe(ready: ready.count, unacknowledged: held.count, now: at(now))
      states.append((now, ready.count, held.count, Set(held.map(\.consumer)).count))
      guard random.oneIn(10) else { continue }
      let end = now + (random.oneIn(3) ? Double(Int.random(in: 0...200, using: &random)) : 0)
      let figures = meter.figures(now: at(end))
      let window = figures.windowSeconds
      #expect(window <= 120 && window >= min(60, end - start) - 1e-6, "seed \(seed)")
      let begin = end - window
      func mean(_ value: ((time: Double, ready: Int, unacknowledged: Int, busy: Int)) -> Int) -> Double {
        var sum = 0.0
        for (index, state) in states.enumerated() {
          let until = index + 1 < states.count ? states[index + 1].time : end
          sum += Double(value(state)) * max(0, min(until, end) - max(state.time, begin))
        }
        return window > 0 ? sum / window : 0
      }
      #expect(abs(figures.meanLength - mean(\.ready)) < 1e-6, "seed \(seed)")
      #expect(abs(figures.meanUnacknowledged - mean(\.unacknowledged)) < 1e-6, "seed \(seed)")
      #expect(abs(figures.busySeconds - mean(\.busy) * window) < 1e-4, "seed \(seed)")
      #expect(figures.totals.departed == UInt64(departed.count))
      #expect(figures.littlesLaw.presentAtEnd == ready.count + held.count)
      #expect(abs(figures.littlesLaw.relativeResidual) < 1e-6, "seed \(seed)")
      // What left at the very beginning of the window may belong to it or not.
      let inside = departed.filter { $0.time > begin + 1e-6 }.count
      let rim = departed.filter { abs($0.time - begin) <= 1e-6 }.count
      let counted = Int((figures.littlesLaw.departureRate * window).rounded())
      #expect(counted >= inside && counted <= inside + rim, "seed \(seed)")
    }
  }

  @Test("a host that forgets to tell of messages is found out, and forgiven once the queue is empty")
  func forgetful() {
    var meter = QueueMeter(now: at(0))
    for second in 0..<50 { meter.arrived(receivedAt: at(Double(second)), now: at(Double(second))) }
    // All of them left, and the meter hears of the length alone.
    meter.observe(ready: 5, unacknowledged: 0, now: at(50))
    #expect(meter.figures(now: at(55)).littlesLaw.verdict() == .inconsistent)
    meter.observe(ready: 0, unacknowledged: 0, now: at(56))
    for minute in 1...4 {
      let now = at(56 + Double(minute) * 60)
      meter.arrived(receivedAt: now, now: now)
      meter.deliveredForGood(key(0), arrivedAt: now, isRedelivered: false, now: now)
      meter.observe(ready: 0, unacknowledged: 0, now: now)
    }
    #expect(meter.figures(now: at(300)).littlesLaw.verdict() == .holds)
  }

  @Test("nonsense from a host or a disk traps nowhere")
  func nonsense() throws {
    var meter = QueueMeter(now: at(5), backlog: -3)
    var consumer = ConsumerMeter()
    let (first, last) = (MonotonicTime(nanoseconds: .min), MonotonicTime(nanoseconds: .max))
    meter.acknowledged(key(0), by: &consumer, now: at(6))
    meter.returned(key(0), by: &consumer, now: at(6))
    meter.left(&consumer, now: at(6))
    meter.arrived(0, receivedAt: at(6), now: at(6))
    meter.arrived(-2, receivedAt: at(6), now: at(6))
    meter.arrived(2, receivedAt: first, now: at(6))
    meter.delivered(key(-1), arrivedAt: first, isRedelivered: false, to: &consumer, now: at(6))
    meter.delivered(key(.max), arrivedAt: last, isRedelivered: false, to: &consumer, now: at(7))
    meter.deliveredForGood(key(.min), arrivedAt: last, isRedelivered: false, now: at(7))
    meter.acknowledged(key(-1), by: &consumer, now: at(3))
    meter.removed(key(9), reason: .lost, isDeadLettered: false, arrivedAt: first, now: at(8))
    meter.removed(key(9), reason: .lost, isDeadLettered: false, arrivedAt: last, now: at(8))
    meter.removed(1_000_000, reason: .lost, now: at(8))
    meter.observe(ready: 0, unacknowledged: 7, now: at(8))
    var figures = meter.figures(now: at(9), oldest: first)
    figures.add(meter.figures(now: at(2), oldest: last))
    #expect(figures.littlesLaw.meanLength.isFinite && figures.queues == 2)
    var json = JSONWriter()
    json.object { figures.writeMembers(to: &$0, target: .mean(seconds: 1), hasBuckets: true) }
    let value = try JSONValue(json.text)
    #expect(value["totals"]?["removed"]?["lost"]?.integer == 2_000_004)
  }

  @Test("a meter takes 24 bytes while nothing happens, and about 4 KB with its histograms")
  func memory() {
    var meter = QueueMeter(now: at(0), backlog: 1_000_000)
    for second in 0..<200 { meter.observe(ready: 1_000_000, unacknowledged: 0, now: at(Double(second))) }
    #expect(meter.heldBytes == 24)
    meter = QueueMeter(now: at(0))
    var consumer = ConsumerMeter()
    meter.joined(&consumer, now: at(0))
    let bare = meter.heldBytes
    #expect(bare < 1200, "\(bare)")
    // Waits between 100 µs and 10 s.
    var random = SeededRandom(seed: 1)
    var now = 0.0
    for offset in 0..<3000 {
      let arrived = now
      meter.arrived(receivedAt: at(now - 0.000_1), now: at(now))
      now += 0.000_1 * Double(1 << Int.random(in: 0...16, using: &random))
      meter.delivered(
        key(Int64(offset)), arrivedAt: at(arrived), isRedelivered: false, to: &consumer, now: at(now))
      now += 0.000_1 * Double(1 << Int.random(in: 0...10, using: &random))
      if offset % 5 == 0 {
        meter.returned(key(Int64(offset)), by: &consumer, now: at(now))
        meter.removed(key(Int64(offset)), reason: .expired, isDeadLettered: true, arrivedAt: nil, now: at(now))
      } else {
        meter.acknowledged(key(Int64(offset)), by: &consumer, now: at(now))
      }
    }
    let used = meter.heldBytes
    #expect(used < 4352, "\(used) of which \(bare)")
    // In steady work nothing grows.
    for offset in 3000..<4000 {
      meter.arrived(receivedAt: at(now - 0.000_1), now: at(now))
      meter.delivered(key(Int64(offset)), arrivedAt: at(now), isRedelivered: false, to: &consumer, now: at(now + 0.01))
      now += 0.02
      meter.acknowledged(key(Int64(offset)), by: &consumer, now: at(now))
    }
    #expect(meter.heldBytes == used)
  }
}

@Suite("queue figures")
struct QueueFiguresTests {
  private func meter(offsets: Range<Int64>, gap: Double, service: Double) -> QueueMeter {
    var meter = QueueMeter(now: at(0))
    var consumer = ConsumerMeter()
    meter.joined(&consumer, now: at(0))
    for offset in offsets {
      let now = Double(offset - offsets.lowerBound) * gap
      meter.arrived(receivedAt: at(now), now: at(now))
      meter.delivered(key(offset), arrivedAt: at(now), isRedelivered: false, to: &consumer, now: at(now))
      meter.observe(ready: 0, unacknowledged: 1, now: at(now))
      meter.acknowledged(key(offset), by: &consumer, now: at(now + service))
      meter.observe(ready: 0, unacknowledged: 0, now: at(now + service))
    }
    return meter
  }

  @Test("the figures of a group are the sums of its queues, and its model serves all with all consumers")
  func group() throws {
    var one = meter(offsets: 0..<100, gap: 0.4, service: 0.2)
    one.refused(isDeadLettered: true)
    let other = meter(offsets: 0..<40, gap: 1, service: 0.5)
    var sum = one.figures(now: at(40), oldest: at(39))
    let second = other.figures(now: at(40), oldest: at(12))
    sum.add(second)
    #expect(sum.queues == 2 && sum.consumers == 2 && sum.totals.arrived == 140 && sum.totals.refused == 1)
    #expect(sum.totals.deadLettered[.maxlen] == 1 && sum.totals.deadLettered.sum == 1)
    #expect(sum.oldestAgeSeconds == 28)
    #expect(relative(try #require(sum.utilisation), 0.5) < 1e-9)
    #expect(relative(sum.offeredRate, 3.5) < 1e-9)
    #expect(relative(sum.arrivals.overAMinute, 3.5) < 1e-9)
    #expect(sum.processing.count == 140 && sum.service.count == 140)
    let model = try #require(sum.model)
    #expect(model.consumers == 2 && relative(model.load, 3.5 * (100 * 0.2 + 40 * 0.5) / 140) < 1e-9)
    #expect(sum.littlesLaw.verdict(tolerance: 1e-6) == .holds)
    #expect(relative(sum.littlesLaw.meanLength, 1) < 1e-9)
  }

  @Test("the JSON has the members that its description lists, and can be read")
  func json() throws {
    var writer = JSONWriter()
    let figures = meter(offsets: 0..<100, gap: 0.4, service: 0.2).figures(now: at(40))
    writer.object { figures.writeMembers(to: &$0, target: .quantile(0.99, seconds: 0.1), hasBuckets: true) }
    let value = try JSONValue(writer.text)
    #expect(value["length"]?.integer == 0)
    #expect(value["totals"]?["removed"]?["delivery_limit"]?.integer == 0)
    #expect(value["waiting"]?["count"]?.integer == 100)
    #expect(value["processing"]?["p99"]?.integer == 200_000)
    #expect(value["littlesLaw"]?["verdict"]?.string == "holds")
    #expect(value["model"]?["isStable"] == .bool(true))
    #expect(value["model"]?["consumersNeeded"]?.integer == 1)
    #expect(value["window"]?["serviceVariability"] != nil)
  }
}
