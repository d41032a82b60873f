// RunnerTests: jobs on their own thread, sources with positions, steps, and what bad input does.

import MillraceBase
import MillraceDataflow
import MillraceModel
import Synchronization
import Testing

/// Numbers from 0 up, as lines; its position is the next number.
private final class NumberSource: ReplayableSource {
  private var next: Int64 = 0
  private let end: Int64

  init(end: Int64) { self.end = end }

  func restore(_ position: Bytes?) throws(JobError) {
    guard let position else { return }
    var reader = ByteReader(position)
    do throws(DecodingError) {
      next = try reader.int64()
    } catch {
      throw JobError(.sourceFailed, error.description)
    }
  }

  func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    var builder = RecordBatchBuilder()
    while next < end, builder.count < 7 {
      builder.append(Record(value: Bytes("\(next)")))
      next += 1
    }
    var position = ByteWriter()
    position.int64(next)
    return SourceBatch(
      batch: builder.count > 0 ? builder.finish() : nil, position: position.finishJoined(), isFinished: next == end)
  }
}

private func numbers(_ end: Int64) -> JobDefinition {
  JobDefinition(
    name: "feed",
    [
      Pipeline(
        RecordInput(.source(name: "numbers") { () throws(JobError) in NumberSource(end: end) }),
        into: RecordTopicSink(topic: "lines"))
    ])
}

@Test("recovers: a source's records are neither skipped nor repeated, whichever commit crashes")
func recoversSource() throws {
  for crash in UInt64(1)...16 {
    for fate in [MemoryHost.Fate.lost, .applied] {
      let host = MemoryHost { $0 == crash ? fate : .acknowledged }
      host.createTopic("lines", partitions: 1)
      var runs = 0
      var isDone = false
      while !isDone {
        runs += 1
        try #require(runs < 5)
        do {
          try drain(numbers(100), host)
          isDone = true
        } catch {
          #expect(error.code == .commitFailed)
        }
      }
      #expect(runs == (crash <= 15 ? 2 : 1), "crash at \(crash)")
      let values = try host.records(topic: "lines", partition: 0).compactMap { $0.value?.text }
      #expect(values == (0..<100).map(String.init), "crash at \(crash), \(fate)")
    }
  }
}

@Test("a runner follows its topic until it is stopped, and tells its figures")
func runnerRuns() throws {
  let host = MemoryHost()
  host.createTopic("lines", partitions: 1)
  host.createTopic("counts", partitions: 1)
  let states = Mutex<[JobRunner.State]>([])
  let runner = JobRunner(countJob(), host: host) { state in states.withLock { $0.append(state) } }
  runner.start()
  try host.append(topic: "lines", partition: 0, batch: batch(["a b", "a"]))
  // The counts topic says when the step is done: a second job waits for its two records.
  let seen = Mutex(0)
  let watch = JobDefinition(
    name: "watch",
    [
      Pipeline(RecordInput(.topic("counts")), into: CallSink { (_: InputRecord) in seen.withLock { $0 += 1 } })
    ])
  let watcher = try JobExecutor(watch, host: host)
  while seen.withLock({ $0 }) < 2 { _ = try watcher.turn() }
  runner.stop()
  runner.join()
  #expect(states.withLock { $0 } == [.running, .stopped])
  let figures = runner.figures
  #expect(figures.recordsIn == 2 && figures.recordsOut == 2 && figures.stateKeys == 2 && figures.lag == 0)
  #expect(figures.steps == 1 && figures.commitLatency.count == 1)
  #expect(try emitted(host, partitions: 1) == ["a": [2], "b": [1]])
}

@Test("a runner ends by itself when all its sources have ended")
func runnerFinishes() throws {
  let host = MemoryHost()
  host.createTopic("lines", partitions: 1)
  let runner = JobRunner(numbers(50), host: host)
  runner.start()
  runner.join()
  #expect(runner.state == .finished)
  #expect(try host.records(topic: "lines", partition: 0).count == 50)
}

@Test("a topic that is not there fails the job with its name")
func missingTopic() {
  let host = MemoryHost()
  host.createTopic("counts", partitions: 1)
  let runner = JobRunner(countJob(), host: host)
  runner.start()
  runner.join()
  #expect(runner.state == .failed(JobError(.unknownTopic, "lines")))
}

@Test("under light load every read is a step, under heavy load reads are joined up to the step's limit")
func stepSizes() throws {
  func steps(stepBytes: Int, readBytes: Int) throws -> UInt64 {
    let host = MemoryHost()
    host.createTopic("lines", partitions: 1)
    host.createTopic("counts", partitions: 1)
    for _ in 0..<40 { try host.append(topic: "lines", partition: 0, batch: batch(["a b c d e f g"])) }
    var options = quick(readBytes: readBytes)
    options.stepBytes = stepBytes
    let executor = try JobExecutor(countJob(), host: host, options: options)
    while try executor.turn() == .progress {}
    #expect(try emitted(host, partitions: 1)["a"]?.last == 40)
    return executor.figures.steps
  }
  let size = batch(["a b c d e f g"]).count
  #expect(try steps(stepBytes: 1, readBytes: size) == 40)
  #expect(try steps(stepBytes: size * 10, readBytes: size) == 4)
  // After a full read the rest is joined; a read of less than half of what was asked for ends the step.
  #expect(try steps(stepBytes: size * 100, readBytes: size * 39) == 1)
  #expect(try steps(stepBytes: size * 100, readBytes: size * 30) == 1)
}

@Test("a batch whose records contradict its header fails the job and commits nothing")
func corruptInputFails() throws {
  let host = MemoryHost()
  host.createTopic("lines", partitions: 1)
  host.createTopic("counts", partitions: 1)
  // A right CRC over records that are cut short: the length of the first record runs past the end.
  let good = batch(["a b c"])
  var bytes = good.array
  bytes[RecordBatchHeader.size] = 0x7e
  let crc = Bytes(Array(bytes[21...])).crc32c
  for index in 0..<4 { bytes[17 + index] = UInt8(truncatingIfNeeded: crc >> UInt32(24 - 8 * index)) }
  try host.append(topic: "lines", partition: 0, batch: good)
  try host.append(topic: "lines", partition: 0, batch: Bytes(bytes))
  let error = #expect(throws: JobError.self) { try drain(countJob(), host, quick(readBytes: 1)) }
  #expect(error?.code == .corruptInput)
  #expect(try emitted(host, partitions: 1) == ["a": [1], "b": [1], "c": [1]])
}

@Test("large outputs are split into batches below the broker's limit")
func outputsAreSplit() throws {
  let host = MemoryHost()
  host.createTopic("lines", partitions: 1)
  host.createTopic("counts", partitions: 1)
  let words = (0..<60_000).map { "word-number-\($0)" }
  try host.append(topic: "lines", partition: 0, batch: batch([words.joined(separator: " ")]))
  try drain(countJob(), host)
  let batches = try host.read(
    [InputPosition(topic: "counts", partition: 0, offset: 0)], maxBytes: 1 << 30, wait: .zero)
  #expect(batches.count >= 3)
  #expect(batches.allSatisfy { $0.bytes.count <= 1 << 20 })
  #expect(try emitted(host, partitions: 1).count == 60_000)
}

@Test("offsets below the position are not processed again when a batch straddles it")
func straddlingBatch() throws {
  let bytes = batch(["a", "b", "c"])
  let records = bytes[RecordBatchHeader.size..<bytes.count]
  var seen: [String] = []
  // An input that is not bound has the index −1.
  let run = InputRun(
    input: -1, partition: 0, records: records.buffer, header: try RecordBatchHeader(bytes), firstOffset: 1)
  try RecordInput(.topic("lines")).process(run) { record, _ in seen.append(record.value.text) }
  extendLifetime(records)
  #expect(seen == ["b", "c"])
}
