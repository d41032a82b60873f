// QueueMeter: measures one queue: what its host tells it, event by event, becomes the figures of QueueFigures.
//
// A message's time, and who says so:
//
//   received ── transfer ──▶ arrived ── waiting ──▶ delivered ── processing ──▶ acknowledged
//                                          ▲                                 └─▶ returned ── waiting ──▶ delivered …
//                                          └── removed: expired, too long, failed too often …
//
// Transfer is the time from the broker's receiving a message until consumers may have it: that of the commit. Waiting
// includes a delay that was asked for. Processing ends when the broker hears of it, and includes the way to the
// consumer and the time in its buffer; how long a consumer really takes for a message is measured by itself
// (ConsumerMeter).
//
// Lengths are told, not derived from events: Little's law compares the two, and shows when one of them is wrong.
//
// Means over time, utilisation and variability are over the last one to two minutes, between two marks; rates count
// the events of the last second, ten seconds or minute exactly; histograms and totals are since the start.

import MillraceBase

/// Measures one queue. One owner, who calls it with times that do not go back; any monotonic clock will do.
///
/// Every event takes O(1), amortised, and allocates nothing but what grows: the table of messages that are with
/// consumers or came back from them (32 bytes each), and the histograms' range (64 bytes for a power of two). A meter
/// takes 24 bytes until something happens at the queue, then 0.9 KB, and about 4 KB with the last minute's counts and
/// histograms of latencies between 100 µs and 10 s, that table aside.
public struct QueueMeter: Sendable {
  /// How long the shorter of the two periods is that means are over.
  static let period: Int64 = 60_000_000_000

  private let started: Int64
  private let backlog: Int
  /// One value once something has happened. An array, because that is a value on the heap.
  private var active: [ActiveMeter] = []

  /// A queue that starts with `backlog` messages, whose time in it counts from now on.
  public init(now: MonotonicTime, backlog: Int = 0) {
    started = now.nanoseconds
    self.backlog = max(0, backlog)
  }

  private mutating func activate() {
    if active.isEmpty { active.append(ActiveMeter(started: started, backlog: backlog)) }
  }

  // MARK: messages

  /// Messages came into the queue: consumers may have them from now on.
  /// - Parameter receivedAt: when the broker got the first of them.
  public mutating func arrived(_ count: Int = 1, receivedAt: MonotonicTime, now: MonotonicTime) {
    guard count > 0 else { return }
    activate()
    active[0].arrived(count, receivedAt: receivedAt.nanoseconds, now: now.nanoseconds)
  }

  /// A publication was not taken, because the queue is full. `isDeadLettered` with reason `maxlen`.
  public mutating func refused(isDeadLettered: Bool) {
    activate()
    active[0].totals.refused += 1
    if isDeadLettered { active[0].totals.deadLettered.add(1, .maxlen) }
  }

  /// A message went to a consumer that will settle it.
  /// - Parameters:
  ///   - arrivedAt: when it came into the queue, as ``arrived(_:receivedAt:now:)`` was told; from before the meter's
  ///     start for a message of the backlog.
  ///   - isRedelivered: it may have been delivered before.
  /// - Returns: nanoseconds that it waited since it came, or came back; nil when nobody knows.
  @discardableResult
  public mutating func delivered(
    _ key: MessageKey, arrivedAt: MonotonicTime, isRedelivered: Bool, to consumer: inout ConsumerMeter,
    now: MonotonicTime
  ) -> Int64? {
    activate()
    return active[0].delivered(
      key, arrivedAt: arrivedAt.nanoseconds, isRedelivered: isRedelivered, to: &consumer, now: now.nanoseconds)
  }

  /// A message went to a consumer that does not settle, and so has left the queue.
  /// - Returns: as of ``delivered(_:arrivedAt:isRedelivered:to:now:)``.
  @discardableResult
  public mutating func deliveredForGood(
    _ key: MessageKey, arrivedAt: MonotonicTime, isRedelivered: Bool, now: MonotonicTime
  ) -> Int64? {
    activate()
    return active[0].deliveredForGood(
      key, arrivedAt: arrivedAt.nanoseconds, isRedelivered: isRedelivered, now: now.nanoseconds)
  }

  /// A delivery was acknowledged, and the message has left the queue.
  /// - Returns: nanoseconds since it was delivered; nil when nobody knows.
  @discardableResult
  public mutating func acknowledged(
    _ key: MessageKey, by consumer: inout ConsumerMeter, now: MonotonicTime
  ) -> Int64? {
    activate()
    return active[0].settled(key, by: &consumer, isDone: true, now: now.nanoseconds)
  }

  /// A consumer gave a delivery back or discarded it. Until ``removed(_:reason:isDeadLettered:arrivedAt:now:)`` the
  /// message is in the queue.
  /// - Returns: as of ``acknowledged(_:by:now:)``.
  @discardableResult
  public mutating func returned(_ key: MessageKey, by consumer: inout ConsumerMeter, now: MonotonicTime) -> Int64? {
    activate()
    return active[0].settled(key, by: &consumer, isDone: false, now: now.nanoseconds)
  }

  /// A message left the queue without being acknowledged.
  /// - Parameters:
  ///   - isDeadLettered: it was passed on to a dead-letter exchange.
  ///   - arrivedAt: when it came; nil when the host does not know, which makes its time in the queue an estimate unless
  ///     it had been delivered.
  public mutating func removed(
    _ key: MessageKey, reason: RemovalReason, isDeadLettered: Bool, arrivedAt: MonotonicTime?, now: MonotonicTime
  ) {
    activate()
    active[0].removed(
      key, reason: reason, isDeadLettered: isDeadLettered, arrivedAt: arrivedAt?.nanoseconds, now: now.nanoseconds)
  }

  /// Messages left that the host does not know one by one: they were purged, or the log had lost them. Their times in
  /// the queue are estimated by the mean age of all.
  public mutating func removed(_ count: Int, reason: RemovalReason, now: MonotonicTime) {
    guard count > 0 else { return }
    activate()
    active[0].removed(count, reason: reason, now: now.nanoseconds)
  }

  /// The queue's lengths, after they may have changed: messages that are not with consumers, and those that are.
  public mutating func observe(ready: Int, unacknowledged: Int, now: MonotonicTime) {
    if active.isEmpty, ready == backlog, unacknowledged == 0 { return }
    activate()
    active[0].observe(ready: ready, unacknowledged: unacknowledged, now: now.nanoseconds)
  }

  // MARK: consumers

  /// A consumer is there from now on.
  public mutating func joined(_ consumer: inout ConsumerMeter, now: MonotonicTime) {
    activate()
    active[0].joined(&consumer, now: now.nanoseconds)
  }

  /// A consumer is gone. What it had in flight is with the queue again.
  public mutating func left(_ consumer: inout ConsumerMeter, now: MonotonicTime) {
    activate()
    active[0].left(&consumer, now: now.nanoseconds)
  }

  // MARK: reading

  /// When a message that was delivered came into the queue; nil for others.
  public func arrival(of key: MessageKey) -> MonotonicTime? {
    active.first?.times[key].map { MonotonicTime(nanoseconds: $0.arrivedAt) }
  }

  /// The figures at this moment.
  /// - Parameter oldest: when the oldest message in the queue came, if the host knows.
  /// - Complexity: O(1), the histograms are shared until they change.
  public func figures(now: MonotonicTime, oldest: MonotonicTime? = nil) -> QueueFigures {
    var meter = active.first ?? ActiveMeter(started: started, backlog: backlog)
    return meter.figures(now: now.nanoseconds, oldest: oldest?.nanoseconds)
  }

  /// What was counted so far.
  /// - Complexity: O(1), without the moving averages of ``figures(now:oldest:)``.
  public var counts: QueueCounts { active.isEmpty ? QueueCounts() : active[0].counts }

  /// Bytes that the meter holds, on the heap and by itself.
  public var heldBytes: Int {
    MemoryLayout<QueueMeter>.size
      + (active.isEmpty ? 0 : MemoryLayout<ActiveMeter>.stride * active.capacity + 32 + active[0].heapBytes)
  }
}
