// ConsumerMember: a member of a group of the consumer protocol (KIP-848) as a client: one heartbeat for everything.
//
// It makes its id itself and keeps it as long as it lives. Partitions that an answer leaves out are given up, with a last
// commit, before the next heartbeat says so; those that an answer adds are begun at the committed offset.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// One member of the run's group of the consumer protocol.
final class ConsumerMember: GroupWorker {
  static let group = "consumers"
  /// In ms.
  static let session = 250

  private var lives = 0
  private var isSilent = false
  /// What the broker said last that it may have.
  private var assignment: Set<TopicPartition> = []
  /// What the broker knows that it has; nil when it has to be told everything.
  private var reported: Set<TopicPartition>?
  private let usesRegex: Bool
  /// Counts planned heartbeats: only the last one planned is sent.
  private var plannedBeats = 0

  init(_ scenario: BrokerScenario, id: Int, partitions: [TopicPartition]) {
    usesRegex = scenario.random.oneIn(3)
    super.init(scenario, id: id, group: ConsumerMember.group, partitions: partitions, history: \.consumerGroup)
    memberID = "consumer-\(id)-0"
    epoch = 0
  }

  override var commitVersion: Int16 { 9 }

  override func connected() {
    reported = nil
    // It was about to leave, or had nothing: it comes anew.
    if positions == nil { epoch = 0 }
    beatSoon(random.oneIn(2) ? 1 : 40)
    if positions != nil { soon(10) { [self] in fetch() } }
  }

  override func commitRefused(_ code: KafkaErrorCode) {
    switch code {
    // The next heartbeat brings the new epoch.
    case .staleMemberEpoch: scenario.count("stale commits refused")
    default: recover(from: code, "a commit")
    }
  }

  // MARK: Heartbeats

  private func beatSoon(_ most: Int) {
    plannedBeats += 1
    let mine = plannedBeats
    soon(most) { [self] in if mine == plannedBeats { beat() } }
  }

  private func beat() {
    guard !isSilent else { return }
    if positions != nil {
      switch scenario.isCalm ? -1 : Int.random(in: 0..<40, using: &random) {
      case 0: return giveUpAll { [self] in leave() }
      case 1: return die()
      case 2: return fallSilent()
      default: break
      }
    }
    let owned = Set((positions ?? [:]).keys)
    var request = ConsumerGroupHeartbeatRequest()
    request.groupID = group
    request.memberID = memberID
    request.memberEpoch = epoch
    if epoch == 0 || reported == nil {
      request.rebalanceTimeoutMilliseconds = 300
      if usesRegex {
        request.subscribedTopicRegex = "steady-.*"
        request.subscribedTopicNames = epoch == 0 ? [] : nil
      } else {
        request.subscribedTopicNames = Set(partitions.map(\.topic)).sorted()
      }
    }
    if epoch == 0 || reported != owned { request.topicPartitions = byTopic(owned) }
    let mine = stint
    channel?.send(request, version: 1) { [self] response in
      guard mine == stint else { return }
      guard response.errorCode == .none else { return recover(from: response.errorCode, "a heartbeat") }
      answered(response, owned)
    }
  }

  private func answered(_ response: ConsumerGroupHeartbeatResponse, _ owned: Set<TopicPartition>) {
    if epoch == 0 {
      assignment = []
      enter()
      soon(10) { [self] in fetch() }
    }
    epoch = response.memberEpoch
    reported = owned
    if let given = response.assignment {
      assignment = Set(
        given.topicPartitions.flatMap { topic in
          topic.partitions.map { TopicPartition(scenario.topicNames[topic.topicID] ?? "?", $0) }
        })
      assignment = scenario.sabotage.consumerAssignment(assignment)
    }
    // A group that has never committed anything may be forgotten and count its epochs anew.
    if ledger.acknowledgedCommits > 0 {
      scenario.note(ledger.assigned("\(epoch)", to: name, GroupWorker.sorted(assignment)), .groupOwnership)
    }
    let gone = owned.subtracting(assignment)
    let new = assignment.subtracting(owned)
    let goOn = { [self] in
      // Something to say is said at once.
      beatSoon(gone.isEmpty && new.isEmpty ? Int(response.heartbeatIntervalMilliseconds) : 5)
    }
    if gone.isEmpty { return begin(new, goOn) }
    scenario.count("partitions revoked from consumers", gone.count)
    let mine = stint
    giveUp(gone) { [self] in if mine == stint { begin(new, goOn) } }
  }

  private func begin(_ new: Set<TopicPartition>, _ goOn: @escaping () -> Void) {
    guard !new.isEmpty else { return goOn() }
    let sorted = GroupWorker.sorted(new)
    var wish = OffsetFetchRequest.OffsetFetchRequestGroup()
    wish.groupID = group
    wish.memberID = memberID
    wish.memberEpoch = epoch
    wish.topics = sorted.map {
      OffsetFetchRequest.OffsetFetchRequestTopics(name: $0.topic, partitionIndexes: [$0.partition])
    }
    let mine = stint
    let since = sorted.map { ledger.lastAcknowledged($0) }
    var request = OffsetFetchRequest(groupID: "")
    request.groups = [wish]
    request.requireStable = true
    channel?.send(request, version: 9) { [self] response in
      guard mine == stint else { return }
      guard let answer = response.groups.first else { return reconnect() }
      switch answer.errorCode {
      case .none: break
      case .staleMemberEpoch: return goOn()
      case let code: return recover(from: code, "asking for offsets")
      }
      for (index, partition) in sorted.enumerated() {
        let found = answer.topics.first { topic in
          topic.name == partition.topic && topic.partitions.first?.partitionIndex == partition.partition
        }
        guard let told = found?.partitions.first?.committedOffset else {
          return scenario.ledger.violate("member \(name): no committed offset of \(partition) was told")
        }
        begin(partition, told: scenario.sabotage.committedOffset(told), since: since[index])
      }
      scenario.count("partitions begun by consumers", sorted.count)
      goOn()
    }
  }

  private func byTopic(_ owned: Set<TopicPartition>) -> [ConsumerGroupHeartbeatRequest.TopicPartitions] {
    scenario.topicNames.sorted { $0.value < $1.value }.compactMap { id, name in
      let mine = owned.filter { $0.topic == name }.map(\.partition).sorted()
      return mine.isEmpty ? nil : .init(topicID: id, partitions: mine)
    }
  }

  private func recover(from code: KafkaErrorCode, _ what: String) {
    switch code {
    case .unknownMemberID, .fencedMemberEpoch:
      scenario.count("consumers that were put out")
      lose()
      epoch = 0
      beatSoon(40)
    case .coordinatorNotAvailable, .notCoordinator, .kafkaStorageError, .notLeaderOrFollower: reconnect()
    default: scenario.ledger.violate("member \(name): \(what) failed: \(code)")
    }
  }

  // MARK: Ends

  private func leave() {
    scenario.count("consumers that left")
    var request = ConsumerGroupHeartbeatRequest()
    request.groupID = group
    request.memberID = memberID
    request.memberEpoch = -1
    channel?.send(request, version: 1) { [self] _ in
      epoch = 0
      beatSoon(100)
    }
  }

  /// Is gone without a word, and comes back as somebody else.
  private func die() {
    scenario.count("consumers that died")
    lose()
    lives += 1
    memberID = "consumer-\(id)-\(lives)"
    epoch = 0
    later(2 * ConsumerMember.session) { [self] in reconnect() }
  }

  /// Goes on reading and committing, but forgets its heartbeats for longer than the session.
  private func fallSilent() {
    isSilent = true
    later(3 * ConsumerMember.session) { [weak self] in
      guard let self else { return }
      self.isSilent = false
      self.beatSoon(1)
    }
  }
}
