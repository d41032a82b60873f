// ShareCoordinator+Fetch: records for members of share groups, now or when some have come.

import MillraceBase
import MillraceDelivery
import MillraceIO
import MillraceLog
import MillraceModel

/// What a member of a share group wants.
public struct ShareFetchWish {
  /// The group.
  public var group: String
  /// Who asks; it need not have joined.
  public var memberID: String
  /// Partitions to look at, the first ones first.
  public var partitions: [TopicIDPartition]
  /// Most records; 0 for none.
  public var maxRecords: Int
  /// More records are taken to the end of a batch.
  public var isWholeBatches: Bool
  /// Bytes that make waiting end.
  public var minimumBytes: Int
  /// How long to wait for them.
  public var wait: Duration

  /// A wish.
  public init(
    group: String, memberID: String, partitions: [TopicIDPartition], maxRecords: Int, isWholeBatches: Bool,
    minimumBytes: Int, wait: Duration
  ) {
    self.group = group
    self.memberID = memberID
    self.partitions = partitions
    self.maxRecords = maxRecords
    self.isWholeBatches = isWholeBatches
    self.minimumBytes = minimumBytes
    self.wait = wait
  }
}

/// What a member gets of one partition.
public struct SharedRecords {
  /// The partition.
  public var partition: TopicIDPartition
  /// Why nothing was read.
  public var error: BrokerError?
  /// Whole batches in order; they may hold records that are not among the acquired ones.
  public var batches: [Bytes] = []
  /// What the member has from now on.
  public var acquired: [ShareAcquisition] = []

  /// Bytes of all batches.
  public var size: Int { batches.reduce(0) { $0 + $1.count } }
}

extension ShareCoordinator {
  /// Gets records of several partitions.
  ///
  /// Answers at once when `minimumBytes`, an error, or records that come again are there, else when they have come or the wait
  /// is over.
  /// - Parameters:
  ///   - limit: the most bytes in all, save that the first batch always comes; asked when reading begins, and again when it
  ///     has brought nothing and begins anew.
  ///   - completion: gets one result for each partition of which there is something to say; may be called before this returns.
  /// - Returns: the request, for ``cancel(_:)`` and ``end(_:)``, while it is not over.
  /// - Throws: as ``heartbeat(_:)``.
  public func fetch(
    _ wish: ShareFetchWish, limit: @escaping () -> Int, completion: @escaping ([SharedRecords]) -> Void
  ) throws(BrokerError) -> ShareFetch? {
    let group = try group(wish.group)
    let fetch = ShareFetch(self, group, wish, limit: limit, completion: completion)
    fetch.begin()
    return fetch.isOver ? nil : fetch
  }

  /// Forgets a request, because who made it is gone; its completion is never called. Harmless when it is over.
  public func cancel(_ fetch: ShareFetch) { fetch.cancel() }

  /// Ends a request's wait: it gets what there is. Harmless when it is over.
  public func end(_ fetch: ShareFetch) { fetch.endWait() }

  /// A log has more records, or is gone: whoever waited for it looks again.
  func advanced(_ log: PartitionLog) {
    guard let held = waits[log.id] else { return }
    for fetch in held { fetch.look() }
  }

  /// A partition has records again, or room for more: whoever waits for it looks at the end of the turn, since what woke it may
  /// be one of many that wait.
  func wake(_ share: HostedShare) {
    guard waits[share.log.id] != nil else { return }
    woken.append(share.log)
    guard woken.count == 1 else { return }
    broker.reactor.atEndOfTurn { [weak self] in
      guard let self else { return }
      let logs = woken
      woken = []
      var seen: Set<PartitionLogID> = []
      for log in logs where seen.insert(log.id).inserted { advanced(log) }
    }
  }

  func endAllWaits() {
    let all = waits.values.flatMap { $0 }
    waits = [:]
    for fetch in all { fetch.endWait() }
  }
}

/// A member's request for records, while it is under way: it waits, then reads partition after partition.
public final class ShareFetch {
  private let coordinator: ShareCoordinator
  private let group: HostedShareGroup
  private let wish: ShareFetchWish
  private let limit: () -> Int
  private var completion: (([SharedRecords]) -> Void)?
  private let deadline: MonotonicTime
  private var timer: Timer?
  private var waited: [PartitionLogID] = []
  private var isLast = false
  private var isInLoop = false
  private var index = 0
  private var results: [SharedRecords] = []
  private var bytesLeft = 0
  private var recordsLeft = 0
  private var hasData = false
  /// Most bytes read of one partition at a time.
  private static let readSize = 1 << 20

  init(
    _ coordinator: ShareCoordinator, _ group: HostedShareGroup, _ wish: ShareFetchWish, limit: @escaping () -> Int,
    completion: @escaping ([SharedRecords]) -> Void
  ) {
    self.coordinator = coordinator
    self.group = group
    self.wish = wish
    self.limit = limit
    self.completion = completion
    deadline = coordinator.broker.reactor.now + wish.wait
    group.fetchCount += 1
  }

  var isOver: Bool { completion == nil }
  private var broker: Broker { coordinator.broker }

  func begin() {
    guard wish.maxRecords > 0, !wish.partitions.isEmpty else { return finish() }
    if wish.minimumBytes > 0, wish.wait > .zero, broker.isOpen, !hasEnough() { wait() } else { read() }
  }

  // MARK: Waiting

  private func wait() {
    var seen: Set<PartitionLogID> = []
    for key in wish.partitions {
      guard let share = coordinator.share(key, of: group), seen.insert(share.log.id).inserted else { continue }
      coordinator.waits[share.log.id, default: []].append(self)
    }
    waited = Array(seen)
    timer = broker.reactor.schedule(after: max(.zero, deadline - broker.reactor.now)) { [self] in endWait() }
  }

  private func stopWaiting() {
    timer?.cancel()
    timer = nil
    for id in waited {
      coordinator.waits[id]?.removeAll { $0 === self }
      if coordinator.waits[id]?.isEmpty == true { coordinator.waits[id] = nil }
    }
    waited = []
  }

  private var isWaiting: Bool { timer != nil }

  /// Something has changed that it waits for.
  func look() {
    guard isWaiting, hasEnough() else { return }
    stopWaiting()
    read()
  }

  func endWait() {
    guard isWaiting else { return }
    stopWaiting()
    isLast = true
    read()
  }

  func cancel() {
    stopWaiting()
    guard completion != nil else { return }
    completion = nil
    group.fetchCount -= 1
  }

  private func hasEnough() -> Bool {
    var available: Int64 = 0
    for key in wish.partitions {
      guard let share = coordinator.share(key, of: group) else { return true }
      coordinator.adjust(share)
      guard let partition = share.partition, !share.isReading, let offset = partition.nextOffset(below: share.logEnd)
      else { continue }
      // What comes again has waited long enough.
      if offset < partition.end { return true }
      available += share.log.availableBytes(
        from: offset, atMost: Int64(wish.minimumBytes) - available, isCommittedOnly: group.rules.isCommittedOnly)
      if available >= wish.minimumBytes { return true }
    }
    return false
  }

  // MARK: Reading

  private func read() {
    index = 0
    results = []
    bytesLeft = limit()
    recordsLeft = wish.maxRecords
    hasData = false
    goOn()
  }

  private func goOn() {
    isInLoop = true
    while index < wish.partitions.count, !isOver {
      let key = wish.partitions[index]
      index += 1
      guard recordsLeft > 0, bytesLeft > 0 || !hasData else { continue }
      guard let share = coordinator.share(key, of: group) else {
        results.append(
          SharedRecords(
            partition: key, error: BrokerError(.unknownTopicOrPartition, "the topic or partition does not exist")))
        continue
      }
      coordinator.adjust(share)
      guard !share.isReading, let offset = share.partition?.nextOffset(below: share.logEnd) else { continue }
      share.isReading = true
      let end = share.logEnd
      var isDone = false
      broker.log.read(
        share.log, from: offset, limit: max(1, min(bytesLeft, ShareFetch.readSize)),
        isCommittedOnly: group.rules.isCommittedOnly
      ) { [self] outcome in
        isDone = true
        share.isReading = false
        take(outcome, from: offset, end: end, share)
        if !isInLoop { goOn() }
      }
      guard isDone else {
        isInLoop = false
        return
      }
    }
    isInLoop = false
    if !isOver { settle() }
  }

  private func take(_ outcome: Result<[Bytes], LogError>, from offset: Offset, end: Offset, _ share: HostedShare) {
    // Others may have it now, whatever comes of this.
    defer { coordinator.wake(share) }
    guard !isOver, !share.isDropped else { return }
    var result = SharedRecords(partition: share.key)
    do throws(BrokerError) {
      let runs: [Bytes]
      switch outcome {
      case .success(let read): runs = read
      case .failure(let error): throw BrokerError(error)
      }
      var batches = try ShareFetch.batches(runs, share, from: offset)
      // What is not there at all was compacted away.
      if batches.isEmpty { batches = [(ShareBatch(offset..<end, isHidden: true), Bytes())] }
      let size = runs.reduce(0) { $0 + $1.count }
      if hasData, size > bytesLeft { return }
      let number = coordinator.number(of: wish.memberID, in: group)
      result.acquired =
        share.partition?.acquire(
          by: number, from: offset, batches.map(\.facts), atMost: recordsLeft, isWholeBatches: wish.isWholeBatches,
          now: broker.reactor.now) ?? []
      coordinator.changed(share)
      guard !result.acquired.isEmpty else { return }
      result.batches = ShareFetch.needed(batches, for: result.acquired)
      recordsLeft -= result.acquired.reduce(0) { $0 + $1.range.count }
      bytesLeft -= result.size
      hasData = true
      broker.traffic[share.log.id, default: PartitionTraffic()].bytesOut += UInt64(result.size)
    } catch {
      result.error = error
    }
    results.append(result)
  }

  /// What is in the runs, a batch each.
  private static func batches(
    _ runs: [Bytes], _ share: HostedShare, from offset: Offset
  ) throws(BrokerError) -> [(facts: ShareBatch, bytes: Bytes)] {
    let aborted =
      share.group.rules.isCommittedOnly ? share.log.abortedTransactions(from: offset, in: runs) : []
    var found: [(facts: ShareBatch, bytes: Bytes)] = []
    for run in runs {
      var rest = RecordBatchRun(run)
      do throws(RecordBatchError) {
        while let (batch, header) = try rest.next() {
          found.append(
            (ShareBatch(header.baseOffset..<header.nextOffset, isHidden: !aborted.letSee(header)), batch))
        }
      } catch {
        throw BrokerError(.corruptBatch, error.description)
      }
    }
    return found
  }

  /// The batches that hold something of what was acquired.
  private static func needed(
    _ batches: [(facts: ShareBatch, bytes: Bytes)], for acquired: [ShareAcquisition]
  ) -> [Bytes] {
    var needed: [Bytes] = []
    var next = 0
    for (facts, bytes) in batches {
      while next < acquired.count, acquired[next].range.upperBound <= facts.range.lowerBound { next += 1 }
      guard next < acquired.count else { break }
      if acquired[next].range.lowerBound < facts.range.upperBound, !facts.isHidden { needed.append(bytes) }
    }
    return needed
  }

  private func settle() {
    let isNothing = results.allSatisfy { $0.acquired.isEmpty && $0.error == nil }
    if isNothing, !isLast, wish.minimumBytes > 0, broker.isOpen, deadline > broker.reactor.now {
      // All of it was for nobody to see, or others were quicker.
      if hasEnough() { return read() }
      return wait()
    }
    finish()
  }

  private func finish() {
    let held = completion
    completion = nil
    group.fetchCount -= 1
    held?(results)
    coordinator.forgetIfIdle(group)
  }
}

extension ShareCoordinator {
  /// The log may begin later than it did.
  func adjust(_ share: HostedShare) {
    guard let partition = share.partition, share.log.startOffset > partition.start else { return }
    share.partition?.logStarts(at: share.log.startOffset)
    changed(share)
  }
}
