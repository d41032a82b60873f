// GroupMember: a member of a classic group as a client: joins, synchronises, heartbeats, reads, commits, leaves and dies.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// One member of the run's group. It may leave, fall silent for longer than its session, or die without a word.
final class GroupMember: SimulatedClient {
  static let group = "members"
  private static let session = 250

  private let id: Int
  private let partitions: [TopicPartition]
  private var memberID = ""
  private var generation: Int32 = -1
  /// What is its own now, with the next offset of each; nil while it takes part in a rebalance.
  private var positions: [TopicPartition: Offset]?
  /// What the acknowledged commits of this member say.
  private var committed: [TopicPartition: Offset] = [:]
  private var commitsUnderWay = 0
  private var isSilent = false
  private let joinVersion: Int16

  init(_ scenario: BrokerScenario, id: Int, partitions: [TopicPartition]) {
    self.id = id
    self.partitions = partitions
    joinVersion = scenario.random.oneIn(2) ? 2 : 5
    super.init(scenario)
  }

  private var name: String { "\(id):\(memberID)" }

  override func connected() {
    commitsUnderWay = 0
    guard let positions, !positions.isEmpty else { return join() }
    // A new connection, the same membership.
    take(Array(positions.keys))
  }

  override func disconnected() { commitsUnderWay = 0 }

  // MARK: Membership

  private func join() {
    positions = nil
    committed = [:]
    let subscription = ConsumerProtocolSubscription(topics: Set(partitions.map(\.topic)).sorted())
    let request = JoinGroupRequest(
      groupID: GroupMember.group, sessionTimeoutMilliseconds: Int32(GroupMember.session),
      rebalanceTimeoutMilliseconds: 300, memberID: memberID, protocolType: "consumer",
      protocols: [.init(name: "range", metadata: subscription.encoded(version: 1))])
    channel?.send(request, version: joinVersion) { [self] response in
      switch response.errorCode {
      case .none:
        memberID = response.memberID
        generation = response.generationID
        sync(response)
      case .memberIDRequired:
        memberID = response.memberID
        join()
      case let code: recover(from: code, "joining")
      }
    }
  }

  private func sync(_ joined: JoinGroupResponse) {
    var request = SyncGroupRequest(groupID: GroupMember.group, generationID: generation, memberID: memberID)
    if joined.leader == memberID {
      for (index, member) in joined.members.enumerated() {
        var topics: [ConsumerTopicPartitions] = []
        for place in stride(from: index, to: partitions.count, by: joined.members.count) {
          topics.append(.init(topic: partitions[place].topic, partitions: [partitions[place].partition]))
        }
        request.assignments.append(
          .init(memberID: member.memberID, assignment: ConsumerProtocolAssignment(topics).encoded(version: 0)))
      }
    }
    let assignment = "\(joined.leader)/\(generation)"
    channel?.send(request, version: 2) { [self] response in
      guard response.errorCode == .none else { return recover(from: response.errorCode, "synchronising") }
      do throws(DecodingError) {
        let given = try ConsumerProtocolAssignment(scenario.sabotage.assignment(response.assignment))
          .assignedPartitions.flatMap { topic in topic.partitions.map { TopicPartition(topic.topic, $0) } }
        positions = [:]
        scenario.note(scenario.group.assigned(assignment, to: name, given))
        take(given)
      } catch {
        scenario.ledger.violate("member \(name): an assignment cannot be read: \(error)")
      }
    }
  }

  /// What a member does about a refusal.
  private func recover(from code: KafkaErrorCode, _ what: String) {
    switch code {
    case .unknownMemberID, .illegalGeneration:
      // Everything is lost that was not committed; it is somebody else's now.
      memberID = ""
      positions = nil
      scenario.count("members that were put out")
      soon(40) { [self] in join() }
    case .rebalanceInProgress:
      positions = nil
      soon(5) { [self] in join() }
    case .coordinatorNotAvailable, .notCoordinator, .kafkaStorageError, .notLeaderOrFollower: reconnect()
    default: scenario.ledger.violate("member \(name): \(what) failed: \(code)")
    }
  }

  /// Asks where to begin in the given partitions, then goes to work.
  private func take(_ given: [TopicPartition]) {
    guard !given.isEmpty else { return work() }
    let sorted = given.sorted { ($0.topic, $0.partition) < ($1.topic, $1.partition) }
    let isFirst = positions?.isEmpty == true
    let topics = sorted.map {
      OffsetFetchRequest.OffsetFetchRequestTopic(name: $0.topic, partitionIndexes: [$0.partition])
    }
    let mine = generation
    let since = sorted.map { scenario.group.lastAcknowledged($0) }
    channel?.send(OffsetFetchRequest(groupID: GroupMember.group, topics: topics), version: 5) { [self] response in
      guard response.errorCode == .none, response.topics.count == sorted.count else { return reconnect() }
      guard mine == generation, positions != nil else { return }
      for (index, topic) in response.topics.enumerated() {
        let partition = sorted[index]
        guard let answer = topic.partitions.first else { continue }
        let told = scenario.sabotage.committedOffset(answer.committedOffset)
        if isFirst {
          scenario.note(scenario.group.begins(name, partition, committed: told, since: since[index]))
          positions?[partition] = max(0, told)
        } else {
          scenario.note(scenario.group.told(partition, committed: told, since: since[index]))
        }
      }
      work()
    }
  }

  private func work() {
    scenario.count("assignments taken")
    soon(30) { [self] in heartbeat() }
    soon(10) { [self] in fetch() }
  }

  private func heartbeat() {
    guard positions != nil, !isSilent else { return }
    switch Int.random(in: 0..<40, using: &random) {
    case 0: return giveUp { [self] in leave() }
    case 1: return die()
    case 2: return fallSilent()
    default: break
    }
    let request = HeartbeatRequest(groupID: GroupMember.group, generationID: generation, memberID: memberID)
    channel?.send(request, version: 2) { [self] response in
      switch response.errorCode {
      case .none: soon(80) { [self] in heartbeat() }
      case .rebalanceInProgress: giveUp { [self] in join() }
      case let code: recover(from: code, "a heartbeat")
      }
    }
  }

  /// Commits everything that was processed and hands the partitions over.
  private func giveUp(_ next: @escaping () -> Void) {
    guard let held = positions else { return }
    let left = held.filter { committed[$0.key] != $0.value }.keys
      .sorted { ($0.topic, $0.partition) < ($1.topic, $1.partition) }
    positions = nil
    guard !left.isEmpty || commitsUnderWay > 0 else { return handOver(held, next) }
    // An earlier commit may still be under way; its answer comes before that of a later one.
    guard let last = left.last else { return soon(5) { [self] in resume(held, next) } }
    for partition in left {
      commit(partition, held[partition] ?? 0) { [self] isDone in
        guard partition == last else { return }
        if isDone { handOver(held, next) } else { next() }
      }
    }
  }

  private func resume(_ held: [TopicPartition: Offset], _ next: @escaping () -> Void) {
    positions = held
    giveUp(next)
  }

  private func handOver(_ held: [TopicPartition: Offset], _ next: () -> Void) {
    for (partition, offset) in held { scenario.group.handsOver(partition, at: offset) }
    next()
  }

  private func leave() {
    scenario.count("members that left")
    channel?.send(LeaveGroupRequest(groupID: GroupMember.group, memberID: memberID), version: 1) { [self] _ in
      memberID = ""
      soon(100) { [self] in join() }
    }
  }

  /// Is gone without a word, and comes back as somebody else.
  private func die() {
    scenario.count("members that died")
    positions = nil
    memberID = ""
    later(2 * GroupMember.session) { [self] in reconnect() }
  }

  /// Goes on reading and committing, but forgets its heartbeats for longer than the session.
  private func fallSilent() {
    scenario.count("late heartbeats")
    isSilent = true
    later(3 * GroupMember.session) { [weak self] in
      guard let self else { return }
      self.isSilent = false
      self.soon(1) { self.heartbeat() }
    }
  }

  // MARK: Records

  private func fetch() {
    guard let channel, let held = positions else { return }
    guard
      let partition = held.keys.sorted(by: { ($0.topic, $0.partition) < ($1.topic, $1.partition) })
        .shuffled(using: &random).first, let from = held[partition]
    else { return }
    let wish = FetchRequest.FetchPartition(
      partition: partition.partition, fetchOffset: from, partitionMaxBytes: Int32.random(in: 1...20_000, using: &random)
    )
    let request = FetchRequest(
      maxWaitMilliseconds: 10, minBytes: 1, maxBytes: 40_000, sessionEpoch: -1,
      topics: [.init(topic: partition.topic, partitions: [wish])])
    let mine = generation
    channel.send(request, version: 11) { [self] response in
      guard mine == generation, positions?[partition] == from else { return }
      guard let answer = response.responses.first?.partitions.first, answer.errorCode == .none else {
        let code = response.responses.first?.partitions.first?.errorCode ?? response.errorCode
        if code == .notLeaderOrFollower || code == .kafkaStorageError && scenario.mayFailReads { return reconnect() }
        return scenario.ledger.violate("member \(name): fetching \(partition) at \(from) failed: \(code)")
      }
      process(answer, partition, from)
    }
  }

  private func process(_ answer: FetchResponse.PartitionData, _ partition: TopicPartition, _ from: Offset) {
    var next = from
    do throws(RecordProblem) {
      for (offset, name) in try TestRecord.names(answer.records, in: partition) where offset >= next {
        if offset != next { scenario.ledger.violate("\(partition): offset \(offset) comes where \(next) is next") }
        scenario.ledger.read(partition, name, at: offset)
        next = offset + 1
      }
    } catch {
      scenario.ledger.violate(error.text)
    }
    positions?[partition] = next
    scenario.group.processed(partition, before: next)
    if next > from, random.oneIn(2) { commit(partition, next) { _ in } }
    soon(25) { [self] in fetch() }
  }

  private func commit(_ partition: TopicPartition, _ offset: Offset, _ done: @escaping (Bool) -> Void) {
    guard let channel else { return }
    let number = scenario.group.committing(partition, offset)
    commitsUnderWay += 1
    let wish = OffsetCommitRequest.OffsetCommitRequestPartition(
      partitionIndex: partition.partition, committedOffset: offset)
    let request = OffsetCommitRequest(
      groupID: GroupMember.group, generationIDOrMemberEpoch: generation, memberID: memberID,
      topics: [.init(name: partition.topic, partitions: [wish])])
    let mine = memberID
    channel.send(request, version: 6) { [self] response in
      commitsUnderWay -= 1
      guard let answer = response.topics.first?.partitions.first else {
        return scenario.ledger.violate("member \(name): a commit's answer is empty")
      }
      switch answer.errorCode {
      case .none:
        scenario.group.acknowledged(number, partition)
        if mine == memberID { committed[partition] = offset }
        done(true)
      case .kafkaStorageError, .notLeaderOrFollower, .coordinatorNotAvailable: reconnect()
      case let code:
        scenario.group.refused(number, partition)
        if positions == nil { done(false) } else { recover(from: code, "a commit") }
      }
    }
  }
}
