// FetchRun: one fetch's reads: in one go while memory answers at once, going on later where the disk has to be asked.
//
// A reader of many partitions that is far behind gets answers of a few megabytes from segments, and while it works on one,
// what it will ask for next is read.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceModel

/// Reads target after target.
final class FetchRun {
  private let broker: Broker
  private let targets: [FetchTarget]
  private let isRotating: Bool
  private let completion: ([FetchedPartition]) -> Void
  private var results: [FetchedPartition] = []
  /// Where the next fetch of each target that got records from segments is likely to begin.
  private var continuations: [Int: Offset] = [:]
  private var rest: Int
  /// Bytes from segments so far, how many there may be, and with how many nobody waits for more.
  private var stored = 0
  private let storedLimit: Int
  private let storedEnough: Int
  private var hasData = false
  private var isRunning = false
  private var hasReadTogether = false

  /// Most bytes of segments in one answer, save that a batch comes whole, and that a reader may want more at least. In larger
  /// ones reader and disk would wait for each other, and the reader's memory would be fresh for each of them.
  static let usualStoredLimit = 4 << 20

  init(
    broker: Broker, targets: [FetchTarget], minimum: Int, limit: Int, isRotating: Bool,
    completion: @escaping ([FetchedPartition]) -> Void
  ) {
    self.broker = broker
    self.targets = targets
    self.isRotating = isRotating
    self.completion = completion
    rest = limit
    storedLimit = max(FetchRun.usualStoredLimit, minimum)
    storedEnough = max(FetchRun.usualStoredLimit / 2, minimum)
    results.reserveCapacity(targets.count)
  }

  /// Begins, or goes on; `completion` is called once, maybe before this returns.
  func run() {
    isRunning = true
    while results.count < targets.count {
      let target = targets[results.count]
      let result = broker.start(target)
      guard result.error == nil, result.diverging == nil, let partition = target.partition,
        target.offset < end(target, partition), rest > 0 || !hasData
      else {
        results.append(result)
        continue
      }
      let place = broker.log.place(partition, target.offset)
      if hasData, place != .journal, stored >= (place == .window ? storedLimit : storedEnough) {
        results.append(result)
        continue
      }
      if place == .segment { readTogether() }
      let most = place == .journal ? rest : min(rest, storedLimit - stored)
      let before = results.count
      broker.log.read(
        partition, from: target.offset, limit: max(1, min(target.limit, most)),
        isCommittedOnly: target.isCommittedOnly
      ) { [self] outcome in
        take(outcome, result, partition, target, isStored: place != .journal)
        if !isRunning { run() }
      }
      guard results.count > before else {
        isRunning = false
        return
      }
    }
    isRunning = false
    // First, so that the disk works while the answer is copied into the socket.
    readAhead()
    completion(results)
  }

  private func end(_ target: FetchTarget, _ partition: PartitionLog) -> Offset {
    target.isCommittedOnly ? partition.lastStableOffset : partition.highWatermark
  }

  private func take(
    _ outcome: Result<[Bytes], LogError>, _ begun: FetchedPartition, _ partition: PartitionLog, _ target: FetchTarget,
    isStored: Bool
  ) {
    var result = begun
    broker.finish(&result, outcome, partition, target)
    // Only the first batch of all may exceed the limit; a later one waits for the next fetch.
    if hasData, result.size > rest { result.batches = [] }
    let size = result.size
    rest -= size
    hasData = hasData || size > 0
    if isStored, size > 0 {
      stored += size
      continuations[results.count] = result.nextOffset
    }
    results.append(result)
  }

  // MARK: Reading ahead

  /// Reads what this target and those behind it want of segments, once, so that they do not wait for it one after the other.
  private func readTogether() {
    guard !hasReadTogether, results.count + 1 < targets.count else { return }
    hasReadTogether = true
    broker.log.readAhead(
      targets[results.count...].lazy.compactMap { self.wish($0, from: $0.offset) },
      limit: min(rest, storedLimit - stored), isWanted: true)
  }

  /// Reads what the reader will ask for next, if it is far behind.
  private func readAhead() {
    guard !continuations.isEmpty else { return }
    var served: [ReadAheadWish] = []
    var others: [ReadAheadWish] = []
    for (index, target) in targets.enumerated() where results[index].error == nil {
      if let next = continuations[index] {
        if let wish = wish(target, from: next) { served.append(wish) }
      } else if results[index].batches.isEmpty, let wish = wish(target, from: target.offset) {
        others.append(wish)
      }
    }
    // As much as two answers, so that the disk may be late for one.
    broker.log.readAhead(isRotating ? others + served : served + others, limit: 2 * storedLimit, isWanted: false)
  }

  private func wish(_ target: FetchTarget, from offset: Offset) -> ReadAheadWish? {
    guard let partition = target.partition, offset < end(target, partition) else { return nil }
    return ReadAheadWish(partition, from: offset, limit: target.limit)
  }
}

extension FetchedPartition {
  /// Offset after the last record; nil without records.
  fileprivate var nextOffset: Offset? {
    guard let last = batches.last else { return nil }
    var run = RecordBatchRun(last)
    var next: Offset?
    while let (_, header) = try? run.next() { next = header.nextOffset }
    return next
  }
}
