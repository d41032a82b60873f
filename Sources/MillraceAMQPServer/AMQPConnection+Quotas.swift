// AMQPConnection+Quotas: clients that use more than their quota wait.
//
// The same limits as for Kafka's clients hold: `producer_byte_rate` of what is published, `consumer_byte_rate` of what is delivered; a
// client's id is the name that it gives its connection (`connection_name` of its properties). Who has published too much is
// not read from for a time, and told `connection.blocked` when that takes long; who has got too much gets nothing for a time.
//
// `request_percentage` is of the reactor's time: that of taking what the client has sent, for which it is not read from, and that
// of writing deliveries to it, for which it gets none. What the broker does for all at the end of a turn is nobody's.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceIO

/// What a client has to wait for in one direction.
struct QuotaWait {
  private(set) var until: MonotonicTime?
  private var timer: Timer?

  var isWaiting: Bool { until != nil }

  /// Waits at least for `time` from now on, then calls `body`.
  mutating func extend(_ time: Duration, on reactor: any Reactor, _ body: @escaping () -> Void) {
    let end = reactor.now + time
    if let until, until >= end { return }
    until = end
    timer?.cancel()
    timer = reactor.schedule(after: time, body)
  }

  mutating func end() {
    until = nil
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
    holdInput(for: wait)
    if wait >= AMQPConnection.toldWait { tellBlocked("quota \(ClientQuotas.Limit.producerBytes.rawValue)") }
  }

  /// Counts messages that are delivered.
  func chargeDelivered(_ bytes: @autoclosure () -> Int) {
    guard broker.quotas.isLimiting(.consumerBytes) else { return }
    let wait = charge(.consumerBytes, bytes())
    guard wait > .zero, !isOver else { return }
    holdOutput(for: wait)
  }

  private func holdOutput(for time: Duration) {
    outputQuota.extend(time, on: reactor) { [weak self] in
      guard let self else { return }
      outputQuota.end()
      throttle()
    }
    checkDeliveries()
  }

  /// As far as a client asks for single messages, it waits with its next command.
  func chargeAnswered(_ bytes: Int) {
    guard broker.quotas.isLimiting(.consumerBytes) else { return }
    let wait = charge(.consumerBytes, bytes)
    guard wait > .zero, !isOver else { return }
    holdInput(for: wait)
  }

  /// The thread's time, from which on what is done for the client is charged; nil when nobody is limited in it, so that the
  /// clock need not be read. What is done within something else that is charged counts with that.
  func timeToCharge() -> Duration? {
    guard broker.quotas.isLimiting(.requestTime), state == .running, !isReceiving else { return nil }
    return server.processorTime()
  }

  /// Counts the time of taking what the client has sent.
  func chargeTaking(since: Duration) {
    let wait = chargeTime(since: since)
    guard wait > .zero, !isOver else { return }
    holdInput(for: wait)
    if wait >= AMQPConnection.toldWait { tellBlocked("quota \(ClientQuotas.Limit.requestTime.rawValue)") }
  }

  /// Counts the time of writing deliveries.
  func chargeDelivering(since: Duration) {
    let wait = chargeTime(since: since)
    guard wait > .zero, !isOver else { return }
    holdOutput(for: wait)
  }

  private func chargeTime(since: Duration) -> Duration {
    let seconds = max(0, Double((server.processorTime() - since).inNanoseconds) / 1e9)
    return broker.quotas.charge(
      .requestTime, user: session.principal.name, clientID: clientID, seconds, isUntilPaid: true, now: reactor.now)
  }

  private func holdInput(for time: Duration) {
    inputQuota.extend(time, on: reactor) { [weak self] in
      guard let self else { return }
      inputQuota.end()
      tellWhetherBlocked()
      throttle()
    }
    throttle()
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
