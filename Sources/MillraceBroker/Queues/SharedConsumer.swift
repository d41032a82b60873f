// SharedConsumer: a consumer of a topic that belongs to a share group: what it settles, nobody of the group gets again.
//
// It is a member like those that come by Kafka's protocol, and reads all partitions of its topic. Its locks are renewed as long
// as it is there, because clients of queues know no other end of a delivery than its settlement, or their own end.

import MillraceBase
import MillraceDelivery
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel
import MillraceRouting

/// A consumer that shares a topic's records with others. A delivery's lane is the partition, its offset the record's; its
/// delivery count is that of the deliveries before this one.
final class SharedConsumer: QueueConsumer {
  private let topic: TopicMetadata
  private let group: String
  private let memberID: String
  private let format: any MessageFormat
  private var credit: Int
  /// What was delivered and not settled, and when it was delivered.
  private var inFlight: [Position: MonotonicTime] = [:]
  /// What was acquired and not delivered, because something changed meanwhile.
  private var buffer: [(position: Position, message: Message, deliveries: Int16)] = []
  private var fetch: ShareFetch?
  private var isFetching = false
  private var firstPartition = -1
  private var isPlanned = false
  private var renewal: Timer?
  private(set) var isCancelled = false
  /// Bytes that one read brings at most, more only for a single record batch.
  private static let readSize = 256 << 10
  /// Records that are acquired at once.
  private static let mostAtOnce = 500

  init(
    of topic: TopicMetadata, in virtualHost: String, group: String, options: ConsumerOptions,
    format: any MessageFormat, sink: any DeliverySink, queues: QueueBroker
  ) throws(BrokerError) {
    self.topic = topic
    self.group = group
    self.format = format
    credit = options.credit
    memberID = "amqp-\(TopicID.random(using: &queues.broker.random))"
    try queues.broker.shares.join(group, memberID: memberID, topic: topic.name)
    super.init(of: topic.name, in: virtualHost, type: .stream, options: options, sink: sink, queues: queues)
    queues.sharers[ObjectIdentifier(self)] = self
    plan()
  }

  private var shares: ShareCoordinator { queues.broker.shares }
  private var hasCredit: Bool {
    !isPaused && !isCancelled && !isClosed && (credit == 0 || inFlight.count < credit)
  }
  private func key(_ position: Position) -> TopicIDPartition { TopicIDPartition(topic.id, Int32(position.lane)) }

  private func plan() {
    guard !isPlanned, !isClosed else { return }
    isPlanned = true
    queues.broker.reactor.atEndOfTurn { [weak self] in
      guard let self else { return }
      isPlanned = false
      serve()
    }
  }

  private func serve() {
    let now = queues.broker.reactor.now
    var taken = 0
    while hasCredit, taken < buffer.count {
      let (position, message, deliveries) = buffer[taken]
      taken += 1
      inFlight[position] = now
      sink?.deliver(
        Delivery(
          consumer: .none, position: position, message: message, deliveryCount: Int32(deliveries) - 1,
          isRedelivered: deliveries > 1),
        to: self)
    }
    // A delivery that ended the consumer has emptied it.
    buffer.removeFirst(min(taken, buffer.count))
    watch()
    guard hasCredit, buffer.isEmpty, !isFetching, queues.isOpen else { return }
    isFetching = true
    // Another partition is first each time: the first ones get all that a read may bring.
    firstPartition = (firstPartition + 1) % topic.partitions.count
    let keys = topic.partitions.indices.map {
      TopicIDPartition(topic.id, Int32((firstPartition + $0) % topic.partitions.count))
    }
    let wish = ShareFetchWish(
      group: group, memberID: memberID, partitions: keys,
      maxRecords: min(credit == 0 ? .max : credit - inFlight.count, SharedConsumer.mostAtOnce), isWholeBatches: false,
      minimumBytes: 1,
      wait: .seconds(60))
    do throws(BrokerError) {
      fetch = try shares.fetch(wish, limit: { SharedConsumer.readSize }) { [weak self] in self?.take($0) }
    } catch {
      isFetching = false
      complain(error.description)
      end()
    }
  }

  private func take(_ results: [SharedRecords]) {
    isFetching = false
    fetch = nil
    guard !isClosed, !isCancelled else { return }
    for result in results {
      if let error = result.error {
        if queues.broker.topic(topic.id) == nil { return end() }
        complain(error.description)
        queues.broker.reactor.schedule(after: .seconds(1)) { [weak self] in self?.plan() }
        return
      }
      take(result)
    }
    plan()
  }

  private func take(_ result: SharedRecords) {
    var missing = result.acquired.map(\.range)
    var next = 0
    for batch in result.batches {
      let records: [Record]
      do throws(BrokerError) {
        records = try Broker.records(of: batch)
      } catch {
        // Any producer may have written what cannot be decompressed. Nobody will read it.
        complain(error.description)
        continue
      }
      for record in records {
        while next < missing.count, missing[next].upperBound <= record.offset { next += 1 }
        guard next < missing.count else { break }
        guard missing[next].contains(record.offset) else { continue }
        keep(record, result.acquired, result.partition)
        if record.offset > missing[next].lowerBound {
          missing.insert(missing[next].lowerBound..<record.offset, at: next)
          next += 1
        }
        missing[next] = record.offset + 1..<missing[next].upperBound
      }
    }
    // What was compacted away, or cannot be read.
    let gaps = missing.filter { !$0.isEmpty }.map { ShareSettlement($0, [.gap]) }
    if !gaps.isEmpty { shares.settle(gaps, of: result.partition, by: memberID, in: group) { _ in } }
  }

  private func keep(_ record: Record, _ acquired: [ShareAcquisition], _ key: TopicIDPartition) {
    guard let acquisition = acquired.first(where: { $0.range.contains(record.offset) }) else { return }
    let position = Position(lane: UInt8(truncatingIfNeeded: key.partition), offset: record.offset)
    buffer.append((position, StreamConsumer.message(record, position, topic, format), acquisition.deliveries))
  }

  private func complain(_ reason: String) {
    queues.broker.logger.logRarely(
      .error, "queues", "records of a share group cannot be delivered", "",
      ["topic": topic.name, "group": group, "error": reason], key: topic.name, now: queues.broker.reactor.now)
  }

  private func end() {
    guard !isClosed else { return }
    leave()
    sink?.ended(self, .queueDeleted)
  }

  // MARK: Settling

  @discardableResult
  override func settle(_ position: Position, _ settlement: Settlement) -> Bool {
    guard inFlight.removeValue(forKey: position) != nil else { return false }
    switch settlement {
    case .acknowledge: say(.accept, of: [position])
    case .requeue: say(.release, of: [position])
    case .discard: say(.reject, of: [position])
    }
    leaveWhenDone()
    plan()
    return true
  }

  override func acknowledge(_ positions: [Position]) {
    say(.accept, of: positions.filter { inFlight.removeValue(forKey: $0) != nil })
    leaveWhenDone()
    plan()
  }

  override func holds(_ position: Position) -> Bool { !isClosed && inFlight[position] != nil }

  /// What is not its own any more, because its lock has ended, is with others, who settle it.
  private func say(_ kind: ShareAcknowledgement, of positions: [Position]) {
    for position in positions {
      shares.settle(
        [ShareSettlement(position.offset..<position.offset + 1, [kind])], of: key(position), by: memberID, in: group
      ) { _ in }
    }
  }

  /// Renews locks when half their time is over, save those of deliveries whose own time is over.
  private func watch() {
    guard !inFlight.isEmpty || !buffer.isEmpty, !isClosed, shares.lock(of: group).canRenew else {
      renewal?.cancel()
      renewal = nil
      return
    }
    if let renewal, renewal.job != nil { return }
    renewal = queues.broker.reactor.schedule(after: shares.lock(of: group).duration / 2) { [weak self] in
      guard let self else { return }
      renewal = nil
      let now = queues.broker.reactor.now
      let live = inFlight.filter { delivery in timeout.map { delivery.value + $0 > now } ?? true }
      say(.renew, of: live.keys.sorted())
      say(.renew, of: buffer.map(\.position))
      watch()
    }
  }

  // MARK: Going

  override func setCredit(_ credit: Int) {
    self.credit = credit
    plan()
  }

  override func pausedChanged() { if !isPaused { plan() } }

  override func cancel() {
    guard !isClosed else { return }
    isCancelled = true
    queues.sharers[ObjectIdentifier(self)] = nil
    if let fetch { shares.cancel(fetch) }
    fetch = nil
    say(.release, of: buffer.map(\.position))
    buffer = []
    leaveWhenDone()
  }

  /// A cancelled consumer is needed only as long as it has something in flight.
  private func leaveWhenDone() {
    if isCancelled, inFlight.isEmpty, !isClosed { leave() }
  }

  override func close(isFailure: Bool) {
    guard !isClosed else { return }
    // What was delivered counts as that, whatever the reason, so that whoever gets it next is told.
    say(.release, of: inFlight.keys.sorted())
    inFlight = [:]
    leave()
  }

  private func leave() {
    isClosed = true
    queues.sharers[ObjectIdentifier(self)] = nil
    renewal?.cancel()
    renewal = nil
    if let fetch { shares.cancel(fetch) }
    fetch = nil
    buffer = []
    shares.leave(group, memberID: memberID)
  }
}
