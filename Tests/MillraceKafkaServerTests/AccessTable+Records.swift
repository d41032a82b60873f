// AccessTable+Records: what writes, reads and describes records and topics.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel
import Testing

@testable import MillraceKafkaServer

extension AccessTable {
  static var records: [AccessRow] {
    [
      AccessRow(.produce, "", [.topic(.write)]) { _ in
        { client in
          AccessReply(try client.ask(produce(), 9).responses.flatMap(\.partitionResponses).map(\.errorCode))
        }
      },
      AccessRow(.produce, "by id", [.topic(.write)]) { client in
        var request = produce()
        request.topicData[0].topicID = try client.topicID
        return { client in
          AccessReply(try client.ask(request).responses.flatMap(\.partitionResponses).map(\.errorCode))
        }
      },
      AccessRow(.produce, "in a transaction", [.transaction(.write), .topic(.write)], prepare: transactionalProduce),
      AccessRow(.fetch, "", [.topic(.read)]) { client in
        try client.append()
        return { client in
          try fetch(client, [.init(topic: "t", partitions: [.init(partition: 0, partitionMaxBytes: 1000)])], 12)
        }
      },
      AccessRow(.fetch, "by id", [.topic(.read)]) { client in
        try client.append()
        let id = try client.topicID
        return { client in
          try fetch(client, [.init(topicID: id, partitions: [.init(partition: 0, partitionMaxBytes: 1000)])], nil)
        }
      },
      AccessRow(.listOffsets, "", [.topic(.describe)]) { _ in
        { client in
          let request = ListOffsetsRequest(topics: [.init(name: "t", partitions: [.init(timestamp: -1)])])
          return AccessReply(try client.ask(request).topics.flatMap(\.partitions).map(\.errorCode))
        }
      },
      AccessRow(.offsetForLeaderEpoch, "", [.topic(.describe)]) { client in
        let epoch = client.world.broker.leaderEpoch
        return { client in
          let request = OffsetForLeaderEpochRequest(topics: [
            .init(topic: "t", partitions: [.init(partition: 0, leaderEpoch: epoch)])
          ])
          return AccessReply(try client.ask(request).topics.flatMap(\.partitions).map(\.errorCode))
        }
      },
      AccessRow(.metadata, "of named topics", [.topic(.describe)]) { _ in
        { client in AccessReply(try client.ask(MetadataRequest(topics: [.init(name: "t")])).topics.map(\.errorCode)) }
      },
      AccessRow(.metadata, "by id", [.topic(.describe)]) { client in
        let id = try client.topicID
        return { client in
          AccessReply(try client.ask(MetadataRequest(topics: [.init(topicID: id, name: nil)])).topics.map(\.errorCode))
        }
      },
      AccessRow(.metadata, "of all topics", [.topic(.describe, hides: true)]) { _ in
        { client in
          try client.ask(MetadataRequest(topics: nil)).topics.contains { $0.name == "t" } ? .served : .hidden
        }
      },
      AccessRow(
        .metadata, "that creates a topic", [.topic(.describe, "new"), .topic(.create, "new")],
        [.topic(.describe, "new"), .cluster(.create, .refused(.topicAuthorizationFailed))]
      ) { _ in
        { client in
          let request = MetadataRequest(topics: [.init(name: "new")], allowAutoTopicCreation: true)
          return AccessReply(try client.ask(request).topics.map(\.errorCode))
        }
      },
      AccessRow(.describeTopicPartitions, "of named topics", [.topic(.describe)]) { _ in
        { client in
          AccessReply(
            try client.ask(DescribeTopicPartitionsRequest(topics: [.init(name: "t")])).topics.map(\.errorCode))
        }
      },
      AccessRow(.describeTopicPartitions, "of all topics", [.topic(.describe, hides: true)]) { _ in
        { client in
          try client.ask(DescribeTopicPartitionsRequest()).topics.contains { $0.name == "t" } ? .served : .hidden
        }
      },
      AccessRow(
        .createTopics, "", [.topic(.create, "new")], [.cluster(.create, .refused(.topicAuthorizationFailed))]
      ) { _ in
        { client in
          let request = CreateTopicsRequest(topics: [.init(name: "new", numPartitions: 1, replicationFactor: 1)])
          return AccessReply(try client.ask(request).topics.map(\.errorCode))
        }
      },
      AccessRow(.deleteTopics, "", [.topic(.delete)]) { _ in
        { client in
          AccessReply(try client.ask(DeleteTopicsRequest(topics: [.init(name: "t")])).responses.map(\.errorCode))
        }
      },
      AccessRow(.deleteTopics, "by id", [.topic(.delete)]) { client in
        let id = try client.topicID
        return { client in
          AccessReply(
            try client.ask(DeleteTopicsRequest(topics: [.init(name: nil, topicID: id)])).responses.map(\.errorCode))
        }
      },
      AccessRow(.createPartitions, "", [.topic(.alter)]) { _ in
        { client in
          let request = CreatePartitionsRequest(topics: [.init(name: "t", count: 3, assignments: nil)])
          return AccessReply(try client.ask(request).results.map(\.errorCode))
        }
      },
      AccessRow(.deleteRecords, "", [.topic(.delete)]) { client in
        try client.append()
        return { client in
          let request = DeleteRecordsRequest(topics: [.init(name: "t", partitions: [.init(offset: -1)])])
          return AccessReply(try client.ask(request).topics.flatMap(\.partitions).map(\.errorCode))
        }
      },
      AccessRow(.describeProducers, "", [.topic(.read)]) { _ in
        { client in
          let request = DescribeProducersRequest(topics: [.init(name: "t", partitionIndexes: [0])])
          return AccessReply(try client.ask(request).topics.flatMap(\.partitions).map(\.errorCode))
        }
      },
    ]
  }

  private static func transactionalProduce(_ client: AdminClient) throws -> AccessRow.Ask {
    let producer = try client.ask(InitProducerIdRequest(transactionalID: "x", transactionTimeoutMilliseconds: 60_000))
    try #require(producer.errorCode == .none)
    var builder = RecordBatchBuilder()
    builder.append(Record(value: Bytes([7]), timestamp: Timestamp(milliseconds: 1)))
    let batch = builder.finish(
      producerID: producer.producerID, producerEpoch: producer.producerEpoch, baseSequence: 0, isTransactional: true
    ) { $0 }
    var request = ProduceRequest(transactionalID: "x", acks: -1, timeoutMilliseconds: 1000)
    request.topicData = [.init(name: "t", partitionData: [.init(index: 0, records: batch)])]
    return { [request] client in
      AccessReply(try client.ask(request, 12).responses.flatMap(\.partitionResponses).map(\.errorCode))
    }
  }

  private static func fetch(
    _ client: AdminClient, _ topics: [FetchRequest.FetchTopic], _ version: Int16?
  ) throws -> AccessReply {
    let answer = try client.ask(FetchRequest(maxBytes: 1000, topics: topics), version)
    let partitions = answer.responses.flatMap(\.partitions)
    let reply = AccessReply(partitions.map(\.errorCode))
    // Who is refused gets no records with it.
    return reply == .served || partitions.allSatisfy(\.records.isEmpty) ? reply : .failed("records")
  }
}
