// TransactionCoordinator+Time: when transactions have taken too long, and when transactional ids are forgotten.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel

extension TransactionCoordinator {
  /// Something is durable: a transaction that it ended needs no deadline any more, unless the next one has begun.
  func settled(_ id: String) {
    if state[id]?.status != .ongoing { deadlines[id] = nil }
  }

  /// The log refused something: an ongoing transaction must not be without a deadline. It has lost that only to its abort.
  func watch(_ id: String) {
    guard broker.isOpen, state[id]?.status == .ongoing, deadlines[id] == nil else { return }
    deadlines[id] = broker.reactor.now + TransactionCoordinator.retryDelay
    scheduleTimer()
  }

  /// One timer, for the earliest deadline known when it was set; those of ended transactions are found gone by then.
  func scheduleTimer() {
    guard let next = deadlines.values.min() else { return }
    if let timerDeadline, timerDeadline <= next { return }
    timer?.cancel()
    timerDeadline = next
    timer = broker.reactor.schedule(after: max(.zero, next - broker.reactor.now)) { [weak self] in
      self?.timerFired()
    }
  }

  private func timerFired() {
    timer = nil
    timerDeadline = nil
    guard broker.isOpen else { return }
    let now = broker.reactor.now
    for id in deadlines.filter({ $0.value <= now }).keys.sorted() {
      deadlines[id] = nil
      guard let one = state[id], one.status == .ongoing else { continue }
      abort(one, why: "after \(one.timeoutMilliseconds) ms") { [self] error in
        guard let error else { return }
        broker.logger.log(
          .error, "transactions", "aborting a transaction that took too long failed",
          ["transactional.id": id, "error": error.reason])
      }
    }
    scheduleTimer()
  }

  /// Forgets ids that were not used for long, once an hour or more often when they are kept for less.
  func scheduleExpiry() {
    guard expiryTimer == nil, !isExpiring, broker.isOpen else { return }
    let kept = broker.settings.transactionalIDExpiration
    expiryTimer = broker.reactor.schedule(after: .milliseconds(min(kept, 3_600_000))) { [weak self] in
      guard let self else { return }
      self.expiryTimer = nil
      self.isExpiring = true
      self.expire(Array(self.state.producers.keys)[...], kept)
    }
  }

  /// Looks at some ids after the other, one unit of the log at a time, so that any number of them holds nobody up.
  private func expire(_ ids: ArraySlice<String>, _ kept: Int64) {
    guard broker.isOpen, !ids.isEmpty else { return endExpiry() }
    let limit = Timestamp(milliseconds: broker.reactor.wallClock.milliseconds - kept)
    let looked = ids.prefix(TransactionCoordinator.expiredAtOnce)
    let rest = ids.dropFirst(looked.count)
    let isOld = { [self] (id: String) in state[id].map { TransactionRules.isExpired($0, before: limit) } ?? false }
    guard looked.contains(where: isOld) else { return expireSoon(rest, kept) }
    broker.log.append(
      deciding: {
        let old = looked.filter(isOld).sorted()
        guard !old.isEmpty else { return nil }
        var unit = AppendUnit()
        unit.events = old.map { MetadataEvent.transaction(.expired($0)).encoded() }
        return unit
      }
    ) { [weak self] result in
      // What the log refuses is tried again with the next round.
      if case .failure = result { self?.endExpiry() } else { self?.expireSoon(rest, kept) }
    }
  }

  private func expireSoon(_ ids: ArraySlice<String>, _ kept: Int64) {
    guard broker.isOpen else { return }
    expiryTimer = broker.reactor.schedule(after: .milliseconds(1)) { [weak self] in
      self?.expiryTimer = nil
      self?.expire(ids, kept)
    }
  }

  private func endExpiry() {
    isExpiring = false
    if !state.producers.isEmpty { scheduleExpiry() }
  }
}
