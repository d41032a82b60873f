// QueueBroker+Consumers: who consumes from queues, for who administers them.

/// A consumer that is pushed to.
public struct ConsumerSummary: Sendable {
  /// The queue's virtual host.
  public var virtualHost: String
  /// The queue.
  public var queue: String
  /// The consumer's tag.
  public var tag: String
  /// What it is given counts as settled.
  public var isNoAck: Bool
}

extension QueueBroker {
  /// All consumers that are pushed to, by virtual host, queue and order of registration.
  /// - Complexity: O(queues + consumers · log consumers).
  public var consumerSummaries: [ConsumerSummary] {
    var found: [(ConsumerSummary, Int)] = []
    for hosted in queues.values {
      for consumer in hosted.consumers.values where !consumer.isPassive {
        found.append(
          (
            ConsumerSummary(
              virtualHost: hosted.virtualHost, queue: hosted.name, tag: consumer.tag, isNoAck: consumer.isNoAck),
            consumer.number
          ))
      }
    }
    return found.sorted { ($0.0.virtualHost, $0.0.queue, $0.1) < ($1.0.virtualHost, $1.0.queue, $1.1) }.map(\.0)
  }
}
