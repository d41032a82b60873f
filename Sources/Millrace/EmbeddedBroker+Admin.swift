// EmbeddedBroker+Admin: topics configured and grown, records and groups deleted.

import MillraceBroker
import MillraceModel

extension EmbeddedBroker {
  /// Changes a topic's settings, all or none; the change is durable on return, and counts for records produced later.
  ///
  /// - Parameter changes: new values by Kafka's names; nil takes a setting back to its standard.
  /// - Returns: the topic as it is then.
  /// - Throws: `.unknownTopic`, `.invalidArgument` for a name or value that is not allowed, `.storage`, `.closed`.
  @discardableResult
  public func configureTopic(
    _ name: String, _ changes: [String: String?]
  ) async throws(MillraceError) -> TopicDescription {
    try await ask { broker, answer in
      guard let topic = broker.topic(name), !topic.isInternal else { return answer.give(.failure(.unknown(name))) }
      let wishes = changes.map { (name: $0.key, change: $0.value.map { SettingChange.set($0) } ?? .delete) }
      let checked: [String: String?]
      do throws(BrokerError) {
        checked = try broker.check(wishes, of: topic)
      } catch {
        return answer.give(.failure(MillraceError(error)))
      }
      broker.configure(topic, checked) { error in
        if let error { return answer.give(.failure(MillraceError(error))) }
        answer.give(broker.topic(name).map { .success(TopicDescription($0)) } ?? .failure(.unknown(name)))
      }
    }
  }

  /// Gives a topic more partitions, behind those it has; they are durable on return.
  ///
  /// Producers spread over them from then on, so that records with a key may go elsewhere than before. Jobs begin to read
  /// them; iterators of ``consume(_:partitions:group:from:until:fetchSize:)`` read those partitions that the topic had when they
  /// began.
  /// - Parameter total: how many it is to have in all, more than it has and at most 10,000.
  /// - Throws: `.unknownTopic`, `.invalidArgument`, `.storage`, `.closed`.
  @discardableResult
  public func addPartitions(to name: String, total: Int) async throws(MillraceError) -> TopicDescription {
    try await ask { broker, answer in
      guard let topic = broker.topic(name), !topic.isInternal else { return answer.give(.failure(.unknown(name))) }
      broker.addPartitions(to: topic.id, total: total) { result in
        answer.give(result.map { TopicDescription($0) }.mapError { MillraceError($0) })
      }
    }
  }

  /// Deletes the records of a partition below an offset; they are gone for good on return.
  ///
  /// - Parameter offset: the first offset to keep; nil keeps nothing.
  /// - Returns: the partition's new first offset.
  /// - Throws: `.unknownTopic`, `.offsetOutOfRange` beyond the end, `.invalidArgument` for a topic whose `cleanup.policy`
  ///   does not delete, `.storage`, `.closed`.
  @discardableResult
  public func deleteRecords(
    of name: String, partition: Int32, before offset: Offset?
  ) async throws(MillraceError) -> Offset {
    try await ask { broker, answer in
      guard let topic = broker.topic(name), !topic.isInternal else { return answer.give(.failure(.unknown(name))) }
      broker.deleteRecords(topic, partition, before: offset) { result in
        answer.give(result.mapError { MillraceError($0) })
      }
    }
  }

  /// Deletes a consumer group with its committed offsets; durable on return.
  /// - Throws: `.unknownGroup`, `.groupInUse` while it has members, `.storage`, `.closed`.
  public func deleteGroup(_ name: String) async throws(MillraceError) {
    try await ask { (broker, answer: Answer<Void>) in
      broker.groups.delete(name) { error in answer.give(error.map { .failure(MillraceError($0)) } ?? .success(())) }
    }
  }
}

extension TopicDescription {
  init(_ topic: TopicMetadata) {
    self.init(
      name: topic.name, id: topic.id.description, partitions: topic.partitions.count, configs: topic.configs)
  }
}
