// KafkaConsumerCodec: reads and writes for the broker what classic consumers say to each other.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel

/// Subscriptions and assignments in the form of Kafka's consumer protocol.
struct KafkaConsumerCodec: ClassicConsumerCodec {
  func subscription(_ metadata: Bytes) -> ClassicSubscription? {
    do throws(DecodingError) {
      let found = try ConsumerProtocolSubscription(metadata)
      return ClassicSubscription(
        topics: found.topics, owned: partitions(found.ownedPartitions),
        version: try ConsumerProtocolSubscription.version(of: metadata))
    } catch {
      return nil
    }
  }

  func assignment(_ bytes: Bytes) -> [TopicPartition]? {
    do throws(DecodingError) {
      return partitions(try ConsumerProtocolAssignment(bytes).assignedPartitions)
    } catch {
      return nil
    }
  }

  func encode(_ partitions: [TopicPartition], version: Int16) -> Bytes {
    var byTopic: [String: [Int32]] = [:]
    for one in partitions { byTopic[one.topic, default: []].append(one.partition) }
    let sorted = byTopic.sorted { $0.key < $1.key }
    return ConsumerProtocolAssignment(
      sorted.map { ConsumerTopicPartitions(topic: $0.key, partitions: $0.value) }
    ).encoded(version: version)
  }

  private func partitions(_ topics: [ConsumerTopicPartitions]) -> [TopicPartition] {
    topics.flatMap { topic in topic.partitions.map { TopicPartition(topic.topic, $0) } }
  }
}
