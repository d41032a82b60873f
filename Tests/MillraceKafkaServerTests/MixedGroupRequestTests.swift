// MixedGroupRequestTests: classic members of groups of the consumer protocol over the wire: who is shut out, what is
// bounded.

import MillraceKafkaProtocol
import MillraceModel
import Testing

@testable import MillraceBroker
@testable import MillraceKafkaServer

@Test("a classic static member that wakes after another took over its instance is fenced, and the other goes on")
func wokenStaticMember() throws {
  let server = try GroupServer()
  #expect(try server.beat("new", 0).errorCode == .none)
  let old = try server.joinReadable(instance: "i")
  #expect(old.errorCode == .none)
  let successor = try server.joinReadable(instance: "i")
  #expect(successor.errorCode == .none && successor.memberID != old.memberID)
  #expect(try server.joinReadable(old.memberID, instance: "i").errorCode == .fencedInstanceID)
  #expect(try Set(server.described().members.map(\.memberID)) == ["new", successor.memberID])
  #expect(try server.joinReadable(successor.memberID, instance: "i").errorCode == .none)
}

@Test("a classic member that was taken out does not come back under its id before it has given everything up")
func takenOutWithPartitions() throws {
  let server = try GroupServer()
  #expect(try server.beat("new", 0).errorCode == .none)
  let joined = try server.joinReadable()
  #expect(joined.errorCode == .none)
  server.world.run(for: .seconds(11))
  #expect(try server.described().members.map(\.memberID) == ["new"], "its session of 10 s is over")
  #expect(try server.joinReadable(joined.memberID, owned: [0, 1]).errorCode == .unknownMemberID)
  #expect(try server.described().members.map(\.memberID) == ["new"])
  #expect(try server.joinReadable(joined.memberID).errorCode == .none)
}

@Test("what classic members of a group of the consumer protocol have brought counts among what all groups' have")
func mixedMetadataInAll() throws {
  let server = try GroupServer()
  let groups = try #require(server.broker.groups)
  #expect(try server.beat("new", 0).errorCode == .none)
  #expect(groups.metadataSize == 0)
  let joined = try server.joinReadable()
  let size = groups.metadataSize
  #expect(size > 10)
  groups.mostMetadata = size + 10
  #expect(try server.joinReadable().errorCode == .groupMaxSizeReached)
  #expect(try server.leaveClassic(joined.memberID) == .none)
  #expect(groups.metadataSize == 0)
  // The group goes back: counted once.
  let again = try server.joinReadable()
  #expect(groups.metadataSize == size)
  #expect(try server.beat("new", -1).errorCode == .none)
  #expect(try server.list().first?.last == "classic")
  let assignment = groups.groups["g"]?.members.first?.assignment.count ?? 0
  #expect(groups.metadataSize == size + assignment)
  #expect(try server.leaveClassic(again.memberID) == .none)
  #expect(groups.metadataSize == 0 && groups.metadataSizes.isEmpty)
}

@Test("a rebalance waits for a member for a day at most, and a negative time is refused")
func boundedRebalanceTimeouts() throws {
  let server = try GroupServer()
  let groups = try #require(server.broker.groups)
  #expect(try server.joinReadable(rebalance: -7).errorCode == .invalidRequest)
  let patient = try server.joinReadable(rebalance: .max)
  #expect(patient.errorCode == .none)
  #expect(groups.groups["g"]?.members.map(\.rebalanceTimeout) == [.seconds(86_400)])
  let again = try server.joinReadable(patient.memberID, rebalance: -1)
  #expect(groups.groups["g"]?.members.map(\.rebalanceTimeout) == [.seconds(10)], "none: that of the session")
  #expect(try server.sync(again.memberID, again.generationID, leads: [again.memberID])?.count == 4)
  let answer = try server.ask(
    ConsumerGroupHeartbeatRequest(
      groupID: "g", memberID: "new", memberEpoch: 0, rebalanceTimeoutMilliseconds: .max, subscribedTopicNames: ["t"],
      topicPartitions: []), 1)
  #expect(answer.errorCode == .none)
  #expect(groups.consumers["g"]?.group.members["new"]?.rebalanceTimeout == .seconds(86_400))
}
