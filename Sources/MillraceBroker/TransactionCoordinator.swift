// TransactionCoordinator: all transactional producers: their calls as units of the log, time-outs, and what tools ask.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel

/// Who writes a transactional batch.
public struct TransactionalWrite: Sendable {
  /// The transactional id.
  public var id: String
  /// Writing adds the partition to the transaction (clients of version 2); else it must have been added before.
  public var addsPartition: Bool

  /// A write under `id`.
  public init(id: String, addsPartition: Bool) {
    self.id = id
    self.addsPartition = addsPartition
  }
}

/// All transactional producers. Belongs to the broker's reactor.
///
/// What is decided is in the log's hands at once, and state changes with it: no call waits for another one.
public final class TransactionCoordinator {
  unowned let broker: Broker
  /// When ongoing transactions are aborted. Kept in monotonic time, so that a clock that is set ends none early. An end that
  /// is not durable yet may still be refused, and takes no deadline away.
  var deadlines: [String: MonotonicTime] = [:]
  var timer: Timer?
  var timerDeadline: MonotonicTime?
  var expiryTimer: Timer?
  var isExpiring = false
  /// How long an abort that the log refused waits for its next attempt.
  static let retryDelay = Duration.seconds(1)
  /// Ids that are looked at in one turn, and forgotten in one unit, at most.
  static let expiredAtOnce = 1000

  init(broker: Broker) {
    self.broker = broker
  }

  var state: Transactions { broker.metadata.transactions }

  /// Takes up the transactions that the log holds: each has what was left of its time when the broker stopped, as far as
  /// the wall clock can tell.
  func open() {
    let wall = broker.reactor.wallClock.milliseconds
    for one in state.producers.values where one.status == .ongoing {
      let timeout = Int64(one.timeoutMilliseconds)
      let left = min(max(0, timeout - max(0, wall - one.started.milliseconds)), timeout)
      deadlines[one.id] = broker.reactor.now + .milliseconds(left)
    }
    scheduleTimer()
    if !state.producers.isEmpty { scheduleExpiry() }
  }

  func close() {
    timer?.cancel()
    expiryTimer?.cancel()
  }

  // MARK: Calls of producers

  /// Gives a producer its identity for a transactional id, and shuts out every earlier producer with that id; its
  /// transaction, if one is ongoing, is aborted.
  /// - Parameter expected: what the producer had, when it goes on after an error.
  /// - Errors: `.invalidRequest` (empty id), `.invalidTransactionTimeout`, `.producerFenced`, `.storage`, `.stopped`.
  public func initialise(
    _ id: String, timeoutMilliseconds: Int32, expected: ProducerIdentity?,
    completion: @escaping (Result<ProducerIdentity, BrokerError>) -> Void
  ) {
    guard !id.isEmpty else {
      return completion(.failure(BrokerError(.invalidRequest, "the transactional id is empty")))
    }
    let longest = broker.settings.longestTransaction
    guard (1...longest).contains(Int(timeoutMilliseconds)) else {
      return completion(
        .failure(
          BrokerError(
            .invalidTransactionTimeout,
            "a transaction time-out of \(timeoutMilliseconds) ms; 1 to \(longest) are allowed")))
    }
    start(id, fresh: nil, completion) { [self] fresh throws(BrokerError) in
      try TransactionRules.initialise(
        state[id], id: id, timeoutMilliseconds: timeoutMilliseconds, expected: expected, fresh: fresh,
        now: broker.reactor.wallClock)
    }
  }

  /// Adds partitions to a producer's transaction, which begins with them if there is none.
  /// - Errors: `.invalidProducerMapping`, `.producerFenced`, `.storage`, `.stopped`.
  public func add(
    _ partitions: [TopicPartition], to id: String, _ producer: ProducerIdentity,
    completion: @escaping (BrokerError?) -> Void
  ) {
    perform(id, completion) { [self] () throws(BrokerError) in
      try TransactionRules.add(partitions, to: state[id], id: id, producer, now: broker.reactor.wallClock)
    }
  }

  /// Whether partitions are part of a producer's transaction.
  /// - Throws: `.invalidProducerMapping`, `.producerFenced`, `.invalidTransactionState` when one is not.
  public func verify(_ partition: TopicPartition, of id: String, _ producer: ProducerIdentity) throws(BrokerError) {
    _ = try TransactionRules.write(
      to: partition, in: state[id], id: id, producer, isImplicit: false, now: broker.reactor.wallClock)
  }

  /// Adds a group to a producer's transaction, which will commit offsets of it.
  /// - Errors: `.invalidGroupID`, `.invalidProducerMapping`, `.producerFenced`, `.storage`, `.stopped`.
  public func add(
    group: String, to id: String, _ producer: ProducerIdentity, completion: @escaping (BrokerError?) -> Void
  ) {
    guard !group.isEmpty else { return completion(BrokerError(.invalidGroupID, "the group id is empty")) }
    perform(id, completion) { [self] () throws(BrokerError) in
      try TransactionRules.add(group: group, to: state[id], id: id, producer, now: broker.reactor.wallClock)
    }
  }

  /// Adds offsets that the group will have committed when the transaction commits. Until then nobody sees them, and who
  /// asks for stable offsets of the partitions is told to wait.
  /// - Parameter isImplicit: this adds the group (clients of version 2); else it must have been added before.
  /// - Errors: those of the group's commit, `.invalidProducerMapping`, `.producerFenced`, `.invalidTransactionState`,
  ///   `.storage`, `.stopped`.
  public func commit(
    _ offsets: [PartitionOffset], of group: String, memberID: String, instanceID: String?, generation: Int32,
    in id: String, _ producer: ProducerIdentity, isImplicit: Bool, completion: @escaping (BrokerError?) -> Void
  ) {
    perform(id, completion) { [self] () throws(BrokerError) in
      try broker.groups.checkTransactionalCommit(
        group: group, memberID: memberID, instanceID: instanceID, generation: generation)
      return try TransactionRules.add(
        offsets, of: group, to: state[id], id: id, producer, isImplicit: isImplicit, now: broker.reactor.wallClock)
    }
  }

  /// Ends a producer's transaction: offsets, markers and state in one commit.
  /// - Parameter bumps: the producer goes on with the identity it is answered (clients of version 2).
  /// - Errors: `.invalidProducerMapping`, `.producerFenced`, `.invalidTransactionState`, `.storage`, `.stopped`.
  public func end(
    _ id: String, _ producer: ProducerIdentity, isCommit: Bool, bumps: Bool,
    completion: @escaping (Result<ProducerIdentity, BrokerError>) -> Void
  ) {
    start(id, fresh: nil, completion) { [self] fresh throws(BrokerError) in
      try TransactionRules.end(
        state[id], id: id, producer, isCommit: isCommit, bumps: bumps, fresh: fresh, now: broker.reactor.wallClock)
    }
  }

  /// Appends a transactional batch.
  func append(
    _ bytes: Bytes, _ header: RecordBatchHeader, to log: PartitionLog, _ partition: TopicPartition,
    _ write: TransactionalWrite, completion: @escaping (Result<AppendedBatch, BrokerError>) -> Void
  ) {
    let producer = ProducerIdentity(header.producerID, header.producerEpoch)
    var refusal: BrokerError?
    broker.log.append(
      deciding: { [self] in
        do throws(BrokerError) {
          let step = try TransactionRules.write(
            to: partition, in: state[write.id], id: write.id, producer, isImplicit: write.addsPartition,
            now: broker.reactor.wallClock)
          var unit = unit(write.id, step)
          unit.batches.append((log, bytes, header))
          refusal = nil
          return unit
        } catch {
          // Where batches are concerned, clients know one code for being shut out.
          refusal = error.code == .producerFenced ? BrokerError(.invalidProducerEpoch, error.reason) : error
          return nil
        }
      }
    ) { [self] result in
      switch result {
      case .failure(let error):
        watch(write.id)
        completion(.failure(BrokerError(error)))
      case .success(let appended):
        if let refusal { return completion(.failure(refusal)) }
        if !appended[0].isDuplicate { broker.count(log, header) }
        completion(.success(appended[0]))
      }
    }
  }

  // MARK: Into the log

  func perform(
    _ id: String, _ completion: @escaping (BrokerError?) -> Void,
    _ decide: @escaping () throws(BrokerError) -> TransactionStep
  ) {
    var refusal: BrokerError?
    broker.log.append(
      deciding: { [self] in
        do throws(BrokerError) {
          let step = try decide()
          refusal = nil
          return step.events.isEmpty ? nil : unit(id, step)
        } catch {
          refusal = error
          return nil
        }
      }
    ) { [self] result in
      if case .failure(let error) = result {
        watch(id)
        return completion(BrokerError(error))
      }
      settled(id)
      completion(refusal)
    }
  }

  /// Performs what gives a producer its identity, with a new producer id when the rules ask for one.
  private func start(
    _ id: String, fresh: Int64?, _ completion: @escaping (Result<ProducerIdentity, BrokerError>) -> Void,
    _ decide: @escaping (Int64?) throws(BrokerError) -> TransactionStart
  ) {
    var identity: ProducerIdentity?
    perform(id) { [self] error in
      if let error { return completion(.failure(error)) }
      if let identity { return completion(.success(identity)) }
      broker.newProducerID { [self] result in
        switch result {
        case .success(let fresh): start(id, fresh: fresh, completion, decide)
        case .failure(let error): completion(.failure(error))
        }
      }
    } _: { () throws(BrokerError) in
      switch try decide(fresh) {
      case .producer(let producer, let step):
        identity = producer
        return step
      case .needsProducerID:
        identity = nil
        return TransactionStep()
      }
    }
  }

  /// A step as a unit: its events, and the markers of all partitions that still exist.
  private func unit(_ id: String, _ step: TransactionStep) -> AppendUnit {
    var unit = AppendUnit()
    unit.events = step.events.map { MetadataEvent.transaction($0).encoded() }
    if step.begins, let one = state[id] {
      let deadline = broker.reactor.now + .milliseconds(Int64(one.timeoutMilliseconds))
      deadlines[id] = deadline
      // Nearly always there is an earlier one, so that not all have to be compared.
      if timerDeadline.map({ deadline < $0 }) ?? true { scheduleTimer() }
    }
    if case .initialised? = step.events.last { scheduleExpiry() }
    guard let ending = step.ending else { return unit }
    let marker = TransactionMarker(
      producerID: ending.producer.id, producerEpoch: ending.producer.epoch, isCommit: ending.isCommit,
      coordinatorEpoch: broker.leaderEpoch
    ).batch(at: broker.reactor.wallClock)
    let header: RecordBatchHeader
    do throws(RecordBatchError) {
      header = try RecordBatchHeader(marker)
    } catch {
      preconditionFailure("a marker that this program made cannot be read: \(error)")
    }
    for partition in ending.partitions {
      guard let topic = broker.topic(partition.topic), let log = broker.partition(topic, partition.partition) else {
        continue
      }
      unit.batches.append((log, marker, header))
    }
    return unit
  }
}
