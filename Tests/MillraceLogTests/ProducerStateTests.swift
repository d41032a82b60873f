// ProducerStateTests: sequence rules of idempotent producers, against a naive model and one by one.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceLog

/// Every batch a producer ever wrote into a partition, judged by the rule's words.
private struct NaiveProducer {
  var epoch: Int16?
  var written: [(first: Int32, last: Int32, offset: Offset)] = []

  enum Verdict: Equatable { case append, duplicate(Offset), outOfOrder, oldEpoch }

  func judge(_ header: RecordBatchHeader) -> Verdict {
    guard let epoch else { return .append }
    if header.producerEpoch < epoch { return .oldEpoch }
    if header.producerEpoch > epoch { return header.baseSequence == 0 ? .append : .outOfOrder }
    for batch in written.suffix(5) where batch.first == header.baseSequence && batch.last == header.lastSequence {
      return .duplicate(batch.offset)
    }
    guard let last = written.last?.last else { return .append }
    return header.baseSequence == Int32((Int64(last) + 1) % (1 << 31)) ? .append : .outOfOrder
  }

  mutating func append(_ header: RecordBatchHeader, at offset: Offset) {
    if epoch != header.producerEpoch { written = [] }
    epoch = header.producerEpoch
    written.append((header.baseSequence, header.lastSequence, offset))
  }
}

@Test("oracle: sequences are judged as a naive model judges them, over epochs and the wrap at 2^31")
func oracleSequences() throws {
  for seed: UInt64 in 1...40 {
    var random = SeededRandom(seed: seed)
    var state: ProducerState?
    var naive = NaiveProducer()
    var seen: Set<String> = []
    var next: Int32 = random.oneIn(2) ? 0 : Int32.max - Int32.random(in: 0...20, using: &random)
    var epoch: Int16 = 0
    var offset: Offset = 0
    for _ in 0..<300 {
      var sequence = next
      switch Int.random(in: 0..<12, using: &random) {
      case 0: sequence = Int32((Int64(next) + Int64.random(in: 1...5, using: &random)) % (1 << 31))
      case 1, 2, 3:
        if let old = naive.written.suffix(7).randomElement(using: &random) { sequence = old.first }
      case 4:
        epoch += 1
        sequence = random.oneIn(3) ? next : 0
      default: break
      }
      let writes = random.oneIn(15) ? epoch - 1 : epoch
      let batch = TestBatch(
        records: Int.random(in: 1...3, using: &random), producer: 7, epoch: max(0, writes), sequence: sequence)
      let header = try batch.header()
      var verdict: NaiveProducer.Verdict
      do throws(LogError) {
        switch try ProducerState.judge(state, header) {
        case .append: verdict = .append
        case .duplicate(let earlier): verdict = .duplicate(earlier.baseOffset)
        }
      } catch {
        verdict = error.code == .invalidProducerEpoch ? .oldEpoch : .outOfOrder
      }
      #expect(verdict == naive.judge(header), "seed \(seed): sequence \(sequence), epoch \(header.producerEpoch)")
      seen.insert("\(verdict)".prefix(6).description)
      epoch = max(epoch, naive.epoch ?? 0)
      if verdict == .append {
        naive.append(header, at: offset)
        state = ProducerState.appending(header, at: offset, to: state, now: .none)
        offset += Int64(header.recordCount)
        next = header.lastSequence == .max ? 0 : header.lastSequence + 1
      }
    }
    #expect(seen.count >= 3, "seed \(seed) saw only \(seen)")
  }
}

/// Appends a batch of an idempotent producer and waits for the outcome.
private func outcome(
  _ log: LogWorld, _ partition: PartitionLog, _ sequence: Int32, records: Int = 1, epoch: Int16 = 0
) throws -> Result<[AppendedBatch], LogError> {
  let batch = TestBatch(records: records, producer: 7, epoch: epoch, sequence: sequence)
  let pending = log.append(AppendUnit(partition, batch.bytes, try batch.header()))
  log.run { pending.result != nil }
  return try #require(pending.result)
}

@Test("a repeated batch is answered with its first offset and adds nothing, also after a restart and after a snapshot")
func duplicatesAfterRestart() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  for sequence: Int32 in 0..<6 { _ = try outcome(log, partition, sequence).get() }
  let repeated = [AppendedBatch(baseOffset: 3, isDuplicate: true)]
  #expect(try outcome(log, partition, 3).get() == repeated)
  try log.restart()
  #expect(try outcome(log, log.partition(1), 3).get() == repeated)
  #expect(try log.close() == nil)
  try log.restart(.processKill)
  #expect(try outcome(log, log.partition(1), 3).get() == repeated)
  #expect(try log.partition(1).nextOffset == 6)
  // The sixth batch from the end is no longer known.
  guard case .failure(let error) = try outcome(log, log.partition(1), 0) else {
    Issue.record("a batch outside the window was taken")
    return
  }
  #expect(error.code == .outOfOrderSequence)
  guard case .failure(let gap) = try outcome(log, log.partition(1), 8) else {
    Issue.record("a gap was taken")
    return
  }
  #expect(gap.code == .outOfOrderSequence && gap.reason.contains("6 is next"))
}

@Test("a repeat of a batch that is still being written is acknowledged with it, not before")
func repeatOfBatchInFlight() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  log.settle()
  log.writer.isHeld = true
  let batch = TestBatch(producer: 7, epoch: 0, sequence: 0)
  let first = log.append(AppendUnit(partition, batch.bytes, try batch.header()))
  let second = log.append(AppendUnit(partition, batch.bytes, try batch.header()))
  log.settle()
  #expect(first.result == nil && second.result == nil)
  log.writer.releaseAll()
  log.run { second.result != nil }
  #expect(try first.value() == [AppendedBatch(baseOffset: 0, isDuplicate: false)])
  #expect(try second.value() == [AppendedBatch(baseOffset: 0, isDuplicate: true)])
}

@Test("a producer that was silent for long is forgotten with a snapshot, others are not")
func producersExpire() throws {
  let log = LogWorld { $0.producerExpiration = 60_000 }
  try log.open()
  let partition = try log.create(1)
  _ = try outcome(log, partition, 0).get()
  log.world.run(for: .seconds(50))
  #expect(try log.close() == nil)
  try log.restart(.processKill)
  #expect(try log.partition(1).producers.count == 1)
  log.world.run(for: .seconds(70))
  #expect(try log.close() == nil)
  try log.restart(.processKill)
  #expect(try log.partition(1).producers.isEmpty)
  // Without knowledge every sequence is taken.
  #expect(try outcome(log, log.partition(1), 77).get() == [AppendedBatch(baseOffset: 1, isDuplicate: false)])
}

@Test("no clock that is set, forwards or backwards, running or not, makes a producer forgotten or kept for ever")
func producersOutliveClockJumps() throws {
  let log = LogWorld { $0.producerExpiration = 60_000 }
  try log.open()
  let partition = try log.create(1)
  _ = try outcome(log, partition, 0).get()
  for jump in [Duration.seconds(3 * 86_400), .seconds(-9 * 86_400), .seconds(40 * 86_400)] {
    log.world.jumpWallClock(by: jump)
    var isTaken = false
    log.store.takeSnapshot { isTaken = true }
    log.run { isTaken }
    #expect(try log.partition(1).producers.count == 1)
    try log.restart(.processKill)
    log.world.jumpWallClock(by: jump)
    #expect(try log.close() == nil)
    try log.restart(.processKill)
    #expect(try log.partition(1).producers.count == 1)
  }
  #expect(try outcome(log, log.partition(1), 0).get() == [AppendedBatch(baseOffset: 0, isDuplicate: true)])
  log.world.jumpWallClock(by: .seconds(-400 * 86_400))
  log.world.run(for: .seconds(70))
  #expect(try log.close() == nil)
  try log.restart(.processKill)
  #expect(try log.partition(1).producers.isEmpty)
}
