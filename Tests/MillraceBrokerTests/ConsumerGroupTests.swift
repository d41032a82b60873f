// ConsumerGroupTests: the life of a group of the consumer protocol, rule by rule.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceBroker

private func world(_ count: Int, topics: [String: Int32] = ["t": 4]) -> (ConsumerGroupWorld, [PlayedMember]) {
  let world = ConsumerGroupWorld(topics: topics)
  let members = (1...count).map { world.join("m\($0)") }
  world.rounds()
  return (world, members)
}

@Test("a lone member is given everything in the answer to its first heartbeat")
func loneMember() {
  let world = ConsumerGroupWorld()
  #expect(world.group.state == .empty)
  let member = world.join("m1")
  #expect(member.owned.count == 4 && member.epoch == 1)
  #expect(world.group.state == .stable)
  #expect(world.problems == [])
}

@Test("a newcomer waits until the other has given up its share, and the other keeps its epoch until it has")
func newcomerWaits() throws {
  let (world, members) = world(1)
  let old = members[0]
  let new = world.join("m2")
  #expect(new.epoch == 2 && new.owned.isEmpty, "nothing is free yet")
  #expect(world.group.state == .reconciling)
  world.beat(old, obeys: false)
  #expect(old.told?.count == 2 && old.epoch == 1, "told to give up two, under its old epoch")
  world.beat(new)
  #expect(new.owned.isEmpty)
  // It may still commit what it gives up.
  try world.group.checkCommit(memberID: "m1", epoch: 1, partitions: Array(old.owned))
  world.beat(old)
  world.beat(new)
  #expect(new.owned.isEmpty, "a heartbeat that says nothing of partitions gives nothing up")
  old.obey()
  world.beat(old)
  #expect(old.epoch == 2)
  world.beat(new)
  #expect(new.owned.count == 2 && old.owned.count == 2)
  #expect(world.group.state == .stable)
  #expect(world.problems == [])
}

@Test("an answer carries an assignment when that changed, or when the heartbeat said everything, and else none")
func assignmentOnlyWhenChanged() {
  let (world, members) = world(2)
  guard case .success(let plain) = world.send(members[0].beat()) else { Issue.record("refused"); return }
  #expect(plain.assignment == nil && plain.interval == .seconds(5))
  members[0].saysAll = true
  guard case .success(let full) = world.send(members[0].beat()) else { Issue.record("refused"); return }
  #expect(full.assignment == members[0].owned)
}

@Test("a member that leaves frees what it had at once; others have it after their next heartbeat")
func leaving() {
  let (world, members) = world(2)
  world.leave(members[0])
  #expect(world.group.state == .assigning && world.group.epoch == 3)
  world.beat(members[1])
  #expect(members[1].owned.count == 4 && members[1].epoch == 3)
  world.leave(members[1])
  #expect(world.group.state == .empty && world.group.holders.isEmpty && world.group.nextDeadline == nil)
  #expect(world.problems == [])
}

@Test("silence for the session time-out ends a member; its later heartbeats are refused, and it can join again")
func sessionTimeout() {
  let (world, members) = world(2)
  world.pass(.seconds(40))
  world.beat(members[1])
  world.pass(.seconds(10))
  #expect(world.group.members.keys.sorted() == ["m2"])
  world.beat(members[1])
  #expect(members[1].owned.count == 4)
  #expect(world.beat(members[0]) == .unknownMember)
  #expect(members[0].owned.isEmpty)
  world.rounds()
  #expect(members.allSatisfy { $0.owned.count == 2 } && world.group.state == .stable)
  #expect(world.problems == [])
}

@Test("a member that does not give up within its rebalance time-out is fenced, though it goes on reporting")
func slowRevocation() {
  let (world, members) = world(1)
  let new = world.join("m2")
  for _ in 0..<6 {
    world.beat(members[0], obeys: false)
    world.beat(new)
    world.pass(.seconds(5))
  }
  #expect(world.group.members.keys.sorted() == ["m2"])
  #expect(world.beat(members[0]) == .unknownMember)
  world.beat(new)
  #expect(new.owned.count == 4)
  #expect(world.problems == [])
}

@Test("epochs: ahead is fenced, behind is fenced unless the last answer may have been lost")
func epochs() {
  let (world, members) = world(2)
  var beat = members[0].beat()
  beat.epoch += 1
  #expect(world.refusal(beat) == .fencedMemberEpoch)
  beat.epoch -= 2
  #expect(beat.epoch == 1 && world.refusal(beat) == .fencedMemberEpoch, "without partitions nothing is known of it")
  beat.owned = members[0].owned
  #expect(world.refusal(beat) == nil)
  beat.owned = members[0].owned.union(members[1].owned)
  #expect(world.refusal(beat) == .fencedMemberEpoch, "it believes to have what is not its own")
  beat.memberID = "nobody"
  #expect(world.refusal(beat) == .unknownMember)
  #expect(world.problems == [])
}

@Test("an answer that was lost is repeated, and nothing is given twice")
func lostAnswers() {
  let (world, members) = world(1)
  let new = world.add(PlayedMember("m2", topics: ["t"]))
  world.beat(new, lost: true)
  #expect(world.group.epoch == 2)
  world.beat(new)
  #expect(new.epoch == 2 && world.group.epoch == 2, "joining twice is joining once")
  world.beat(members[0], lost: true)
  world.beat(members[0])
  world.beat(members[0], lost: true)
  world.rounds()
  #expect(members[0].owned.count == 2 && new.owned.count == 2 && world.group.state == .stable)
  #expect(world.problems == [])
}

@Test(
  "what a heartbeat that says everything does not list is free only after the next one, which shows that it was told")
func fullHeartbeats() {
  let (world, members) = world(1)
  let new = world.join("m2")
  // The answer that gives up two is lost, and the member lists nothing, as one that has yet to begin with what it was told.
  world.beat(members[0], lost: true)
  members[0].owned = []
  #expect(world.group.members["m1"]?.revoking.count == 2)
  world.beat(members[0], obeys: false)
  #expect(world.group.members["m1"]?.revoking.count == 2, "it could still begin with all four")
  world.beat(new)
  #expect(new.owned.isEmpty)
  world.beat(members[0])
  #expect(world.group.members["m1"]?.revoking.isEmpty == true)
  world.rounds()
  #expect(new.owned.count == 2 && members[0].owned.count == 2 && world.group.state == .stable)
  #expect(world.problems == [])
}

@Test("a client that says everything in every heartbeat is believed the second time")
func alwaysFull() {
  let (world, members) = world(1)
  let new = world.join("m2")
  for _ in 0..<4 {
    members[0].saysAll = true
    world.beat(members[0])
    world.beat(new)
  }
  #expect(new.owned.count == 2 && members[0].owned.count == 2 && world.group.state == .stable)
  #expect(world.problems == [])
}

@Test("commits: the current epoch may, an earlier one only for what has been held since, others not at all")
func commitEpochs() throws {
  let (world, members) = world(2)
  let kept = try #require(members[0].owned.first)
  let others = try #require(members[1].owned.first)
  func commit(_ id: String, _ epoch: Int32, _ one: TopicIDPartition) -> BrokerError.Code? {
    do throws(BrokerError) {
      try world.group.checkCommit(memberID: id, epoch: epoch, partitions: [one])
      return nil
    } catch {
      return error.code
    }
  }
  #expect(commit("m1", 2, kept) == nil)
  #expect(commit("m1", 1, kept) == nil, "held since epoch 1")
  #expect(commit("m1", 1, others) == .staleMemberEpoch, "given up since")
  #expect(commit("m2", 1, others) == .staleMemberEpoch, "held since epoch 2")
  #expect(commit("m1", 3, kept) == .staleMemberEpoch)
  #expect(commit("nobody", 2, kept) == .unknownMember)
  #expect(commit("", -1, kept) == .unknownMember, "the group has members")
  for member in members { world.leave(member) }
  #expect(commit("", -1, kept) == nil)
  #expect(throws: BrokerError.self) { try world.group.checkFetch(memberID: "m1", epoch: 2) }
}

@Test("topics that come, grow and go raise the epoch and are given out or taken back; others change nothing")
func topicChanges() {
  let world = ConsumerGroupWorld(topics: ["a": 2])
  let member = world.join("m1", topics: ["a", "b"])
  #expect(member.owned.count == 2 && world.group.epoch == 1)
  world.change { $0.make("other", 3) }
  #expect(world.group.epoch == 1)
  world.change { $0.make("b", 3) }
  #expect(world.group.epoch == 2)
  world.beat(member)
  #expect(member.owned.count == 5)
  world.change { $0.topics["a"]?.partitions = 4 }
  world.beat(member)
  #expect(member.owned.count == 7 && world.group.epoch == 3)
  world.change { $0.topics["a"] = nil }
  world.rounds()
  #expect(member.owned.count == 3 && world.group.state == .stable)
  world.change { $0.make("a", 1) }
  world.rounds()
  #expect(member.owned.count == 4, "a topic made again is another topic")
  #expect(world.problems == [])
}

@Test("a regular expression covers topics that come later, and can be given up")
func patterns() {
  let world = ConsumerGroupWorld(topics: ["logs-1": 1, "other": 1])
  let member = world.join("m1", topics: [], pattern: "logs-")
  #expect(member.owned.count == 1 && world.group.patterns == ["logs-"])
  world.change { $0.make("logs-2", 2) }
  world.rounds()
  #expect(member.owned.count == 3)
  member.pattern = nil
  member.topics = ["other"]
  member.saysAll = true
  world.rounds()
  #expect(member.owned.count == 1 && world.group.patterns == [] && world.group.state == .stable)
  #expect(world.problems == [])
}

@Test("the assignor is the one that most members ask for; changing one's mind raises the epoch only when it matters")
func assignorVotes() {
  let (world, members) = world(3)
  #expect(world.group.assignor == .uniform)
  let epoch = world.group.epoch
  for member in members[...1] {
    member.assignor = "range"
    member.saysAll = true
  }
  world.rounds()
  #expect(world.group.assignor == .range && world.group.epoch == epoch + 1)
  members[2].assignor = "range"
  members[2].saysAll = true
  world.rounds()
  #expect(world.group.epoch == epoch + 1)
  members[2].assignor = "none"
  members[2].saysAll = true
  #expect(world.beat(members[2]) == .unsupportedAssignor)
}

@Test("a full group takes nobody more, but those who are in it stay")
func fullGroup() {
  var rules = ConsumerGroupRules()
  rules.largestSize = 2
  let world = ConsumerGroupWorld(rules)
  let first = world.join("m1", instance: "i1")
  _ = world.join("m2")
  #expect(world.beat(PlayedMember("m3", topics: ["t"])) == .groupTooLarge)
  first.saysAll = true
  #expect(world.beat(first) == nil)
  world.leave(first, epoch: ConsumerGroup.pausing)
  let back = world.add(PlayedMember("m4", instance: "i1", topics: ["t"]))
  #expect(world.beat(back) == nil, "a static member takes its own place")
  #expect(world.problems == [])
}

@Test(
  "a heartbeat that contradicts itself is refused",
  arguments: [
    { $0.group = "" }, { $0.memberID = "" }, { $0.epoch = -3 }, { $0.epoch = -2 }, { $0.instanceID = "" },
    { $0.rackID = "" }, { $0.rebalanceTimeout = nil }, { $0.rebalanceTimeout = .zero }, { $0.owned = nil },
    { $0.owned = [TopicIDPartition(TopicID(high: 7, low: 1), 0)] },
    {
      $0.topics = []
      $0.pattern = ""
    }, { $0.topics = nil }, { $0.topics = (0...10_000).map { "\($0)" } },
  ] as [@Sendable (inout ConsumerHeartbeat) -> Void])
func contradictions(_ change: @Sendable (inout ConsumerHeartbeat) -> Void) {
  let world = ConsumerGroupWorld()
  var beat = PlayedMember("m1", topics: ["t"]).beat()
  beat.pattern = nil
  #expect(world.refusal(beat) == nil)
  change(&beat)
  #expect(world.refusal(beat) == .invalidRequest)
}

@Test("a static member that leaves for a while keeps its partitions and comes back without a rebalance")
func staticReturn() {
  let world = ConsumerGroupWorld()
  let staying = world.join("m1", instance: "i1")
  let going = world.join("m2", instance: "i2")
  world.rounds()
  let (owned, epoch) = (going.owned, world.group.epoch)
  world.leave(going, epoch: ConsumerGroup.pausing)
  world.pass(.seconds(10))
  world.beat(staying)
  #expect(staying.owned.count == 2 && world.group.epoch == epoch)
  #expect(world.refusal(going.beat(ConsumerGroup.leaving)) == nil || world.group.members["m2"] == nil)
  #expect(world.problems == [])
  // Again, and this time with its return.
  let third = world.join("m3", instance: "i2")
  world.rounds()
  let kept = (third.owned, world.group.epoch)
  world.leave(third, epoch: ConsumerGroup.pausing)
  let back = world.join("m4", instance: "i2")
  #expect(back.owned == kept.0 && world.group.epoch == kept.1 && back.epoch == kept.1)
  #expect(world.refusal(third.beat(kept.1)) == .fencedInstance)
  #expect(owned.count == 2 && world.group.state == .stable)
  #expect(world.problems == [])
}

@Test("a static member that does not come back is gone after its session, and its instance is free")
func staticGone() {
  let world = ConsumerGroupWorld()
  let staying = world.join("m1", instance: "i1")
  let going = world.join("m2", instance: "i2")
  world.rounds()
  world.leave(going, epoch: ConsumerGroup.pausing)
  for _ in 0..<5 {
    world.pass(.seconds(10))
    world.beat(staying)
  }
  #expect(staying.owned.count == 4 && world.group.instances == ["i1": "m1"])
  #expect(world.problems == [])
}

@Test("an instance id that is in use cannot be taken, and its holder can join again under it")
func instanceInUse() throws {
  let world = ConsumerGroupWorld()
  let holder = world.join("m1", instance: "i1")
  #expect(world.beat(PlayedMember("m2", instance: "i1", topics: ["t"])) == .unreleasedInstance)
  #expect(world.refusal(PlayedMember("m1", topics: ["t"]).beat()) == .fencedInstance)
  holder.fenced()
  #expect(world.beat(holder) == nil)
  #expect(holder.owned.count == 4)
  var stranger = holder.beat()
  stranger.memberID = "m9"
  #expect(world.refusal(stranger) == .fencedInstance)
  stranger.instanceID = "i9"
  #expect(world.refusal(stranger) == .unknownMember)
  try world.group.remove(instance: "i1")
  #expect(world.group.members.isEmpty)
  #expect(throws: BrokerError.self) { try world.group.remove(instance: "i1") }
  #expect(world.problems == [])
}

@Test("epochs go on from where they were, and begin again after the largest")
func epochNumbers() {
  let world = ConsumerGroupWorld(epoch: .max - 1)
  let member = world.join("m1")
  #expect(member.epoch == .max)
  world.leave(member)
  #expect(world.group.epoch == 1)
}

@Test("of a list of partitions the group keeps only what was given to the member")
func keptReports() throws {
  let world = ConsumerGroupWorld()
  let member = world.join("m1")
  let foreign = Set((0..<1000).map { TopicIDPartition(TopicID(high: 9, low: 9), $0) })
  member.hasNews = true
  var beat = member.beat()
  beat.owned = member.owned.union(foreign)
  #expect(world.refusal(beat) == nil)
  #expect(world.group.members["m1"]?.reported == member.owned)
  // Twice the same, with all that a heartbeat can say, is still believed.
  member.saysAll = true
  beat = member.beat()
  beat.owned = foreign
  _ = world.join("m2")
  for _ in 0..<2 { #expect(world.refusal(beat) == nil) }
  #expect(world.group.members["m1"]?.reported == [])
  #expect(world.group.members["m1"]?.revoking == [:], "what it has to give up it says it has not")
}
