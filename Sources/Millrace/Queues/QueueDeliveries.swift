// QueueDeliveries: a queue's deliveries one by one, or in batches, as AsyncSequences.

import MillraceBase
import MillraceBroker
import MillraceDelivery

/// A consumer's hold on its queue while a loop takes from it. For one task at a time.
///
/// When it goes, what was not handed out goes back to the queue.
final class DeliveryLease {
  let subscription: QueueSubscription
  /// Taken from the inbox, the next one last, so that it moves out without being counted once more.
  private var batch: [Delivery] = []

  init(_ subscription: QueueSubscription) { self.subscription = subscription }

  deinit { subscription.link.stop(returning: batch.reversed()) }

  /// The next delivery; nil when there is none now.
  func take() -> Delivery? {
    if let next = batch.popLast() { return next }
    guard subscription.inbox.take(into: &batch, limit: .max) else { return nil }
    batch.reverse()
    return batch.popLast()
  }

  /// The next delivery; nil at the end, or when the task was cancelled.
  func next(isolation: isolated (any Actor)? = #isolation) async throws(MillraceError) -> Delivery? {
    var id: UInt64?
    while true {
      if let delivery = take() { return delivery }
      if try subscription.inbox.isFinished() { return nil }
      if Task.isCancelled { return nil }
      let sleeper = id ?? subscription.inbox.newID()
      id = sleeper
      await subscription.inbox.sleep(sleeper)
    }
  }

  /// Takes until `out` has `limit` deliveries, or none is there now.
  func fill(_ out: inout [QueueDelivery], _ limit: Int) {
    while out.count < limit, let delivery = take() { out.append(QueueDelivery(delivery, subscription)) }
  }
}

/// The deliveries of a queue. Each iterator is a consumer of its own, from its first delivery on.
///
/// A loop that ends in any way gives back what it was not handed; what it was handed can still be settled. A loop in a cancelled
/// task ends, and so it does when the queue is closed.
public struct QueueDeliveries: AsyncSequence, Sendable {
  let queue: Queue
  let prefetch: Int

  /// A consumer.
  public func makeAsyncIterator() -> Iterator { Iterator(queue: queue, prefetch: prefetch) }

  /// Gives one delivery after the other.
  public struct Iterator: AsyncIteratorProtocol {
    private let queue: Queue
    private let prefetch: Int
    private var lease: DeliveryLease?

    init(queue: Queue, prefetch: Int) {
      self.queue = queue
      self.prefetch = prefetch
    }

    /// The next delivery; nil when the queue was closed or the task cancelled.
    /// - Throws: `.unknownQueue` when the queue was deleted, `.closed` when the broker is closed.
    public mutating func next(
      isolation actor: isolated (any Actor)? = #isolation
    ) async throws(MillraceError) -> QueueDelivery? {
      if let lease, let delivery = lease.take() { return QueueDelivery(delivery, lease.subscription) }
      if lease == nil { lease = DeliveryLease(try await QueueSubscription.open(queue, prefetch: prefetch)) }
      guard let lease, let delivery = try await lease.next() else { return nil }
      return QueueDelivery(delivery, lease.subscription)
    }
  }
}

/// The deliveries of a queue in batches. Each iterator is a consumer of its own; see ``QueueDeliveries``.
public struct QueueBatches: AsyncSequence, Sendable {
  let queue: Queue
  let size: Int
  let limit: Duration
  let prefetch: Int

  /// A consumer.
  public func makeAsyncIterator() -> Iterator { Iterator(self) }

  /// Gives one batch after the other.
  public struct Iterator: AsyncIteratorProtocol {
    private let plan: QueueBatches
    private var lease: DeliveryLease?

    init(_ plan: QueueBatches) { self.plan = plan }

    /// The next batch, of at least one delivery; nil when the queue was closed or the task cancelled.
    /// - Throws: as ``QueueDeliveries/Iterator/next(isolation:)``.
    public mutating func next(
      isolation actor: isolated (any Actor)? = #isolation
    ) async throws(MillraceError) -> QueueDeliveryBatch? {
      if lease == nil {
        lease = DeliveryLease(try await QueueSubscription.open(plan.queue, prefetch: plan.prefetch))
      }
      guard let lease, let first = try await lease.next() else { return nil }
      var deliveries = [QueueDelivery(first, lease.subscription)]
      lease.fill(&deliveries, plan.size)
      if plan.limit > .zero, deliveries.count < plan.size { await wait(lease, &deliveries) }
      return QueueDeliveryBatch(deliveries: deliveries, subscription: lease.subscription)
    }

    /// Fills the batch until it is full, or the time is over.
    private func wait(
      _ lease: DeliveryLease, _ deliveries: inout [QueueDelivery], isolation: isolated (any Actor)? = #isolation
    ) async {
      let inbox = lease.subscription.inbox
      let id = inbox.newID()
      let deadline = ContinuousClock.now.advanced(by: plan.limit)
      let timer = Task {
        do { try await Task.sleep(until: deadline, clock: .continuous) } catch {
          // Cancelled: the batch is full.
          return
        }
        inbox.interrupt(id)
      }
      defer { timer.cancel() }
      while deliveries.count < plan.size, ContinuousClock.now < deadline, !Task.isCancelled {
        await inbox.sleep(id, until: deadline)
        let before = deliveries.count
        lease.fill(&deliveries, plan.size)
        // Nothing more comes: what is there is the last batch.
        if deliveries.count == before, inbox.isOver { return }
      }
    }
  }
}

/// Some deliveries of one queue, to be settled together or one by one.
public struct QueueDeliveryBatch: Sendable, RandomAccessCollection {
  let deliveries: [QueueDelivery]
  let subscription: QueueSubscription

  /// 0.
  public var startIndex: Int { 0 }
  /// The number of deliveries.
  public var endIndex: Int { deliveries.count }
  /// One of them.
  public subscript(index: Int) -> QueueDelivery { deliveries[index] }

  private var positions: [Position] { deliveries.map(\.raw.position) }

  /// All of them are done with, in one commit. Durable on return.
  /// - Throws: `.notInFlight` when one was settled before or taken back, the others are acknowledged then; `.storage`,
  ///   `.closed`.
  public func ack() async throws(MillraceError) { try await subscription.link.settleAndWait(positions, .acknowledge) }

  /// All of them are done with; returns at once.
  public func ackLater() { subscription.link.acknowledge(positions) }

  /// All of them failed; see ``QueueDelivery/nack(after:)``.
  public func nack(after delay: Duration? = nil) async throws(MillraceError) {
    try await subscription.link.settleAndWait(positions, .requeue(isFailure: true, after: delay))
  }

  /// Acknowledges all of them and publishes their results in one commit; see ``QueueDelivery/complete(publishing:)``.
  public func complete(publishing results: [(queue: Queue, message: QueueMessage)]) async throws(MillraceError) {
    try subscription.queue.check(results.map(\.queue))
    var outgoing: [(address: QueueAddress, message: DirectMessage)] = []
    for (queue, message) in results { outgoing.append(try queue.outgoing(message)) }
    try await subscription.link.complete(positions, publishing: outgoing)
  }
}

extension Queue {
  /// Deliveries one by one, each to be settled.
  /// - Parameter prefetch: most deliveries that are not settled, at least 1; those that wait for the loop are among them.
  public func deliveries(prefetch: Int = 100) -> QueueDeliveries {
    precondition(prefetch >= 1, "a consumer with a prefetch of \(prefetch)")
    return QueueDeliveries(queue: self, prefetch: prefetch)
  }

  /// Deliveries in batches.
  /// - Parameters:
  ///   - size: most deliveries of a batch, at least 1.
  ///   - limit: time that a batch waits to become full once it has its first delivery.
  ///   - prefetch: most deliveries that are not settled; nil for two batches.
  public func batches(of size: Int, within limit: Duration, prefetch: Int? = nil) -> QueueBatches {
    precondition(size >= 1 && prefetch ?? size >= size, "batches of \(size) with a prefetch of \(prefetch ?? size)")
    return QueueBatches(queue: self, size: size, limit: limit, prefetch: prefetch ?? 2 * size)
  }
}
