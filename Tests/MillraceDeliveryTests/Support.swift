// Support: queues and messages for tests.

import Foundation
import MillraceBase
import MillraceModel

@testable import MillraceDelivery

/// Histories that were asked for from outside.
let manySeeds = ProcessInfo.processInfo.environment["MILLRACE_SEEDS"].flatMap(Int.init) ?? 0

func ms(_ milliseconds: Int64) -> Timestamp { Timestamp(milliseconds: milliseconds) }

func message(
  _ offset: Offset, lane: UInt8 = 0, size: Int = 1, at time: Int64 = 0, expiration: Int64 = -1, notBefore: Int64 = -1,
  key: String? = nil
) -> Message {
  Message(
    offset: offset, priority: lane, timestamp: ms(time), body: Bytes("message \(offset)"), size: size,
    expiration: ms(expiration), notBefore: ms(notBefore), groupKey: key.map { Bytes($0) })
}

/// A queue with `options` and, of lane 0, `count` messages.
func queue(_ count: Int = 0, _ change: (inout QueueOptions) -> Void = { _ in }) -> MessageQueue {
  var options = QueueOptions()
  change(&options)
  var queue = MessageQueue(id: 7, options: options, now: ms(0))
  for offset in 0..<count { queue.published(message(Offset(offset))) }
  return queue
}

extension MessageQueue {
  mutating func consumer(_ change: (inout ConsumerOptions) -> Void = { _ in }) throws -> ConsumerID {
    var options = ConsumerOptions()
    change(&options)
    return try addConsumer(options, now: ms(0))
  }

  /// Offsets of what is delivered at `time`.
  mutating func offsets(at time: Int64 = 0, limit: Int = 1000) -> [Offset] {
    next(now: ms(time), limit: limit).map(\.position.offset)
  }

  /// Settles message `offset` of lane 0.
  @discardableResult
  mutating func settle(_ offset: Offset, _ settlement: Settlement, at time: Int64 = 0) -> Bool {
    settle(Position(offset: offset), settlement, now: ms(time))
  }
}
