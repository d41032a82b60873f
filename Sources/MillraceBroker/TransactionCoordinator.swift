// TransactionCoordinator: all transactional producers: their calls as units of the log, time-outs, and what tools ask.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel

/// How a transactional id stands.
public struct TransactionDescription: Sendable {
  /// The id that the client chose.
  public var id: String
  /// `Empty`, `Ongoing`, `CompleteCommit` or `CompleteAbort`. Source: Kafka, `TransactionState`.
  public var state: String
  /// The producer that may use the id.
  public var producer: ProducerIdentity
  /// A transaction that lasts longer is aborted, in ms.
  public var timeoutMilliseconds: Int32
  /// When the ongoing transaction began; nil without one.
  public var started: Timestamp?
  /// Partitions of the ongoing transaction, in rising order.
  public var partitions: [TopicPartition]
}

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
  private unowned let broker: Broker
  /// When ongoing transactions are aborted. Kept in monotonic time, so that a clock that is set ends none early.
  private var deadlines: [String: MonotonicTime] = [:]
  private var timer: Timer?
  private var timerDeadline: MonotonicTime?
  private var expiryTimer: Timer?
  /// How long an abort that the log refused waits for its next attempt.
  private static let retryDelay = Duration.seconds(1)
  /// Ids that are forgotten in one unit at most.
  private static let mostExpiredAtOnce = 1000

  init(broker: Broker) {
    self.broker = broker
  }

  private var state: Transactions { broker.metadata.transactions }

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

  // MARK: Tools

  /// All transactional ids, sorted.
  public var descriptions: [TransactionDescription] {
    state.producers.values.sorted { $0.id < $1.id }.map(TransactionCoordinator.describe)
  }

  /// How a transactional id stands, nil when it is not known.
  public func describe(_ id: String) -> TransactionDescription? { state[id].map(TransactionCoordinator.describe) }

  private static func describe(_ one: TransactionalProducer) -> TransactionDescription {
    TransactionDescription(
      id: one.id, state: name(of: one.status), producer: one.producer, timeoutMilliseconds: one.timeoutMilliseconds,
      started: one.status == .ongoing ? one.started : nil,
      partitions: one.partitions.sorted { ($0.topic, $0.partition) < ($1.topic, $1.partition) })
  }

  private static func name(of status: TransactionalProducer.Status) -> String {
    switch status {
    case .empty: "Empty"
    case .ongoing: "Ongoing"
    case .committed: "CompleteCommit"
    case .aborted: "CompleteAbort"
    }
  }

  /// Names of the states that ``TransactionDescription/state`` may have.
  public static var stateNames: [String] { TransactionalProducer.Status.allCases.map(name) }

  /// Partitions of the ongoing transaction of a producer.
  public func partitions(of producer: ProducerIdentity) -> Set<TopicPartition> {
    state.producers.values.first { $0.producer == producer && $0.status == .ongoing }?.partitions ?? []
  }

  /// Aborts the transaction that `producer` has open in a partition, all of it, and shuts the producer out.
  /// - Errors: `.invalidProducerEpoch` when the epoch is not that of the transaction, `.invalidTransactionState` when there
  ///   is none, `.storage`, `.stopped`.
  public func abort(
    _ producer: ProducerIdentity, in partition: TopicPartition, completion: @escaping (BrokerError?) -> Void
  ) {
    let found = state.producers.values.first {
      $0.producer.id == producer.id && $0.status == .ongoing && $0.partitions.contains(partition)
    }
    guard let found else {
      return completion(
        BrokerError(
          .invalidTransactionState, "producer \(producer.id) has no transaction open in partition \(partition)"))
    }
    guard found.producer.epoch == producer.epoch else {
      return completion(
        BrokerError(.invalidProducerEpoch, "the transaction is of producer \(found.producer), not \(producer)"))
    }
    abort(found, why: "by order of a tool", completion)
  }

  /// Aborts the transaction that is ongoing in `found`, and no later one of the same producer.
  private func abort(_ found: TransactionalProducer, why: String, _ completion: @escaping (BrokerError?) -> Void) {
    let id = found.id
    perform(id) { [self] error in
      if error == nil {
        broker.logger.log(
          .info, "transactions", "transaction aborted \(why)",
          ["transactional.id": id, "producer": "\(found.producer)"])
      }
      completion(error)
    } _: { [self] () throws(BrokerError) in
      guard state[id]?.producer == found.producer, state[id]?.started == found.started else { return TransactionStep() }
      return TransactionRules.abort(state[id], now: broker.reactor.wallClock) ?? TransactionStep()
    }
  }

  // MARK: Into the log

  private func perform(
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
    if step.events.contains(where: { if case .ended = $0 { true } else { false } }) { deadlines[id] = nil }
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

  // MARK: Time

  /// The log refused something: an ongoing transaction must not be without a deadline.
  private func watch(_ id: String) {
    guard broker.isOpen, state[id]?.status == .ongoing, deadlines[id] == nil else { return }
    deadlines[id] = broker.reactor.now + TransactionCoordinator.retryDelay
    scheduleTimer()
  }

  /// One timer, for the earliest deadline known when it was set; those of ended transactions are found gone by then.
  private func scheduleTimer() {
    guard let next = deadlines.values.min() else { return }
    if let timerDeadline, timerDeadline <= next { return }
    timer?.cancel()
    timerDeadline = next
    timer = broker.reactor.schedule(after: max(.zero, next - broker.reactor.now)) { [weak self] in
      self?.timerFired()
    }
  }

  private func timerFired() {
    timer = nil
    timerDeadline = nil
    guard broker.isOpen else { return }
    let now = broker.reactor.now
    for id in deadlines.filter({ $0.value <= now }).keys.sorted() {
      deadlines[id] = nil
      guard let one = state[id], one.status == .ongoing else { continue }
      abort(one, why: "after \(one.timeoutMilliseconds) ms") { [self] error in
        guard let error else { return }
        broker.logger.log(
          .error, "transactions", "aborting a transaction that took too long failed",
          ["transactional.id": id, "error": error.reason])
      }
    }
    scheduleTimer()
  }

  /// Forgets ids that were not used for long, once an hour or more often when they are kept for less.
  private func scheduleExpiry() {
    guard expiryTimer == nil, broker.isOpen else { return }
    let kept = broker.settings.transactionalIDExpiration
    expiryTimer = broker.reactor.schedule(after: .milliseconds(min(kept, 3_600_000))) { [weak self] in
      self?.expire(kept)
    }
  }

  private func expire(_ kept: Int64) {
    expiryTimer = nil
    guard broker.isOpen else { return }
    let limit = Timestamp(milliseconds: broker.reactor.wallClock.milliseconds - kept)
    broker.log.append(
      deciding: { [self] in
        let old = state.producers.values.filter { TransactionRules.isExpired($0, before: limit) }
        guard !old.isEmpty else { return nil }
        var unit = AppendUnit()
        unit.events = old.map(\.id).sorted().prefix(TransactionCoordinator.mostExpiredAtOnce).map {
          MetadataEvent.transaction(.expired($0)).encoded()
        }
        return unit
      }
    ) { [weak self] _ in
      guard let self, !self.state.producers.isEmpty else { return }
      self.scheduleExpiry()
    }
  }
}
