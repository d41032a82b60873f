// GroupAdminTests: groups deleted, their offsets deleted, and groups listed and described.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import Testing

@testable import MillraceKafkaServer

@Test("a group without members is deleted; one with members, an unknown one and one without a name are refused")
func deletedGroups() throws {
  let client = AdminClient(try ServerWorld())
  try client.commit("idle", [0: 0])
  _ = try client.join("busy", ["t"])
  let answer = try client.ask(DeleteGroupsRequest(groupsNames: ["idle", "busy", "none", ""]))
  #expect(answer.results.map(\.groupID) == ["idle", "busy", "none", ""])
  #expect(answer.results.map(\.errorCode) == [.none, .nonEmptyGroup, .groupIDNotFound, .invalidGroupID])
  #expect(client.world.broker.groups.names == ["busy"])
}

@Test("offsets of topics that a member reads stay, others go")
func deletedOffsets() throws {
  let world = try ServerWorld()
  var made = false
  world.broker.createTopic("other") { _ in made = true }
  try #require(world.world.run { made })
  let client = AdminClient(world)
  func delete(_ group: String, _ topic: String, _ partitions: [Int32]) throws -> [KafkaErrorCode] {
    let answer = try client.ask(
      OffsetDeleteRequest(
        groupID: group, topics: [.init(name: topic, partitions: partitions.map { .init(partitionIndex: $0) })]))
    return answer.errorCode == .none ? answer.topics[0].partitions.map(\.errorCode) : [answer.errorCode]
  }
  try client.commit("g", [0: 5, 1: 6])
  _ = try client.join("g", ["other"])
  #expect(try delete("g", "t", [0, 9]) == [.none, .unknownTopicOrPartition])
  #expect(try delete("g", "other", [0]) == [.groupSubscribedToTopic])
  #expect(try delete("none", "t", [0]) == [.groupIDNotFound] && delete("", "t", [0]) == [.invalidGroupID])
  #expect(world.broker.groups.offsets("g").keys.map(\.partition) == [1])
}

@Test("groups are listed by state and type, and described with what may be done with them")
func listedGroups() throws {
  let client = AdminClient(try ServerWorld())
  try client.commit("idle", [0: 0])
  _ = try client.join("busy", ["t"])
  func list(_ states: [String], _ types: [String] = []) throws -> [String] {
    try client.ask(ListGroupsRequest(statesFilter: states, typesFilter: types)).groups.map(\.groupID)
  }
  #expect(try list([]) == ["busy", "idle"] && list(["Empty"]) == ["idle"])
  #expect(try list(["CompletingRebalance", "Stable"], ["Classic"]) == ["busy"])
  #expect(try list([], ["share"]) == [])
  let described = try client.ask(DescribeGroupsRequest(groups: ["busy", "none"], includeAuthorizedOperations: true))
  // Read, delete, describe, describe and alter settings.
  let everything: Int32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11
  #expect(described.groups.map(\.errorCode) == [.none, .groupIDNotFound])
  #expect(
    described.groups[0].members.count == 1 && described.groups[0].authorizedOperations == everything)
  #expect(try client.ask(DescribeGroupsRequest(groups: ["busy"])).groups[0].authorizedOperations == Int32.min)
}
