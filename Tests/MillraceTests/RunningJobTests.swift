// RunningJobTests: stream jobs on an embedded broker, with nothing imported but the library.

import Foundation
import Millrace
import Testing

/// The last count of each word, once the counts add up to `total`.
private func counts(_ broker: EmbeddedBroker, total: Int) async throws -> [String: Int] {
  var counts: [String: Int] = [:]
  for try await record in broker.consume("counts") {
    counts[record.key?.text ?? ""] = Int(record.text)
    if counts.values.reduce(0, +) == total { break }
  }
  return counts
}

@Suite("a job on an embedded broker")
struct RunningJobTests {
  @Test("counts words, goes on after a reopening, and stops when told to")
  func countsWords() async throws {
    try await inTemporaryDirectory { directory in
      var broker = try await EmbeddedBroker.open(directory: directory)
      try await broker.createTopic("lines", partitions: 2)
      var job = try await broker.run(WordCount.job())
      try await broker.produce([record("to be or"), record("not to be")], to: "lines")
      #expect(try await counts(broker, total: 6) == ["to": 2, "be": 2, "or": 1, "not": 1])
      try await job.stop()
      #expect(job.state == .stopped)
      #expect(job.figures.recordsIn == 2)
      try await broker.produce([record("be")], to: "lines")
      try await broker.close()
      broker = try await EmbeddedBroker.open(directory: directory)
      job = try await broker.run(WordCount.job())
      #expect(try await counts(broker, total: 7) == ["to": 2, "be": 3, "or": 1, "not": 1])
      // Closing stops the job in order.
      try await broker.close()
      #expect(job.state == .stopped)
    }
  }

  @Test("a stream of closures filters, maps and sums")
  func runsClosures() async throws {
    try await withBroker { broker in
      let job = DataStream.topic("numbers")
        .map { $0.value.text }
        .filter { $0 != "skip" }
        .keyBy { $0.count % 2 == 0 ? "even" : "odd" }
        .sum { Int64($0.count) }
        .to(topic: "counts")
        .job(named: "sums")
      try await broker.produce(["a", "bb", "skip", "cc", "ddd"].map { record($0) }, to: "numbers")
      let running = try await broker.run(job)
      #expect(try await counts(broker, total: 8) == ["odd": 4, "even": 4])
      try await running.stop()
    }
  }

  @Test("a second start of a job ends the first with an error")
  func isFenced() async throws {
    try await withBroker { broker in
      let first = try await broker.run(WordCount.job())
      let second = try await broker.run(WordCount.job())
      var iterator = broker.consume("counts").makeAsyncIterator()
      try await broker.produce([record("word")], to: "lines")
      _ = try await iterator.next()
      try await broker.produce([record("word")], to: "lines")
      _ = try await iterator.next()
      let fenced = InProcessQueue<Int>(capacity: 2)
      for (number, job) in [first, second].enumerated() {
        Task {
          do throws(JobError) { try await job.wait() } catch {
            #expect(error.code == .fenced)
            try await fenced.send(number)
          }
        }
      }
      #expect(try await fenced.receive() != nil)
    }
  }

  @Test("a job that cannot start says why")
  func cannotStart() async throws {
    try await withBroker(settings: ["auto.create.topics.enable": "false"]) { broker in
      let job = try await broker.run(WordCount.job())
      do throws(JobError) {
        try await job.wait()
        Issue.record("the job ended without an error")
      } catch {
        #expect(error.code == .unknownTopic)
      }
    }
  }
}
