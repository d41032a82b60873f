// QueueSubscription: one consumer of a queue: what comes to it, and what is said of that, many at a time.
//
// Settlements go to the broker's thread as publications do (QueueOutbox.swift): the first in a list submits a job that
// takes all of it. It lives as long as anybody holds a delivery of it or waits for one. Then what was handed out and never
// settled goes back to the queue, and counts as failed.

import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceIO
import MillraceRouting
import Synchronization

/// A consumer from its registration until nobody uses it any more: when this goes, it goes.
final class QueueSubscription: Sendable {
  /// Whose consumer it is; keeps the broker open.
  let queue: Queue
  let link: ConsumerLink
  var inbox: DeliveryInbox { link.inbox }

  private init(_ queue: Queue, _ link: ConsumerLink) {
    self.queue = queue
    self.link = link
  }

  deinit {
    queue.life.forget(link)
    link.close()
  }

  /// Registers a consumer that has at most `prefetch` unsettled deliveries.
  static func open(_ queue: Queue, prefetch: Int) async throws(MillraceError) -> QueueSubscription {
    let link = try await ConsumerLink.open(queue.broker, queue.address, prefetch: prefetch)
    let subscription = QueueSubscription(queue, link)
    guard queue.life.keep(link) else { throw queue.closedError }
    return subscription
  }
}

/// What tasks have of a consumer. The queue keeps it as long as its subscription lives, to end it.
final class ConsumerLink: Sendable {
  /// What becomes of a delivery.
  enum Verdict: Sendable {
    case acknowledge
    /// Waits `after` instead of the queue's retry delay.
    case requeue(isFailure: Bool, after: Duration?)
    case discard
  }

  private struct Settling {
    /// Acknowledged, and nobody waits.
    var acknowledged: [Position] = []
    var others: [(position: Position, verdict: Verdict, answer: Answer<Void>?)] = []
    var isSubmitted = false
    /// The broker is closed.
    var isOver = false
  }

  let inbox: DeliveryInbox
  private let address: QueueAddress
  private let parts: BrokerParts
  private let end: ReactorBound<QueueTap>
  private let settling = Mutex(Settling())
  private var reactor: EpollReactor { parts.reactor }

  private init(_ address: QueueAddress, _ parts: BrokerParts, _ inbox: DeliveryInbox, _ end: ReactorBound<QueueTap>) {
    self.address = address
    self.parts = parts
    self.inbox = inbox
    self.end = end
  }

  fileprivate static func open(
    _ broker: EmbeddedBroker, _ address: QueueAddress, prefetch: Int
  ) async throws(MillraceError) -> ConsumerLink {
    let inbox = DeliveryInbox()
    let parts = broker.parts
    let reactor = parts.reactor
    let end: ReactorBound<QueueTap> = try await parts.ask { broker, answer in
      let tap = QueueTap(broker, inbox)
      var options = ConsumerOptions()
      options.credit = prefetch
      do throws(RoutingError) {
        guard broker.isOpen else { throw RoutingError(.internalError, "the broker is closed") }
        // Not a topic of this name.
        _ = try broker.queues.describe(address.name, in: address.virtualHost, owner: nil)
        tap.consumer = try broker.queues.consume(
          address.name, in: address.virtualHost, owner: nil, options: options, sink: tap)
        answer.give(.success(ReactorBound(tap, on: reactor)))
      } catch {
        answer.give(.failure(MillraceError(error)))
      }
    }
    return ConsumerLink(address, parts, inbox, end)
  }

  /// Nobody holds a delivery any more: what is in flight goes back, and counts as failed.
  fileprivate func close() {
    let end = end
    reactor.submit { end.take().close() }
  }

  /// Ends the deliveries: takers get nil. What was handed out can still be settled.
  /// - Parameter rest: taken and not handed out, goes back along with what was not taken.
  func stop(returning rest: [Delivery], _ failure: MillraceError? = nil) {
    let positions = (rest + inbox.end(failure)).map(\.position)
    let end = end
    reactor.submit { end.take().stop(returning: positions) }
  }

  // MARK: Settling

  /// Acknowledges without waiting.
  func acknowledge(_ position: Position) {
    let isFirst = settling.withLock { settling in
      if settling.isOver { return false }
      settling.acknowledged.append(position)
      defer { settling.isSubmitted = true }
      return !settling.isSubmitted
    }
    if isFirst { submit() }
  }

  /// Acknowledges without waiting.
  func acknowledge(_ positions: some Sequence<Position>) {
    let isFirst = settling.withLock { settling in
      if settling.isOver { return false }
      settling.acknowledged.append(contentsOf: positions)
      defer { settling.isSubmitted = true }
      return !settling.isSubmitted
    }
    if isFirst { submit() }
  }

  /// Settles without waiting.
  func settle(_ positions: [Position], _ verdict: Verdict, _ answer: Answer<Void>? = nil) {
    let isFirst = settling.withLock { settling in
      if settling.isOver { return false }
      for position in positions { settling.others.append((position, verdict, answer)) }
      defer { settling.isSubmitted = true }
      return !settling.isSubmitted
    }
    // An answer that was not kept is given when it goes.
    if isFirst { submit() }
  }

  /// Settles, and suspends until that is durable.
  /// - Throws: `.notInFlight` when one of them was not in flight any more; `.storage`, `.closed`.
  func settleAndWait(_ positions: [Position], _ verdict: Verdict) async throws(MillraceError) {
    guard !positions.isEmpty else { return }
    let answer = await withCheckedContinuation { continuation in
      settle(positions, verdict, Answer<Void>(continuation))
    }
    try answer.get()
  }

  /// The broker is closed: nobody hears of a settlement any more.
  func abandon() {
    let others = settling.withLock { settling in
      defer {
        settling = Settling()
        settling.isOver = true
      }
      return settling.others
    }
    for other in others { other.answer?.give(.failure(.closed)) }
  }

  private func submit() { reactor.submit { [self] in settleAll() } }

  /// On the broker's thread.
  private func settleAll() {
    let (acknowledged, others) = settling.withLock { settling in
      defer {
        settling.acknowledged = []
        settling.others = []
        settling.isSubmitted = false
      }
      return (settling.acknowledged, settling.others)
    }
    end.take().settle(acknowledged, others)
  }

  /// Suspends until all that was settled is durable.
  func settled() async throws(MillraceError) {
    try await parts.ask { (broker, answer: Answer<Void>) in
      broker.queues.whenDurable { error in answer.give(error.map { .failure(MillraceError($0)) } ?? .success(())) }
    }
  }

  /// Acknowledges and publishes in one commit, and suspends until that is durable.
  func complete(
    _ positions: [Position], publishing messages: [(address: QueueAddress, message: DirectMessage)]
  ) async throws(MillraceError) {
    let end = end
    try await parts.ask { (broker, answer: Answer<Void>) in
      end.take().complete(positions, messages, answer)
    }
  }
}

/// The broker's end of a subscription. Belongs to the reactor.
final class QueueTap: DeliverySink {
  private let broker: Broker
  private let inbox: DeliveryInbox
  /// Set right after it was made.
  var consumer: QueueConsumer?
  /// Of this turn.
  private var arrived: [Delivery] = []

  init(_ broker: Broker, _ inbox: DeliveryInbox) {
    self.broker = broker
    self.inbox = inbox
  }

  func deliver(_ delivery: Delivery, to consumer: QueueConsumer) { deliver([delivery], to: consumer) }

  func deliver(_ deliveries: ArraySlice<Delivery>, to consumer: QueueConsumer) {
    if arrived.isEmpty { broker.reactor.atEndOfTurn { [self] in handOver() } }
    arrived.append(contentsOf: deliveries)
  }

  private func handOver() {
    if inbox.put(&arrived) { return }
    giveBack(arrived.map(\.position))
    arrived = []
  }

  func ended(_ consumer: QueueConsumer, _ reason: QueueConsumer.EndReason) {
    switch reason {
    case .queueDeleted:
      _ = inbox.end(MillraceError(.unknownQueue, "queue \(consumer.queue) was deleted"))
    case .timedOut:
      // The message is with somebody else; settling it tells.
      break
    }
  }

  /// To the queue as if they had not been delivered.
  private func giveBack(_ positions: [Position]) {
    for position in positions {
      consumer?.settle(position, .requeue(isFailure: false, until: Timestamp(milliseconds: 0)))
    }
  }

  func stop(returning positions: [Position]) {
    giveBack(positions)
    consumer?.cancel()
  }

  func close() {
    consumer?.close(isFailure: true)
    consumer = nil
  }

  func settle(
    _ acknowledged: [Position],
    _ others: [(position: Position, verdict: ConsumerLink.Verdict, answer: Answer<Void>?)]
  ) {
    guard let consumer else { return }
    consumer.acknowledge(acknowledged)
    guard !others.isEmpty else { return }
    var waiting: [Answer<Void>] = []
    for (position, verdict, answer) in others {
      let isSettled = consumer.settle(position, settlement(verdict))
      guard let answer else { continue }
      if !isSettled { answer.give(.failure(.notInFlight(consumer.queue))) } else { waiting.append(answer) }
    }
    guard !waiting.isEmpty else { return }
    broker.queues.whenDurable { error in
      for answer in waiting { answer.give(error.map { .failure(MillraceError($0)) } ?? .success(())) }
    }
  }

  private func settlement(_ verdict: ConsumerLink.Verdict) -> Settlement {
    switch verdict {
    case .acknowledge: .acknowledge
    case .discard: .discard
    case .requeue(let isFailure, let delay):
      .requeue(isFailure: isFailure, until: delay.map { broker.queues.time(after: $0) })
    }
  }

  func complete(
    _ positions: [Position], _ messages: [(address: QueueAddress, message: DirectMessage)], _ answer: Answer<Void>
  ) {
    guard let consumer, positions.allSatisfy({ consumer.holds($0) }) else {
      return answer.give(.failure(.notInFlight(consumer?.queue ?? "")))
    }
    var transaction = QueueTransaction()
    transaction.settlements = positions.map { (consumer, $0, .acknowledge) }
    broker.queues.commit(transaction, publishing: messages, answer)
  }
}

extension QueueBroker {
  /// Commits with these messages, or nothing of it when one of their queues is not there or full.
  func commit(
    _ transaction: QueueTransaction, publishing messages: [(address: QueueAddress, message: DirectMessage)],
    _ answer: Answer<Void>
  ) {
    var transaction = transaction
    var sums: [String: (address: QueueAddress, count: Int, bytes: Int)] = [:]
    do throws(RoutingError) {
      for (address, message) in messages {
        let id = "\(address.virtualHost)\u{0}\(address.name)"
        if sums[id] == nil { _ = try describe(address.name, in: address.virtualHost, owner: nil) }
        var sum = sums[id] ?? (address, 0, 0)
        sum.count += 1
        sum.bytes += message.body.count
        sums[id] = sum
        transaction.publications.append(address.publication(message))
      }
    } catch {
      return answer.give(.failure(MillraceError(error)))
    }
    for sum in sums.values
    where !hasRoom(in: sum.address.name, of: sum.address.virtualHost, for: sum.count, bytes: sum.bytes) {
      return answer.give(.failure(MillraceError(.queueFull, "queue \(sum.address.name) has no room for all of it")))
    }
    commit(transaction) { [self] result in
      answer.give(
        result.map { _ in () }.mapError { error in
          error.code == .resourceError && pressure != nil
            ? MillraceError(.storage, error.message) : MillraceError(error)
        })
    }
  }
}
