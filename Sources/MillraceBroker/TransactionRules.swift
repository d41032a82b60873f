// TransactionRules: what a transactional producer may do, and what its calls lead to: state and call in, events out.
//
// Pure: no clock, no log, no memory of its own. The caller applies the step, events and markers as one unit of the log, at
// the moment the decision is made, so there is no state in between and no call finds a transaction half ended.
//
// Two generations of clients are served. Version 1 names partitions before it writes to them, and keeps its epoch from
// transaction to transaction. Version 2 (KIP-890) adds a partition by writing to it, and gets a new epoch with every end, so
// that nothing late of one transaction can slip into the next.
// Source: Kafka, `TransactionCoordinator`, `TransactionMetadata`; KIP-98, KIP-360 (epochs given by the client), KIP-890.

import MillraceBase
import MillraceMetadata
import MillraceModel

/// The end of a transaction in its partitions.
struct TransactionEnding: Equatable {
  /// Partitions that get a marker.
  var partitions: [TopicPartition]
  /// Producer and epoch that the markers carry: batches of lower epochs are refused from then on.
  var producer: ProducerIdentity
  var isCommit: Bool
}

/// What a call leads to; all of it becomes durable together, or nothing.
struct TransactionStep: Equatable {
  var events: [TransactionEvent] = []
  var ending: TransactionEnding?
  /// A transaction begins with this step, and so does its time.
  var begins = false
}

/// What a producer that comes with a transactional id gets.
enum TransactionStart: Equatable {
  case producer(ProducerIdentity, TransactionStep)
  /// The rules ask for a producer id that was never given; call again with one.
  case needsProducerID
}

enum TransactionRules {
  /// The highest epoch that a producer is given. The one above it shuts that producer out. Source: Kafka,
  /// `TransactionMetadata.isEpochExhausted`.
  static let lastEpoch = Int16.max - 1

  // MARK: Coming

  /// A producer comes with a transactional id; an ongoing transaction of an earlier instance is aborted.
  /// - Parameters:
  ///   - expected: what the producer had, when it goes on after an error.
  ///   - fresh: a producer id never given before, when there is one at hand.
  static func initialise(
    _ current: TransactionalProducer?, id: String, timeoutMilliseconds timeout: Int32, expected: ProducerIdentity?,
    fresh: Int64?, now: Timestamp
  ) throws(BrokerError) -> TransactionStart {
    guard let current else {
      guard let fresh else { return .needsProducerID }
      return start(id, ProducerIdentity(fresh, 0), previous: .none, timeout, TransactionStep(), now)
    }
    if let expected {
      if expected == current.previous, current.status != .ongoing {
        // A repeat of a call whose answer was lost.
        return .producer(current.producer, TransactionStep())
      }
      guard expected == current.producer else { throw fenced(expected, current) }
    }
    var step = TransactionStep()
    var producer = current.producer
    if current.status == .ongoing {
      producer.epoch += 1
      step = end(current, isCommit: false, producer: producer, previous: .none, marker: producer, now)
    } else if producer.epoch < lastEpoch {
      producer.epoch += 1
    }
    if current.producer.epoch >= lastEpoch {
      guard let fresh else { return .needsProducerID }
      producer = ProducerIdentity(fresh, 0)
    }
    return start(id, producer, previous: expected == nil ? .none : current.producer, timeout, step, now)
  }

  private static func start(
    _ id: String, _ producer: ProducerIdentity, previous: ProducerIdentity, _ timeout: Int32, _ step: TransactionStep,
    _ now: Timestamp
  ) -> TransactionStart {
    var step = step
    step.events.append(
      .initialised(id, producer: producer, previous: previous, timeoutMilliseconds: timeout, time: now))
    return .producer(producer, step)
  }

  // MARK: Taking part

  /// Checks that `producer` is the one that may use the id now.
  @discardableResult
  static func check(
    _ current: TransactionalProducer?, id: String, _ producer: ProducerIdentity
  ) throws(BrokerError) -> TransactionalProducer {
    guard let current else {
      throw BrokerError(.invalidProducerMapping, "transactional id \(id) is not known; its producer has to come first")
    }
    guard current.producer.id == producer.id else {
      throw BrokerError(
        .invalidProducerMapping,
        "producer \(producer.id) is not that of transactional id \(id), which is \(current.producer.id)")
    }
    // The last epoch of all shuts everybody out; nobody was ever given it.
    guard current.producer.epoch == producer.epoch, producer.epoch <= lastEpoch else { throw fenced(producer, current) }
    return current
  }

  private static func fenced(_ producer: ProducerIdentity, _ current: TransactionalProducer) -> BrokerError {
    BrokerError(
      .producerFenced,
      "producer \(producer) of transactional id \(current.id) is shut out, \(current.producer) is current")
  }

  /// Partitions are to take part, as clients of version 1 say before they write.
  static func add(
    _ partitions: [TopicPartition], to current: TransactionalProducer?, id: String, _ producer: ProducerIdentity,
    now: Timestamp
  ) throws(BrokerError) -> TransactionStep {
    let current = try check(current, id: id, producer)
    let missing = partitions.filter { !current.partitions.contains($0) }
    guard !missing.isEmpty else { return TransactionStep() }
    return TransactionStep(
      events: [.partitionsAdded(id, missing, time: now)], begins: current.status != .ongoing)
  }

  /// A group's offsets are to be committed, as clients of version 1 say before they send them.
  static func add(
    group: String, to current: TransactionalProducer?, id: String, _ producer: ProducerIdentity, now: Timestamp
  ) throws(BrokerError) -> TransactionStep {
    let current = try check(current, id: id, producer)
    guard current.offsets[group] == nil else { return TransactionStep() }
    return TransactionStep(
      events: [.groupAdded(id, group: group, time: now)], begins: current.status != .ongoing)
  }

  /// Offsets that the transaction will commit for a group.
  /// - Parameter isImplicit: sending them adds the group, as clients of version 2 expect.
  static func add(
    _ offsets: [PartitionOffset], of group: String, to current: TransactionalProducer?, id: String,
    _ producer: ProducerIdentity, isImplicit: Bool, now: Timestamp
  ) throws(BrokerError) -> TransactionStep {
    let current = try check(current, id: id, producer)
    guard isImplicit || current.offsets[group] != nil else {
      throw BrokerError(.invalidTransactionState, "group \(group) is not part of the transaction of \(id)")
    }
    guard !offsets.isEmpty else { return TransactionStep() }
    return TransactionStep(
      events: [.offsetsAdded(id, group: group, offsets, time: now)], begins: current.status != .ongoing)
  }

  /// A transactional batch is to be written to a partition.
  /// - Parameter isImplicit: writing adds the partition, as clients of version 2 expect.
  static func write(
    to partition: TopicPartition, in current: TransactionalProducer?, id: String, _ producer: ProducerIdentity,
    isImplicit: Bool, now: Timestamp
  ) throws(BrokerError) -> TransactionStep {
    let current = try check(current, id: id, producer)
    if current.partitions.contains(partition) { return TransactionStep() }
    guard isImplicit else {
      throw BrokerError(
        .invalidTransactionState,
        "partition \(partition) is not part of the transaction of \(id), which is \(current.status)")
    }
    return TransactionStep(
      events: [.partitionsAdded(id, [partition], time: now)], begins: current.status != .ongoing)
  }

  // MARK: Ending

  /// The producer ends its transaction.
  ///
  /// A repeat is answered as the first call was; any other end without a transaction is refused, save that a client of
  /// version 2 may abort one to which nothing was added.
  /// - Parameters:
  ///   - bumps: the client is of version 2 and goes on with the identity that it is answered.
  ///   - fresh: a producer id never given before, when there is one at hand.
  static func end(
    _ current: TransactionalProducer?, id: String, _ producer: ProducerIdentity, isCommit: Bool, bumps: Bool,
    fresh: Int64?, now: Timestamp
  ) throws(BrokerError) -> TransactionStart {
    if bumps, let current, current.previous == producer, current.status == (isCommit ? .committed : .aborted) {
      return .producer(current.producer, TransactionStep())
    }
    let current = try check(current, id: id, producer)
    switch current.status {
    case .ongoing: break
    case .committed where isCommit && !bumps, .aborted where !isCommit && !bumps:
      return .producer(current.producer, TransactionStep())
    case .empty, .committed, .aborted:
      guard bumps, !isCommit else {
        throw BrokerError(
          .invalidTransactionState,
          "there is no transaction of \(id) to \(isCommit ? "commit" : "abort"): it is \(current.status)")
      }
    }
    guard bumps else {
      return .producer(
        producer,
        end(current, isCommit: isCommit, producer: producer, previous: .none, marker: producer, now))
    }
    var next = ProducerIdentity(producer.id, producer.epoch + 1)
    let marker = next
    if producer.epoch >= lastEpoch {
      guard let fresh else { return .needsProducerID }
      next = ProducerIdentity(fresh, 0)
    }
    return .producer(next, end(current, isCommit: isCommit, producer: next, previous: producer, marker: marker, now))
  }

  /// The transaction has lasted too long, or somebody orders its end: it is aborted, and its producer shut out.
  /// - Returns: nil when there is none.
  static func abort(_ current: TransactionalProducer?, now: Timestamp) -> TransactionStep? {
    guard let current, current.status == .ongoing else { return nil }
    let next = ProducerIdentity(current.producer.id, current.producer.epoch + 1)
    return end(current, isCommit: false, producer: next, previous: .none, marker: next, now)
  }

  private static func end(
    _ current: TransactionalProducer, isCommit: Bool, producer: ProducerIdentity, previous: ProducerIdentity,
    marker: ProducerIdentity, _ now: Timestamp
  ) -> TransactionStep {
    let partitions = current.partitions.sorted { ($0.topic, $0.partition) < ($1.topic, $1.partition) }
    return TransactionStep(
      events: [.ended(current.id, isCommit: isCommit, producer: producer, previous: previous, time: now)],
      ending: partitions.isEmpty
        ? nil : TransactionEnding(partitions: partitions, producer: marker, isCommit: isCommit))
  }

  /// Whether an id that was not used since `limit` is forgotten.
  static func isExpired(_ current: TransactionalProducer, before limit: Timestamp) -> Bool {
    current.status != .ongoing && current.updated < limit
  }
}
