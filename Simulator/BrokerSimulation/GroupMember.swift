// GroupMember: a member of a classic group as a client: joins, synchronises, heartbeats, leaves and dies.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// One member of the run's classic group. It may leave, fall silent for longer than its session, or die without a word.
final class GroupMember: GroupWorker {
  static let group = "members"
  private static let session = 250

  private var isSilent = false
  private let joinVersion: Int16

  init(_ scenario: BrokerScenario, id: Int, partitions: [TopicPartition]) {
    joinVersion = scenario.random.oneIn(2) ? 2 : 5
    super.init(scenario, id: id, group: GroupMember.group, partitions: partitions, history: \.group)
  }

  override func connected() {
    guard let positions, !positions.isEmpty else { return join() }
    // A new connection, the same membership.
    take(Array(positions.keys), isFirst: false)
  }

  override func commitRefused(_ code: KafkaErrorCode) { recover(from: code, "a commit") }

  // MARK: Membership

  private func join() {
    lose()
    let subscription = ConsumerProtocolSubscription(topics: Set(partitions.map(\.topic)).sorted())
    let request = JoinGroupRequest(
      groupID: group, sessionTimeoutMilliseconds: Int32(GroupMember.session),
      rebalanceTimeoutMilliseconds: 300, memberID: memberID, protocolType: "consumer",
      protocols: [.init(name: "range", metadata: subscription.encoded(version: 1))])
    channel?.send(request, version: joinVersion) { [self] response in
      switch response.errorCode {
      case .none:
        memberID = response.memberID
        epoch = response.generationID
        sync(response)
      case .memberIDRequired:
        memberID = response.memberID
        join()
      case let code: recover(from: code, "joining")
      }
    }
  }

  private func sync(_ joined: JoinGroupResponse) {
    var request = SyncGroupRequest(groupID: group, generationID: epoch, memberID: memberID)
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
    let assignment = "\(joined.leader)/\(epoch)"
    channel?.send(request, version: 2) { [self] response in
      guard response.errorCode == .none else { return recover(from: response.errorCode, "synchronising") }
      do throws(DecodingError) {
        let given = try ConsumerProtocolAssignment(scenario.sabotage.assignment(response.assignment))
          .assignedPartitions.flatMap { topic in topic.partitions.map { TopicPartition(topic.topic, $0) } }
        enter()
        scenario.note(ledger.assigned(assignment, to: name, given), .groupOwnership)
        take(given, isFirst: true)
      } catch {
        scenario.ledger.violate("member \(name): an assignment cannot be read: \(error)")
      }
    }
  }

  /// What a member does about a refusal.
  private func recover(from code: KafkaErrorCode, _ what: String) {
    switch code {
    case .unknownMemberID, .illegalGeneration:
      memberID = ""
      lose()
      scenario.count("members that were put out")
      soon(40) { [self] in join() }
    case .rebalanceInProgress:
      lose()
      soon(5) { [self] in join() }
    case .coordinatorNotAvailable, .notCoordinator, .kafkaStorageError, .notLeaderOrFollower: reconnect()
    default: scenario.ledger.violate("member \(name): \(what) failed: \(code)")
    }
  }

  /// Asks where to begin in the given partitions, then goes to work.
  private func take(_ given: [TopicPartition], isFirst: Bool) {
    guard !given.isEmpty else { return work() }
    let sorted = GroupWorker.sorted(given)
    let topics = sorted.map {
      OffsetFetchRequest.OffsetFetchRequestTopic(name: $0.topic, partitionIndexes: [$0.partition])
    }
    let mine = stint
    let since = sorted.map { ledger.lastAcknowledged($0) }
    channel?.send(OffsetFetchRequest(groupID: group, topics: topics), version: 5) { [self] response in
      guard response.errorCode == .none, response.topics.count == sorted.count else { return reconnect() }
      guard mine == stint else { return }
      for (index, topic) in response.topics.enumerated() {
        guard let answer = topic.partitions.first else { continue }
        let told = scenario.sabotage.committedOffset(answer.committedOffset)
        if isFirst {
          begin(sorted[index], told: told, since: since[index])
        } else {
          scenario.note(ledger.told(sorted[index], committed: told, since: since[index]), .groupOffsets)
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
    switch scenario.isCalm ? -1 : Int.random(in: 0..<40, using: &random) {
    case 0: return giveUpAll { [self] in leave() }
    case 1: return die()
    case 2: return fallSilent()
    default: break
    }
    let request = HeartbeatRequest(groupID: group, generationID: epoch, memberID: memberID)
    channel?.send(request, version: 2) { [self] response in
      switch response.errorCode {
      case .none: soon(80) { [self] in heartbeat() }
      case .rebalanceInProgress: giveUpAll { [self] in join() }
      case let code: recover(from: code, "a heartbeat")
      }
    }
  }

  private func leave() {
    scenario.count("members that left")
    channel?.send(LeaveGroupRequest(groupID: group, memberID: memberID), version: 1) { [self] _ in
      memberID = ""
      soon(100) { [self] in join() }
    }
  }

  /// Is gone without a word, and comes back as somebody else.
  private func die() {
    scenario.count("members that died")
    lose()
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
}
