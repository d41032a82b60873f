// Broker+Topics: creating, deleting and finding topics.

import MillraceBase
import MillraceLog
import MillraceMetadata
import MillraceModel

extension Broker {
  /// Most partitions of one topic.
  public static let largestPartitionCount = 10_000

  /// All topics by name.
  public var topics: [String: TopicMetadata] { metadata.topics }

  /// The topic of this name.
  public func topic(_ name: String) -> TopicMetadata? { metadata.topics[name] }

  /// The topic with this identity.
  public func topic(_ id: TopicID) -> TopicMetadata? { metadata.topic(id) }

  /// A partition's log, nil when the topic has no such partition.
  public func partition(_ topic: TopicMetadata, _ index: Int32) -> PartitionLog? {
    guard index >= 0, Int(index) < topic.partitions.count else { return nil }
    return log.partition(topic.partitions[Int(index)])
  }

  /// Checks what ``createTopic(_:partitions:configs:isInternal:completion:)`` would check.
  public func checkNewTopic(
    _ name: String, partitions: Int, configs: [String: String] = [:], isInternal: Bool = false
  ) throws(BrokerError) {
    if let problem = TopicName.problem(name) { throw BrokerError(.invalidTopic, problem) }
    guard isInternal || !name.hasPrefix("__") else {
      throw BrokerError(.invalidTopic, "names that begin with two underscores are kept for internal topics: \(name)")
    }
    guard metadata.topics[name] == nil else { throw BrokerError(.topicExists, "topic \(name) exists already") }
    guard (1...Broker.largestPartitionCount).contains(partitions) else {
      throw BrokerError(
        .invalidPartitions, "\(partitions) partitions; 1 to \(Broker.largestPartitionCount) are possible")
    }
    try TopicSettings.check(configs)
  }

  /// Creates a topic. `completion` follows when it is durable; the topic can be used at once.
  ///
  /// - Parameter isInternal: allows names that begin with two underscores.
  /// - Errors: `.invalidTopic`, `.topicExists`, `.invalidPartitions`, `.invalidConfig`, `.storage`, `.stopped`.
  public func createTopic(
    _ name: String, partitions: Int? = nil, configs: [String: String] = [:], isInternal: Bool = false,
    completion: @escaping (Result<TopicMetadata, BrokerError>) -> Void
  ) {
    // Names and partition numbers are taken when the event enters the journal. While units wait for room, that is later,
    // and a second creation must not be given the same ones.
    if isOpen, isCongested {
      reactor.schedule(after: .milliseconds(1)) { [self] in
        createTopic(name, partitions: partitions, configs: configs, isInternal: isInternal, completion: completion)
      }
      return
    }
    let count = partitions ?? settings.partitions
    do throws(BrokerError) {
      try checkNewTopic(name, partitions: count, configs: configs, isInternal: isInternal)
    } catch {
      return completion(.failure(error))
    }
    let id = TopicID.random(using: &random)
    record(
      .topicCreated(
        name: name, id: id, partitions: metadata.newPartitions(count), configs: configs, time: reactor.wallClock)
    ) { [self] error in
      if let error { return completion(.failure(error)) }
      guard let topic = metadata.topic(id) else {
        return completion(.failure(BrokerError(.unknownTopicOrPartition, "topic \(name) was deleted meanwhile")))
      }
      logger.log(.info, "broker", "topic created", ["topic": name, "partitions": "\(count)", "id": "\(id)"])
      completion(.success(topic))
    }
  }

  /// Deletes a topic with its records and the offsets committed for it.
  public func deleteTopic(_ topic: TopicMetadata, completion: @escaping (BrokerError?) -> Void) {
    let logs = topic.partitions.compactMap { log.partition($0) }
    var unit = AppendUnit(event: MetadataEvent.topicDeleted(id: topic.id).encoded())
    unit.givesSpaceBack = true
    if let removal = queues.removal(ofTopic: topic.name) { unit.events.append(removal) }
    record(unit) { [self] error in
      if error == nil {
        logger.log(.info, "broker", "topic deleted", ["topic": topic.name, "id": "\(topic.id)"])
        groups.forgetEmptyGroups()
        shares.forgetDeletedTopics()
      }
      completion(error)
    }
    for partition in topic.partitions {
      traffic[partition] = nil
      waits.gaps[partition] = nil
    }
    // Whoever waits for records of the topic learns that it is gone.
    for partition in logs where partition.isDeleted { advanced(partition) }
  }

  /// A topic's setting, or the broker's where the topic has none.
  public func setting(_ name: String, of topic: TopicMetadata) -> String? {
    if let value = topic.configs[name] { return value }
    if let own = TopicSettings.brokerNames[name] { return settings.text(own) }
    return TopicSettings.table.first { $0.name == name }?.standard
  }
}
