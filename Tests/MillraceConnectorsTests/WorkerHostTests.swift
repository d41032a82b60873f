// WorkerHostTests: jobs of workers over a real broker and a real socket: exact, one at a time, and no harm to the broker.

import Foundation
import MillraceBase
import MillraceBroker
import MillraceDataflow
import MillraceIO
import MillraceModel
import MillraceStreams
import Testing

@testable import MillraceConnectors

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

/// The last count of each word; each word's counts must rise.
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

/// A host that is connected.
private func host(_ directory: String) throws -> WorkerHost {
  let host = WorkerHost(directory: directory)
  try host.connect()
  return host
}

private func executor(_ host: WorkerHost) throws -> JobExecutor {
  try JobExecutor(WordCount.job(), host: host, options: smallSteps(idleWait: .milliseconds(1)))
}

private func drain(_ executor: JobExecutor) throws {
  while try executor.turn() == .progress {}
  try executor.settle()
}

/// The code of the error that `body` throws.
private func code(_ body: () throws -> Void) -> JobError.Code? {
  do { try body() } catch { return (error as? JobError)?.code }
  return nil
}

@Suite("a worker's job")
struct WorkerHostTests {
  @Test("counts every word once, from all partitions, and goes on after a restart of the server")
  func countsWords() throws {
    try inTemporaryDirectory { directory in
      var broker = try WorkerBroker(directory)
      try broker.broker.createTopic("lines", partitions: 3)
      try broker.broker.createTopic("counts", partitions: 2)
      let text = lines(300, seed: 1)
      for (index, line) in text.enumerated() { try broker.broker.produce("lines", Int32(index % 3), [line]) }
      let worker = try host(directory)
      let first = try executor(worker)
      try drain(first)
      #expect(try lastCounts(broker.broker) == naiveCounts(text))
      try broker.close()
      #expect(code { _ = try first.turn() } == .closed)
      #expect(code { try worker.connect() } == .noServer)
      broker = try WorkerBroker(directory)
      try broker.broker.produce("lines", 0, text)
      // Nothing reconnects by itself: what was in flight has to be found out by a new run.
      #expect(code { _ = try first.turn() } == .closed)
      try worker.connect()
      try drain(try executor(worker))
      #expect(try lastCounts(broker.broker) == naiveCounts(text + text))
      try broker.close()
    }
  }

  @Test("recovers exact counts when the server is killed in the middle of its steps", arguments: [UInt64(1), 2, 3])
  func recovers(seed: UInt64) throws {
    try inTemporaryDirectory { directory in
      var random = SeededRandom(seed: seed)
      let text = lines(400, seed: seed)
      var broker = try WorkerBroker("\(directory)/0")
      try broker.broker.createTopic("lines", partitions: 2)
      for crash in 0..<4 {
        for line in text[(crash * 100)..<(crash * 100 + 100)] {
          try broker.broker.produce("lines", Int32(line.utf8.count % 2), [line])
        }
        let run = try executor(try host("\(directory)/\(crash)"))
        for _ in 0..<Int.random(in: 1...4, using: &random) { _ = try run.turn() }
        broker.crash()
        #expect(code { while true { _ = try run.turn() } } == .closed)
        // A copy, because this process still holds the lock of the original. Sockets cannot be copied.
        try FileManager.default.removeItem(atPath: "\(directory)/\(crash)/\(WorkerProtocol.socketName)")
        try FileManager.default.copyItem(atPath: "\(directory)/\(crash)", toPath: "\(directory)/\(crash + 1)")
        broker = try WorkerBroker("\(directory)/\(crash + 1)")
      }
      try drain(try executor(try host("\(directory)/4")))
      #expect(try lastCounts(broker.broker) == naiveCounts(text), "seed \(seed)")
      try broker.close()
    }
  }

  @Test("a second worker takes over; the first is fenced, also when it comes back, and after a restart of the server")
  func fences() throws {
    try inTemporaryDirectory { directory in
      var broker = try WorkerBroker(directory)
      try broker.broker.createTopic("lines", partitions: 1)
      let text = lines(50, seed: 6)
      try broker.broker.produce("lines", 0, text)
      let (one, two) = (try host(directory), try host(directory))
      let first = try executor(one)
      let second = try executor(two)
      #expect(
        code {
          _ = try first.turn()
          try first.settle()
        } == .fenced)
      try drain(second)
      #expect(try lastCounts(broker.broker) == naiveCounts(text))
      // It reconnects as after a lost connection: nobody is taken over from.
      try one.connect()
      #expect(code { _ = try executor(one) } == .fenced)
      try two.connect()
      try drain(try executor(two))
      try broker.close()
      broker = try WorkerBroker(directory)
      try one.connect()
      #expect(code { _ = try executor(one) } == .fenced)
      try two.connect()
      try drain(try executor(two))
      // Whoever is started anew takes over.
      try drain(try executor(try host(directory)))
      try two.connect()
      #expect(code { _ = try executor(two) } == .fenced)
      try broker.close()
    }
  }

  @Test("what a job of another name commits on a worker's connection is refused")
  func refusesOtherJobs() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      let (one, two) = (try host(directory), try host(directory))
      let epoch = try one.open(job: "a") { _ in }
      _ = try two.open(job: "b") { _ in }
      let commit = StepCommit(job: "a", epoch: epoch, outputs: [], state: [oneRecord(Bytes("s"))], stateLogStart: nil)
      #expect(code { _ = try two.wait(try two.submit(commit)) } == .fenced)
      #expect(code { _ = try two.open(job: "c") { _ in } } == .invalidJob)
      #expect(try one.wait(try one.submit(commit)).stateLogOffset == 0)
      try broker.close()
    }
  }

  @Test("a commit as large as the server allows is taken, a larger one refused")
  func largeCommit() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      try broker.broker.createTopic("out", partitions: 1)
      let worker = try host(directory)
      #expect(worker.largestCommit == 32 << 20)
      let epoch = try worker.open(job: "large") { _ in }
      var random = SeededRandom(seed: 1)
      let value = Bytes((0..<(1 << 20)).map { _ in UInt8.random(in: 0...255, using: &random) })
      func commit(_ count: Int) -> StepCommit {
        let outputs = (0..<count).map { _ in OutputBatch(topic: "out", partition: 0, bytes: oneRecord(value)) }
        return StepCommit(
          job: "large", epoch: epoch, outputs: outputs, state: [oneRecord(Bytes("s"))], stateLogStart: nil)
      }
      let tickets = try (0..<4).map { _ in try worker.submit(commit(31)) }
      for (index, ticket) in tickets.enumerated() { #expect(try worker.wait(ticket).stateLogOffset == Int64(index)) }
      let read = try worker.read(
        [InputPosition(topic: "out", partition: 0, offset: 123)], maxBytes: 1 << 20, wait: .seconds(5))
      #expect(try read.flatMap { try Broker.records(of: $0.bytes) }.first?.value == value)
      #expect(code { _ = try worker.wait(try worker.submit(commit(33))) } != nil)
      try broker.close()
    }
  }

  @Test("a read waits for records, and an interruption from another thread ends it")
  func waits() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      try broker.broker.createTopic("lines", partitions: 1)
      let worker = try host(directory)
      let place = [InputPosition(topic: "lines", partition: 0, offset: 0)]
      let producer = Thread { _ = try? broker.broker.produce("lines", 0, ["x"]) }
      producer.start()
      #expect(try worker.read(place, maxBytes: 1 << 20, wait: .seconds(20)).count == 1)
      let behind = [InputPosition(topic: "lines", partition: 0, offset: 1)]
      let begun = MonotonicTime.now
      let interrupter = Thread {
        usleep(50_000)
        worker.interrupt()
      }
      interrupter.start()
      #expect(try worker.read(behind, maxBytes: 1 << 20, wait: .seconds(20)).isEmpty)
      #expect(MonotonicTime.now - begun < .seconds(15))
      // Without positions it only waits.
      worker.interrupt()
      _ = try worker.read([], maxBytes: 1, wait: .milliseconds(5))
      #expect(try worker.read([], maxBytes: 1, wait: .milliseconds(5)).isEmpty)
      #expect(try worker.partitionCount(topic: "lines") == 1)
      try broker.close()
    }
  }
}
