// StaticMemberTests: members with an instance id: restarts, fencing, and who may not have one.

import MillraceBase
import Testing

@testable import MillraceBroker

@Test("a static member that restarts unchanged keeps its assignment without a rebalance, and its past is fenced")
func unchangedRestart() {
  let world = GroupWorld.stable(2, instances: true)
  let call = world.join(instance: "i2")
  let joined = world.joined(call)
  #expect(joined?.memberID == "m\(call)" && joined?.generation == 1 && joined?.skipAssignment == false)
  #expect(world.group.state == .stable)
  #expect(world.assigned(world.sync("m\(call)", instance: "i2")) == "for m2")
  #expect(
    world.beat("m2", instance: "i2") == .fencedInstance && world.commit("m2", instance: "i2", 1) == .fencedInstance)
  #expect(world.syncError(world.sync("m2", instance: "i2")) == .fencedInstance)
  #expect(world.joinError(world.join("m2", instance: "i2")) == .fencedInstance)
  #expect(world.leave("m2", instance: "i2") == .fencedInstance)
  #expect(world.beat("m2") == .unknownMember, "without its instance the old id is nobody's")
  #expect(world.problems == [])
}

@Test("a leader that restarts unchanged learns the members and must not assign anew")
func leaderRestart() {
  let world = GroupWorld.stable(2, instances: true)
  let call = world.join(instance: "i1")
  let joined = world.joined(call)
  #expect(joined?.leader == "m\(call)" && joined?.skipAssignment == true)
  #expect(joined?.members.map(\.id) == ["m\(call)", "m2"] && joined?.members.map(\.instanceID) == ["i1", "i2"])
  #expect(world.assigned(world.sync("m\(call)", instance: "i1", assigning: ["m2": "all"])) == "for m1")
  #expect(world.assigned(world.sync("m2", instance: "i2")) == "for m2")
  #expect(world.problems == [])
}

@Test("a static member that restarts with other metadata begins a rebalance")
func changedRestart() {
  let world = GroupWorld.stable(2, instances: true)
  let call = world.join(instance: "i1", metadata: "other")
  #expect(world.joined(call) == nil && world.group.state == .preparing)
  let other = world.join("m2", instance: "i2")
  #expect(world.joined(call)?.leader == "m\(call)" && world.joined(call)?.skipAssignment == false)
  #expect(world.joined(other)?.generation == 2)
  #expect(world.problems == [])
}

@Test("a static member that starts twice: the call of the first is fenced, whether it waits to join or to sync")
func startedTwice() {
  let world = GroupWorld.stable(2, instances: true)
  let first = world.join(instance: "i1", metadata: "a")
  let second = world.join(instance: "i1", metadata: "a")
  #expect(world.joinError(first) == .fencedInstance && world.joined(second) == nil)
  world.join("m2", instance: "i2")
  #expect(world.joined(second)?.generation == 2)
  let sync = world.sync("m2", instance: "i2")
  world.join(instance: "i2")
  #expect(world.syncError(sync) == .fencedInstance)
  #expect(world.group.state == .preparing, "the assignment under way would name the id that is gone")
  #expect(world.problems == [])
}

@Test("a static member stays through a rebalance that it misses, and leaves by its instance alone")
func missedRebalance() {
  let world = GroupWorld.stable(2, instances: true, session: .seconds(100))
  let newcomer = world.join(rebalance: .seconds(1))
  world.join("m1", instance: "i1", session: .seconds(100))
  world.pass(.seconds(60))
  #expect(world.joined(newcomer)?.leader == "m1")
  #expect(world.group.members.map(\.id) == ["m1", "m2", "m\(newcomer)"])
  #expect(world.joined(world.join("m2", instance: "i2", session: .seconds(100)))?.generation == 2)
  #expect(world.leave("", instance: "i2") == nil)
  #expect(world.group.members.map(\.id) == ["m1", "m\(newcomer)"])
  #expect(world.problems == [])
}

@Test("an id that was given to a dynamic member cannot be used to take an instance that another one holds")
func stolenInstance() {
  let world = GroupWorld.stable(1, instances: true)
  let pending = world.join(known: true)
  #expect(world.joinError(world.join("m\(pending)", instance: "i1")) == .fencedInstance)
  #expect(world.joinError(world.join("m\(pending)", instance: "i9")) == .unknownMember)
  #expect(world.problems == [])
}
