// NaiveQueue: what a queue should hold, as an array of messages that is searched from the front; no cleverness.

import MillraceBase
import MillraceModel

@testable import MillraceDelivery

/// The messages of a queue and what happened to each.
struct NaiveQueue {
  enum State: Equatable {
    case ready
    case inFlight(ConsumerID, deadline: Int64)
    case done
  }

  struct Entry {
    let message: Message
    var state = State.ready
    /// Delivered since the last start.
    var wasDelivered = false
    var count: Int32 = 0
    /// Not to be delivered before.
    var due: Int64
    /// The log has lost it: it may be delivered from memory, or be done.
    var isLost = false
    /// It must be in the next commit, and leave for this reason if for one.
    var mustLeave = false
    var reason: DeadLetterReason?

    var isInFlight: Bool { if case .inFlight = state { true } else { false } }
  }

  struct NaiveConsumer {
    let id: ConsumerID
    var options: ConsumerOptions
    var isCancelled = false
  }

  var options: QueueOptions
  var lanes: [UInt8: [Entry]] = [:]
  var consumers: [NaiveConsumer] = []
  /// Below these all is done.
  var starts: [UInt8: Int] = [:]

  var undone: Int { lanes.values.reduce(0) { $0 + $1.count { $0.state != .done } } }
  var inFlight: Int { lanes.values.reduce(0) { $0 + $1.count { $0.isInFlight } } }
  /// Not in flight, and not about to leave.
  var length: Int { lanes.values.reduce(0) { $0 + $1.count { $0.state == .ready && !$0.mustLeave } } }

  subscript(position: Position) -> Entry? {
    guard let lane = lanes[position.lane], position.offset < lane.count else { return nil }
    return lane[Int(position.offset)]
  }

  mutating func change(_ position: Position, _ body: (inout Entry) -> Void) {
    body(&lanes[position.lane]![Int(position.offset)])
  }

  var positions: [Position] {
    lanes.keys.sorted(by: >).flatMap { lane in
      lanes[lane]!.indices.dropFirst(starts[lane] ?? 0).map { Position(lane: lane, offset: Offset($0)) }
    }
  }

  /// Searches no more where all is done.
  mutating func forget() {
    for (lane, entries) in lanes {
      starts[lane] = entries.firstIndex { $0.state != .done } ?? entries.count
    }
  }

  func inFlight(with id: ConsumerID?) -> [Position] {
    positions.filter { position in
      if case .inFlight(let holder, _) = self[position]!.state { id == nil || holder == id } else { false }
    }
  }

  // MARK: rules

  func lastMoment(_ message: Message) -> Int64 {
    var last = message.expiration.milliseconds < 0 ? Int64.max : message.expiration.milliseconds
    if let ttl = options.messageTTL {
      last = min(last, max(message.timestamp.milliseconds, message.notBefore.milliseconds) + ttl.inMilliseconds)
    }
    return last
  }

  /// Whether a message with the same key was delivered and is not done.
  func isKeyTaken(_ position: Position, now: Int64) -> Bool {
    guard options.isKeyOrdered, let key = self[position]!.message.groupKey, !self[position]!.wasDelivered else {
      return false
    }
    return positions.contains { other in
      let entry = self[other]!
      // One that came back and has expired leaves when its turn comes, which is before this one's.
      if entry.state == .ready, entry.due <= now, lastMoment(entry.message) < now { return false }
      return other != position && entry.state != .done && !entry.mustLeave && entry.wasDelivered
        && entry.message.groupKey == key
    }
  }

  func isDeliverable(_ position: Position, now: Int64) -> Bool {
    let entry = self[position]!
    return entry.state == .ready && !entry.mustLeave && entry.due <= now && lastMoment(entry.message) >= now
      && !isKeyTaken(position, now: now)
  }

  /// The highest lane's oldest message that may be delivered.
  func first(now: Int64) -> Position? {
    positions.first { isDeliverable($0, now: now) && !self[$0]!.isLost }
  }

  func hasCredit(_ consumer: NaiveConsumer) -> Bool {
    if consumer.isCancelled || consumer.options.isPassive { return false }
    if consumer.options.isNoAck { return true }
    let own = inFlight(with: consumer.id).count
    return (consumer.options.credit == 0 || own < consumer.options.credit) && (consumer.options.pool?.isOpen ?? true)
  }

  /// What a return does to an entry: counted, perhaps over the limit.
  mutating func giveBack(_ position: Position, isFailure: Bool) {
    let limit = options.deliveryLimit
    change(position) { entry in
      entry.state = .ready
      guard isFailure else { return }
      entry.count += 1
      if let limit, entry.count > limit {
        entry.mustLeave = true
        entry.reason = .deliveryLimit
      }
    }
  }

  /// Deliveries that took too long come back.
  mutating func takeBack(now: Int64) {
    for position in positions {
      guard case .inFlight(_, let deadline) = self[position]!.state, deadline <= now else { continue }
      giveBack(position, isFailure: options.timeoutsCount)
    }
  }

  /// A start from what is durable: nobody is there, nothing is in flight.
  mutating func restart() {
    consumers = []
    for position in positions {
      change(position) { entry in
        if entry.isInFlight { entry.state = .ready }
        entry.wasDelivered = false
      }
    }
  }
}
