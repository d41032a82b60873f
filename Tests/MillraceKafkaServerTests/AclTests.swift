// AclTests: rules of access over the wire: made, shown, removed, and what cannot be one.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceSecurity
import Testing

@testable import MillraceKafkaServer

private typealias Creation = CreateAclsRequest.AclCreation

private func creation(
  _ kind: Int8 = 2, _ name: String = "orders", _ pattern: Int8 = 3, _ principal: String = "User:alice",
  host: String = "*", _ operation: Int8 = 3, _ permission: Int8 = 3
) -> Creation {
  Creation(
    resourceType: kind, resourceName: name, resourcePatternType: pattern, principal: principal, host: host,
    operation: operation, permissionType: permission)
}

extension AdminClient {
  fileprivate func create(_ creations: Creation...) throws -> [KafkaErrorCode] {
    try ask(CreateAclsRequest(creations: creations)).results.map(\.errorCode)
  }

  fileprivate func rules(
    _ kind: Int8 = 1, _ name: String? = nil, _ pattern: Int8 = 1, _ principal: String? = nil, host: String? = nil,
    _ operation: Int8 = 1, _ permission: Int8 = 1
  ) throws -> [String] {
    let answer = try ask(
      DescribeAclsRequest(
        resourceTypeFilter: kind, resourceNameFilter: name, patternTypeFilter: pattern, principalFilter: principal,
        hostFilter: host, operation: operation, permissionType: permission))
    try #require(answer.errorCode == .none, "\(answer.errorMessage ?? "")")
    return answer.resources.flatMap { resource in
      resource.acls.map {
        "\(resource.resourceType) \(resource.resourceName) \(resource.patternType) \($0.principal) \($0.host) "
          + "\($0.operation) \($0.permissionType)"
      }
    }
  }
}

/// All rules about resources of one kind; 1 is any.
private func every(_ kind: Int8) -> DeleteAclsRequest.DeleteAclsFilter {
  .init(
    resourceTypeFilter: kind, resourceNameFilter: nil, patternTypeFilter: 1, principalFilter: nil, hostFilter: nil,
    operation: 1, permissionType: 1)
}

@Test("rules are found by every part of them, and by the resource that they fit")
func describesRules() throws {
  let client = AdminClient(try ServerWorld())
  #expect(
    try client.create(
      creation(), creation(2, "ord", 4, "User:bob", 4), creation(2, "*", 3, "User:*", host: "10.0.0.1", 2, 2),
      creation(3, "orders", 3, "User:alice", 3)) == [.none, .none, .none, .none])
  let orders = "2 orders 3 User:alice * 3 3"
  let ord = "2 ord 4 User:bob * 4 3"
  let star = "2 * 3 User:* 10.0.0.1 2 2"
  let group = "3 orders 3 User:alice * 3 3"
  #expect(try client.rules() == [star, ord, orders, group])
  #expect(try client.rules(2) == [star, ord, orders])
  #expect(try client.rules(2, "orders", 3) == [orders])
  #expect(try client.rules(2, "orders", 2) == [star, ord, orders])
  #expect(try client.rules(2, "ord", 4) == [ord])
  #expect(try client.rules(1, "orders", 1) == [orders, group])
  #expect(try client.rules(1, nil, 1, "User:alice") == [orders, group])
  #expect(try client.rules(1, nil, 1, "Group:alice").isEmpty)
  #expect(try client.rules(1, nil, 1, host: "10.0.0.1") == [star])
  #expect(try client.rules(1, nil, 1, nil, 4) == [ord])
  #expect(try client.rules(1, nil, 1, nil, 1, 2) == [star])
  // The same once more is no other rule.
  #expect(try client.create(creation()) == [.none])
  let all = try client.rules()
  #expect(all.count == 4)
}

@Test("what cannot be a rule is refused by itself, and the others are made")
func refusesRules() throws {
  let client = AdminClient(try ServerWorld())
  let wrong: [Creation] = [
    creation(0), creation(1), creation(99), creation(9), creation(103), creation(-1),
    creation(100, "q", 3, "User:a", 10), creation(2, ""), creation(2, "t", 1), creation(2, "t", 2),
    creation(2, "t", 9), creation(2, "t", 3, "alice"), creation(2, "t", 3, "User:"), creation(2, "t", 3, "Group:a"),
    creation(2, "t", 3, host: "localhost"), creation(2, "t", 3, host: ""), creation(2, "t", 3, "User:a", 1),
    creation(2, "t", 3, "User:a", 99), creation(2, "t", 3, "User:a", -1), creation(2, "t", 3, "User:a", 12),
    creation(4, "t", 3, "User:a", 8), creation(4, "kafka-cluster", 4, "User:a", 8), creation(3, "g", 3, "User:a", 4),
    creation(2, "t", 3, "User:a", 3, 1), creation(2, "t", 3, "User:a", 3, 4),
    creation(2, String(repeating: "x", count: 1025)),
  ]
  let answer = try client.ask(CreateAclsRequest(creations: wrong + [creation()]))
  for (one, result) in zip(wrong, answer.results) {
    #expect(result.errorCode == .invalidRequest, "\(one)")
    #expect(result.errorMessage?.isEmpty == false)
  }
  #expect(answer.results.last?.errorCode == KafkaErrorCode.none)
  #expect(try client.rules().count == 1)
}

@Test("filters remove what they mean, and say what that was")
func deletesRules() throws {
  let client = AdminClient(try ServerWorld())
  _ = try client.create(creation(), creation(2, "ord", 4), creation(3, "g"))
  func filter(_ kind: Int8, _ name: String?, _ pattern: Int8) -> DeleteAclsRequest.DeleteAclsFilter {
    .init(
      resourceTypeFilter: kind, resourceNameFilter: name, patternTypeFilter: pattern, principalFilter: nil,
      hostFilter: nil, operation: 1, permissionType: 1)
  }
  let answer = try client.ask(
    DeleteAclsRequest(filters: [filter(2, "orders", 2), filter(2, "none", 3), filter(2, nil, 1), filter(0, nil, 1)]))
  #expect(answer.filterResults.map(\.errorCode) == [.none, .none, .none, .invalidRequest])
  #expect(
    answer.filterResults.map { $0.matchingAcls.map(\.resourceName) } == [
      ["ord", "orders"], [], ["ord", "orders"], [],
    ])
  #expect(try client.rules() == ["3 g 3 User:alice * 3 3"])
}

@Test("whoever may not describe or alter the cluster sees and changes no rules")
func rulesAreProtected() throws {
  let world = try ServerWorld()
  let client = AdminClient(world)
  // Anonymous may describe the cluster, and with that has a rule about it.
  _ = try client.create(creation(4, "kafka-cluster", 3, "User:ANONYMOUS", 8))
  #expect(try client.create(creation()) == [.clusterAuthorizationFailed])
  #expect(
    try client.ask(DeleteAclsRequest(filters: [.init(resourceTypeFilter: 1, patternTypeFilter: 1)])).filterResults
      .map(\.errorCode) == [.clusterAuthorizationFailed])
  #expect(try client.rules().count == 1)
  var removed = false
  world.broker.changeRules(
    adding: [AccessRule(.init(.cluster, ResourceName.cluster), .anonymous, .describe, isAllowed: false)]
  ) { _ in removed = true }
  try #require(world.world.run { removed })
  #expect(
    try client.ask(DescribeAclsRequest(resourceTypeFilter: 1, operation: 1)).errorCode == .clusterAuthorizationFailed)
}

@Test(
  "rules about queues are Millrace's own: shown, made and removed where their kind is asked for, and not touched otherwise"
)
func hidesOwnKinds() throws {
  let world = try ServerWorld()
  let client = AdminClient(world)
  #expect(try client.create(creation(100, "%2F/q")) == [.none])
  #expect(try client.rules().isEmpty)
  let answer = try client.ask(
    DeleteAclsRequest(
      filters: [every(1)]))
  #expect(answer.filterResults[0].matchingAcls.isEmpty)
  #expect(world.broker.rules() == [AccessRule(.init(.queue, "%2F/q"), Principal("alice"), .read)])
  #expect(try client.rules(100) == ["100 %2F/q 3 User:alice * 3 3"])
  let own = try client.ask(
    DeleteAclsRequest(
      filters: [every(100)]))
  #expect(own.filterResults[0].matchingAcls.count == 1 && world.broker.rules().isEmpty)
}
