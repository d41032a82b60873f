// EmbeddedBroker+Topics: making, deleting and finding topics, and where they begin and end.

import MillraceBroker
import MillraceModel

/// A topic as the library shows it.
public struct TopicDescription: Equatable, Sendable {
  /// Name.
  public let name: String
  /// Identity; new when a topic of the same name is made again.
  public let id: String
  /// Number of partitions.
  public let partitions: Int
  /// Settings that differ from the defaults, by Kafka's names.
  public let configs: [String: String]
}

/// What is known of a topic to build batches for it.
struct TopicRoute: Sendable {
  let id: TopicID
  let partitions: Int
  /// Largest batch, in bytes.
  let largestBatch: Int
}

extension EmbeddedBroker {
  /// Makes a topic; it is durable on return.
  ///
  /// - Parameters:
  ///   - name: 1 to 249 letters, digits, `.`, `_` and `-`.
  ///   - partitions: 1 to 10,000; nil takes `num.partitions`.
  ///   - configs: topic settings by Kafka's names.
  /// - Throws: `.topicExists`, `.invalidArgument`, `.storage`, `.closed`.
  @discardableResult
  public func createTopic(
    _ name: String, partitions: Int? = nil, configs: [String: String] = [:]
  ) async throws(MillraceError) -> TopicDescription {
    try await ask { broker, answer in
      broker.createTopic(name, partitions: partitions, configs: configs) { result in
        switch result {
        case .success(let topic): answer.give(.success(TopicDescription(topic)))
        case .failure(let error): answer.give(.failure(MillraceError(error)))
        }
      }
    }
  }

  /// Deletes a topic with its records and the offsets committed for it.
  /// - Throws: `.unknownTopic`, `.storage`, `.closed`.
  public func deleteTopic(_ name: String) async throws(MillraceError) {
    routes.withLock { $0[name] = nil }
    try await ask { (broker, answer: Answer<Void>) in
      guard let topic = broker.topic(name), !topic.isInternal else {
        return answer.give(.failure(.unknown(name)))
      }
      broker.deleteTopic(topic) { error in answer.give(error.map { .failure(MillraceError($0)) } ?? .success(())) }
    }
  }

  /// All topics by name, without those that Millrace keeps for itself.
  /// - Throws: `.closed`.
  public func topics() async throws(MillraceError) -> [TopicDescription] {
    try await ask { broker, answer in
      let topics = broker.topics.values.filter { !$0.isInternal }.sorted { $0.name < $1.name }
      answer.give(
        .success(
          topics.map { TopicDescription($0) }))
    }
  }

  /// The offsets that can be read now, one range for each partition: from the oldest record to behind the newest.
  /// - Throws: `.unknownTopic`, `.closed`.
  public func offsets(of topic: String) async throws(MillraceError) -> [Range<Offset>] {
    try await ask { broker, answer in
      guard let found = broker.topic(topic) else { return answer.give(.failure(.unknown(topic))) }
      answer.give(
        .success(
          (0..<Int32(found.partitions.count)).map { index in
            guard let log = broker.partition(found, index) else { return 0..<0 }
            return log.startOffset..<max(log.startOffset, log.lastStableOffset)
          }))
    }
  }

  /// What is known of a topic, which is made first when it is missing and `auto.create.topics.enable` allows it.
  func route(to topic: String) async throws(MillraceError) -> TopicRoute {
    if let known = routes.withLock({ $0[topic] }) { return known }
    return try await ask { [self] broker, answer in
      // Kept here, on the reactor, so that what changes the topic comes before or after.
      func found() -> TopicRoute? {
        guard let known = broker.topic(topic) else { return nil }
        let largest = broker.setting("max.message.bytes", of: known).flatMap { Int($0) }
        let route = TopicRoute(
          id: known.id, partitions: known.partitions.count, largestBatch: largest ?? broker.settings.largestMessage)
        routes.withLock { $0[topic] = route }
        return route
      }
      if let route = found() { return answer.give(.success(route)) }
      guard broker.settings.createsTopics else { return answer.give(.failure(.unknown(topic))) }
      broker.createTopic(topic) { result in
        if let route = found() { return answer.give(.success(route)) }
        if case .failure(let error) = result { answer.give(.failure(MillraceError(error))) }
      }
    }
  }
}

extension MillraceError {
  static func unknown(_ topic: String) -> MillraceError {
    MillraceError(.unknownTopic, "topic \(topic) does not exist")
  }
}
