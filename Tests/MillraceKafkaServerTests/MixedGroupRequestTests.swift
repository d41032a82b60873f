// MixedGroupRequestTests: classic members of groups of the consumer protocol over the wire: who is shut out.

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
