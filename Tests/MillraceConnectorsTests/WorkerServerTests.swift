// WorkerServerTests: the socket and who may use it, peers that do what they should not, and what operators can do.

import Foundation
import MillraceBase
import MillraceBroker
import MillraceDataflow
import MillraceIO
import MillraceModel
import MillraceStreams
import Testing

@testable import MillraceConnectors

private func host(_ directory: String) throws -> WorkerHost {
  let host = WorkerHost(directory: directory)
  try host.connect()
  return host
}

private func options() -> JobOptions {
  var options = JobOptions()
  options.idleWait = .milliseconds(20)
  return options
}

@Suite("the workers' server")
struct WorkerServerTests {
  @Test("the socket is its user's alone, replaces one that was left behind, and nothing else")
  func socket() throws {
    try inTemporaryDirectory { directory in
      let path = "\(directory)/\(WorkerProtocol.socketName)"
      for _ in 0..<2 {
        let broker = try WorkerBroker(directory)
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        #expect((attributes[.posixPermissions] as? NSNumber)?.intValue == 0o600)
        _ = try host(directory)
        try broker.close()
        #expect(FileManager.default.fileExists(atPath: path))
      }
      try FileManager.default.removeItem(atPath: path)
      try Data("mine".utf8).write(to: URL(filePath: path))
      let error = #expect(throws: IOError.self) { try WorkerBroker(directory) }
      #expect(error?.code == .alreadyExists)
      #expect(try String(contentsOfFile: path, encoding: .utf8) == "mine")
    }
  }

  @Test("a directory whose path is longer than a socket's address can be is joined all the same")
  func longPath() throws {
    try inTemporaryDirectory { directory in
      let long = directory + "/" + String(repeating: "long", count: 40)
      try FileManager.default.createDirectory(atPath: long, withIntermediateDirectories: true)
      let broker = try WorkerBroker(long)
      #expect(try host(long).open(job: "j") { _ in } == 1)
      #expect(FileManager.default.fileExists(atPath: "\(long)/\(WorkerProtocol.socketName)"))
      try broker.close()
    }
  }

  @Test("where no server runs the error says so, and how to start one")
  func noServer() throws {
    try inTemporaryDirectory { directory in
      for directory in [directory, directory + "/missing"] {
        let error = #expect(throws: JobError.self) { try host(directory) }
        #expect(error?.code == .noServer)
        #expect(error?.reason.contains("no server runs on \(directory)") == true)
        #expect(error?.reason.contains("millrace serve --data \(directory)") == true)
      }
    }
  }

  @Test(
    "a peer that does not keep to the protocol loses its connection, and nobody else does",
    arguments: [
      [0, 0, 0, 5, 0, 0, 0, 1, 7], [127, 255, 255, 255], [255, 255, 255, 255], [0, 0, 0, 0], [0, 0, 8, 0],
      [0, 0, 0, 15, 0, 0, 0, 1, 0, 1, 2, 3, 4, 0, 1, 0, 0, 0, 0], Array("GET / HTTP/1.1\r\n\r\n".utf8),
    ] as [[UInt8]])
  func badPeers(bytes: [UInt8]) throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      let worker = try host(directory)
      let peer = try RawPeer(directory)
      try peer.socket.send([Bytes(bytes)])
      #expect(try peer.isEnded())
      #expect(try worker.open(job: "j") { _ in } == 1)
      try broker.close()
    }
  }

  @Test("a peer that speaks another version is told which one the server speaks")
  func otherVersion() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      let peer = try RawPeer(directory)
      try peer.send(1, .hello(version: 9, processID: 1))
      var room = [UInt8](repeating: 0, count: 4096)
      let got = try room.withUnsafeMutableBytes { buffer throws(IOError) in try peer.socket.receive(into: buffer) }
      guard case .refused(let error) = try WorkerFrame(Bytes(Array(room[4..<got]))).answer else {
        Issue.record("it was not refused")
        return
      }
      #expect(error.reason.contains("version 2") && error.reason.contains("not 9"))
      #expect(try peer.isEnded())
      try broker.close()
    }
  }

  @Test("a peer that stops in the middle of a frame, greets nobody, or takes no answers is ended after a time")
  func hangingPeers() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory, patience: .milliseconds(200))
      try broker.broker.createTopic("lines", partitions: 1)
      let value = String(repeating: "x", count: 500_000)
      for _ in 0..<8 { try broker.broker.produce("lines", 0, [value]) }
      let silent = try RawPeer(directory)
      let half = try RawPeer(directory)
      try half.greet()
      try half.socket.send([Bytes([0, 1, 0, 0, 0, 0, 0, 2, 5])])
      let deaf = try RawPeer(directory)
      try deaf.greet()
      let place = [InputPosition(topic: "lines", partition: 0, offset: 0)]
      for number in 2..<40 as Range<UInt32> {
        // Once the server reads no more of it there is no room for more.
        try deaf.send(number, .read(place, maxBytes: 4 << 20, waitMilliseconds: 0))
      }
      #expect(broker.awaitConnections(0))
      for peer in [silent, half] { #expect(try peer.isEnded()) }
      // A worker that only waits is not ended, however long.
      let worker = try host(directory)
      _ = try worker.read(
        [InputPosition(topic: "lines", partition: 0, offset: 8)], maxBytes: 1, wait: .milliseconds(600))
      #expect(broker.connectionCount == 1)
      extendLifetime(deaf)
      try broker.close()
    }
  }

  @Test("operators see a job with its worker, its positions and its figures")
  func shows() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      try broker.broker.createTopic("lines", partitions: 2)
      try broker.broker.produce("lines", 1, ["a b", "a"])
      let control = try JobControl(directory: directory)
      #expect(try control.list().isEmpty)
      let worker = WorkerHost(directory: directory)
      try worker.connect()
      let run = try JobExecutor(WordCount.job(), host: worker, options: options())
      while try run.turn() == .progress {}
      run.refreshFigures()
      worker.report(run.figures)
      #expect(
        try control.list() == [JobEntry(name: "word-count", state: .running, epoch: 1, processID: UInt32(getpid()))])
      let detail = try control.show("word-count")
      let positions = [
        JobPosition(topic: "lines", partition: 0, offset: 0, endOffset: 0),
        JobPosition(topic: "lines", partition: 1, offset: 2, endOffset: 2),
      ]
      #expect(detail.positions == positions)
      #expect(detail.report == JobReport(run.figures))
      let kinds = detail.report?.chains.flatMap(\.operators).map(\.kind)
      #expect(kinds == WordCount.job().explain().nodes.map(\.kind))
      #expect(detail.report?.chains.map(\.recordsIn) == [2, 3, 2])
      let lag = detail.report?.inputs.map { "\($0.place.input)-\($0.place.partition) \($0.lag ?? -1)" }
      #expect(lag == ["lines-0 -1", "lines-1 0"])
      #expect(detail.stateBytes > 0 && detail.stateEnd > detail.stateStart)
      worker.disconnect()
      #expect(broker.awaitConnections(1))
      try broker.broker.produce("lines", 1, ["more"])
      #expect(try control.show("word-count").entry.state == .idle)
      #expect(try control.show("word-count").positions.isEmpty)
      // Without a worker they are in the state.
      let later = JobPosition(topic: "lines", partition: 1, offset: 2, endOffset: 3)
      #expect(try control.positions("word-count").contains(later))
      let error = #expect(throws: JobError.self) { try control.show("nothing") }
      #expect(error?.reason == "there is no job nothing")
      try broker.close()
    }
  }

  @Test(
    "a job tells through its worker which partition holds event time back, and how long records took",
    arguments: [1, 2])
  func holder(workers: Int) throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      try broker.broker.createTopic("times", partitions: 2)
      try broker.broker.produce("times", 0, ["100", "900"])
      try broker.broker.produce("times", 1, ["300"])
      let job = DataStream.topic("times")
        .eventTime(.boundedOutOfOrderness(.milliseconds(50), idleness: nil), name: "clock") {
          Timestamp(milliseconds: Int64($0.value.text) ?? 0)
        }.keyBy { $0.value.text }.window(.tumbling(.milliseconds(100))).count(name: "windows").forEach { _ in }
        .job(named: "held")
      let worker = try host(directory)
      var options = options()
      options.workers = workers
      let run = try JobExecutor(job, host: worker, options: options)
      while try run.turn() == .progress {}
      run.refreshFigures()
      worker.report(run.figures)
      let report = try #require(try JobControl(directory: directory).show("held").report)
      #expect(report.chains.map { $0.operators.map(\.name) } == [["times", "clock"], ["windows"], [""]])
      for chain in report.chains {
        #expect(chain.watermark == Timestamp(milliseconds: 250))
        #expect(chain.watermarkHolder == InputPlace(input: "times", partition: 1))
      }
      // The window of the first value is over, and those of the others are kept.
      let counts: [UInt64] = [3, 3, 1]
      #expect(report.chains.map(\.recordsIn) == counts)
      #expect(report.chains[1].stateEntries == 2)
      #expect(report.lag == 0 && report.inputs.map(\.lag) == [0, 0])
      #expect(report.latency.p50 > 0 && report.latency.p50 <= report.latency.p99)
      try broker.close()
    }
  }

  @Test("a stopped job's worker makes its step durable and ends; nobody may start it until it is resumed")
  func stops() throws {
    try inTemporaryDirectory { directory in
      var broker = try WorkerBroker(directory)
      try broker.broker.createTopic("lines", partitions: 1)
      try broker.broker.produce("lines", 0, ["a b", "a"])
      let running = DispatchSemaphore(value: 0)
      let box = RunnerBox()
      let worker = WorkerHost(directory: directory, onStop: { box.runner?.stop() })
      try worker.connect()
      var options = options()
      options.idleWait = .seconds(20)
      let runner = JobRunner(WordCount.job(), host: worker, options: options) { if $0 == .running { running.signal() } }
      box.runner = runner
      runner.start()
      running.wait()
      let waiter = Thread {
        runner.join()
        worker.disconnect()
      }
      waiter.start()
      let begun = MonotonicTime.now
      #expect(try JobControl(directory: directory).stop("word-count", patience: .seconds(15)))
      #expect(MonotonicTime.now - begun < .seconds(15))
      #expect(runner.state == .stopped)
      #expect(worker.isStopped == false)  // Of the connection that is over.
      for _ in 0..<2 {
        let error = #expect(throws: JobError.self) { try host(directory).open(job: "word-count") { _ in } }
        #expect(error?.code == .stopped)
        #expect(error?.reason.contains("millrace job resume word-count") == true)
        #expect(try JobControl(directory: directory).show("word-count").entry.state == .stopped)
        // It is remembered.
        try broker.close()
        broker = try WorkerBroker(directory)
      }
      try JobControl(directory: directory).resume("word-count")
      #expect(try host(directory).open(job: "word-count") { _ in } > 1)
      let error = #expect(throws: JobError.self) {
        try JobControl(directory: directory).stop("nothing", patience: .zero)
      }
      #expect(error?.reason.contains("there is no job nothing") == true)
      try broker.close()
    }
  }

  @Test("a worker that does not stop in time is fenced: nothing of it is committed any more")
  func forces() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      let worker = try host(directory)
      let epoch = try worker.open(job: "j") { _ in }
      #expect(try JobControl(directory: directory).stop("j", patience: .milliseconds(50)) == false)
      let commit = StepCommit(job: "j", epoch: epoch, outputs: [], state: [oneRecord(Bytes("s"))], stateLogStart: nil)
      let error = #expect(throws: JobError.self) { _ = try worker.wait(try worker.submit(commit)) }
      #expect(error?.code == .closed)
      #expect(try broker.broker.records("__job-j").isEmpty)
      try broker.close()
    }
  }

  @Test("a job of the server's own process that is stopped ends with its next step")
  func stopsEmbedded() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      try broker.broker.createTopic("lines", partitions: 1)
      let own = broker.broker.get { BrokerJobHost($0) }
      let run = try JobExecutor(WordCount.job(), host: own, options: options())
      let control = try JobControl(directory: directory)
      #expect(try control.show("word-count").entry.state == .embedded)
      #expect(try control.stop("word-count", patience: .zero))
      try broker.broker.produce("lines", 0, ["a"])
      let error = #expect(throws: JobError.self) {
        while true { _ = try run.turn() }
      }
      #expect(error?.code == .stopped)
      #expect(try broker.broker.records("counts").isEmpty)
      let refused = #expect(throws: JobError.self) {
        _ = try JobExecutor(WordCount.job(), host: broker.broker.get { BrokerJobHost($0) }, options: options())
      }
      #expect(refused?.code == .stopped)
      try broker.close()
    }
  }
}

/// Safety: written before its thread is started.
private final class RunnerBox: @unchecked Sendable {
  var runner: JobRunner?
}
