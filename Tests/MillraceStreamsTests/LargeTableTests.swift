// LargeTableTests: lookups that are gathered before a large table, of values that lend memory and of values that own it.

import MillraceBase
import MillraceModel
import MillraceStreams
import Testing

@testable import MillraceDataflow

@Test(
  "oracle: words that lend their bytes are counted exactly before large tables, on any number of workers and across restarts"
)
func wordsBeforeLargeTables() throws {
  for seed in UInt64(1)...12 {
    var random = SeededRandom(seed: seed)
    let host = MemoryHost()
    host.createTopic("lines", partitions: 2)
    host.createTopic("counts", partitions: 1)
    var model: [String: Int] = [:]
    for _ in 0..<3 {
      for partition in 0..<Int32(2) {
        var builder = RecordBatchBuilder()
        for _ in 0..<Int.random(in: 1...20, using: &random) {
          // Some are longer than what lies in an entry; a line has up to three queues full.
          let words = (0..<Int.random(in: 0...200, using: &random)).map { _ in
            let number = Int.random(in: 0..<500, using: &random)
            return String(repeating: "long", count: number % 7) + "\(number)"
          }
          for word in words { model[word, default: 0] += 1 }
          let line = Bytes(words.joined(separator: " "))
          builder.append(Record(value: line, timestamp: Timestamp(milliseconds: 0)))
        }
        try host.append(topic: "lines", partition: partition, batch: builder.finish())
      }
      var options = JobOptions()
      options.largeTable = 1
      options.workers = Int.random(in: 1...3, using: &random)
      options.wakeBytes = .max
      let executor = try JobExecutor(WordCount.job(), host: host, options: options)
      while executor.figures.lag > 0 || executor.figures.steps == 0 { _ = try executor.turn() }
      try executor.settle()
      #expect(executor.figures.stateKeys == model.count, "seed \(seed)")
    }
    var counts: [String: Int] = [:]
    for record in try host.records(topic: "counts", partition: 0) {
      counts[record.key?.text ?? ""] = Int(record.value?.text ?? "")
    }
    #expect(counts == model, "seed \(seed)")
  }
}

@Test("a table whose memory grows into pages of its own finds every key it was given, and reads itself back")
func tableInPages() throws {
  // Beyond 65,536 entries they take more than 2 MiB; so do the slots.
  let keys = 140_000
  let table = KeyedTable(
    operatorID: 1, kind: StateRecordKind.keyedValue, scope: [], largeSlots: 1)
  var writer = StateLogWriter(timestamp: .none)
  for number in 0..<UInt64(keys) {
    withUnsafeBytes(of: Hashing.mix(number)) { table.update($0, initial: 0) { $0 = number } }
  }
  table.writeChanges(into: &writer)
  let back = KeyedTable(operatorID: 1, kind: StateRecordKind.keyedValue, scope: [], largeSlots: 1)
  for batch in writer.finish() {
    let header = try RecordBatchHeader.checked(batch)
    try RecordReader.forEach(
      in: batch[RecordBatchHeader.size..<header.totalSize].buffer, count: Int(header.recordCount)
    ) {
      do throws(JobError) {
        try back.restoreLater(UnsafeRawBufferPointer(rebasing: $0.key[4...]), $0.value)
      } catch {
        Issue.record(error)
      }
    }
    try back.restoreRest()
    extendLifetime(batch)
  }
  #expect(table.count == keys && back.count == keys)
  var missing = 0
  for number in 0..<UInt64(keys) {
    withUnsafeBytes(of: Hashing.mix(number)) {
      if table.value($0) != number || back.value($0) != number { missing += 1 }
    }
  }
  #expect(missing == 0)
}
