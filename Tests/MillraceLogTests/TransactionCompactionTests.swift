// TransactionCompactionTests: what is known of aborted transactions goes with their records, and no reader is misled.

import MillraceBase
import MillraceIO
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceLog

private func compacting() -> CleanupPolicy {
  var policy = CleanupPolicy()
  policy.deletes = false
  policy.compacts = true
  policy.minDirtyRatio = 0
  policy.deleteRetention = 20_000
  return policy
}

/// The records that a Kafka consumer of committed records shows of one answer. It is told producers and first offsets of
/// aborted transactions, and goes by the markers to know where they end. Source: Kafka, `CompletedFetch.nextFetchedRecord`.
func shown(_ batches: [Bytes], _ aborted: [AbortedTransaction]) throws -> [KeyedRecord] {
  var waiting = aborted.sorted { $0.firstOffset < $1.firstOffset }[...]
  var void: Set<Int64> = []
  var out: [KeyedRecord] = []
  for batch in batches {
    let header = try RecordBatchHeader(batch)
    while let first = waiting.first, first.firstOffset <= header.lastOffset {
      void.insert(first.producerID)
      waiting.removeFirst()
    }
    if header.isControl {
      if try !TransactionMarker(batch, header: header).isCommit { void.remove(header.producerID) }
    } else if !header.isTransactional || !void.contains(header.producerID) {
      out += try records(in: [batch])
    }
  }
  return out
}

extension LogWorld {
  /// What a consumer of committed records is shown of a partition, from its start on.
  func showAll(_ log: PartitionLog, limit: Int) throws -> [KeyedRecord] {
    var out: [KeyedRecord] = []
    var next = log.startOffset
    while next < log.lastStableOffset {
      var answer: (Result<[Bytes], LogError>, [AbortedTransaction])?
      store.read(log, from: next, limit: limit, isCommittedOnly: true) { result in
        answer = (result, (try? result.get()).map { log.abortedTransactions(from: next, in: $0) } ?? [])
      }
      run { answer != nil }
      let (result, aborted) = try #require(answer)
      let batches = try result.get().flatMap { run in
        try RecordBatchRun.headers(in: run).map { run[$0.position..<($0.position + $0.header.totalSize)] }
      }
      guard let last = batches.last else { break }
      out += try shown(batches, aborted)
      next = try RecordBatchHeader(last).nextOffset
    }
    return out
  }
}

/// A record that was written, and by which transaction.
private struct Written {
  var record: KeyedRecord
  var transaction: Int?
}

@Test(
  "oracle: readers of committed records see the newest of each key and nothing void, whatever compaction has taken out")
func oracleCompactedTransactions() throws {
  var removedAbortMarkers = 0
  var forgotten = 0
  for seed: UInt64 in 1...10 {
    let log = LogWorld(seed: seed) {
      $0.hotTailSize = 64 << 10
      $0.cleanerBytesPerSecond = 1 << 30
      $0.compactedSegmentSize = seed % 2 == 0 ? 16 << 10 : 1 << 20
    }
    try log.open()
    var partition = try log.create(1)
    var written: [Written] = []
    var open: [Int64: Int] = [:]
    var void: Set<Int> = []
    var transactions = 0
    var abortMarkers: Set<Offset> = []
    var sequences: [Int64: Int32] = [:]
    for step in 0..<400 {
      let producer = Int64.random(in: 1...4, using: &log.random)
      switch Int.random(in: 0..<100, using: &log.random) {
      case 0..<70:
        let isPlain = log.random.oneIn(4)
        let pairs = (0..<Int.random(in: 1...3, using: &log.random)).map { _ -> (key: String?, value: String?) in
          let size = Int.random(in: 0...900, using: &log.random)
          return ("key-\(Int.random(in: 0..<12, using: &log.random))", "\(step)" + String(repeating: "v", count: size))
        }
        let time = log.world.wallClock.milliseconds
        let batch = try keyedBatch(
          pairs, time: time, producer: isPlain ? -1 : producer, sequence: isPlain ? -1 : sequences[producer] ?? 0,
          isTransactional: !isPlain)
        if !isPlain {
          sequences[producer, default: 0] += Int32(pairs.count)
          if open[producer] == nil {
            transactions += 1
            open[producer] = transactions
          }
        }
        let base = try log.append(batch, to: partition)
        for (index, pair) in pairs.enumerated() {
          written.append(
            Written(
              record: KeyedRecord(
                offset: base + Int64(index), key: pair.key, value: pair.value, time: time + Int64(index)),
              transaction: isPlain ? nil : open[producer]))
        }
      case 70..<93:
        guard let transaction = open.removeValue(forKey: producer) else { continue }
        let commits = log.random.oneIn(2)
        if !commits {
          void.insert(transaction)
          abortMarkers.insert(partition.nextOffset)
        }
        try log.finish(try log.end(producer, commit: commits, in: [partition]))
      case 93..<96:
        log.world.run(for: .seconds(15))
        log.compact(partition, compacting())
        // Only those may still be known that ended behind what was compacted.
        #expect(partition.transactions.aborted.allSatisfy { $0.lastOffset >= partition.compactedTo }, "seed \(seed)")
      case 96:
        try log.restart()
        partition = try log.partition(1)
      default:
        let limit = Int.random(in: 100...60_000, using: &log.random)
        let read = try log.showAll(partition, limit: limit)
        let ended = written.filter { one in
          one.record.offset < partition.lastStableOffset && one.transaction.map { !void.contains($0) } ?? true
        }
        let byOffset = Dictionary(uniqueKeysWithValues: ended.map { ($0.record.offset, $0.record) })
        #expect(read.allSatisfy { byOffset[$0.offset] == $0 }, "seed \(seed), step \(step): void records are shown")
        var newest: [String?: Offset] = [:]
        for one in ended { newest[one.record.key] = one.record.offset }
        #expect(
          Set(newest.values).isSubset(of: read.map(\.offset)), "seed \(seed), step \(step): a newest record is missing")
      }
    }
    let markers = try log.readWithGaps(partition).map { try RecordBatchHeader($0) }.filter(\.isControl)
    removedAbortMarkers += abortMarkers.subtracting(markers.map(\.baseOffset)).count
    forgotten += abortMarkers.count - partition.transactions.aborted.count
  }
  #expect(removedAbortMarkers > 20 && forgotten > 100, "\(removedAbortMarkers) of \(forgotten)")
}

@Test("what was read before a compaction ended is read again, since its aborted transactions are forgotten")
func readWhileForgetting() throws {
  let log = LogWorld {
    $0.cleanerBytesPerSecond = 1 << 30
    $0.hotTailSize = 64 << 10
  }
  try log.open()
  let partition = try log.create(1)
  try log.append(
    try keyedBatch([("a", "void")], time: 1, producer: 5, sequence: 0, isTransactional: true), to: partition)
  try log.finish(try log.end(5, commit: false, in: [partition]))
  log.store.cleaning.isRunning = true
  for index in 0..<120 {
    try log.append(try keyedBatch([("f-\(index % 3)", String(repeating: "f", count: 3000))], time: 2), to: partition)
  }
  log.settle()
  log.store.cleaning.isRunning = false
  #expect(partition.transactions.aborted.count == 1)
  var answer: (Result<[Bytes], LogError>, [AbortedTransaction])?
  log.background.holdsNext = true
  log.store.read(partition, from: 0, limit: 1 << 20, isCommittedOnly: true) { result in
    answer = (result, (try? result.get()).map { partition.abortedTransactions(from: 0, in: $0) } ?? [])
  }
  #expect(log.background.heldJobs == 1)
  log.store.compact([(partition, compacting())])
  log.run { !log.store.cleaning.isRunning }
  #expect(partition.transactions.aborted.isEmpty)
  // The old segments are still there, and are read now.
  log.background.releaseAll()
  log.run { answer != nil }
  let (result, aborted) = try #require(answer)
  #expect(try shown(try result.get(), aborted).allSatisfy { $0.value != "void" })
}

@Test("the marker of an abort stays while readers are told of the transaction, also when a pass before was given up")
func markerOutlivesGivenUpPass() throws {
  let log = LogWorld {
    $0.hotTailSize = 64 << 10
    $0.cleanerBytesPerSecond = 20_000
    $0.cleanerStepSize = 16 << 10
    // A segment for each run.
    $0.compactedSegmentSize = 1
  }
  try log.open()
  let first = try log.create(1)
  var policy = compacting()
  policy.deleteRetention = 1000
  log.store.cleaning.isRunning = true
  func write(_ key: String, _ value: String, _ sequence: Int32) throws {
    try log.append(
      try keyedBatch([(key, value)], time: 1, producer: 5, sequence: sequence, isTransactional: true), to: first)
  }
  try write("a", "void", 0)
  try log.finish(try log.end(5, commit: false, in: [first]))
  try write("b", "good", 1)
  try log.finish(try log.end(5, commit: true, in: [first]))
  for index in 0..<120 {
    try log.append(try keyedBatch([("f-\(index)", String(repeating: "f", count: 3000))], time: 2), to: first)
  }
  log.settle()
  log.store.cleaning.isRunning = false
  /// Compacts until the first run was replaced.
  func compactFirstRun() throws {
    let partition = try log.partition(1)
    let before = partition.extents[0].segment
    log.store.compact([(partition, policy)])
    log.run { partition.extents[0].segment != before }
    #expect(log.store.cleaning.isRunning && partition.transactions.aborted.count == 1)
  }
  // The marker is given its time, and the pass is given up before it forgets the transaction.
  try compactFirstRun()
  #expect(try log.close() == nil)
  try log.restart()
  log.world.run(for: .seconds(10))
  try compactFirstRun()
  #expect(try log.showAll(try log.partition(1), limit: 4000).first { $0.key == "b" }?.value == "good")
}
