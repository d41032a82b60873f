// Broker+Partitions: more partitions for a topic, and records deleted from the start of a partition.

import MillraceBase
import MillraceLog
import MillraceMetadata
import MillraceModel

extension Broker {
  /// Checks what ``addPartitions(to:total:completion:)`` would check.
  public func checkPartitions(of topic: TopicMetadata, total: Int) throws(BrokerError) {
    guard !topic.isInternal else { throw BrokerError(.invalidTopic, "topic \(topic.name) is internal") }
    let count = topic.partitions.count
    guard total > count else {
      throw BrokerError(
        .invalidPartitions,
        total == count
          ? "topic \(topic.name) has \(count) partitions already"
          : "topic \(topic.name) has \(count) partitions, more than \(total); partitions cannot be taken away")
    }
    guard total <= Broker.largestPartitionCount else {
      throw BrokerError(.invalidPartitions, "\(total) partitions; \(Broker.largestPartitionCount) at most are possible")
    }
  }

  /// Gives a topic more partitions, behind those it has. `completion` follows when they are durable; they can be used at
  /// once. Records with a key may go to other partitions than before.
  ///
  /// - Parameter total: how many it is to have in all.
  /// - Errors: `.invalidPartitions`, `.invalidTopic`, `.unknownTopicOrPartition` (deleted meanwhile), `.storage`,
  ///   `.stopped`.
  public func addPartitions(
    to topic: TopicID, total: Int, completion: @escaping (Result<TopicMetadata, BrokerError>) -> Void
  ) {
    var outcome: Result<(name: String, count: Int), BrokerError> = .failure(
      BrokerError(.unknownTopicOrPartition, "topic \(topic) does not exist"))
    log.append(deciding: { [self] in
      guard let found = metadata.topic(topic) else { return nil }
      do throws(BrokerError) {
        try checkPartitions(of: found, total: total)
      } catch {
        outcome = .failure(error)
        return nil
      }
      outcome = .success((found.name, found.partitions.count))
      // Numbers are taken when the event enters the journal, so that nobody else is given the same ones.
      let new = metadata.newPartitions(total - found.partitions.count)
      return AppendUnit(event: MetadataEvent.partitionsAdded(id: topic, partitions: new).encoded())
    }) { [self] result in
      do {
        _ = try result.get()
        let (name, count) = try outcome.get()
        guard let made = metadata.topic(topic) else {
          throw BrokerError(.unknownTopicOrPartition, "topic \(name) was deleted meanwhile")
        }
        logger.log(
          .info, "broker", "partitions added", ["topic": name, "partitions": "\(total)", "before": "\(count)"])
        completion(.success(made))
      } catch let error as BrokerError {
        completion(.failure(error))
      } catch let error as LogError {
        completion(.failure(BrokerError(error)))
      } catch {
        preconditionFailure("adding partitions ended with \(error)")
      }
    }
  }

  /// Counts how often partitions were added to topics that were there, since the start: who holds a topic's number of
  /// partitions looks again when this has changed.
  public var partitionAdditions: UInt64 { metadata.partitionAdditions }

  /// Deletes the records of a partition below an offset. `completion` follows when that is durable, with the partition's
  /// new start.
  ///
  /// - Parameter offset: the first offset to keep; nil keeps nothing. One below the start changes nothing.
  /// - Errors: `.offsetOutOfRange` beyond the high watermark, `.invalidTopic`, `.policyViolation` for a topic whose
  ///   `cleanup.policy` does not delete, `.unknownTopicOrPartition`, `.storage`, `.stopped`.
  public func deleteRecords(
    _ topic: TopicMetadata, _ index: Int32, before offset: Offset?,
    completion: @escaping (Result<Offset, BrokerError>) -> Void
  ) {
    guard let log = partition(topic, index) else {
      return completion(
        .failure(BrokerError(.unknownTopicOrPartition, "topic \(topic.name) has no partition \(index)")))
    }
    guard !topic.isInternal else {
      return completion(.failure(BrokerError(.invalidTopic, "topic \(topic.name) is internal")))
    }
    let policy = topic.configs["cleanup.policy"] ?? "delete"
    guard policy.split(separator: ",").contains("delete") else {
      return completion(
        .failure(
          BrokerError(
            .policyViolation, "topic \(topic.name) has cleanup.policy=\(policy), which does not delete records")))
    }
    let target = offset ?? log.highWatermark
    guard (0...log.highWatermark).contains(target) else {
      return completion(
        .failure(
          BrokerError(
            .offsetOutOfRange,
            "offset \(target) of \(topic.name)-\(index) is not within 0...\(log.highWatermark)")))
    }
    var unit = AppendUnit()
    unit.startOffsets = [(log, target)]
    unit.givesSpaceBack = true
    self.log.append(unit) { [self] result in
      switch result {
      case .success:
        // Whoever waits for records that are gone learns it.
        advanced(log)
        completion(.success(log.startOffset))
      case .failure(let error): completion(.failure(BrokerError(error)))
      }
    }
  }
}
