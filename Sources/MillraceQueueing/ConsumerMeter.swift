// ConsumerMeter: what one consumer is doing: whether it is busy, and how long it takes for each message.
//
// A consumer with several messages in flight works on one of them; the others lie in its buffer. Its time for a message
// therefore begins with the delivery or with its previous settlement, whichever is later. Deliveries that are settled
// at the same time share the time since then equally: whoever acknowledges many at once does not tell how long each
// took.

import MillraceBase

/// Kept by the host for each consumer, and handed to the queue's meter with every event of that consumer.
public struct ConsumerMeter: Sendable {
  /// Whether it counts as a server of the queue: one that is pushed to does, one that only asks now and then does not.
  let isServer: Bool
  private(set) var inFlight = 0
  var hasJoined = false
  /// Since when it works on what it will settle next, in nanoseconds.
  private var workingSince: Int64 = 0
  /// Settlements of one moment, and the time that they took together.
  private var settledAt: Int64 = 0
  private var settledCount = 0
  private var settledNanoseconds: Int64 = 0

  /// Nothing in flight.
  /// - Parameter isServer: false for a consumer that is not pushed to (AMQP's `basic.get`).
  public init(isServer: Bool = true) { self.isServer = isServer }

  /// - Returns: whether it was idle before.
  mutating func delivered(now: Int64) -> Bool {
    inFlight += 1
    if inFlight == 1 { workingSince = now }
    return inFlight == 1
  }

  /// - Parameter service: gets the consumer's time for messages that were settled earlier, or now by the last
  ///   settlement.
  /// - Returns: whether it has become idle.
  mutating func settled(now: Int64, service: inout RecentMoments) -> Bool {
    guard inFlight > 0 else { return false }
    inFlight -= 1
    if settledCount == 0 || settledAt != now {
      close(&service)
      settledAt = now
      settledNanoseconds = max(0, now - workingSince)
      workingSince = now
    }
    settledCount += 1
    if inFlight == 0 { close(&service) }
    return inFlight == 0
  }

  /// Nothing more belongs to the settlements of that moment.
  private mutating func close(_ service: inout RecentMoments) {
    if settledCount > 0 { service.add(Double(settledNanoseconds) / 1e9 / Double(settledCount), times: settledCount) }
    settledCount = 0
  }

  /// Everything in flight goes back without being settled.
  /// - Returns: whether it was busy.
  mutating func dropped() -> Bool {
    defer { inFlight = 0 }
    return inFlight > 0
  }
}
