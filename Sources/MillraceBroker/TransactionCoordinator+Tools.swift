// TransactionCoordinator+Tools: what tools ask of transactional ids, and the one thing they may order: an abort.

import MillraceBase
import MillraceMetadata
import MillraceModel
import MillracePattern

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

extension TransactionCoordinator {
  /// All transactional ids, sorted.
  public var descriptions: [TransactionDescription] {
    state.producers.values.sorted { $0.id < $1.id }.map(TransactionCoordinator.describe)
  }

  /// The transactional ids that a regular expression stands for as a whole, sorted; all when it is empty. Source: KIP-1152.
  /// - Throws: `.invalidPattern`, also for one that takes too long.
  public func descriptions(matching expression: String) throws(BrokerError) -> [TransactionDescription] {
    guard !expression.isEmpty else { return descriptions }
    do throws(PatternError) {
      let ids = try Pattern(expression).filter(state.producers.keys.sorted())
      return ids.compactMap { describe($0) }
    } catch {
      throw BrokerError(.invalidPattern, "regular expression: \(error)")
    }
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
  func abort(_ found: TransactionalProducer, why: String, _ completion: @escaping (BrokerError?) -> Void) {
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
}
