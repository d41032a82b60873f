// KafkaClient+Topics: topics, their settings and offsets.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel

/// A topic as clients see it.
struct ClientTopic: Equatable {
  let name: String
  let id: TopicID
  let isInternal: Bool
  let partitions: [Int32]
}

/// Where to read from when nothing else says so.
enum StartPosition: Equatable, Sendable {
  case earliest
  case latest
  case offset(Offset)

  /// Reads `earliest`, `latest` or a number from 0.
  init?(_ text: String) {
    switch text {
    case "earliest": self = .earliest
    case "latest": self = .latest
    default:
      guard let offset = Int64(text), offset >= 0 else { return nil }
      self = .offset(offset)
    }
  }
}

extension KafkaClient {
  /// All topics, by name.
  func topics() throws(ClientError) -> [ClientTopic] {
    let answer = try call(MetadataRequest(topics: nil, allowAutoTopicCreation: false))
    return answer.topics.map { ClientTopic($0) }.sorted { $0.name < $1.name }
  }

  /// The topics of these names.
  /// - Parameter create: lets the server create what is missing, if it does so.
  /// - Throws: `.refused` for the first that does not exist.
  func topics(_ names: [String], create: Bool = false) throws(ClientError) -> [ClientTopic] {
    let answer = try call(
      MetadataRequest(topics: names.map { .init(name: $0) }, allowAutoTopicCreation: create))
    for topic in answer.topics where topic.errorCode != .none {
      let name = topic.name ?? "?"
      if topic.errorCode == .unknownTopicOrPartition {
        throw ClientError(.refused(topic.errorCode), "topic \(name) does not exist")
      }
      throw ClientError.refused(topic.errorCode, "topic \(name)")
    }
    return answer.topics.map { ClientTopic($0) }
  }

  /// The topic of this name.
  func topic(_ name: String, create: Bool = false) throws(ClientError) -> ClientTopic {
    guard let topic = try topics([name], create: create).first, topic.name == name else {
      throw ClientError(.malformed, "the answer about topic \(name) does not name it")
    }
    return topic
  }

  /// Creates a topic.
  /// - Parameter partitions: nil leaves the number to the server.
  /// - Returns: how many partitions it has.
  func createTopic(
    _ name: String, partitions: Int32?, configs: [(name: String, value: String)]
  ) throws(ClientError) -> Int32 {
    let topic = CreateTopicsRequest.CreatableTopic(
      name: name, numPartitions: partitions ?? -1, replicationFactor: -1,
      configs: configs.map { .init(name: $0.name, value: $0.value) })
    let answer = try call(
      CreateTopicsRequest(topics: [topic], timeoutMilliseconds: Int32(clamping: timeout.inMilliseconds)))
    guard let result = answer.topics.first else {
      throw ClientError(.malformed, "the answer does not name topic \(name)")
    }
    guard result.errorCode == .none else {
      throw ClientError.refused(result.errorCode, "cannot create topic \(name)", result.errorMessage)
    }
    return result.numPartitions
  }

  /// Deletes a topic with its records.
  func deleteTopic(_ name: String) throws(ClientError) {
    let wait = Int32(clamping: timeout.inMilliseconds)
    let request =
      try version(of: .deleteTopics) >= 6
      ? DeleteTopicsRequest(topics: [.init(name: name)], timeoutMilliseconds: wait)
      : DeleteTopicsRequest(topicNames: [name], timeoutMilliseconds: wait)
    let answer = try call(request)
    guard let result = answer.responses.first else {
      throw ClientError(.malformed, "the answer does not name topic \(name)")
    }
    if result.errorCode == .unknownTopicOrPartition {
      throw ClientError(.refused(result.errorCode), "topic \(name) does not exist")
    }
    guard result.errorCode == .none else {
      throw ClientError.refused(result.errorCode, "cannot delete topic \(name)", result.errorMessage)
    }
  }

  /// The settings of a topic, by name; `isSet` tells those that differ from the standard.
  func configs(ofTopic name: String) throws(ClientError) -> [(name: String, value: String, isSet: Bool)] {
    let answer = try call(
      DescribeConfigsRequest(resources: [.init(resourceType: 2, resourceName: name, configurationKeys: nil)]))
    guard let result = answer.results.first else {
      throw ClientError(.malformed, "the answer does not name topic \(name)")
    }
    guard result.errorCode == .none else {
      throw ClientError.refused(result.errorCode, "settings of topic \(name)", result.errorMessage)
    }
    // 1 is a topic's own setting. Source: Kafka, ConfigEntry.ConfigSource.
    return result.configs.map { ($0.name, $0.value ?? "", $0.configSource == 1) }.sorted { $0.name < $1.name }
  }

  /// The offsets that `earliest` or `latest` stand for in some partitions.
  /// - Parameter isCommittedOnly: `latest` is then where a transaction in progress began, if there is one.
  func offsets(
    _ topic: String, _ partitions: [Int32], _ position: StartPosition, isCommittedOnly: Bool = false
  ) throws(ClientError) -> [Int32: Offset] {
    // −2 is the earliest, −1 the latest. Source: Kafka protocol, ListOffsets.
    let time: Int64 = position == .earliest ? -2 : -1
    let answer = try call(
      ListOffsetsRequest(
        replicaID: -1, isolationLevel: isCommittedOnly ? 1 : 0,
        topics: [.init(name: topic, partitions: partitions.map { .init(partitionIndex: $0, timestamp: time) })]))
    var found: [Int32: Offset] = [:]
    for partition in answer.topics.flatMap(\.partitions) {
      guard partition.errorCode == .none else {
        throw ClientError.refused(partition.errorCode, "offsets of \(topic)-\(partition.partitionIndex)")
      }
      found[partition.partitionIndex] = partition.offset
    }
    guard Set(found.keys) == Set(partitions) else {
      throw ClientError(.malformed, "the answer about offsets of \(topic) leaves partitions out")
    }
    return found
  }
}

extension ClientTopic {
  fileprivate init(_ topic: MetadataResponse.MetadataResponseTopic) {
    self.init(
      name: topic.name ?? "", id: topic.topicID, isInternal: topic.isInternal,
      partitions: topic.partitions.map(\.partitionIndex).sorted())
  }
}
