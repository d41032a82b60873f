// Restart: how long a job with much state takes from opening the data directory to its first step.

import Glibc
import Millrace

/// A job whose state lies in a data directory of an embedded broker.
struct Restart {
  let folder: String
  let keys: Int
  /// Bytes of a value beside its key of 8 bytes; 0: a number of 64 bits.
  let valueSize: Int
  /// Each key is written this often.
  let rounds: Int

  /// Fills the state and closes the broker, then opens it again, thrice, and prints how long that takes.
  func run() async throws {
    let directory = "\(folder)/restart-\(valueSize)"
    try Files.removeAll(below: directory)
    var broker = try await EmbeddedBroker.open(directory: directory)
    try await broker.createTopic("changes", partitions: 1)
    try await broker.run(job(updates: keys * rounds)).wait()
    try await broker.close()
    let size = try Files.sizes(below: directory).reduce(0) { $0 + $1.size }
    let what = "\(keys / 1000) thousand keys of 8 bytes with values of \(max(8, valueSize))"
    Report.say("\(what): \((keys * (8 + max(8, valueSize))) >> 20) MiB of state, \(size >> 20) MiB on disk")
    for attempt in 1...3 {
      try Files.forget(below: directory)
      let read = try Files.readAll(below: directory)
      try Files.forget(below: directory)
      let processor = Report.processorSeconds()
      let begun = Report.elapsedSeconds()
      broker = try await EmbeddedBroker.open(directory: directory)
      let opened = Report.elapsedSeconds() - begun
      let running = try await broker.run(job(updates: keys * rounds + 1000 * attempt))
      while running.figures.steps == 0 {
        if case .failed(let error) = running.state { throw error }
        usleep(2000)
      }
      let passed = Report.elapsedSeconds() - begun
      Report.say(
        "restart \(attempt): \(Report.seconds(passed)) to the first step, \(Report.seconds(opened)) of it to open the broker, "
          + "\(Report.seconds(Report.processorSeconds() - processor)) of the processor, \(running.figures.stateKeys) keys; "
          + "reading the same files alone: \(Report.seconds(read))")
      try await running.stop()
      try await broker.close()
    }
    try Files.removeAll(below: directory)
  }

  private func job(updates: Int) -> JobDefinition {
    let keys = UInt64(keys)
    let stream = DataStream<RecordInput>.source("changes") { () throws(JobError) in
      Changes(keys: keys, end: UInt64(updates))
    }
    .keyBy { NumberKey(Int64(bigEndian: $0.key.buffer.loadUnaligned(as: Int64.self))) }
    guard valueSize > 0 else {
      return stream.sum(name: "state") { _ in 1 }.filter { $0.value < 0 }.map { Keyed(key: "", value: $0.value) }
        .to(topic: "changes").job(named: "restart")
    }
    let text = String(repeating: "v", count: valueSize)
    return stream.fold("", name: "state") { state, _ in state = text }.filter { $0.value.isEmpty }
      .map { Keyed(key: "", value: $0.value) }.to(topic: "changes").job(named: "restart")
  }
}

/// Changes of all keys, one round after the other, each in another order.
private final class Changes: ReplayableSource {
  private let keys: UInt64
  private let end: UInt64
  private var next: UInt64 = 0

  init(keys: UInt64, end: UInt64) {
    self.keys = keys
    self.end = end
  }

  func restore(_ position: Bytes?) throws(JobError) {
    guard let position else { return }
    guard let number = UInt64(position.text) else { throw JobError(.sourceFailed, "no position: \(position.text)") }
    next = number
  }

  func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    guard next < end else { return SourceBatch(batch: nil, position: Bytes("\(next)"), isFinished: true) }
    var builder = RecordBatchBuilder()
    while next < end, builder.size < min(maxBytes, 500_000) {
      // A step that has no divisor in common with the number of keys comes to all of them.
      let key = (next % keys &* 7_368_787) % keys &+ next / keys
      withUnsafeBytes(of: (key % keys).bigEndian) {
        builder.append(key: $0, value: nil, timestamp: Timestamp(milliseconds: 0))
      }
      next += 1
    }
    return SourceBatch(batch: builder.finish(), position: Bytes("\(next)"))
  }
}
