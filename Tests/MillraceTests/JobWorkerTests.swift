// JobWorkerTests: workers of stream jobs, with nothing imported but the library.

import Foundation
import Millrace
import Testing

private func open(_ directory: String) async throws -> EmbeddedBroker {
  let broker = try await EmbeddedBroker.open(directory: directory)
  try await broker.listenForWorkers()
  return broker
}

/// The last count of each word, once the counts add up to `total`.
private func counts(_ broker: EmbeddedBroker, total: Int) async throws -> [String: Int] {
  var counts: [String: Int] = [:]
  for try await record in broker.consume("counts") {
    counts[record.key?.text ?? ""] = Int(record.text)
    if counts.values.reduce(0, +) == total { break }
  }
  return counts
}

/// The code of the error that the worker ended with.
private func code(_ worker: JobWorker) async -> JobError.Code? {
  do throws(JobError) { try await worker.run() } catch { return error.code }
  return nil
}

@Suite("a worker of a job")
struct JobWorkerTests {
  @Test("counts words, waits for a server that is started again, and stops when told to")
  func countsWords() async throws {
    try await inTemporaryDirectory { directory in
      var broker = try await open(directory)
      try await broker.createTopic("lines", partitions: 2)
      let worker = JobWorker(WordCount.job(), directory: directory)
      let running = Task { await code(worker) }
      try await broker.produce([record("to be or"), record("not to be")], to: "lines")
      #expect(try await counts(broker, total: 6) == ["to": 2, "be": 2, "or": 1, "not": 1])
      try await broker.close()
      broker = try await open(directory)
      try await broker.produce([record("be")], to: "lines")
      #expect(try await counts(broker, total: 7) == ["to": 2, "be": 3, "or": 1, "not": 1])
      worker.stop()
      #expect(await running.value == nil)
      #expect(worker.state == .stopped)
      try await broker.close()
    }
  }

  @Test("a second worker takes over from the first, which ends with an error that says so")
  func isFenced() async throws {
    try await inTemporaryDirectory { directory in
      let broker = try await open(directory)
      let first = JobWorker(WordCount.job(), directory: directory)
      let running = Task { await code(first) }
      try await broker.produce([record("a")], to: "lines")
      _ = try await counts(broker, total: 1)
      let second = JobWorker(WordCount.job(), directory: directory)
      let other = Task { await code(second) }
      // The first one notices without input, too.
      #expect(await running.value == .fenced)
      try await broker.produce([record("b")], to: "lines")
      _ = try await counts(broker, total: 2)
      other.cancel()
      #expect(await other.value == nil)
      try await broker.close()
    }
  }

  @Test("where no server runs, or none comes back in time, the worker ends with an error that says so")
  func noServer() async throws {
    try await inTemporaryDirectory { directory in
      #expect(await code(JobWorker(WordCount.job(), directory: directory)) == .noServer)
      let broker = try await open(directory)
      var configuration = JobWorker.Configuration()
      configuration.reconnectTimeout = .milliseconds(100)
      let worker = JobWorker(WordCount.job(), directory: directory, configuration: configuration)
      let running = Task { await code(worker) }
      while worker.state != .running { try await Task.sleep(for: .milliseconds(2)) }
      try await broker.close()
      #expect(await running.value == .noServer)
    }
  }

  @Test("a job that cannot run ends the worker at once")
  func invalidJob() async throws {
    try await inTemporaryDirectory { directory in
      let broker = try await open(directory)
      #expect(await code(JobWorker(WordCount.job(named: "a b"), directory: directory)) == .invalidJob)
      try await broker.close()
    }
  }
}
