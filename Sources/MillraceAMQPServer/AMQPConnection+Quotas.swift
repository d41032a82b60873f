// AMQPConnection+Quotas: clients that use more than their quota wait.
//
// The same limits as for Kafka's clients hold: `producer_byte_rate` of what is published, `consumer_byte_rate` of what is delivered; a
// client's id is the name that it gives its connection (`connection_name` of its properties). Who has published too much is
// not read from for a time, and told `connection.blocked` when that takes long; who has got too much gets nothing for a time.
//
// `request_percentage` is of the reactor's time: that of taking what the client has sent, also of commands that waited for earlier
// ones, for which it is not read from, and that of writing deliveries to it, for which it gets none. What the broker does for all
// at the end of a turn is nobody's, and so are the answers and confirms that the connection hands over then.
//
// Who waits is looked at every second: a debt of bytes can be days long, and the limit may be raised or taken away meanwhile.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceIO

/// What a client has to wait for in one direction.
struct QuotaWait {
  /// When it is over, if it is not over earlier because nothing is owed any more.
  private var until: MonotonicTime?
  /// What it is for.
  private(set) var limits: Set<ClientQuotas.Limit> = []
  private var timer: Timer?
  private static let longestStep = Duration.seconds(1)

  var isWaiting: Bool { until != nil }

  /// Waits at least for `time` from now on, unless less is owed. `body` is called after a second at most, and has to call ``goOn``.
  mutating func extend(
    _ time: Duration, for limit: ClientQuotas.Limit, on reactor: any Reactor, _ body: @escaping () -> Void
  ) {
    limits.insert(limit)
    let end = reactor.now + time
    if let until, until >= end { return }
    until = end
    // A step under way is followed by another.
    if timer == nil { timer = reactor.schedule(after: min(time, QuotaWait.longestStep), body) }
  }

  /// Waits for another step when something is owed. No longer than was told: others who share the limit may go on charging.
  mutating func goOn(owed: Duration, on reactor: any Reactor, _ body: @escaping () -> Void) {
    timer = nil
    guard let until, min(until - reactor.now, owed) > .zero else { return end() }
    timer = reactor.schedule(after: min(until - reactor.now, owed, QuotaWait.longestStep), body)
  }

  mutating func end() {
    until = nil
    limits = []
    timer?.cancel()
    timer = nil
  }
}

extension AMQPConnection {
  /// Waits shorter than this are not told: most clients would stop and start for nothing.
  private static let toldWait = Duration.seconds(1)

  /// Counts a message that was published.
  func chargePublished(_ bytes: @autoclosure () -> Int) {
    guard broker.quotas.isLimiting(.producerBytes) else { return }
    let wait = charge(.producerBytes, bytes())
    guard wait > .zero, !isOver else { return }
    holdInput(for: wait, .producerBytes)
    if wait >= AMQPConnection.toldWait { tellBlocked("quota \(ClientQuotas.Limit.producerBytes.rawValue)") }
  }

  /// Counts messages that are delivered.
  func chargeDelivered(_ bytes: @autoclosure () -> Int) {
    guard broker.quotas.isLimiting(.consumerBytes) else { return }
    let wait = charge(.consumerBytes, bytes())
    guard wait > .zero, !isOver else { return }
    holdOutput(for: wait, .consumerBytes)
  }

  private func holdOutput(for time: Duration, _ limit: ClientQuotas.Limit) {
    outputQuota.extend(time, for: limit, on: reactor) { [weak self] in self?.outputWaited() }
    checkDeliveries()
  }

  private func outputWaited() {
    outputQuota.goOn(owed: owed(outputQuota.limits), on: reactor) { [weak self] in self?.outputWaited() }
    throttle()
  }

  /// As far as a client asks for single messages, it waits with its next command.
  func chargeAnswered(_ bytes: Int) {
    guard broker.quotas.isLimiting(.consumerBytes) else { return }
    let wait = charge(.consumerBytes, bytes)
    guard wait > .zero, !isOver else { return }
    holdInput(for: wait, .consumerBytes)
  }

  /// The thread's time, from which on what is done for the client is charged; nil when nobody is limited in it, so that the
  /// clock need not be read. What is done within something else that is charged counts with that. Has to be followed by a charge.
  func timeToCharge() -> Duration? {
    guard broker.quotas.isLimiting(.requestTime), state == .running, !isReceiving, !isTimed else { return nil }
    isTimed = true
    return server.processorTime()
  }

  /// Counts the time of taking what the client has sent.
  func chargeTaking(since: Duration) {
    let wait = chargeTime(since: since)
    guard wait > .zero, !isOver else { return }
    holdInput(for: wait, .requestTime)
    if wait >= AMQPConnection.toldWait { tellBlocked("quota \(ClientQuotas.Limit.requestTime.rawValue)") }
  }

  /// Counts the time of writing deliveries.
  func chargeDelivering(since: Duration) {
    let wait = chargeTime(since: since)
    guard wait > .zero, !isOver else { return }
    holdOutput(for: wait, .requestTime)
  }

  private func chargeTime(since: Duration) -> Duration {
    isTimed = false
    let seconds = max(0, Double((server.processorTime() - since).inNanoseconds) / 1e9)
    return broker.quotas.charge(
      .requestTime, user: session.principal.name, clientID: clientID, seconds, isUntilPaid: true, now: reactor.now)
  }

  private func holdInput(for time: Duration, _ limit: ClientQuotas.Limit) {
    inputQuota.extend(time, for: limit, on: reactor) { [weak self] in self?.inputWaited() }
    throttle()
  }

  private func inputWaited() {
    inputQuota.goOn(owed: owed(inputQuota.limits), on: reactor) { [weak self] in self?.inputWaited() }
    tellWhetherBlocked()
    throttle()
  }

  private func owed(_ limits: Set<ClientQuotas.Limit>) -> Duration {
    let all = limits.map {
      broker.quotas.owed($0, user: session.principal.name, clientID: clientID, now: reactor.now)
    }
    return all.max() ?? .zero
  }

  private func charge(_ limit: ClientQuotas.Limit, _ bytes: Int) -> Duration {
    broker.quotas.charge(
      limit, user: session.principal.name, clientID: clientID, Double(bytes), now: reactor.now)
  }

  func endQuotaWaits() {
    inputQuota.end()
    outputQuota.end()
  }
}
