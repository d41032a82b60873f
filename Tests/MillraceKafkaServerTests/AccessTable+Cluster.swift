// AccessTable+Cluster: settings, quotas, rules, the node itself, and what needs no permission.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import Testing

@testable import MillraceKafkaServer

extension AccessTable {
  static var cluster: [AccessRow] { settings + quotasAndRules + node }

  private static var settings: [AccessRow] {
    [
      AccessRow(.describeConfigs, "of a topic", [.topic(.describeConfigs)]) { _ in { try described($0, 2, "t") } },
      AccessRow(.describeConfigs, "of a group", [.group(.describeConfigs)]) { _ in { try described($0, 32, "g") } },
      AccessRow(.describeConfigs, "of the node and of others", [.cluster(.describeConfigs)]) { _ in
        { try described($0, 4, "0") }
      },
      AccessRow(.alterConfigs, "of a topic", [.topic(.alterConfigs)]) { _ in
        { client in
          let request = AlterConfigsRequest(resources: [
            .init(resourceType: 2, resourceName: "t", configs: [.init(name: "retention.ms", value: "600000")])
          ])
          return AccessReply(try client.ask(request).responses.map(\.errorCode))
        }
      },
      AccessRow(.alterConfigs, "of the node and of others", [.cluster(.alterConfigs)]) { _ in
        { client in
          let request = AlterConfigsRequest(resources: [
            .init(resourceType: 16, resourceName: "m", configs: [.init(name: "interval.ms", value: "1000")])
          ])
          return AccessReply(try client.ask(request).responses.map(\.errorCode))
        }
      },
      AccessRow(.incrementalAlterConfigs, "of a topic", [.topic(.alterConfigs)]) { _ in
        { AccessReply(try $0.alter(2, "t", [("retention.ms", 0, "600000")]).errorCode) }
      },
      AccessRow(.incrementalAlterConfigs, "of a group", [.group(.alterConfigs)]) { _ in
        { AccessReply(try $0.alter(32, "g", [("consumer.session.timeout.ms", 0, "50000")]).errorCode) }
      },
      AccessRow(.incrementalAlterConfigs, "of the node and of others", [.cluster(.alterConfigs)]) { _ in
        { AccessReply(try $0.alter(4, "0", [("num.partitions", 0, "3")]).errorCode) }
      },
      AccessRow(.listConfigResources, "", [.cluster(.describeConfigs)]) { _ in
        { AccessReply(try $0.ask(ListConfigResourcesRequest()).errorCode) }
      },
    ]
  }

  private static func described(_ client: AdminClient, _ type: Int8, _ name: String) throws -> AccessReply {
    let results = try client.ask(
      DescribeConfigsRequest(resources: [.init(resourceType: type, resourceName: name, configurationKeys: nil)])
    ).results
    let reply = AccessReply(results.map(\.errorCode))
    return reply == .served || results.allSatisfy(\.configs.isEmpty) ? reply : .failed("settings")
  }

  private static var quotasAndRules: [AccessRow] {
    [
      AccessRow(.describeClientQuotas, "", [.cluster(.describeConfigs)]) { _ in
        { AccessReply(try $0.ask(DescribeClientQuotasRequest()).errorCode) }
      },
      AccessRow(.alterClientQuotas, "", [.cluster(.alterConfigs)]) { _ in
        { client in
          let request = AlterClientQuotasRequest(entries: [
            .init(
              entity: [.init(entityType: "client-id", entityName: "c")],
              ops: [.init(key: "producer_byte_rate", value: 1e6)])
          ])
          return AccessReply(try client.ask(request).entries.map(\.errorCode))
        }
      },
      AccessRow(.describeAcls, "", [.cluster(.describe)]) { _ in
        { client in
          let request = DescribeAclsRequest(
            resourceTypeFilter: 1, patternTypeFilter: 1, operation: 1, permissionType: 1)
          let answer = try client.ask(request)
          let reply = AccessReply(answer.errorCode)
          return reply == .served || answer.resources.isEmpty ? reply : .failed("rules")
        }
      },
      AccessRow(.createAcls, "", [.cluster(.alter)]) { _ in
        { client in
          let request = CreateAclsRequest(creations: [
            .init(
              resourceType: 2, resourceName: "other", resourcePatternType: 3, principal: "User:a", host: "*",
              operation: 3, permissionType: 3)
          ])
          return AccessReply(try client.ask(request).results.map(\.errorCode))
        }
      },
      AccessRow(.deleteAcls, "", [.cluster(.alter)]) { _ in
        { client in
          let request = DeleteAclsRequest(filters: [
            .init(resourceTypeFilter: 2, patternTypeFilter: 1, operation: 1, permissionType: 1)
          ])
          let results = try client.ask(request).filterResults
          let reply = AccessReply(results.map(\.errorCode))
          return reply == .served || results.allSatisfy(\.matchingAcls.isEmpty) ? reply : .failed("rules")
        }
      },
      AccessRow(.describeUserScramCredentials, "", [.cluster(.describe)]) { _ in
        { client in
          let answer = try client.ask(DescribeUserScramCredentialsRequest(users: nil))
          let reply = AccessReply(answer.errorCode)
          return reply == .served || answer.results.isEmpty ? reply : .failed("users")
        }
      },
      AccessRow(.alterUserScramCredentials, "", [.cluster(.alter)]) { _ in
        { client in
          let request = AlterUserScramCredentialsRequest(upsertions: [
            .init(
              name: "a", mechanism: 1, iterations: 4096, salt: Bytes(Array(repeating: 7, count: 16)),
              saltedPassword: Bytes(Array(repeating: 1, count: 32)))
          ])
          return AccessReply(try client.ask(request).results.map(\.errorCode))
        }
      },
    ]
  }

  private static var node: [AccessRow] {
    [
      AccessRow(.apiVersions, "", []) { _ in { AccessReply(try $0.ask(ApiVersionsRequest()).errorCode) } },
      AccessRow(.describeCluster, "", []) { _ in
        { client in
          let answer = try client.ask(
            DescribeClusterRequest(includeClusterAuthorizedOperations: true, endpointType: 1))
          return answer.clusterAuthorizedOperations == 0 ? AccessReply(answer.errorCode) : .failed("operations")
        }
      },
      AccessRow(.describeLogDirs, "", [.cluster(.describe)]) { _ in
        { client in
          let answer = try client.ask(DescribeLogDirsRequest(topics: nil))
          let reply = AccessReply(answer.errorCode)
          return reply == .served || answer.results.isEmpty ? reply : .failed("directories")
        }
      },
      AccessRow(.electLeaders, "", [.cluster(.alter)]) { _ in
        { client in
          let answer = try client.ask(ElectLeadersRequest(topicPartitions: [.init(topic: "t", partitions: [0])]))
          let codes = answer.replicaElectionResults.flatMap(\.partitionResult).map(\.errorCode)
          return AccessReply(codes, served: .electionNotNeeded)
        }
      },
      AccessRow(.alterPartitionReassignments, "", [.cluster(.alter)]) { _ in
        { client in
          let answer = try client.ask(
            AlterPartitionReassignmentsRequest(topics: [
              .init(name: "t", partitions: [.init(partitionIndex: 0, replicas: [0])])
            ]))
          return AccessReply([answer.errorCode] + answer.responses.flatMap(\.partitions).map(\.errorCode))
        }
      },
      AccessRow(.listPartitionReassignments, "", [.cluster(.describe)]) { _ in
        { AccessReply(try $0.ask(ListPartitionReassignmentsRequest(topics: nil)).errorCode) }
      },
    ]
  }
}
