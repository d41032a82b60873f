// MixedGroupTests: groups that change their protocol while they have members, rule by rule.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceBroker

/// Rules of a group with members of both protocols, whose classic ones behave as clients do.
private final class MixedWorld {
  /// A classic client: what it works on, and what it believes.
  final class Classic {
    let id: String
    let instance: String?
    /// Gives up everything before it joins, as with range; else only what it is told to, as with cooperative-sticky.
    let isEager: Bool
    var topics = ["t"]
    var generation: Int32 = -1
    var owned: Set<TopicIDPartition> = []
    var mustJoin = true

    init(_ id: String, instance: String? = nil, isEager: Bool) {
      self.id = id
      self.instance = instance
      self.isEager = isEager
    }
  }

  let world = ConsumerGroupWorld(topics: ["t": 6])
  var classic: [Classic] = []

  func part(_ protocols: [String] = ["range"]) -> ConsumerGroup.ClassicPart {
    ConsumerGroup.ClassicPart(
      sessionTimeout: .seconds(10), protocols: protocols.map { GroupProtocol(name: $0, metadata: Bytes()) }, version: 1)
  }

  /// Takes over a stable classic group with members that have two partitions each.
  func upgrade(_ ids: [String], eager: Bool = true, epoch: Int32 = 0) {
    let old = GroupWorld.stable(ids.count)
    let topic = world.topics.topics["t"]!
    var subscriptions: [String: ClassicSubscription] = [:]
    var assignments: [String: Set<TopicIDPartition>] = [:]
    for (at, member) in old.group.members.enumerated() {
      subscriptions[member.id] = ClassicSubscription(topics: ["t"], owned: [], version: 1)
      assignments[member.id] = Set((0..<2).map { TopicIDPartition(topic.id, Int32(2 * at + $0)) })
      let client = Classic(member.id, isEager: eager)
      client.generation = old.group.generation
      client.owned = assignments[member.id] ?? []
      client.mustJoin = false
      classic.append(client)
    }
    world.group = ConsumerGroup(
      old.group, subscriptions, assignments, rules: ConsumerGroupRules(), epoch: epoch, topics: world.topics)
    check()
  }

  @discardableResult
  func join(_ client: Classic, protocols: [String] = ["range"]) -> BrokerError.Code? {
    var beat = ConsumerHeartbeat(group: "g", memberID: client.id, epoch: 0, clientID: "c", clientHost: "/h")
    beat.instanceID = client.instance
    beat.topics = client.topics
    beat.pattern = ""
    beat.rebalanceTimeout = .seconds(30)
    if client.isEager { client.owned = [] }
    beat.owned = client.owned
    defer { check() }
    do throws(BrokerError) {
      client.generation = try world.group.joinClassic(
        beat, part(protocols), topics: world.topics, now: world.now)
      if !classic.contains(where: { $0 === client }) { classic.append(client) }
      let member = try world.group.syncClassic(
        client.id, client.instance, generation: client.generation, type: "consumer", chosen: protocols[0],
        now: world.now)
      let assigned = Set(member.assigned.keys)
      // A cooperative client that has to give something up joins again at once.
      client.mustJoin = !client.isEager && !client.owned.isSubset(of: assigned)
      client.owned = assigned
      return nil
    } catch {
      return error.code
    }
  }

  @discardableResult
  func beat(_ client: Classic) -> BrokerError.Code? {
    defer { check() }
    do throws(BrokerError) {
      try world.group.heartbeatClassic(client.id, client.instance, generation: client.generation, now: world.now)
      return nil
    } catch {
      if error.code == .rebalanceInProgress { client.mustJoin = true }
      if error.code == .unknownMember || error.code == .illegalGeneration {
        client.owned = []
        client.mustJoin = true
      }
      return error.code
    }
  }

  func leave(_ client: Classic) {
    classic.removeAll { $0 === client }
    #expect(throws: Never.self) { try world.group.leaveClassic(client.id, client.instance) }
    check()
  }

  /// Everybody reports and does what it is told, so many times.
  func rounds(_ count: Int = 6) {
    for _ in 0..<count {
      world.rounds(1)
      for client in classic {
        if !client.mustJoin { beat(client) }
        if client.mustJoin { join(client) }
      }
    }
  }

  /// No two clients of either protocol work on one partition, and what one works on is kept for it.
  func check(_ location: SourceLocation = #_sourceLocation) {
    world.check()
    var workers: [TopicIDPartition: String] = [:]
    for (id, owned) in classic.map({ ($0.id, $0.owned) }) + world.members.map({ ($0.id, $0.owned) }) {
      guard let known = world.group.members[id] else { continue }
      for one in owned {
        #expect(
          known.assigned[one] != nil || known.revoking[one] != nil, "\(id) works on \(one) unheld",
          sourceLocation: location)
        let other = workers.updateValue(id, forKey: one)
        #expect(other == nil, "\(one) is worked on by \(other ?? "") and \(id)", sourceLocation: location)
      }
    }
    #expect(world.problems == [], sourceLocation: location)
  }

  var loads: [Int] { (classic.map(\.owned.count) + world.members.map(\.owned.count)).sorted() }
}

@Test(
  "a classic group goes over: everybody keeps what it has, and then shares with the newcomer", arguments: [true, false])
func upgradeKeeps(_ eager: Bool) throws {
  let mixed = MixedWorld()
  mixed.upgrade(["m1", "m2", "m3"], eager: eager, epoch: 40)
  #expect(mixed.world.group.epoch == 40 && mixed.world.group.isAllClassic)
  let new = mixed.world.join("new")
  #expect(new.owned.isEmpty && new.epoch > 40, "nothing is free yet")
  // Work that was done before is committed under the generation in which it was.
  let first = mixed.classic[0]
  try mixed.world.group.checkCommit(memberID: first.id, epoch: first.generation, partitions: nil)
  #expect(mixed.beat(first) == .rebalanceInProgress)
  mixed.rounds()
  #expect(mixed.loads == [1, 1, 2, 2] && mixed.world.group.state == .stable)
  #expect(mixed.beat(first) == nil)
  #expect(throws: BrokerError.self) { try mixed.world.group.checkCommit(memberID: first.id, epoch: 1, partitions: []) }
}

@Test("members are changed one by one to the consumer protocol, and back, without two of them on one partition")
func rollingChange() throws {
  for eager in [true, false] {
    let mixed = MixedWorld()
    mixed.upgrade(["m1", "m2", "m3"], eager: eager)
    for number in 1...3 {
      let leaving = mixed.classic.removeFirst()
      try mixed.world.group.leaveClassic(leaving.id, nil)
      _ = mixed.world.join("new\(number)")
      mixed.rounds()
      #expect(mixed.loads == [2, 2, 2])
    }
    #expect(!mixed.world.group.members.values.contains { $0.classic != nil })
    for number in 1...3 {
      mixed.world.leave(mixed.world.members[0])
      #expect(mixed.join(MixedWorld.Classic("old\(number)", isEager: eager)) == nil)
      mixed.rounds()
      #expect(mixed.loads == [2, 2, 2])
    }
    #expect(mixed.world.group.isAllClassic)
  }
}

@Test("a cooperative classic member keeps its epoch while it has something to give up")
func cooperativeGivesUp() {
  let mixed = MixedWorld()
  mixed.upgrade(["m1"], eager: false)
  let old = mixed.classic[0]
  let generation = old.generation
  // It has two of six; the others are free for the newcomer, but its own share is three.
  let new = mixed.world.join("new")
  mixed.rounds()
  #expect(mixed.loads == [3, 3])
  let third = mixed.world.join("third")
  #expect(mixed.beat(old) == .rebalanceInProgress)
  let before = old.generation
  #expect(before > generation)
  #expect(mixed.join(old) == nil && old.generation == before && old.mustJoin, "told to give one up")
  #expect(mixed.beat(old) == .rebalanceInProgress)
  #expect(mixed.join(old) == nil && old.generation > before)
  mixed.rounds()
  #expect(mixed.loads == [2, 2, 2] && new.owned.count == 2 && third.owned.count == 2)
}

@Test("a classic member that does not join again in time, or says nothing, is gone")
func classicDeadlines() {
  let mixed = MixedWorld()
  mixed.upgrade(["m1", "m2"])
  let new = mixed.world.join("new")
  let slow = mixed.classic[0]
  for _ in 0..<8 {
    #expect(mixed.beat(slow) == .rebalanceInProgress)
    mixed.world.pass(.seconds(8))
    mixed.world.beat(new)
  }
  #expect(mixed.beat(slow) == .unknownMember, "60 s to join again are over")
  #expect(mixed.beat(mixed.classic[1]) == .unknownMember, "its session of 10 s is over")
  mixed.world.rounds()
  #expect(new.owned.count == 6)
  // One that joined, but never asks for its assignment.
  let silent = MixedWorld.Classic("silent", isEager: true)
  #expect(mixed.join(silent) == nil)
  mixed.world.group.members["silent"]?.classic?.deadline = mixed.world.now + .seconds(5)
  mixed.world.pass(.seconds(6))
  #expect(mixed.beat(silent) == .unknownMember)
}

@Test("static members change protocol under their instance id, at once")
func staticChange() {
  let mixed = MixedWorld()
  let old = MixedWorld.Classic("old", instance: "i", isEager: true)
  #expect(mixed.join(old) == nil && old.owned.count == 6)
  let new = mixed.world.join("new", instance: "i")
  #expect(new.epoch > 0 && new.owned.count == 6, "it has what its instance had")
  #expect(mixed.beat(old) == .fencedInstance)
  mixed.classic = []
  let back = MixedWorld.Classic("back", instance: "i", isEager: true)
  mixed.world.members = []
  #expect(mixed.join(back) == nil && back.owned.count == 6)
  #expect(mixed.world.refusal(new.beat()) == .fencedInstance)
}

@Test("what a classic member may not do")
func classicRefusals() {
  let mixed = MixedWorld()
  mixed.upgrade(["m1"])
  _ = mixed.world.join("new")
  let other = MixedWorld.Classic("other", isEager: true)
  #expect(mixed.join(other, protocols: ["sticky"]) == .inconsistentGroupProtocol)
  #expect(mixed.world.group.members["other"] == nil)
  // A member of one protocol does not speak the other one.
  var beat = ConsumerHeartbeat(group: "g", memberID: mixed.classic[0].id, epoch: 1, clientID: "c", clientHost: "/h")
  #expect(mixed.world.refusal(beat) == .unknownMember)
  beat.memberID = "new"
  let spy = MixedWorld.Classic("new", isEager: true)
  spy.generation = mixed.world.members[0].epoch
  #expect(mixed.beat(spy) == .unknownMember)
  #expect(throws: BrokerError.self) { try mixed.world.group.leaveClassic("new", nil) }
  let stale = MixedWorld.Classic(mixed.classic[0].id, isEager: true)
  stale.generation = 99
  #expect(mixed.beat(stale) == .illegalGeneration)
}

@Test("whatever happens in a mixed group, no two members work on one partition, and it settles evenly")
func randomMixedGroups() {
  for seed: UInt64 in 1...300 {
    var random = SeededRandom(seed: seed)
    let mixed = MixedWorld()
    mixed.upgrade(["m1", "m2", "m3"], eager: random.oneIn(2))
    for step in 0..<60 {
      switch Int.random(in: 0..<10, using: &random) {
      case 0 where mixed.classic.count > 1 && mixed.world.members.count + mixed.classic.count > 2:
        let leaving = mixed.classic.remove(at: Int.random(in: 0..<mixed.classic.count, using: &random))
        if random.oneIn(2), mixed.world.group.members[leaving.id] != nil { mixed.leave(leaving) }
      case 1 where mixed.world.members.count < 4: _ = mixed.world.join("new\(step)")
      case 2 where mixed.classic.count < 4: mixed.join(MixedWorld.Classic("old\(step)", isEager: random.oneIn(2)))
      case 3:
        if let member = mixed.world.members.randomElement(using: &random), random.oneIn(2) { mixed.world.leave(member) }
      case 4: mixed.world.pass(.milliseconds(Int.random(in: 0...4000, using: &random)))
      case 5: mixed.world.change { $0.topics["t"]?.partitions += random.oneIn(3) ? 1 : 0 }
      case 6, 7:
        if let member = mixed.world.members.randomElement(using: &random) {
          mixed.world.beat(member, lost: !member.saysAll && random.oneIn(4), obeys: !random.oneIn(3))
        }
      default:
        guard let client = mixed.classic.randomElement(using: &random) else { continue }
        if client.mustJoin { mixed.join(client) } else { mixed.beat(client) }
      }
      mixed.check()
    }
    for _ in 0..<12 {
      mixed.world.pass(.seconds(5))
      mixed.rounds(1)
      for member in mixed.world.members { member.obey() }
    }
    mixed.rounds()
    #expect(mixed.world.group.state == .stable || mixed.loads.isEmpty, "seed \(seed)")
    let given = mixed.loads.reduce(0, +)
    #expect(mixed.loads.isEmpty || given == mixed.world.topics.topics["t"].map { Int($0.partitions) }, "seed \(seed)")
    #expect((mixed.loads.last ?? 0) - (mixed.loads.first ?? 0) <= 1, "seed \(seed): \(mixed.loads)")
  }
}

@Test("a classic group that goes on from one of the consumer protocol takes work under the epochs that its members had")
func goesOnClassic() {
  var group = ClassicGroup(name: "g", initialDelay: .zero, largestSize: 10)
  let now = MonotonicTime(nanoseconds: 0)
  let members = (1...2).map { number in
    var member = ClassicGroup.Member(
      id: "m\(number)", clientID: "c", clientHost: "/h", sessionTimeout: .seconds(10), rebalanceTimeout: .seconds(30),
      protocols: [GroupProtocol(name: "range", metadata: Bytes())], deadline: now + .seconds(10))
    member.carriedGeneration = Int32(10 + number)
    return member
  }
  group.goOn(with: members, generation: 12, now: now)
  #expect(group.state == .preparing)
  func refusal(_ id: String, _ generation: Int32) -> BrokerError.Code? {
    do throws(BrokerError) {
      try group.heartbeat(memberID: id, instanceID: nil, generation: generation, now: now)
      return nil
    } catch {
      return error.code
    }
  }
  #expect(refusal("m1", 11) == .rebalanceInProgress && refusal("m2", 12) == .rebalanceInProgress)
  #expect(refusal("m1", 12) == .illegalGeneration)
  #expect(throws: Never.self) { try group.checkCommit(memberID: "m1", instanceID: nil, generation: 11) }
  for (call, id) in [(GroupCall(1), "m1"), (2, "m2")] {
    group.join(
      GroupJoin(
        memberID: id, clientID: "c", clientHost: "/h", sessionTimeout: .seconds(10), rebalanceTimeout: .seconds(30),
        protocolType: "consumer", protocols: members[0].protocols, requiresKnownID: true, newMemberID: "x"),
      call: call, now: now)
  }
  #expect(group.state == .completing && group.generation == 13)
  #expect(refusal("m1", 11) == .illegalGeneration && refusal("m1", 13) == nil)
}
