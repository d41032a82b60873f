// ClassicGroupTests: joining, syncing, heartbeats and leaving, each in the states where it may happen.

import MillraceBase
import Testing

@testable import MillraceBroker

@Test("a new member is given an id first, and joins with it")
func memberIDRequired() {
  let world = GroupWorld(largestSize: 1)
  let first = world.join(known: true)
  #expect(world.joinError(first) == .memberIDRequired)
  #expect(world.group.state == .empty && !world.group.isForgettable)
  // The only place of the group is kept for it, so it is not refused when it comes.
  #expect(world.joinError(world.join(known: true)) == .groupTooLarge)
  let again = world.join("m1", known: true)
  #expect(world.joined(again)?.memberID == "m1" && world.joined(again)?.leader == "m1")
  #expect(world.joined(again)?.members.map(\.id) == ["m1"])
  #expect(world.problems.isEmpty, "\(world.problems)")
}

@Test("an id that was given out and not used is forgotten with its session, and never holds a rebalance for longer")
func pendingID() {
  let world = GroupWorld.stable(1)
  world.join(known: true)
  let leader = world.join("m1")
  #expect(world.joined(leader) == nil, "the rebalance waits for the member that was given an id")
  world.pass(.seconds(10))
  #expect(world.joined(leader)?.generation == 2)
  #expect(world.joinError(world.join("m3")) == .unknownMember)

  // Giving the id back ends the wait at once.
  let other = GroupWorld.stable(1)
  let pending = other.join(known: true)
  let waiting = other.join("m1")
  #expect(other.leave("m\(pending)") == nil)
  #expect(other.joined(waiting) != nil)
  #expect(world.problems.isEmpty && other.problems.isEmpty)
}

@Test("ids that nobody has are refused, also with an instance")
func unknownIDs() {
  let world = GroupWorld.stable(2)
  #expect(world.joinError(world.join("nobody")) == .unknownMember)
  #expect(world.joinError(world.join("m1", instance: "x")) == .unknownMember)
  #expect(world.syncError(world.sync("nobody")) == .unknownMember)
  #expect(world.beat("nobody") == .unknownMember)
  #expect(world.beat("") == .unknownMember)
  #expect(world.leave("nobody") == .unknownMember)
  #expect(world.leave("", instance: "x") == .unknownMember)
  #expect(world.group.state == .stable)
}

@Test("the initial delay ends neither early nor before the last who came has had it, save by the rebalance time-out")
func initialDelay() {
  let world = GroupWorld(initialDelay: .seconds(3))
  let first = world.join(rebalance: .seconds(8))
  world.pass(.seconds(2))
  let second = world.join(rebalance: .seconds(8))
  #expect(world.joined(first) == nil && world.joined(second) == nil, "a second member does not end the wait")
  world.pass(.seconds(2))
  #expect(world.joined(first) == nil, "the second member has prolonged the wait")
  world.pass(.seconds(2))
  #expect(world.joined(first)?.members.count == 2 && world.joined(second)?.generation == 1)

  let busy = GroupWorld(initialDelay: .seconds(3))
  let patient = busy.join(rebalance: .seconds(8))
  for _ in 0..<7 {
    busy.pass(.seconds(1))
    busy.join(rebalance: .seconds(8))
  }
  #expect(busy.joined(patient) == nil)
  busy.pass(.seconds(1))
  #expect(busy.joined(patient)?.members.count == 8)

  let alone = GroupWorld(initialDelay: .seconds(3))
  let only = alone.join()
  #expect(alone.leave("m1") == nil)
  #expect(alone.joinError(only) == .unknownMember && alone.group.isForgettable)
  let immediate = GroupWorld(initialDelay: .zero)
  immediate.join(known: true)
  #expect(immediate.joined(immediate.join()) != nil, "without a delay the first member waits for nobody")
  #expect(world.problems + busy.problems + alone.problems + immediate.problems == [])
}

@Test("a rebalance ends when all have come, and drops dynamic members that have not come in time")
func rebalanceTimeout() {
  let world = GroupWorld.stable(3, session: .seconds(100))
  let newcomer = world.join(rebalance: .seconds(30))
  let leader = world.join("m1", session: .seconds(100))
  let second = world.join("m2", session: .seconds(100))
  #expect(world.joined(newcomer) == nil && world.beat("m3") == .rebalanceInProgress)
  world.pass(.seconds(59))
  #expect(world.joined(newcomer) == nil, "the longest rebalance time-out of all counts, and nobody who waits expires")
  world.pass(.seconds(1))
  #expect(world.joined(leader)?.members.map(\.id) == ["m1", "m2", "m\(newcomer)"])
  #expect(world.joined(second)?.members.isEmpty == true && world.joined(second)?.leader == "m1")
  #expect(world.beat("m3", 1) == .unknownMember)
  #expect(world.problems == [])
}

@Test("when only silent static members are left, the group waits for them until their sessions end")
func onlyStaticMembersLeft() {
  let world = GroupWorld.stable(2, instances: true, session: .seconds(200))
  let newcomer = world.join()
  world.pass(.seconds(5))
  #expect(world.leave("m\(newcomer)") == nil)
  world.pass(.seconds(60))
  #expect(world.group.state == .preparing && world.group.generation == 1)
  #expect(world.beat("m1", instance: "i1", 1) == .rebalanceInProgress)
  let first = world.join("m1", instance: "i1", session: .seconds(200))
  world.pass(.seconds(60))
  #expect(world.joined(first)?.leader == "m1" && world.joined(first)?.members.count == 2)
  #expect(world.problems == [])
}

@Test("the leader stays while it comes back in time, else the longest member leads")
func leaderElection() {
  let world = GroupWorld.stable(3)
  #expect(world.group.leader == "m1")
  #expect(world.leave("m1") == nil)
  let third = world.join("m3")
  let second = world.join("m2")
  #expect(world.joined(third)?.leader == "m2" && world.joined(second)?.members.count == 2)
  world.sync("m2", assigning: ["m2": "a", "m3": "b"])
  world.sync("m3")
  let newcomer = world.join()
  world.join("m3")
  world.join("m2")
  #expect(world.joined(newcomer)?.leader == "m2")
  #expect(world.problems == [])
}

@Test("the protocol is one that all know, and of these the one most members prefer")
func protocolVote() {
  let world = GroupWorld(initialDelay: .seconds(1))
  let first = world.join(protocols: ["a", "c", "b"])
  world.join(protocols: ["c", "b"])
  world.join(protocols: ["b", "c", "x"])
  world.join(protocols: ["d", "c", "b"])
  world.pass(.seconds(2))
  #expect(world.joined(first)?.protocolName == "c", "three put c before b")
  #expect(
    world.joined(first)?.members.map { String(decoding: $0.metadata.withBuffer { Array($0) }, as: UTF8.self) }
      == Array(repeating: "c-m", count: 4))
  #expect(world.problems == [])
}

@Test("a member without a protocol in common, or of another type, is refused; a lone one may change its mind")
func inconsistentProtocols() {
  let world = GroupWorld.stable(2)
  #expect(world.joinError(world.join(protocols: ["other"])) == .inconsistentGroupProtocol)
  #expect(world.joinError(world.join(type: "connect")) == .inconsistentGroupProtocol)
  #expect(world.joinError(world.join(type: "")) == .inconsistentGroupProtocol)
  #expect(world.joinError(world.join(protocols: [])) == .inconsistentGroupProtocol)
  #expect(world.joinError(world.join("m1", protocols: ["other"])) == .inconsistentGroupProtocol)
  #expect(world.group.state == .stable)

  let lone = GroupWorld.stable(1)
  let again = lone.join("m1", type: "connect", protocols: ["other"])
  #expect(lone.joined(again)?.protocolName == "other" && lone.joined(again)?.protocolType == "connect")
  let fixed = GroupWorld.stable(1, instances: true)
  let restarted = fixed.join(instance: "i1", protocols: ["other"])
  #expect(fixed.joined(restarted)?.protocolName == "other" && fixed.joined(restarted)?.generation == 2)
  #expect(world.problems + lone.problems + fixed.problems == [])
}

@Test("followers wait for the leader's assignment, in whatever order they ask")
func syncOrder() {
  let world = GroupWorld(initialDelay: .seconds(1))
  for _ in 0..<3 { world.join() }
  world.pass(.seconds(2))
  let early = world.sync("m2", type: "consumer", name: "range")
  #expect(world.assigned(early) == nil && world.group.state == .completing)
  #expect(world.beat("m3") == nil)
  #expect(world.syncError(world.sync("m3", type: "connect")) == .inconsistentGroupProtocol)
  #expect(world.syncError(world.sync("m3", name: "other")) == .inconsistentGroupProtocol)
  #expect(world.syncError(world.sync("m3", 7)) == .illegalGeneration)
  let repeated = world.sync("m2")
  #expect(world.syncError(early) == .rebalanceInProgress)
  let leader = world.sync("m1", assigning: ["m1": "one", "m2": "two", "stranger": "x"])
  #expect(world.assigned(leader) == "one" && world.assigned(repeated) == "two")
  #expect(world.assigned(world.sync("m3")) == "" && world.group.state == .stable)
  #expect(world.assigned(world.sync("m2", assigning: ["m2": "other"])) == "two", "only the leader's first word counts")
  #expect(world.problems == [])
}

@Test("a member that joins and never asks for its assignment is dropped after the rebalance time-out")
func missingSync() {
  let world = GroupWorld(initialDelay: .seconds(1))
  for _ in 0..<3 { world.join(session: .seconds(40)) }
  world.pass(.seconds(2))
  world.sync("m2")
  world.sync("m1", assigning: ["m1": "one"])
  #expect(world.group.state == .stable)
  for _ in 0..<2 {
    world.pass(.seconds(29))
    for member in ["m1", "m2", "m3"] { #expect(world.beat(member) == nil) }
  }
  world.pass(.seconds(2))
  #expect(world.group.members.map(\.id) == ["m1", "m2"] && world.beat("m1") == .rebalanceInProgress)

  // The leader itself: the followers that wait are told to join again.
  let leaderless = GroupWorld(initialDelay: .seconds(1))
  for _ in 0..<2 { leaderless.join(session: .seconds(100)) }
  leaderless.pass(.seconds(2))
  let waiting = leaderless.sync("m2")
  leaderless.pass(.seconds(60))
  #expect(leaderless.syncError(waiting) == .rebalanceInProgress)
  let again = leaderless.join("m2")
  #expect(leaderless.joined(again)?.leader == "m2" && leaderless.joined(again)?.members.count == 1)
  #expect(world.problems + leaderless.problems == [])
}

@Test("a silent member's session ends, and the others rebalance; the last one's end leaves nothing")
func expiredSession() {
  let world = GroupWorld.stable(2)
  world.pass(.seconds(9))
  #expect(world.beat("m2") == nil)
  world.pass(.seconds(2))
  #expect(world.group.members.map(\.id) == ["m2"] && world.beat("m2") == .rebalanceInProgress)
  #expect(world.beat("m1") == .unknownMember)
  world.pass(.seconds(11))
  #expect(world.group.isForgettable && world.group.nextDeadline == nil)
  #expect(world.problems == [])
}

@Test("a static member that never comes is not kept alive by the others' rebalances")
func silentStaticMember() {
  let world = GroupWorld.stable(1, instances: true, session: .seconds(30))
  var newest = ""
  for _ in 0..<4 {
    let call = world.join(session: .seconds(30), rebalance: .seconds(5))
    world.pass(.seconds(9))
    newest = world.joined(call)?.memberID ?? newest
    let leader = world.group.leader ?? ""
    world.sync(leader)
    if world.group.members.allSatisfy({ $0.id != "m1" }) { break }
    world.leave(newest)
  }
  world.pass(.seconds(30))
  #expect(!world.group.members.contains { $0.id == "m1" }, "\(world.group.members)")
  #expect(world.problems == [])
}

@Test("joining again: followers that changed nothing keep the generation; the leader, or a change, begins a new one")
func rejoin() {
  let world = GroupWorld.stable(2)
  #expect(world.joined(world.join("m2"))?.generation == 1 && world.group.state == .stable)
  let changed = world.join("m2", metadata: "other")
  #expect(world.joined(changed) == nil && world.group.state == .preparing)
  let again = world.join("m2", metadata: "other")
  #expect(world.joinError(changed) == .rebalanceInProgress, "the member stays one, whichever call it waits on")
  let leader = world.join("m1")
  #expect(world.joined(leader)?.generation == 2 && world.joined(again)?.generation == 2)
  #expect(world.joined(world.join("m2", metadata: "other"))?.generation == 2, "a repeated join while syncs are due")
  world.sync("m2")
  world.sync("m1")
  let alone = world.join("m1")
  #expect(world.joined(alone) == nil && world.group.state == .preparing)
  #expect(world.problems == [])
}

@Test("a member that leaves while it waits is answered, and the rest goes on without it")
func leaveWhileWaiting() {
  let world = GroupWorld.stable(2)
  let newcomer = world.join()
  #expect(world.leave("m\(newcomer)") == nil && world.joinError(newcomer) == .unknownMember)
  let leader = world.join("m1")
  #expect(world.leave("m2") == nil)
  #expect(world.joined(leader)?.members.count == 1)
  let waiting = world.join()
  world.join("m1")
  let sync = world.sync("m\(waiting)")
  #expect(world.leave("m\(waiting)") == nil && world.syncError(sync) == .unknownMember)
  #expect(world.problems == [])
}

@Test("closing refuses everybody who waits")
func closing() {
  let world = GroupWorld.stable(2)
  let join = world.join("m1")
  world.close()
  #expect(world.joinError(join) == .stopped && world.open.isEmpty)
  let other = GroupWorld(initialDelay: .seconds(1))
  for _ in 0..<2 { other.join() }
  other.pass(.seconds(2))
  let sync = other.sync("m2")
  other.close()
  #expect(other.syncError(sync) == .stopped && other.open.isEmpty)
}

@Test("generations begin again at 1 behind the largest number")
func generationWrap() {
  let world = GroupWorld(generation: .max)
  #expect(world.joined(world.join())?.generation == 1)
}

@Test("commits need a member and its generation, unless nobody is in the group")
func commitChecks() {
  var world = GroupWorld()
  #expect(world.commit("", -1) == nil && world.commit("someone", -1) == nil)
  #expect(world.commit("m1", 1) == .unknownMember)
  world = .stable(1)
  #expect(world.commit("m1", 1) == nil)
  #expect(world.commit("m1", 0) == .illegalGeneration && world.commit("m1", -1) == .illegalGeneration)
  #expect(world.commit("", -1) == .unknownMember && world.commit("m2", 1) == .unknownMember)
  let newcomer = world.join()
  #expect(world.commit("m1", 1) == nil, "a member may commit before it joins again")
  world.join("m1")
  #expect(world.commit("m\(newcomer)", 2) == .rebalanceInProgress && world.commit("m1", 1) == .illegalGeneration)
}
