// KafkaConnection+Access: what a client may do, as handlers ask for it and as answers tell it.
//
// What each request needs stands in docs/reference/permissions.md; Tests/MillraceKafkaServerTests/AccessTable.swift holds every
// request against it. A handler asks before it looks whether a thing exists, so that who may not know of it learns nothing.

import MillraceBroker
import MillraceKafkaProtocol
import MillraceSecurity

extension KafkaConnection {
  /// - Throws: `.denied` when the client may not do this.
  func require(_ operation: AccessOperation, _ kind: ResourceKind, _ name: String) throws(BrokerError) {
    guard client.allows(operation, kind, name) else { throw denial(operation, kind, name) }
  }

  /// - Throws: `.denied` when the client may not do this to the server as a whole.
  func requireCluster(_ operation: AccessOperation) throws(BrokerError) {
    try require(operation, .cluster, ResourceName.cluster)
  }

  /// A refusal in words.
  func denial(_ operation: AccessOperation, _ kind: ResourceKind, _ name: String) -> BrokerError {
    BrokerError(.denied(kind), "\(client.principal) may not \(operation.word) \(kind.word) \(name)")
  }

  /// What the client may do to a resource, as a set of bits. Source: KIP-430.
  func authorizedOperations(_ kind: ResourceKind, _ name: String) -> Int32 {
    kind.operations.reduce(0) { client.sees($1, kind, name) ? $0 | 1 << Int32($1.rawValue) : $0 }
  }

  /// The same for the server as a whole; 0 for who may not describe it. Source: Kafka, `KafkaApis.handleDescribeCluster`.
  func authorizedClusterOperations() -> Int32 {
    client.sees(.describe, .cluster, ResourceName.cluster) ? authorizedOperations(.cluster, ResourceName.cluster) : 0
  }
}

extension KafkaErrorCode {
  /// The code for something that may not be done to a resource of this kind.
  init(denied kind: ResourceKind) {
    self =
      switch kind {
      case .topic: .topicAuthorizationFailed
      case .group: .groupAuthorizationFailed
      case .transactionalID: .transactionalIDAuthorizationFailed
      default: .clusterAuthorizationFailed
      }
  }
}
