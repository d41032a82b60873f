// SavepointTests: a job that begins with another one's savepoint goes on where that stood, whole or not at all.

import Foundation
import MillraceBase
import MillraceBroker
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

@testable import MillraceConnectors

private func options() -> JobOptions {
  var options = JobOptions()
  options.readBytes = 1
  options.stepBytes = 1
  options.idleWait = .milliseconds(1)
  options.briefWait = .zero
  return options
}

private func job(_ name: String, operator words: String = "words") -> JobDefinition {
  DataStream.topic("lines").flatMap(Words()).keyBy { $0 }.count(name: words).to(topic: "out-\(name)").job(named: name)
}

/// Runs a job until nothing is left to read.
private func drain(_ directory: String, _ job: JobDefinition, savepoint: String? = nil) throws {
  let host = WorkerHost(directory: directory, savepoint: savepoint)
  try host.connect()
  let executor = try JobExecutor(job, host: host, options: options())
  while try executor.turn() == .progress {}
  try executor.settle()
}

/// The last count of each word in a job's output; each word's counts must rise.
private func counts(_ broker: WorkerBroker, _ name: String) throws -> [String: Int] {
  var counts: [String: Int] = [:]
  for record in try broker.broker.records("out-\(name)") {
    let word = try #require(record.key?.text)
    let count = try #require(record.value.flatMap { Int($0.text) })
    let before = counts.updateValue(count, forKey: word) ?? 0
    #expect(count > before, "\(word) went from \(before) to \(count)")
  }
  return counts
}

@Suite("a savepoint")
struct SavepointTests {
  @Test("a job of another name goes on from it, and again after a restart, with the savepoint still named")
  func goesOn() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      try broker.broker.createTopic("lines", partitions: 2)
      for index in 0..<40 { try broker.broker.produce("lines", Int32(index % 2), ["a b\(index % 3)"]) }
      try drain(directory, job("first"))
      let path = directory + "/one.savepoint"
      let control = try JobControl(directory: directory)
      #expect(try control.savepoint("first", to: path) > 0)
      #expect(!FileManager.default.fileExists(atPath: path + ".partial"))
      for index in 0..<9 { try broker.broker.produce("lines", Int32(index % 2), ["a b\(index % 3)"]) }
      try drain(directory, job("second"), savepoint: path)
      // What was counted before the savepoint is not handed on again, only counted on.
      let expected = ["a": 49, "b0": 17, "b1": 16, "b2": 16]
      #expect(try counts(broker, "second") == expected)
      #expect(try broker.broker.records("out-second").count == 18)
      #expect(try control.positions("second").map(\.offset).reduce(0, +) == 49)
      try broker.broker.produce("lines", 0, ["a"])
      try drain(directory, job("second"), savepoint: path)
      #expect(try counts(broker, "second")["a"] == 50)
      #expect(try broker.broker.records("out-second").count == 19)
      // Without the savepoint as well: its state is the job's own.
      try broker.broker.produce("lines", 0, ["a"])
      try drain(directory, job("second"))
      #expect(try counts(broker, "second")["a"] == 51)
      let error = #expect(throws: JobError.self) { try control.savepoint("nothing", to: path) }
      #expect(error?.reason == "there is no job nothing")
      try broker.close()
    }
  }

  @Test("a job that lacks an operator whose state it holds is refused, and gets no state")
  func refusesMissingOperators() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      try broker.broker.createTopic("lines", partitions: 1)
      try broker.broker.produce("lines", 0, ["a"])
      try drain(directory, job("first"))
      let path = directory + "/one.savepoint"
      _ = try JobControl(directory: directory).savepoint("first", to: path)
      let error = #expect(throws: JobError.self) {
        try drain(directory, job("second", operator: "renamed"), savepoint: path)
      }
      #expect(error?.code == .corruptState)
      #expect(error?.reason.contains("which the job does not have") == true)
      #expect(try broker.broker.records("__job-second").isEmpty)
      try broker.close()
    }
  }

  @Test("of a savepoint that was committed in part no job recovers; with the savepoint it begins again")
  func partial() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      try broker.broker.createTopic("lines", partitions: 1)
      for _ in 0..<5 { try broker.broker.produce("lines", 0, ["a b"]) }
      try drain(directory, job("first"))
      let path = directory + "/one.savepoint"
      _ = try JobControl(directory: directory).savepoint("first", to: path)
      // As a worker that was killed behind its first commit leaves it.
      let killed = WorkerHost(directory: directory)
      try killed.connect()
      let epoch = try killed.open(job: "second") { _ in }
      var parts = [WorkerHost.mark(isComplete: false)]
      try SavepointReader(path: path).forEachBatch { batch, isLast in
        if !isLast { parts.append(batch) }
      }
      #expect(parts.count > 1)
      _ = try killed.wait(
        try killed.submit(StepCommit(job: "second", epoch: epoch, outputs: [], state: parts, stateLogStart: nil)))
      let error = #expect(throws: JobError.self) { try drain(directory, job("second")) }
      #expect(error?.code == .corruptState && error?.reason.contains("savepoint") == true)
      try broker.broker.produce("lines", 0, ["a"])
      try drain(directory, job("second"), savepoint: path)
      #expect(try counts(broker, "second") == ["a": 6])
      try broker.close()
    }
  }

  @Test("is of one commit, also while the job runs and gives up the beginning of its state log")
  func whileRunning() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      try broker.broker.createTopic("lines", partitions: 2)
      var random = SeededRandom(seed: 3)
      var expected: [String: Int] = [:]
      for index in 0..<600 {
        let words = (0..<4).map { _ in "w\(Int.random(in: 0..<40, using: &random))" }
        for word in words { expected[word, default: 0] += 1 }
        try broker.broker.produce("lines", Int32(index % 2), [words.joined(separator: " ")])
      }
      let worker = WorkerHost(directory: directory)
      try worker.connect()
      var options = options()
      options.idleWait = .milliseconds(20)
      let runner = JobRunner(job("first"), host: worker, options: options)
      runner.start()
      let control = try JobControl(directory: directory)
      for number in 0..<6 {
        while runner.figures.steps < UInt64(number * 80 + 20) { usleep(500) }
        _ = try control.savepoint("first", to: "\(directory)/\(number).savepoint")
      }
      runner.stop()
      runner.join()
      for number in 0..<6 {
        try drain(directory, job("j\(number)"), savepoint: "\(directory)/\(number).savepoint")
        // Words that did not come behind the savepoint are not handed on; a last line brings them all.
        try broker.broker.produce("lines", 0, [expected.keys.joined(separator: " ")])
        for word in expected.keys { expected[word, default: 0] += 1 }
        try drain(directory, job("j\(number)"), savepoint: "\(directory)/\(number).savepoint")
        #expect(try counts(broker, "j\(number)") == expected, "savepoint \(number)")
      }
      try broker.close()
    }
  }

  @Test("a file that is cut off anywhere, goes on behind its end, or is changed in a batch is refused")
  func damaged() throws {
    var file = SavepointReader.head(job: "j", epoch: 7).array
    for value in ["one", "two"] {
      var writer = ByteWriter()
      writer.bytes(oneRecord(key: "k", Bytes(value)))
      file += writer.finishJoined().array
    }
    file += [0, 0, 0, 0] + [0, 0, 0, 0, 0, 0, 0, 2]
    func read(_ file: [UInt8]) throws -> [Bool] {
      let bytes = Bytes(file)
      let reader = try SavepointReader(size: Int64(file.count)) { position, count in
        bytes[Int(position)..<(Int(position) + count)]
      }
      #expect(reader.job == "j" && reader.epoch == 7)
      var lasts: [Bool] = []
      try reader.forEachBatch { _, isLast in lasts.append(isLast) }
      return lasts
    }
    #expect(try read(file) == [false, true])
    for length in file.indices { #expect(throws: JobError.self) { try read(Array(file[..<length])) } }
    #expect(throws: JobError.self) { try read(file + [0]) }
    var changed = file
    changed[file.count - 20] ^= 1
    #expect(throws: JobError.self) { try read(changed) }
    #expect(throws: JobError.self) { try SavepointReader(path: "/nowhere/at/all") }
  }
}
