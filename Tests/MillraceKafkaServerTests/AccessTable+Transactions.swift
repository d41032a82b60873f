// AccessTable+Transactions: what transactional producers and those who look after them ask.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import Testing

@testable import MillraceKafkaServer

extension AccessTable {
  static var transactions: [AccessRow] { producing + tools }

  /// The producer of transactional id `x`.
  private static func producer(_ client: AdminClient) throws -> (id: Int64, epoch: Int16) {
    let answer = try client.ask(InitProducerIdRequest(transactionalID: "x", transactionTimeoutMilliseconds: 60_000))
    try #require(answer.errorCode == .none)
    return (answer.producerID, answer.producerEpoch)
  }

  /// The same, with partition 0 of `t` in its transaction.
  private static func begun(_ client: AdminClient) throws -> (id: Int64, epoch: Int16) {
    let one = try producer(client)
    let answer = try client.ask(addition(one), 3)
    try #require(AccessReply(codes(answer)) == .served)
    return one
  }

  private static func addition(_ one: (id: Int64, epoch: Int16)) -> AddPartitionsToTxnRequest {
    AddPartitionsToTxnRequest(
      v3AndBelowTransactionalID: "x", v3AndBelowProducerID: one.id, v3AndBelowProducerEpoch: one.epoch,
      v3AndBelowTopics: [.init(name: "t", partitions: [0])])
  }

  private static func codes(_ answer: AddPartitionsToTxnResponse) -> [KafkaErrorCode] {
    [answer.errorCode]
      + (answer.resultsByTopicV3AndBelow + answer.resultsByTransaction.flatMap(\.topicResults))
      .flatMap(\.resultsByPartition).map(\.partitionErrorCode)
  }

  private static var producing: [AccessRow] {
    [
      AccessRow(
        .initProducerId, "", [.topic(.write, hides: false).told(.refused(.clusterAuthorizationFailed))],
        [.cluster(.idempotentWrite)]
      ) { _ in
        { client in AccessReply(try client.ask(InitProducerIdRequest(transactionalID: nil)).errorCode) }
      },
      AccessRow(.initProducerId, "with a transactional id", [.transaction(.write)]) { _ in
        { client in
          AccessReply(
            try client.ask(InitProducerIdRequest(transactionalID: "x", transactionTimeoutMilliseconds: 1000)).errorCode)
        }
      },
      AccessRow(.addPartitionsToTxn, "", [.transaction(.write), .topic(.write)]) { client in
        let request = addition(try producer(client))
        return { client in AccessReply(codes(try client.ask(request, 3))) }
      },
      AccessRow(.addPartitionsToTxn, "as brokers ask it", [.cluster(.clusterAction)]) { client in
        let one = try producer(client)
        return { client in
          AccessReply(
            codes(
              try client.ask(
                AddPartitionsToTxnRequest(transactions: [
                  .init(
                    transactionalID: "x", producerID: one.id, producerEpoch: one.epoch,
                    topics: [.init(name: "t", partitions: [0])])
                ]))))
        }
      },
      AccessRow(.addOffsetsToTxn, "", [.transaction(.write), .group(.read)]) { client in
        let one = try producer(client)
        return { client in
          AccessReply(
            try client.ask(
              AddOffsetsToTxnRequest(
                transactionalID: "x", producerID: one.id, producerEpoch: one.epoch, groupID: "g")
            ).errorCode)
        }
      },
      AccessRow(.txnOffsetCommit, "", [.transaction(.write), .group(.read), .topic(.read)]) { client in
        let one = try producer(client)
        return { client in
          let answer = try client.ask(
            TxnOffsetCommitRequest(
              transactionalID: "x", groupID: "g", producerID: one.id, producerEpoch: one.epoch,
              topics: [.init(name: "t", partitions: [.init(committedOffset: 1)])]))
          return AccessReply(answer.topics.flatMap(\.partitions).map(\.errorCode))
        }
      },
      AccessRow(.endTxn, "", [.transaction(.write)]) { client in
        let one = try begun(client)
        return { client in
          AccessReply(
            try client.ask(
              EndTxnRequest(transactionalID: "x", producerID: one.id, producerEpoch: one.epoch, committed: true)
            ).errorCode)
        }
      },
    ]
  }

  private static var tools: [AccessRow] {
    [
      AccessRow(.writeTxnMarkers, "", [.cluster(.alter)], [.cluster(.clusterAction)]) { client in
        let one = try begun(client)
        return { client in
          let answer = try client.ask(
            WriteTxnMarkersRequest(markers: [
              .init(
                producerID: one.id, producerEpoch: one.epoch, topics: [.init(name: "t", partitionIndexes: [0])])
            ]))
          return AccessReply(answer.markers.flatMap(\.topics).flatMap(\.partitions).map(\.errorCode))
        }
      },
      AccessRow(.describeTransactions, "", [.transaction(.describe)]) { client in
        _ = try begun(client)
        return { client in
          let states = try client.ask(DescribeTransactionsRequest(transactionalIDs: ["x"])).transactionStates
          let reply = AccessReply(states.map(\.errorCode))
          return reply == .served || states.allSatisfy { $0.producerID == -1 } ? reply : .failed("a producer")
        }
      },
      AccessRow(
        .describeTransactions, "that tells of a topic", [.transaction(.describe), .topic(.describe, hides: true)]
      ) { client in
        _ = try begun(client)
        return { client in
          let states = try client.ask(DescribeTransactionsRequest(transactionalIDs: ["x"])).transactionStates
          let reply = AccessReply(states.map(\.errorCode))
          return reply == .served && states.flatMap(\.topics).isEmpty ? .hidden : reply
        }
      },
      AccessRow(.listTransactions, "", [.transaction(.describe, hides: true)]) { client in
        _ = try producer(client)
        return { client in try client.ask(ListTransactionsRequest()).transactionStates.isEmpty ? .hidden : .served }
      },
    ]
  }
}

extension AccessNeed {
  /// The same, with another refusal.
  func told(_ refusal: AccessReply) -> AccessNeed {
    AccessNeed(operation: operation, kind: kind, name: name, refusal: refusal)
  }
}
