// GroupWorld: one group with a clock, the answers its calls have had, and the rules that must hold after each event.

import MillraceBase

@testable import MillraceBroker

/// A group under test. Answers are kept by the number of their call.
final class GroupWorld {
  private(set) var group: ClassicGroup
  private(set) var now = MonotonicTime(nanoseconds: 0)
  private(set) var joins: [GroupCall: Result<GroupJoined, BrokerError>] = [:]
  private(set) var syncs: [GroupCall: Result<GroupSynced, BrokerError>] = [:]
  private(set) var calls: GroupCall = 0
  /// Rules that were broken.
  private(set) var problems: [String] = []

  init(initialDelay: Duration = .zero, largestSize: Int = 100, generation: Int32 = 0) {
    group = ClassicGroup(name: "g", initialDelay: initialDelay, largestSize: largestSize, generation: generation)
  }

  /// Calls that were not answered yet.
  var open: [GroupCall] { (0..<calls).map { $0 + 1 }.filter { joins[$0] == nil && syncs[$0] == nil } }

  // MARK: Events

  /// Joins; the call's number is also what a new id ends with.
  @discardableResult
  func join(
    _ id: String = "", instance: String? = nil, type: String = "consumer", protocols: [String] = ["range"],
    metadata: String = "m", session: Duration = .seconds(10), rebalance: Duration = .seconds(60), known: Bool = false
  ) -> GroupCall {
    calls += 1
    group.join(
      GroupJoin(
        memberID: id, instanceID: instance, clientID: "c", clientHost: "/h", sessionTimeout: session,
        rebalanceTimeout: rebalance, protocolType: type,
        protocols: protocols.map { GroupProtocol(name: $0, metadata: Bytes(Array("\($0)-\(metadata)".utf8))) },
        requiresKnownID: known, newMemberID: "m\(calls)"),
      call: calls, now: now)
    settle()
    return calls
  }

  @discardableResult
  func sync(
    _ id: String, instance: String? = nil, _ generation: Int32? = nil, type: String? = nil, name: String? = nil,
    assigning assignments: [String: String] = [:]
  ) -> GroupCall {
    calls += 1
    group.sync(
      memberID: id, instanceID: instance, generation: generation ?? group.generation, protocolType: type,
      protocolName: name,
      assignments: assignments.sorted { $0.key < $1.key }.map { ($0.key, Bytes(Array($0.value.utf8))) },
      call: calls, now: now)
    settle()
    return calls
  }

  /// The refusal of a heartbeat, nil when it is taken.
  @discardableResult
  func beat(_ id: String, instance: String? = nil, _ generation: Int32? = nil) -> BrokerError.Code? {
    defer { settle() }
    do throws(BrokerError) {
      try group.heartbeat(
        memberID: id, instanceID: instance, generation: generation ?? group.generation, now: now)
      return nil
    } catch {
      return error.code
    }
  }

  @discardableResult
  func leave(_ id: String, instance: String? = nil) -> BrokerError.Code? {
    defer { settle() }
    do throws(BrokerError) {
      try group.leave(memberID: id, instanceID: instance, now: now)
      return nil
    } catch {
      return error.code
    }
  }

  func commit(_ id: String, instance: String? = nil, _ generation: Int32) -> BrokerError.Code? {
    do throws(BrokerError) {
      try group.checkCommit(memberID: id, instanceID: instance, generation: generation)
      return nil
    } catch {
      return error.code
    }
  }

  /// Lets time pass, with ticks at each deadline.
  func pass(_ time: Duration) {
    let end = now + time
    while let next = group.nextDeadline, next <= end {
      now = next
      group.tick(now)
      settle()
      if let after = group.nextDeadline, after <= now {
        problems.append("after a tick at \(now.nanoseconds) the next deadline is \(after.nanoseconds)")
        break
      }
    }
    now = end
  }

  func close() {
    group.close()
    settle()
  }

  // MARK: Answers

  /// What a join was answered with, if it was and with success.
  func joined(_ call: GroupCall) -> GroupJoined? {
    guard case .success(let joined) = joins[call] else { return nil }
    return joined
  }

  func joinError(_ call: GroupCall) -> BrokerError.Code? {
    guard case .failure(let error) = joins[call] else { return nil }
    return error.code
  }

  /// The assignment that a sync brought.
  func assigned(_ call: GroupCall) -> String? {
    guard case .success(let synced) = syncs[call] else { return nil }
    return String(decoding: synced.assignment.withBuffer { Array($0) }, as: UTF8.self)
  }

  func syncError(_ call: GroupCall) -> BrokerError.Code? {
    guard case .failure(let error) = syncs[call] else { return nil }
    return error.code
  }

  /// A group of `count` members m1, m2 … that is stable; the first one leads.
  static func stable(_ count: Int, instances: Bool = false, session: Duration = .seconds(10)) -> GroupWorld {
    let world = GroupWorld(initialDelay: .seconds(1))
    for number in 1...count { world.join(instance: instances ? "i\(number)" : nil, session: session) }
    world.pass(.seconds(2))
    return world.synced()
  }

  /// After everybody asked for its assignment, which the leader made of the ids.
  private func synced() -> GroupWorld {
    let ids = group.members.map { ($0.id, $0.instanceID) }
    for (id, instance) in ids where id != group.leader { sync(id, instance: instance) }
    for (id, instance) in ids where id == group.leader {
      sync(id, instance: instance, assigning: Dictionary(uniqueKeysWithValues: ids.map { ($0.0, "for \($0.0)") }))
    }
    return self
  }

  // MARK: Rules

  private func settle() {
    for action in group.takeActions() {
      switch action {
      case .answerJoin(let call, let result):
        if joins.updateValue(result, forKey: call) != nil { problems.append("join \(call) was answered twice") }
      case .answerSync(let call, let result):
        if syncs.updateValue(result, forKey: call) != nil { problems.append("sync \(call) was answered twice") }
      }
    }
    check()
  }

  private func check() {
    let members = group.members
    func require(_ holds: Bool, _ rule: @autoclosure () -> String) {
      if !holds { problems.append("\(now.nanoseconds) \(group.state): \(rule())") }
    }
    require(Set(members.map(\.id)).count == members.count, "two members have one id")
    let instances = members.compactMap(\.instanceID)
    require(Set(instances).count == instances.count, "two members have one instance: \(instances)")
    require(group.state == .empty || !members.isEmpty, "nobody is there")
    require(group.state != .empty || members.isEmpty, "an empty group has members")
    let waiting = Set(members.compactMap(\.join) + members.compactMap(\.sync))
    require(waiting == Set(open), "calls \(open) are open, \(waiting) are known to wait")
    require(members.allSatisfy { $0.join == nil } || group.state == .preparing, "a join waits")
    require(members.allSatisfy { $0.sync == nil } || group.state == .completing, "a sync waits")
    if group.state == .stable || group.state == .completing {
      require(members.contains { $0.id == group.leader }, "the leader is no member")
      require(
        members.allSatisfy { $0.protocols.contains { $0.name == group.protocolName } },
        "\(group.protocolName) is not known to all")
      require(group.generation > 0, "generation \(group.generation)")
    }
    require(group.state == .empty || group.nextDeadline != nil, "nothing would ever end")
    require(group.state != .empty || group.isForgettable == (group.nextDeadline == nil), "an empty group is kept")
  }
}
