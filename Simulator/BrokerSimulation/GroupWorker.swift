// GroupWorker: what members of both kinds of groups do with their partitions: read, process, commit, give up.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// A member of a group, as far as its partitions are concerned. How it gets and loses them, its protocol says.
class GroupWorker: SimulatedClient {
  let group: String
  let id: Int
  let partitions: [TopicPartition]
  private let history: ReferenceWritableKeyPath<BrokerScenario, GroupLedger>
  var memberID = ""
  /// Generation, or member epoch.
  var epoch: Int32 = -1
  /// Counts how often everything was lost or given up, so that late answers are known as such.
  private(set) var stint = 0
  /// What is its own now, with the next offset of each; nil while it has no place in the group.
  private(set) var positions: [TopicPartition: Offset]?
  /// What the acknowledged commits of this member say.
  private var committed: [TopicPartition: Offset] = [:]
  private var commitsUnderWay: [TopicPartition: Int] = [:]

  init(
    _ scenario: BrokerScenario, id: Int, group: String, partitions: [TopicPartition],
    history: ReferenceWritableKeyPath<BrokerScenario, GroupLedger>
  ) {
    self.id = id
    self.group = group
    self.partitions = partitions
    self.history = history
    super.init(scenario)
  }

  var name: String { "\(id):\(memberID)" }
  var ledger: GroupLedger {
    get { scenario[keyPath: history] }
    set { scenario[keyPath: history] = newValue }
  }

  override func disconnected() { commitsUnderWay = [:] }

  /// Version of OffsetCommit.
  var commitVersion: Int16 { 6 }

  /// What the protocol does about a refused commit of a member that still works.
  func commitRefused(_ code: KafkaErrorCode) {}

  static func sorted(_ partitions: some Sequence<TopicPartition>) -> [TopicPartition] {
    partitions.sorted { ($0.topic, $0.partition) < ($1.topic, $1.partition) }
  }

  // MARK: Ownership

  /// Takes its place, without partitions yet.
  func enter() {
    stint += 1
    positions = [:]
    committed = [:]
  }

  /// Everything is lost that was not committed; it is somebody else's now.
  func lose() {
    stint += 1
    positions = nil
    committed = [:]
  }

  /// Stops working on some partitions. Once everything that was processed is committed they are handed over; `next` hears
  /// when that is so, or cannot be.
  func giveUp(_ given: some Sequence<TopicPartition>, _ next: @escaping () -> Void) {
    var held: [TopicPartition: Offset] = [:]
    for partition in given { held[partition] = positions?.removeValue(forKey: partition) }
    settle(held, next)
  }

  /// Stops working altogether; see ``giveUp(_:_:)``.
  func giveUpAll(_ next: @escaping () -> Void) {
    let held = positions ?? [:]
    stint += 1
    positions = nil
    settle(held, next)
  }

  private func settle(_ held: [TopicPartition: Offset], _ next: @escaping () -> Void) {
    let left = GroupWorker.sorted(held.filter { committed[$0.key] != $0.value }.keys)
    guard let last = left.last else {
      // An earlier commit may still be under way.
      guard held.keys.allSatisfy({ commitsUnderWay[$0, default: 0] == 0 }) else {
        return soon(5) { [self] in settle(held, next) }
      }
      for (partition, offset) in held { ledger.handsOver(partition, at: offset) }
      return next()
    }
    for partition in left {
      commit(partition, held[partition] ?? 0) { [self] isDone in
        guard partition == last else { return }
        // Where one commit was refused, the others need not be looked at.
        if isDone, left.allSatisfy({ committed[$0] == held[$0] }) { settle(held, next) } else { next() }
      }
    }
  }

  /// Notes a member's first offset of a partition that was given to it.
  func begin(_ partition: TopicPartition, told: Offset, since: Int) {
    scenario.note(ledger.begins(name, partition, committed: told, since: since), .groupOffsets)
    positions?[partition] = max(0, told)
    committed[partition] = told
  }

  // MARK: Records

  func fetch() {
    guard let channel, let held = positions else { return }
    guard let partition = GroupWorker.sorted(held.keys).shuffled(using: &random).first, let from = held[partition]
    else { return fetchLater() }
    let wish = FetchRequest.FetchPartition(
      partition: partition.partition, fetchOffset: from, partitionMaxBytes: Int32.random(in: 1...20_000, using: &random)
    )
    let request = FetchRequest(
      maxWaitMilliseconds: 10, minBytes: 1, maxBytes: 40_000, sessionEpoch: -1,
      topics: [.init(topic: partition.topic, partitions: [wish])])
    let mine = stint
    channel.send(request, version: 11) { [self] response in
      guard mine == stint else { return }
      guard let answer = response.responses.first?.partitions.first, answer.errorCode == .none else {
        let code = response.responses.first?.partitions.first?.errorCode ?? response.errorCode
        if code == .notLeaderOrFollower || code == .kafkaStorageError && scenario.mayFailReads { return reconnect() }
        return scenario.ledger.violate("member \(name): fetching \(partition) at \(from) failed: \(code)")
      }
      // It may have been given up meanwhile.
      if positions?[partition] == from { process(answer, partition, from) }
      fetchLater()
    }
  }

  private func fetchLater() {
    let mine = stint
    soon(25) { [self] in if mine == stint { fetch() } }
  }

  private func process(_ answer: FetchResponse.PartitionData, _ partition: TopicPartition, _ from: Offset) {
    var next = from
    do throws(RecordProblem) {
      for (offset, name) in try TestRecord.names(answer.records, in: partition) where offset >= next {
        if offset != next {
          scenario.ledger.violate("\(partition): offset \(offset) comes where \(next) is next", .delivery)
        }
        scenario.ledger.read(partition, name, at: offset)
        next = offset + 1
      }
    } catch {
      scenario.ledger.violate(error.text, .stableReads)
    }
    positions?[partition] = next
    ledger.processed(partition, before: next)
    if next > from, random.oneIn(2) { commit(partition, next) { _ in } }
  }

  private func commit(_ partition: TopicPartition, _ offset: Offset, _ done: @escaping (Bool) -> Void) {
    guard let channel else { return }
    let number = ledger.committing(partition, offset)
    commitsUnderWay[partition, default: 0] += 1
    let wish = OffsetCommitRequest.OffsetCommitRequestPartition(
      partitionIndex: partition.partition, committedOffset: offset)
    let request = OffsetCommitRequest(
      groupID: group, generationIDOrMemberEpoch: epoch, memberID: memberID,
      topics: [.init(name: partition.topic, partitions: [wish])])
    let mine = memberID
    channel.send(request, version: commitVersion) { [self] response in
      commitsUnderWay[partition, default: 1] -= 1
      guard let answer = response.topics.first?.partitions.first else {
        return scenario.ledger.violate("member \(name): a commit's answer is empty")
      }
      switch answer.errorCode {
      case .none:
        ledger.acknowledged(number, partition)
        if mine == memberID { committed[partition] = offset }
        done(true)
      case .kafkaStorageError, .notLeaderOrFollower, .coordinatorNotAvailable: reconnect()
      case let code:
        ledger.refused(number, partition)
        if positions?[partition] == nil { done(false) } else { commitRefused(code) }
      }
    }
  }
}
