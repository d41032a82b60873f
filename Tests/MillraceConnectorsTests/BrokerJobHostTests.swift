// BrokerJobHostTests: the word count over a real broker: exact counts, also after crashes, and only one run at a time.

import Foundation
import MillraceBase
import MillraceBroker
import MillraceConnectors
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private let job = WordCount.job()

private func lines(_ count: Int, seed: UInt64) -> [String] {
  var random = SeededRandom(seed: seed)
  return (0..<count).map { _ in
    (0..<Int.random(in: 1...8, using: &random)).map { _ in "w\(Int.random(in: 0..<60, using: &random))" }
      .joined(separator: " ")
  }
}

private func naiveCounts(_ lines: [String]) -> [String: Int] {
  var counts: [String: Int] = [:]
  for line in lines { for word in line.split(separator: " ") { counts[String(word), default: 0] += 1 } }
  return counts
}

/// The last count of each word in topic `counts`; each word's counts must rise.
private func lastCounts(_ broker: RunningBroker) throws -> [String: Int] {
  var counts: [String: Int] = [:]
  for record in try broker.records("counts") {
    let word = try #require(record.key?.text)
    let count = try #require(record.value.flatMap { Int($0.text) })
    let before = counts.updateValue(count, forKey: word) ?? 0
    #expect(count > before, "\(word) went from \(before) to \(count)")
  }
  return counts
}

private func host(_ broker: RunningBroker) -> BrokerJobHost { broker.get { BrokerJobHost($0) } }

/// Runs the job until there is nothing left to read.
private func drain(_ broker: RunningBroker, _ options: JobOptions = smallSteps()) throws {
  let executor = try JobExecutor(job, host: host(broker), options: options)
  while try executor.turn() == .progress {}
  try executor.settle()
}

@Suite("a job on a broker")
struct BrokerJobHostTests {
  @Test("counts every word once, from all partitions")
  func countsWords() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.createTopic("lines", partitions: 3)
      try broker.createTopic("counts", partitions: 2)
      let text = lines(300, seed: 1)
      for (index, line) in text.enumerated() { try broker.produce("lines", Int32(index % 3), [line, line]) }
      try drain(broker)
      #expect(try lastCounts(broker) == naiveCounts(text + text))
      try broker.close()
    }
  }

  @Test("a running job takes up partitions that its topic got meanwhile, and a later run goes on in them")
  func newPartitions() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.createTopic("lines", partitions: 1)
      try broker.createTopic("counts", partitions: 1)
      let text = lines(90, seed: 7)
      let executor = try JobExecutor(job, host: host(broker), options: smallSteps())
      for line in text[..<30] { try broker.produce("lines", 0, [line]) }
      while try executor.turn() == .progress {}
      try broker.addPartitions("lines", total: 3)
      for (index, line) in text[30..<60].enumerated() { try broker.produce("lines", Int32(index % 3), [line]) }
      // The first turn may still ask for the old ones only.
      for _ in 0..<2 { while try executor.turn() == .progress {} }
      try executor.settle()
      #expect(try lastCounts(broker) == naiveCounts(Array(text[..<60])))
      for (index, line) in text[60...].enumerated() { try broker.produce("lines", Int32(index % 3), [line]) }
      try drain(broker)
      #expect(try lastCounts(broker) == naiveCounts(text))
      try broker.close()
    }
  }

  @Test("a stopped job goes on after a clean restart where it was")
  func goesOn() throws {
    try inTemporaryDirectory { directory in
      let text = lines(200, seed: 2)
      var broker = try RunningBroker(directory)
      try broker.createTopic("lines", partitions: 1)
      try broker.produce("lines", 0, Array(text[..<120]))
      try drain(broker)
      try broker.close()
      broker = try RunningBroker(directory)
      try broker.produce("lines", 0, Array(text[120...]))
      try drain(broker)
      #expect(try lastCounts(broker) == naiveCounts(text))
      try broker.close()
    }
  }

  @Test("recovers exact counts after crashes in the middle of its steps", arguments: [UInt64(1), 2, 3, 4])
  func recoversAfterCrashes(seed: UInt64) throws {
    try inTemporaryDirectory { directory in
      var random = SeededRandom(seed: seed)
      let text = lines(600, seed: seed)
      var number = 0
      var broker = try RunningBroker("\(directory)/0")
      try broker.createTopic("lines", partitions: 2)
      var written = 0
      for crash in 0..<5 {
        let end = min(text.count, written + 150)
        for line in text[written..<end] { try broker.produce("lines", Int32(line.utf8.count % 2), [line]) }
        written = end
        let executor = try JobExecutor(job, host: host(broker), options: smallSteps())
        for _ in 0..<Int.random(in: 1...4, using: &random) { _ = try executor.turn() }
        broker.crash()
        #expect(throws: JobError(.closed, "the broker's reactor has stopped")) {
          while true { _ = try executor.turn() }
        }
        number += 1
        // A copy, because this process still holds the lock of the original.
        try FileManager.default.copyItem(atPath: "\(directory)/\(crash)", toPath: "\(directory)/\(number)")
        broker = try RunningBroker("\(directory)/\(number)")
      }
      try drain(broker)
      #expect(try lastCounts(broker) == naiveCounts(text), "seed \(seed)")
      try broker.close()
    }
  }

  @Test("reads batches of every codec", arguments: CompressionCodec.allCases)
  func readsEveryCodec(codec: CompressionCodec) throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.createTopic("lines", partitions: 1)
      let text = lines(100, seed: 5)
      try broker.produce("lines", 0, text, codec: codec)
      try drain(broker)
      #expect(try lastCounts(broker) == naiveCounts(text))
      try broker.close()
    }
  }

  @Test("a second start fences the first run, which commits nothing more")
  func fences() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.createTopic("lines", partitions: 1)
      let text = lines(50, seed: 6)
      try broker.produce("lines", 0, text)
      let first = try JobExecutor(job, host: host(broker), options: smallSteps())
      let second = try JobExecutor(job, host: host(broker), options: smallSteps())
      let error = #expect(throws: JobError.self) {
        _ = try first.turn()
        try first.settle()
      }
      #expect(error?.code == .fenced)
      while try second.turn() == .progress {}
      try second.settle()
      #expect(try lastCounts(broker) == naiveCounts(text))
      // A run without anything to commit notices with its next read.
      let third = try JobExecutor(job, host: host(broker), options: smallSteps())
      #expect(throws: JobError.self) { _ = try second.turn() }
      #expect(try third.turn() == .idle)
      try broker.close()
    }
  }

  @Test("an output topic is made with num.partitions when the job starts")
  func makesOutputTopic() throws {
    try inTemporaryDirectory { directory in
      var settings = BrokerSettings()
      try settings.set("num.partitions", "4")
      let broker = try RunningBroker(directory, settings: settings)
      try broker.createTopic("lines", partitions: 1)
      try broker.produce("lines", 0, ["a b a"])
      try drain(broker)
      #expect(broker.get { $0.topic("counts")?.partitions.count } == 4)
      #expect(try lastCounts(broker) == ["a": 2, "b": 1])
      try broker.close()
    }
  }

  @Test("without auto.create.topics.enable a topic that is missing is refused")
  func refusesUnknownTopic() throws {
    try inTemporaryDirectory { directory in
      var settings = BrokerSettings()
      try settings.set("auto.create.topics.enable", "false")
      let broker = try RunningBroker(directory, settings: settings)
      let error = #expect(throws: JobError.self) { try drain(broker) }
      #expect(error?.code == .unknownTopic)
      try broker.close()
    }
  }

  @Test("a job name that no topic could have is refused")
  func refusesName() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      let error = #expect(throws: JobError.self) {
        _ = try JobExecutor(WordCount.job(named: "a b"), host: host(broker), options: smallSteps())
      }
      #expect(error?.code == .invalidJob)
      try broker.close()
    }
  }

  @Test("a step whose output's topic was deleted is refused whole, and so are the steps after it")
  func refusesWholeStep() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.createTopic("here", partitions: 1)
      let host = host(broker)
      let epoch = try host.open(job: "pair") { _ in }
      func batch(_ value: String) -> Bytes {
        var builder = RecordBatchBuilder()
        builder.append(Record(value: Bytes(value), timestamp: .now))
        return builder.finish()
      }
      func commit(_ topics: [String]) throws(JobError) -> CommitTicket {
        try host.submit(
          StepCommit(
            job: "pair", epoch: epoch,
            outputs: topics.map { OutputBatch(topic: $0, partition: 0, bytes: batch("x")) },
            state: [batch("state")], stateLogStart: nil))
      }
      let good = try commit(["here"])
      let bad = try commit(["here", "gone"])
      let late = try commit(["here"])
      #expect(try host.wait(good).stateLogOffset == 0)
      #expect(throws: JobError.self) { try host.wait(bad) }
      #expect(throws: JobError.self) { try host.wait(late) }
      #expect(try broker.records("here").count == 1)
      #expect(try broker.records("__job-pair").count == 1)
      try broker.close()
    }
  }

  @Test("an interruption ends a read that waits, at once")
  func interrupts() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.createTopic("lines", partitions: 1)
      var options = JobOptions()
      options.idleWait = .seconds(600)
      let running = DispatchSemaphore(value: 0)
      let runner = JobRunner(job, host: host(broker), options: options) { if $0 == .running { running.signal() } }
      runner.start()
      running.wait()
      runner.stop()
      runner.join()
      #expect(runner.state == .stopped)
      try broker.close()
    }
  }

  @Test("a job whose broker closes ends with an error that says so")
  func endsWithBroker() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.createTopic("lines", partitions: 1)
      var options = JobOptions()
      options.idleWait = .seconds(600)
      let running = DispatchSemaphore(value: 0)
      let runner = JobRunner(job, host: host(broker), options: options) { if $0 == .running { running.signal() } }
      runner.start()
      running.wait()
      try broker.close()
      runner.join()
      guard case .failed(let error) = runner.state else {
        Issue.record("the job is \(runner.state)")
        return
      }
      #expect(error.code == .closed)
    }
  }

  @Test("the state log stays small while the job goes on for long")
  func trimsStateLog() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.createTopic("lines", partitions: 1)
      let text = lines(400, seed: 7)
      for line in text { try broker.produce("lines", 0, [line]) }
      var options = smallSteps()
      options.readBytes = 1
      try drain(broker, options)
      let start = broker.get { broker in
        broker.topic("__job-word-count").flatMap { broker.partition($0, 0)?.startOffset } ?? -1
      }
      #expect(start > 0)
      try drain(broker, options)
      #expect(try lastCounts(broker) == naiveCounts(text))
      try broker.close()
    }
  }
}
