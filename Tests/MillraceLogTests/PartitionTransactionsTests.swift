// PartitionTransactionsTests: the last stable offset and the aborted index, against a naive model and through crashes.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceLog

extension LogWorld {
  /// Appends what ends a producer's transaction in `logs`, as one unit, and waits for nothing.
  func end(
    _ producer: Int64, commit: Bool, in logs: [PartitionLog], epoch: Int16 = 0, event: String? = nil
  ) throws -> Pending {
    var unit = AppendUnit()
    if let event { unit.events.append(Bytes(event)) }
    for log in logs {
      let bytes = TransactionMarker(
        producerID: producer, producerEpoch: epoch, isCommit: commit, coordinatorEpoch: 0
      ).batch(at: world.wallClock)
      unit.batches.append((log, bytes, try RecordBatchHeader.checked(bytes)))
    }
    return append(unit)
  }

  func finish(_ pending: Pending) throws {
    run { pending.result != nil }
    _ = try pending.value()
  }

  /// All batches that a reader of committed records sees, by offset, read with `limit` bytes at a time.
  func readCommitted(_ log: PartitionLog, limit: Int = 4000) throws -> [Offset] {
    var out: [Offset] = []
    var next = log.startOffset
    while next < log.lastStableOffset {
      var result: Result<[Bytes], LogError>?
      store.read(log, from: next, limit: limit, isCommittedOnly: true) { result = $0 }
      run { result != nil }
      let runs = try #require(try result?.get())
      try #require(!runs.isEmpty)
      let headers = try runs.flatMap { try RecordBatchRun.headers(in: $0) }.map(\.header)
      let end = try #require(headers.last?.nextOffset)
      let aborted = log.abortedTransactions(from: next, to: end)
      for header in headers where !header.isControl {
        let isVoid = aborted.contains {
          header.isTransactional && $0.producerID == header.producerID
            && ($0.firstOffset...$0.lastOffset).contains(header.baseOffset)
        }
        let outcome = log.transactionOutcome(ofProducer: header.producerID, at: header.baseOffset)
        if header.isTransactional { #expect(outcome == (isVoid ? .aborted : .committed)) }
        if !isVoid { out.append(header.baseOffset) }
      }
      next = end
    }
    return out
  }
}

/// What a reader of committed records must see, kept as a list of all that was written.
private struct NaivePartition {
  enum Entry { case plain, transactional(Int64), end(Int64, commit: Bool) }
  var entries: [Entry] = []

  /// Index of the first entry of the transaction of each producer that is open now.
  var open: [Int64: Int] {
    var out: [Int64: Int] = [:]
    for (index, entry) in entries.enumerated() {
      switch entry {
      case .plain: break
      case .transactional(let producer): out[producer] = out[producer] ?? index
      case .end(let producer, _): out[producer] = nil
      }
    }
    return out
  }

  var lastStable: Offset { Offset(open.values.min() ?? entries.count) }

  var visible: [Offset] {
    (0..<Int(lastStable)).filter { index in
      switch entries[index] {
      case .plain: return true
      case .end: return false
      case .transactional(let producer):
        for later in entries[index...] {
          if case .end(producer, let commit) = later { return commit }
        }
        return false
      }
    }.map { Offset($0) }
  }
}

@Test("oracle: committed readers see what a naive model says, in memory and on disk, through restarts and snapshots")
func oracleCommittedReaders() throws {
  for seed: UInt64 in 1...12 {
    let log = LogWorld(seed: seed)
    try log.open()
    var partition = try log.create(1)
    var naive = NaivePartition()
    var sequences: [Int64: Int32] = [:]
    for step in 0..<260 {
      switch Int.random(in: 0..<20, using: &log.random) {
      case 0..<6:
        try log.append(TestBatch(size: Int.random(in: 50...2000, using: &log.random)), to: partition)
        naive.entries.append(.plain)
      case 6..<14:
        let producer = Int64.random(in: 1...4, using: &log.random)
        let sequence = sequences[producer] ?? 0
        try log.append(
          TestBatch(
            size: Int.random(in: 50...2000, using: &log.random), producer: producer, epoch: 0, sequence: sequence,
            isTransactional: true), to: partition)
        sequences[producer] = sequence + 1
        naive.entries.append(.transactional(producer))
      case 14..<18:
        let producer = Int64.random(in: 1...4, using: &log.random)
        let commit = log.random.oneIn(2)
        try log.finish(log.end(producer, commit: commit, in: [partition]))
        naive.entries.append(.end(producer, commit: commit))
      case 18:
        if log.random.oneIn(3) { #expect(try log.close() == nil) }
        try log.restart()
        partition = try log.partition(1)
      default: log.settle()
      }
      #expect(partition.lastStableOffset == naive.lastStable, "seed \(seed), step \(step)")
      if step % 20 == 0 { #expect(try log.readCommitted(partition) == naive.visible, "seed \(seed), step \(step)") }
    }
    #expect(try log.readCommitted(partition) == naive.visible, "seed \(seed)")
    #expect(!naive.visible.isEmpty && !partition.transactions.aborted.isEmpty, "seed \(seed) tried nothing")
  }
}

@Test("a marker that is not durable yet holds readers back: a crash may still undo it")
func undurableMarker() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  try log.append(TestBatch(), to: partition)
  try log.append(TestBatch(producer: 5, epoch: 0, sequence: 0, isTransactional: true), to: partition)
  #expect(partition.lastStableOffset == 1 && partition.highWatermark == 2)
  log.writer.isHeld = true
  let ended = try log.end(5, commit: true, in: [partition])
  log.world.run(for: .milliseconds(20))
  #expect(partition.nextOffset == 3 && partition.lastStableOffset == 1)
  #expect(partition.transactionOutcome(ofProducer: 5, at: 1) == .open)
  log.writer.releaseAll()
  try log.finish(ended)
  #expect(partition.lastStableOffset == 3 && partition.transactionOutcome(ofProducer: 5, at: 1) == .committed)
}

@Test("recovers after a power loss in every disk operation with no transaction half visible", arguments: [false, true])
func recoversWholeTransactions(isEncrypted: Bool) throws {
  var kinds: Set<String> = []
  for operation in 1...70 {
    let log = LogWorld(seed: UInt64(operation), isEncrypted: isEncrypted)
    log.world.crashAfterOperations(operation)
    var acknowledged = 0
    do {
      try log.open()
      for number: Int64 in 1...3 {
        let created = log.append(AppendUnit(event: Bytes("create \(number)")))
        log.world.run(atMost: 10_000) { created.result != nil }
      }
      while !log.world.isCrashed {
        let logs = try (1...3).map { try log.partition($0) }
        var written: [Pending] = []
        for one in logs {
          let batch = TestBatch(
            size: 900, producer: 5, epoch: 0, sequence: Int32(acknowledged), isTransactional: true)
          written.append(log.append(AppendUnit(one, batch.bytes, try batch.header())))
        }
        log.world.run(atMost: 100_000) { written.allSatisfy { $0.result != nil } }
        let ended = try log.end(5, commit: true, in: logs, event: "ended \(acknowledged)")
        log.world.run(atMost: 100_000) { ended.result != nil }
        if case .success = ended.result { acknowledged += 1 }
      }
    } catch is LogError {
      #expect(log.world.isCrashed)
    }
    try log.restart()
    let logs = [1, 2, 3].compactMap { log.store.partition(PartitionLogID($0)) }
    guard logs.count == 3 else { continue }
    let visible = try logs.map { try log.readCommitted($0).count }
    let events = log.machine.events.filter { $0.hasPrefix("ended") }.count
    #expect(Set(visible).count == 1, "operation \(operation): \(visible)")
    #expect(visible[0] == events && events >= acknowledged, "operation \(operation)")
    kinds.insert(logs.contains { $0.transactions.open[5] != nil } ? "open" : "ended")
  }
  #expect(kinds == ["open", "ended"])
}

@Test("an aborted transaction is forgotten when the start has passed its end, and not before")
func prunedIndex() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  for sequence: Int32 in 0..<3 {
    try log.append(
      TestBatch(producer: 5, epoch: 0, sequence: sequence, isTransactional: true), to: partition)
    try log.finish(log.end(5, commit: false, in: [partition]))
  }
  #expect(partition.abortedTransactions(from: 0, to: 6).map(\.firstOffset) == [0, 2, 4])
  #expect(partition.abortedTransactions(from: 2, to: 4).map(\.firstOffset) == [2])
  var unit = AppendUnit()
  unit.startOffsets = [(partition, 3)]
  try log.finish(log.append(unit))
  #expect(partition.abortedTransactions(from: 0, to: 6).map(\.firstOffset) == [2, 4])
  try log.restart()
  #expect(try log.partition(1).abortedTransactions(from: 0, to: 6).map(\.firstOffset) == [2, 4])
}

@Test("a producer with an open transaction may not write outside it, and a higher epoch's marker shuts the old one out")
func fencedProducer() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  try log.append(TestBatch(producer: 5, epoch: 0, sequence: 0, isTransactional: true), to: partition)
  #expect(throws: LogError.self) { try log.append(TestBatch(producer: 5, epoch: 0, sequence: 1), to: partition) }
  try log.finish(log.end(5, commit: false, in: [partition], epoch: 1))
  for (epoch, sequence, code) in [(0, 1, .invalidProducerEpoch), (1, 1, .outOfOrderSequence)]
    as [(Int16, Int32, LogError.Code)]
  {
    let batch = TestBatch(producer: 5, epoch: epoch, sequence: sequence, isTransactional: true)
    let pending = log.append(AppendUnit(partition, batch.bytes, try batch.header()))
    log.run { pending.result != nil }
    #expect(pending.error?.code == code)
  }
  try log.append(TestBatch(producer: 5, epoch: 1, sequence: 0, isTransactional: true), to: partition)
  // A marker of the same epoch lets the sequence go on.
  try log.finish(log.end(5, commit: true, in: [partition], epoch: 1))
  try log.append(TestBatch(producer: 5, epoch: 1, sequence: 1, isTransactional: true), to: partition)
}

@Test("a decision is made of the state that all earlier units have led to, also when they had to wait for room")
func decisionInOrder() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  log.background.isHeld = true
  var earlier: [Pending] = []
  while log.store.waitingUnits == 0 {
    let batch = TestBatch(size: 3000)
    earlier.append(log.append(AppendUnit(partition, batch.bytes, try batch.header())))
    log.world.run(for: .milliseconds(50))
    try #require(earlier.count < 1000)
  }
  _ = log.append(AppendUnit(event: Bytes("before")))
  var seen: [String] = []
  let decided = Pending()
  log.store.append(
    deciding: {
      seen = log.machine.events
      return AppendUnit(event: Bytes("decided"))
    }
  ) { decided.result = $0 }
  let nothing = Pending()
  log.store.append(deciding: { nil }) { nothing.result = $0 }
  #expect(decided.result == nil && log.store.waitingUnits == 4)
  // What holds now is one thing, what was appended so far another.
  var (holds, all) = (false, false)
  log.store.whenDurable { if $0 == nil { holds = true } }
  log.store.whenAllDurable { if $0 == nil { all = true } }
  log.world.run(for: .seconds(1))
  #expect(holds && !all && decided.result == nil)
  log.background.releaseAll()
  log.run { nothing.result != nil }
  #expect(seen.last == "before" && log.machine.events.suffix(2) == ["before", "decided"])
  #expect(try nothing.value().isEmpty && decided.error == nil)
  log.run { all }
}
