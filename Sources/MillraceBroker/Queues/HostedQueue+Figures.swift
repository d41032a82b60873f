// HostedQueue+Figures: what happens at a queue, told to its meter.

import MillraceBase
import MillraceDelivery
import MillraceQueueing

extension MessageKey {
  init(_ position: Position) { self.init(lane: position.lane, offset: position.offset) }
}

extension RemovalReason {
  init(_ reason: DeadLetterReason) {
    switch reason {
    case .rejected: self = .rejected
    case .expired: self = .expired
    case .maxlen: self = .maxlen
    case .deliveryLimit: self = .deliveryLimit
    }
  }
}

extension HostedQueue {
  /// A delivery is on its way.
  func measure(_ delivery: Delivery, to consumer: HostedConsumer, isNoAck: Bool, now: MonotonicTime) {
    let key = MessageKey(delivery.position)
    let waited: Int64?
    if isNoAck {
      waited = meter.deliveredForGood(
        key, arrivedAt: delivery.message.arrivedAt, isRedelivered: delivery.isRedelivered, now: now)
    } else {
      waited = meter.delivered(
        key, arrivedAt: delivery.message.arrivedAt, isRedelivered: delivery.isRedelivered, to: &consumer.meter, now: now
      )
    }
    if let waited { times.waiting.record(nanoseconds: waited) }
  }

  /// A delivery was settled. What is discarded, or returned too often, leaves with the next commit.
  func measure(_ settlement: Settlement, of position: Position, by consumer: HostedConsumer, now: MonotonicTime) {
    let processed: Int64?
    if case .acknowledge = settlement {
      processed = meter.acknowledged(MessageKey(position), by: &consumer.meter, now: now)
    } else {
      processed = meter.returned(MessageKey(position), by: &consumer.meter, now: now)
    }
    if let processed { times.processing.record(nanoseconds: processed) }
  }

  /// What is to be made durable; what leaves with it is counted.
  func takeCommit(now: MonotonicTime) -> QueueCommit? {
    guard let commit = queue.takeCommit() else { return nil }
    for letter in commit.deadLetters {
      meter.removed(
        MessageKey(letter.position), reason: RemovalReason(letter.reason),
        isDeadLettered: arguments.deadLetterExchange != nil, arrivedAt: letter.message?.arrivedAt, now: now)
    }
    return commit
  }

  /// The queue's figures.
  /// - Complexity: O(lanes), and O(messages that stayed behind when their neighbours were done), to find the oldest.
  func figures(now: MonotonicTime) -> QueueFigures {
    var oldest: MonotonicTime?
    for lane in queue.laneNumbers {
      guard let entry = queue.browse(lane: lane, limit: 1).first else { continue }
      // The log has the time of one that is in neither place.
      guard let arrived = entry.message?.arrivedAt ?? meter.arrival(of: MessageKey(entry.position)) else { continue }
      oldest = min(oldest ?? arrived, arrived)
    }
    return meter.figures(now: now, oldest: oldest)
  }
}
