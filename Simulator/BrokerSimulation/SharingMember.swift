// SharingMember: a member of a share group (KIP-932) as a client: heartbeats, a share session, and words of each kind.
//
// It holds what it was given until it says something of it; sometimes it says nothing, and the lock ends. Words go with requests
// for records or by themselves. A member that lost its connection keeps what it has in mind, and is refused.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// One member of the run's share group.
final class SharingMember: SimulatedClient {
  static let group = "sharers"
  /// Lock and session, in ms.
  static let lock = 120
  static let session = 250

  private let id: Int
  private let partitions: [TopicPartition]
  private var lives = 0
  private var memberID: String
  private var epoch: Int32 = 0
  /// The next epoch of its share session; 0 opens one.
  private var sessionEpoch: Int32 = 0
  private var assigned: Set<TopicPartition> = []
  /// What the session has.
  private var inSession: Set<TopicPartition> = []
  private var held: [TopicPartition: Set<Offset>] = [:]
  private let version: Int16

  /// What is said of a run of records.
  private struct Word {
    var partition: TopicPartition
    var first: Offset
    var last: Offset
    var kind: Int8
    var isFinal: Bool { kind == 1 || kind == 3 }
  }

  init(_ scenario: BrokerScenario, id: Int, partitions: [TopicPartition]) {
    self.id = id
    self.partitions = partitions
    memberID = "sharer-\(id)-0"
    version = scenario.random.oneIn(2) ? 1 : 2
    super.init(scenario)
  }

  private var ids: [String: TopicID] { Dictionary(uniqueKeysWithValues: scenario.topicNames.map { ($1, $0) }) }

  override func connected() {
    sessionEpoch = 0
    inSession = []
    beat()
    soon(10) { [self] in fetch() }
  }

  // MARK: Membership

  private func beat() {
    var request = ShareGroupHeartbeatRequest(groupID: SharingMember.group, memberID: memberID, memberEpoch: epoch)
    if epoch == 0 { request.subscribedTopicNames = Set(partitions.map(\.topic)).sorted() }
    let mine = memberID
    channel?.send(request, version: 1) { [self] response in
      guard mine == memberID else { return }
      switch response.errorCode {
      case .none:
        epoch = response.memberEpoch
        if let given = response.assignment {
          assigned = Set(
            given.topicPartitions.flatMap { topic in
              topic.partitions.map { TopicPartition(scenario.topicNames[topic.topicID] ?? "?", $0) }
            })
        }
        soon(Int(response.heartbeatIntervalMilliseconds)) { [self] in beat() }
      case .unknownMemberID, .fencedMemberEpoch:
        scenario.count("sharers that were put out")
        epoch = 0
        soon(20) { [self] in beat() }
      case .coordinatorNotAvailable, .notLeaderOrFollower: reconnect()
      case let code: scenario.ledger.violate("sharer \(memberID): a heartbeat failed: \(code)")
      }
    }
  }

  /// Is gone without a word, and comes back as somebody else.
  private func die() {
    scenario.count("sharers that died")
    held = [:]
    assigned = []
    lives += 1
    memberID = "sharer-\(id)-\(lives)"
    epoch = 0
    reconnect()
  }

  // MARK: Records

  private func fetch() {
    guard let channel else { return }
    if !scenario.isCalm, random.oneIn(40) { return die() }
    let words = sessionEpoch == 0 ? [] : takeWords()
    if !words.isEmpty, random.oneIn(2) { return acknowledge(words) }
    var request = ShareFetchRequest(
      groupID: SharingMember.group, memberID: memberID, shareSessionEpoch: sessionEpoch,
      maxWaitMilliseconds: Int32.random(in: 0...20, using: &random), minBytes: 1,
      maxBytes: Int32.random(in: 1...40_000, using: &random), maxRecords: Int32.random(in: 1...60, using: &random))
    if version >= 2 { request.shareAcquireMode = random.oneIn(2) ? 0 : 1 }
    let added = assigned.subtracting(inSession)
    let forgotten = inSession.subtracting(assigned)
    let ids = ids
    for partition in (added.union(words.map(\.partition))).sortedByName {
      guard let id = ids[partition.topic] else { continue }
      request.topics.append(
        .init(
          topicID: id,
          partitions: [
            .init(partitionIndex: partition.partition, acknowledgementBatches: batches(words, partition))
          ]))
    }
    if sessionEpoch > 0 {
      for partition in forgotten.sortedByName {
        guard let id = ids[partition.topic] else { continue }
        request.forgottenTopicsData.append(.init(topicID: id, partitions: [partition.partition]))
      }
    }
    // What is told about in passing is fetched from then on as well, unless it is forgotten in the same breath.
    inSession = assigned
    let mine = memberID
    let since = scenario.share.moment
    channel.send(request, version: version) { [self] response in
      guard mine == memberID else { return }
      answered(response, words, since)
    }
  }

  private func answered(_ response: ShareFetchResponse, _ words: [Word], _ since: Int) {
    switch response.errorCode {
    case .none: break
    case .shareSessionNotFound, .invalidShareSessionEpoch, .notLeaderOrFollower, .coordinatorNotAvailable:
      return reconnect()
    case let code: return scenario.ledger.violate("sharer \(memberID): fetching failed: \(code)")
    }
    sessionEpoch += 1
    for topic in response.responses {
      for answer in topic.partitions {
        let partition = TopicPartition(scenario.topicNames[topic.topicID] ?? "?", answer.partitionIndex)
        conclude(words, partition, answer.acknowledgeErrorCode)
        if answer.errorCode == .notLeaderOrFollower { return reconnect() }
        if answer.errorCode == .kafkaStorageError, scenario.mayFailReads {
          scenario.count("reads refused")
          continue
        }
        guard answer.errorCode == .none else {
          return scenario.ledger.violate("sharer \(memberID): fetching \(partition) failed: \(answer.errorCode)")
        }
        take(answer, partition, since)
      }
    }
    soon(random.oneIn(4) ? 60 : 6) { [self] in fetch() }
  }

  private func take(_ answer: ShareFetchResponse.PartitionData, _ partition: TopicPartition, _ since: Int) {
    do throws(RecordProblem) {
      let records = try TestRecord.names(answer.records, in: partition)
      let there = Set(records.map(\.offset))
      for (offset, name) in records { scenario.ledger.read(partition, name, at: offset) }
      for range in answer.acquiredRecords {
        for offset in scenario.sabotage.acquired(range.firstOffset...range.lastOffset) {
          guard there.contains(offset) else {
            throw RecordProblem(text: "\(partition): offset \(offset) was given without its record")
          }
          scenario.note(scenario.share.gave(partition, offset, to: memberID, since: since), .sharedOnce)
          held[partition, default: []].insert(offset)
        }
      }
    } catch {
      scenario.ledger.violate(error.text, .sharedOnce)
    }
  }

  // MARK: Words

  /// What it has to say now: of some of what it holds, in order. Of the rest it says nothing, now or ever.
  private func takeWords() -> [Word] {
    var words: [Word] = []
    for partition in Set(held.keys).sortedByName {
      if !scenario.isCalm, random.oneIn(3) { continue }
      for offset in (held[partition] ?? []).sorted() {
        if !scenario.isCalm, random.oneIn(20) { continue }
        let kind: Int8
        switch scenario.isCalm ? 0 : Int.random(in: 0..<12, using: &random) {
        case 10: kind = 2
        case 11: kind = 3
        default: kind = 1
        }
        held[partition]?.remove(offset)
        if let last = words.last, last.partition == partition, last.last + 1 == offset, last.kind == kind {
          words[words.count - 1].last = offset
        } else {
          words.append(Word(partition: partition, first: offset, last: offset, kind: kind))
        }
      }
      // It forgets the rest now and then.
      if random.oneIn(4) { held[partition] = nil }
    }
    return words
  }

  private func batches(_ words: [Word], _ partition: TopicPartition) -> [ShareFetchRequest.AcknowledgementBatch] {
    words.filter { $0.partition == partition }.map {
      .init(firstOffset: $0.first, lastOffset: $0.last, acknowledgeTypes: [$0.kind])
    }
  }

  private func acknowledge(_ words: [Word]) {
    let isLast = !scenario.isCalm && random.oneIn(8)
    var request = ShareAcknowledgeRequest(
      groupID: SharingMember.group, memberID: memberID, shareSessionEpoch: isLast ? -1 : sessionEpoch)
    let ids = ids
    for partition in Set(words.map(\.partition)).sortedByName {
      guard let id = ids[partition.topic] else { continue }
      request.topics.append(
        .init(
          topicID: id,
          partitions: [
            .init(
              partitionIndex: partition.partition,
              acknowledgementBatches: words.filter { $0.partition == partition }.map {
                .init(firstOffset: $0.first, lastOffset: $0.last, acknowledgeTypes: [$0.kind])
              })
          ]))
    }
    let mine = memberID
    channel?.send(request, version: version) { [self] response in
      guard mine == memberID else { return }
      switch response.errorCode {
      case .none: break
      case .shareSessionNotFound, .invalidShareSessionEpoch, .notLeaderOrFollower: return reconnect()
      case let code: return scenario.ledger.violate("sharer \(memberID): acknowledging failed: \(code)")
      }
      for topic in response.responses {
        for answer in topic.partitions {
          let partition = TopicPartition(scenario.topicNames[topic.topicID] ?? "?", answer.partitionIndex)
          conclude(words, partition, answer.errorCode)
        }
      }
      if isLast {
        scenario.count("share sessions closed")
        held = [:]
        inSession = []
        sessionEpoch = 0
      } else {
        sessionEpoch += 1
      }
      soon(10) { [self] in fetch() }
    }
  }

  /// What became of what was said of a partition's records.
  private func conclude(_ words: [Word], _ partition: TopicPartition, _ code: KafkaErrorCode) {
    let mine = words.filter { $0.partition == partition }
    guard !mine.isEmpty else { return }
    switch code {
    case .none:
      scenario.count("words of sharers taken", mine.count)
      let offsets = mine.filter(\.isFinal).flatMap { Array($0.first...$0.last) }
      scenario.note(scenario.share.settled(partition, offsets, by: memberID), .sharedOnce)
    case .invalidRecordState: scenario.count("late words of sharers refused")
    // It counts, and may be durable later.
    case .kafkaStorageError: scenario.count("words of sharers without room")
    case .notLeaderOrFollower: break
    default: scenario.ledger.violate("sharer \(memberID): words of \(partition) were refused: \(code)")
    }
  }
}

extension Set<TopicPartition> {
  /// In an order that does not differ from run to run.
  fileprivate var sortedByName: [TopicPartition] { sorted { ($0.topic, $0.partition) < ($1.topic, $1.partition) } }
}
