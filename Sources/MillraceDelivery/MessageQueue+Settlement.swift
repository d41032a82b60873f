// MessageQueue+Settlement: what becomes of a delivery, and of messages that leave otherwise.

import MillraceBase
import MillraceModel

/// What a consumer says of a delivery.
public enum Settlement: Sendable, Hashable {
  /// It is done.
  case acknowledge
  /// It goes back to its place and is delivered again. `isFailure` raises its delivery count: AMQP's `reject`, not its `nack`.
  /// With `until`, it waits until then instead of the queue's retry delay.
  case requeue(isFailure: Bool, until: Timestamp? = nil)
  /// It leaves with dead-letter reason `rejected`.
  case discard
}

extension MessageQueue {
  /// Settles the delivery at `position`.
  ///
  /// Applied at once and part of the next commit; see the file's head for when to answer. A requeued message whose failures
  /// exceed the delivery limit leaves with reason `delivery_limit`.
  /// - Parameter consumer: who must hold it; nil when the host knows.
  /// - Returns: false when it is not in flight, or with another consumer; nothing has changed then.
  /// - Complexity: O(1) amortised; O(log n) for a requeue.
  @discardableResult
  public mutating func settle(
    _ position: Position, _ settlement: Settlement, by consumer: ConsumerID? = nil, now: Timestamp
  ) -> Bool {
    guard let index = laneIndex(position.lane), let slot = lanes[index].facts(position.offset), slot.state == .inFlight
    else { return false }
    if let consumer, consumers.id(slot.consumer) != consumer { return false }
    switch settlement {
    case .acknowledge: finish(index, position.offset)
    case .discard: discard(index, position.offset, .rejected)
    case .requeue(let isFailure, let until):
      requeue(index, position.offset, isFailure: isFailure, until: until, mayWait: true, now.milliseconds)
    }
    return true
  }

  /// Acknowledges deliveries of `consumer`.
  /// - Parameter settled: gets each position that was in flight with it.
  public mutating func acknowledge(
    _ positions: [Position], by consumer: ConsumerID, now: Timestamp, _ settled: (Position) -> Void
  ) {
    for position in positions where settle(position, .acknowledge, by: consumer, now: now) { settled(position) }
  }

  /// Settles everything in flight in `range` of `lane`.
  /// - Returns: how many deliveries that were.
  /// - Complexity: O(messages in flight), at most O(the range).
  @discardableResult
  public mutating func settle(
    lane: UInt8, _ range: Range<Offset>, _ settlement: Settlement, by consumer: ConsumerID? = nil, now: Timestamp
  ) -> Int {
    guard let index = laneIndex(lane) else { return 0 }
    var count = 0
    for offset in inFlight(index, within: range)
    where settle(Position(lane: lane, offset: offset), settlement, by: consumer, now: now) { count += 1 }
    return count
  }

  private mutating func inFlight(_ index: Int, within range: Range<Offset>) -> [Offset] {
    var offsets: [Offset] = []
    for offset in lanes[index].stragglers.keys where range.contains(offset) { offsets.append(offset) }
    offsets.sort()
    let low = max(range.lowerBound, lanes[index].base)
    for offset in low..<max(low, min(range.upperBound, lanes[index].cursor)) { offsets.append(offset) }
    offsets.removeAll { lanes[index].facts($0)?.state != .inFlight }
    return offsets
  }

  /// ``settle(_:_:by:now:)`` with `.acknowledge`, for the hot path.
  @discardableResult
  public mutating func acknowledge(_ position: Position) -> Bool {
    guard let index = laneIndex(position.lane), lanes[index].facts(position.offset)?.state == .inFlight
    else { return false }
    finish(index, position.offset)
    return true
  }

  /// Extends the time that the consumer has for a delivery, to `timeout` from now.
  /// - Returns: false when it is not in flight with that consumer.
  @discardableResult
  public mutating func renew(_ position: Position, by consumer: ConsumerID, timeout: Duration, now: Timestamp) -> Bool {
    guard let index = laneIndex(position.lane), let slot = lanes[index].slot(position.offset),
      slot.state == .inFlight, consumers.id(slot.consumer) == consumer
    else { return false }
    let deadline = deadline(now.milliseconds, timeout)
    if slot.deadline == .max { deadlineCount += 1 }
    lanes[index].setDeadline(position.offset, deadline)
    deadlines.push(TimeEntry(time: deadline, position: position))
    cleanDeadlines()
    return true
  }

  // MARK: leaving and coming back

  /// The message is done. Whoever waits for its key or for the credit gets it.
  @inline(__always)
  mutating func finish(_ index: Int, _ offset: Offset) {
    let slot = lanes[index].finish(offset)
    left(slot)
    if slot.key >= 0, slot.state != .blocked { releaseKey(slot.key) }
  }

  /// Bookkeeping for a slot that leaves its state.
  @inline(__always)
  private mutating func left(_ slot: Slot.Facts) {
    switch slot.state {
    case .inFlight:
      consumers.settled(slot.consumer)
      if slot.deadline != .max {
        deadlineCount -= 1
        cleanDeadlines()
      }
    case .delayed: delayed -= 1
    case .blocked: blocked -= 1
    case .done, .ready, .returned: break
    }
  }

  private mutating func releaseKey(_ key: Int32) {
    while let next = keys.pass(key) {
      // What was purged meanwhile waits no more.
      guard let index = laneIndex(next.lane), let slot = lanes[index].slot(next.offset), slot.state == .blocked,
        slot.key == key
      else { continue }
      blocked -= 1
      park(index, next.offset, as: .returned, key: key)
      return
    }
  }

  /// The message leaves as a dead letter.
  mutating func discard(_ index: Int, _ offset: Offset, _ reason: DeadLetterReason, count: Int32? = nil) {
    let count = count ?? lanes[index].counts[offset] ?? 0
    if lanes[index].returned.first == offset { lanes[index].returned.popFirst() }
    deadLetters.append(
      DeadLetter(
        position: Position(lane: lanes[index].number, offset: offset), message: lanes[index].slot(offset)?.message,
        reason: reason, deliveryCount: count))
    finish(index, offset)
  }

  /// The message in flight goes back.
  private mutating func requeue(
    _ index: Int, _ offset: Offset, isFailure: Bool, until: Timestamp?, mayWait: Bool, _ now: Int64
  ) {
    var count = lanes[index].counts[offset] ?? 0
    if isFailure {
      count = count == .max ? count : count + 1
      if let limit = options.deliveryLimit, count > limit {
        discard(index, offset, .deliveryLimit, count: count)
        return
      }
      lanes[index].counts[offset] = count
      changes.append(.counted(lane: lanes[index].number, offset: offset, count: count))
    }
    let slot = lanes[index].facts(offset)!
    var due = until?.milliseconds ?? 0
    if until == nil, mayWait {
      switch (options.retryDelay.kind, isFailure) {
      case (.all, _), (.failed, true), (.returned, false):
        let wait = options.retryDelay.milliseconds(count: count, using: &random)
        due = deadline(now, .milliseconds(wait))
      default: break
      }
    }
    if due > now {
      lanes[index].delays[offset] = due
      changes.append(
        .delayed(lane: lanes[index].number, offset: offset, until: Timestamp(milliseconds: due)))
      delay(index, offset, until: due, key: slot.key)
    } else {
      park(index, offset, as: .returned, key: slot.key)
    }
    left(slot)
  }

  // MARK: consumers

  /// Adds a consumer. It takes part from the next pump on.
  /// - Throws: ``QueueError/Code/exclusiveConsumer``.
  public mutating func addConsumer(_ consumer: ConsumerOptions, now: Timestamp) throws(QueueError) -> ConsumerID {
    if !consumer.isPassive {
      if consumers.isExclusive {
        throw QueueError(code: .exclusiveConsumer, description: "queue has an exclusive consumer")
      }
      if consumer.isExclusive, consumers.count > 0 {
        throw QueueError(
          code: .exclusiveConsumer, description: "queue has \(consumers.count) consumers, an exclusive one cannot join")
      }
    }
    lastUsed = now.milliseconds
    return consumers.add(consumer, isSingle: options.singleActiveConsumer)
  }

  /// The consumer gets nothing more (`basic.cancel`); what it has in flight stays with it until it is settled or
  /// ``removeConsumer(_:isFailure:now:)`` says that it is gone.
  public mutating func cancelConsumer(_ consumer: ConsumerID, now: Timestamp) {
    guard let index = consumers.index(consumer), !consumers[index].isCancelled else { return }
    lastUsed = now.milliseconds
    consumers.cancel(index, isSingle: options.singleActiveConsumer)
    if consumers[index].inFlight == 0 { consumers.remove(index) }
  }

  /// The consumer is gone: what it has in flight goes back to its place, before newer messages, without a retry delay.
  /// - Parameter isFailure: whether that raises the delivery counts, as in RabbitMQ when a connection breaks.
  /// - Complexity: O(messages in flight in the queue).
  public mutating func removeConsumer(_ consumer: ConsumerID, isFailure: Bool, now: Timestamp) {
    guard let number = consumers.index(consumer) else { return }
    // Nobody is relieved before all is back: a standby must not overtake.
    if consumers[number].inFlight > 0 {
      for index in lanes.indices {
        var offsets: [Offset] = []
        lanes[index].forEachSlot { offset, slot in
          if slot.state == .inFlight, slot.consumer == number { offsets.append(offset) }
        }
        for offset in offsets {
          requeue(index, offset, isFailure: isFailure, until: nil, mayWait: false, now.milliseconds)
        }
      }
    }
    cancelConsumer(consumer, now: now)
  }

  /// Changes how many unsettled deliveries a consumer may have, 0 for no limit. In force at once; what is in flight beyond it
  /// stays.
  public mutating func setCredit(_ credit: Int, of consumer: ConsumerID) {
    guard let index = consumers.index(consumer) else { return }
    consumers.setCredit(index, credit)
  }

  /// While a consumer is paused, nothing is pushed to it, whatever its credit: what went out before has not left its host
  /// yet. With a single active consumer the others stand by all the same.
  public mutating func setPaused(_ isPaused: Bool, _ consumer: ConsumerID) {
    guard let index = consumers.index(consumer) else { return }
    consumers.setPaused(index, isPaused)
  }

  /// Deliveries that the consumer has not settled.
  public func inFlightCount(of consumer: ConsumerID) -> Int {
    consumers.index(consumer).map { consumers[$0].inFlight } ?? 0
  }
}
