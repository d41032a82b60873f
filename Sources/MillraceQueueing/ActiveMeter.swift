// ActiveMeter: the state of a meter at whose queue something has happened. Times are nanoseconds of the host's clock.

import MillraceBase

/// Sums over time since the start. All are whole nanoseconds, or messages times nanoseconds, so that nothing is rounded
/// and differences over a window are exact.
struct MeterSums: Sendable {
  /// Until when they are.
  var time: Int64
  var arrivals: UInt64 = 0
  var returns: UInt64 = 0
  var departures: UInt64 = 0
  /// Messages present, by the events.
  var present: Int
  /// Over those: the times at which they came, counted from the start.
  var arrivalTimes: Int128 = 0
  /// Over all that left: their times in the queue.
  var sojourn: Int128 = 0
  /// Lengths, busy consumers and consumers, each times the time it was so.
  var ready: Int128 = 0
  var unacknowledged: Int128 = 0
  var busy: Int128 = 0
  var consumers: Int128 = 0

  /// The ages of all messages present.
  func ages(started: Int64) -> Int128 { Int128(present) * Int128(time - started) - arrivalTimes }
}

struct ActiveMeter: Sendable {
  let started: Int64
  private var ready: Int
  private var unacknowledged = 0
  private var consumers = 0
  private var busy = 0
  private var sums: MeterSums
  /// The beginnings of the period that is on, and of the one before it.
  private var mark: MeterSums
  private var earlierMark: MeterSums
  private var lastArrival: Int64?
  private var gaps = RecentMoments()
  private var service = RecentMoments()
  private var window = RateWindow()
  var times = DeliveryTimes()
  var totals = QueueTotals()
  private var transfer = LatencyHistogram()
  private var waiting = LatencyHistogram()
  private var processing = LatencyHistogram()

  /// What was counted so far.
  var counts: QueueCounts { QueueCounts(totals, waiting: waiting, processing: processing) }

  init(started: Int64, backlog: Int) {
    self.started = started
    ready = backlog
    sums = MeterSums(time: started, present: backlog)
    mark = sums
    earlierMark = sums
  }

  // MARK: time

  private mutating func integrate(to now: Int64) {
    let passed = Int128(now - sums.time)
    guard passed > 0 else { return }
    sums.ready += Int128(ready) * passed
    sums.unacknowledged += Int128(unacknowledged) * passed
    sums.busy += Int128(busy) * passed
    sums.consumers += Int128(consumers) * passed
    sums.time = now
  }

  /// Brings the sums up to `now`, and sets the marks so that the earlier one is one to two periods ago.
  private mutating func advance(_ now: Int64) {
    // Most events come many at a moment.
    if now == sums.time { return }
    // Marks are whole periods apart. Nothing has happened since the last event, so what was at each of them is known.
    let passed = max(0, now - mark.time) / QueueMeter.period
    if passed > 1 { setMark(mark.time + (passed - 1) * QueueMeter.period) }
    if passed > 0 { setMark(mark.time + QueueMeter.period) }
    integrate(to: now)
  }

  private mutating func setMark(_ time: Int64) {
    integrate(to: time)
    earlierMark = mark
    mark = sums
    gaps.rotate()
    service.rotate()
  }

  /// Arrivals are read from the log, where any number may stand.
  private func elapsed(_ from: Int64, _ to: Int64) -> Int64 {
    let (difference, overflow) = to.subtractingReportingOverflow(from)
    return overflow ? (to > from ? .max : 0) : max(0, difference)
  }

  private func monotonic(_ time: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: time) }

  // MARK: messages

  mutating func arrived(_ count: Int, receivedAt: Int64, now: Int64) {
    advance(now)
    totals.arrived += UInt64(count)
    sums.arrivals += UInt64(count)
    sums.present += count
    sums.arrivalTimes += Int128(count) * Int128(now - started)
    window.count(.arrival, count, now: monotonic(now))
    transfer.record(nanoseconds: elapsed(receivedAt, now), times: count)
    // A pause longer than a period is no gap between arrivals but one without any.
    if let last = lastArrival, now - last < QueueMeter.period { gaps.add(Double(now - last) / 1e9) }
    gaps.add(0, times: count - 1)
    lastArrival = now
  }

  /// Counts a delivery, and what the message waited, as far as that is known.
  /// - Parameter entry: what was known of the message before.
  /// - Returns: nanoseconds that it waited, if that is known.
  private mutating func deliver(
    _ entry: DeliveryTimes.Entry?, arrivedAt: Int64, isRedelivered: Bool, now: Int64
  ) -> Int64? {
    advance(now)
    totals.delivered += 1
    window.count(.delivery, now: monotonic(now))
    if isRedelivered || entry != nil { totals.redelivered += 1 }
    let waited: Int64
    switch entry?.state {
    case .returned: waited = elapsed(entry?.since ?? now, now)
    // It came back without a word, so nobody knows since when it waited.
    case .inFlight: return nil
    case .free, nil: waited = elapsed(arrivedAt, now)
    }
    waiting.record(nanoseconds: waited)
    return waited
  }

  mutating func delivered(
    _ key: MessageKey, arrivedAt: Int64, isRedelivered: Bool, to consumer: inout ConsumerMeter, now: Int64
  ) -> Int64? {
    let arrivedAt = min(arrivedAt, now)
    let entry = times.deliver(key, arrivedAt: arrivedAt, since: now)
    let waited = deliver(entry, arrivedAt: arrivedAt, isRedelivered: isRedelivered, now: now)
    if consumer.delivered(now: now), consumer.isServer { busy += 1 }
    return waited
  }

  mutating func deliveredForGood(_ key: MessageKey, arrivedAt: Int64, isRedelivered: Bool, now: Int64) -> Int64? {
    let entry = times.remove(key)
    let arrivedAt = entry?.arrivedAt ?? min(arrivedAt, now)
    let waited = deliver(entry, arrivedAt: arrivedAt, isRedelivered: isRedelivered, now: now)
    totals.acknowledged += 1
    window.count(.settlement, now: monotonic(now))
    depart(arrivedAt: arrivedAt)
    return waited
  }

  mutating func settled(_ key: MessageKey, by consumer: inout ConsumerMeter, isDone: Bool, now: Int64) -> Int64? {
    advance(now)
    let entry = isDone ? times.remove(key) : times[key]
    var processed: Int64?
    if let entry, entry.state == .inFlight {
      let time = elapsed(entry.since, now)
      processing.record(nanoseconds: time)
      processed = time
    }
    if consumer.isServer {
      if consumer.settled(now: now, service: &service) { busy -= 1 }
    } else {
      var ignored = RecentMoments()
      _ = consumer.settled(now: now, service: &ignored)
    }
    window.count(.settlement, now: monotonic(now))
    if isDone {
      totals.acknowledged += 1
      depart(arrivedAt: entry?.arrivedAt)
    } else {
      totals.returned += 1
      sums.returns += 1
      if let entry { times.set(key, arrivedAt: entry.arrivedAt, since: now, state: .returned) }
    }
    return processed
  }

  mutating func removed(
    _ key: MessageKey, reason: RemovalReason, isDeadLettered: Bool, arrivedAt: Int64?, now: Int64
  ) {
    advance(now)
    totals.removed.add(1, reason)
    if isDeadLettered { totals.deadLettered.add(1, reason) }
    depart(arrivedAt: times.remove(key)?.arrivedAt ?? arrivedAt)
  }

  mutating func removed(_ count: Int, reason: RemovalReason, now: Int64) {
    advance(now)
    totals.removed.add(UInt64(count), reason)
    depart(arrivedAt: nil, count: count)
  }

  /// Messages leave; without a time, with the mean age of all that are present.
  private mutating func depart(arrivedAt: Int64?, count: Int = 1) {
    sums.departures += UInt64(count)
    let known = min(count, max(0, sums.present))
    // Times before the start count as the start, as the backlog's do.
    var arrivals = Int128(count) * Int128(min(max(arrivedAt ?? started, started), sums.time) - started)
    if arrivedAt == nil {
      // What nobody had said would come spent no time here.
      arrivals = known > 0 ? sums.arrivalTimes * Int128(known) / Int128(sums.present) : 0
      arrivals += Int128(count - known) * Int128(sums.time - started)
    }
    sums.arrivalTimes -= arrivals
    sums.present -= count
    sums.sojourn += Int128(count) * Int128(sums.time - started) - arrivals
  }

  mutating func observe(ready: Int, unacknowledged: Int, now: Int64) {
    advance(now)
    self.ready = ready
    self.unacknowledged = unacknowledged
    guard ready == 0, unacknowledged == 0 else { return }
    // What came back without a word and left unseen, or was counted wrongly, would stay for ever.
    if times.count > 0 { times.removeAll() }
    sums.present = 0
    sums.arrivalTimes = 0
  }

  // MARK: consumers

  mutating func joined(_ consumer: inout ConsumerMeter, now: Int64) {
    guard consumer.isServer, !consumer.hasJoined else { return }
    advance(now)
    consumer.hasJoined = true
    consumers += 1
  }

  mutating func left(_ consumer: inout ConsumerMeter, now: Int64) {
    advance(now)
    if consumer.dropped(), consumer.isServer { busy -= 1 }
    guard consumer.hasJoined else { return }
    consumer.hasJoined = false
    consumers -= 1
  }

  // MARK: reading

  /// On a copy: brings it up to `now`.
  mutating func figures(now: Int64, oldest: Int64?) -> QueueFigures {
    advance(now)
    let from = earlierMark
    func seconds(_ value: (MeterSums) -> Int128) -> Double { Double(value(sums) - value(from)) / 1e9 }
    func rates(_ event: CountedEvent) -> QueueFigures.Rates {
      func rate(_ seconds: Int) -> Double {
        window.rate(event, seconds: seconds, started: monotonic(started), now: monotonic(sums.time))
      }
      return QueueFigures.Rates(perSecond: rate(1), overTenSeconds: rate(10), overAMinute: rate(60))
    }
    let interval = Double(sums.time - from.time) / 1e9
    func perSecond(_ count: UInt64) -> Double { interval > 0 ? Double(count) / interval : 0 }
    var figures = QueueFigures()
    figures.length = ready
    figures.unacknowledged = unacknowledged
    figures.oldestAgeSeconds = oldest.map { Double(elapsed($0, now)) / 1e9 }
    figures.consumers = consumers
    figures.busyConsumers = busy
    figures.totals = totals
    figures.arrivals = rates(.arrival)
    figures.deliveries = rates(.delivery)
    figures.settlements = rates(.settlement)
    figures.windowSeconds = interval
    figures.meanLength = interval > 0 ? seconds(\.ready) / interval : 0
    figures.meanUnacknowledged = interval > 0 ? seconds(\.unacknowledged) / interval : 0
    figures.busySeconds = seconds(\.busy)
    figures.consumerSeconds = seconds(\.consumers)
    figures.offeredRate = perSecond(sums.arrivals - from.arrivals + sums.returns - from.returns)
    figures.arrivalVariability = gaps.all.squaredVariation
    figures.service = service.all
    figures.littlesLaw = LittlesLaw(
      intervalSeconds: interval, messageSeconds: seconds(\.ready) + seconds(\.unacknowledged),
      departures: Int(sums.departures - from.departures), sojournSeconds: seconds(\.sojourn),
      presentAtStart: from.present, presentAtEnd: sums.present, ageAtStart: Double(from.ages(started: started)) / 1e9,
      ageAtEnd: Double(sums.ages(started: started)) / 1e9)
    figures.transfer = transfer
    figures.waiting = waiting
    figures.processing = processing
    return figures
  }

  var heapBytes: Int {
    window.heldBytes + times.heldBytes + totals.removed.heldBytes + totals.deadLettered.heldBytes
      + transfer.heldBytes + waiting.heldBytes + processing.heldBytes
  }
}
