// JobQueueSourceTests: jobs that read durable queues of a real broker: a message leaves its queue with what came of it.

import Foundation
import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceDataflow
import MillraceDelivery
import MillraceModel
import MillraceRouting
import MillraceStreams
import Testing

@testable import MillraceConnectors

private let job = StreamOutput.job(
  named: "forward",
  [
    DataStream.queue("in").map { $0.value.text }.to(queue: "out"),
    DataStream.queue("in").keyBy { _ in "all" }.count(name: "n").to(topic: "counts"),
  ])

private func drain(_ host: any JobHost) throws {
  let executor = try JobExecutor(job, host: host, options: smallSteps(readBytes: 500))
  // Messages are delivered at the end of the reactor's turn.
  var idle = 0
  while idle < 20 {
    idle = try executor.turn() == .progress ? 0 : idle + 1
    if idle > 0 { usleep(1000) }
  }
  try executor.settle()
  host.endRun()
}

private func host(_ broker: RunningBroker) -> BrokerJobHost { broker.get { BrokerJobHost($0) } }

@Suite("jobs that read queues of a broker")
struct JobQueueSourceTests {
  @Test(
    "messages come in the queue's order, with their properties, and are gone behind the commit, also after a restart")
  func settles() throws {
    try inTemporaryDirectory { directory in
      var broker = try RunningBroker(directory)
      try broker.declare("in", ["x-max-priority": .int64(9)])
      try broker.declare("out")
      broker.publish(["1 a", "5 b", "1 c", "9 d", "5 e"], to: "in")
      try drain(host(broker))
      #expect(texts(broker.takeAll("out")) == ["9 d", "5 b", "5 e", "1 a", "1 c"])
      #expect(texts(try broker.records("counts")).last == "5")
      #expect(broker.messageCount("in") == 0)
      try broker.close()
      broker = try RunningBroker(directory)
      try broker.declare("in", ["x-max-priority": .int64(9)])
      #expect(broker.messageCount("in") == 0)
      broker.publish(["2 f"], to: "in")
      try drain(host(broker))
      #expect(texts(broker.takeAll("out")) == ["2 f"])
      #expect(texts(try broker.records("counts")).last == "6")
      try broker.close()
    }
  }

  @Test("each message is passed on once after crashes in the middle of steps", arguments: [UInt64(1), 2, 3, 4])
  func recoversAfterCrashes(seed: UInt64) throws {
    try inTemporaryDirectory { directory in
      var random = SeededRandom(seed: seed)
      var broker = try RunningBroker("\(directory)/0")
      try broker.declare("in")
      try broker.declare("out")
      var written = 0
      for crash in 0..<4 {
        broker.publish((written..<(written + 100)).map { "\($0)" }, to: "in")
        written += 100
        let executor = try JobExecutor(job, host: host(broker), options: smallSteps(readBytes: 500))
        for _ in 0..<Int.random(in: 1...12, using: &random) {
          if try executor.turn() != .progress { usleep(1000) }
        }
        broker.crash()
        // A copy, because this process still holds the lock of the original.
        try FileManager.default.copyItem(atPath: "\(directory)/\(crash)", toPath: "\(directory)/\(crash + 1)")
        broker = try RunningBroker("\(directory)/\(crash + 1)")
        broker.get { $0.queues.register(AMQPMessageFormat.shared) }
      }
      try drain(host(broker))
      let got = texts(broker.takeAll("out")).compactMap { Int($0) }
      #expect(got.sorted() == Array(0..<written), "seed \(seed)")
      #expect(texts(try broker.records("counts")).last == "\(written)")
      #expect(broker.messageCount("in") == 0)
      try broker.close()
    }
  }

  @Test(
    "what a run took and did not settle goes back when it ends, and when another run begins", arguments: [true, false])
  func givesBack(isEnded: Bool) throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.declare("in")
      try broker.declare("out")
      broker.publish(["a", "b", "c"], to: "in")
      let first = host(broker)
      let epoch = try first.open(job: "forward") { _ in }
      try first.openQueue("in")
      var taken: TakenMessages?
      while taken == nil { taken = try first.takeMessages("in", maxBytes: 1) }
      #expect(taken?.through == 1)
      #expect(texts(broker.takeAll("in")).isEmpty, "others get what is the job's")
      if isEnded {
        first.endRun()
        #expect(texts(broker.takeAll("in")) == ["a", "b", "c"])
      } else {
        try drain(host(broker))
        #expect(texts(broker.takeAll("out")) == ["a", "b", "c"])
        let late = #expect(throws: JobError.self) { _ = try first.takeMessages("in", maxBytes: 1) }
        #expect(late?.code == .fenced)
        let commit = StepCommit(
          job: "forward", epoch: epoch, outputs: [], state: [], stateLogStart: nil,
          settlements: [QueueSettlement(queue: "in", after: 0, through: 1)])
        let refused = #expect(throws: JobError.self) { _ = try first.wait(first.submit(commit)) }
        #expect(refused?.code == .fenced)
      }
      try broker.close()
    }
  }

  @Test("a step settles the next messages that its run took, and nothing else")
  func refusesOthers() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.declare("in")
      broker.publish(["a", "b"], to: "in")
      for (after, through) in [(0, 3), (1, 2), (0, 0), (2, 1)] as [(UInt64, UInt64)] {
        let host = host(broker)
        let epoch = try host.open(job: "forward") { _ in }
        try host.openQueue("in")
        while try host.takeMessages("in", maxBytes: 1000) == nil {}
        var builder = RecordBatchBuilder()
        builder.append(Record(value: Bytes("state")))
        let commit = StepCommit(
          job: "forward", epoch: epoch, outputs: [], state: [builder.finish()], stateLogStart: nil,
          settlements: [QueueSettlement(queue: "in", after: after, through: through)])
        #expect(throws: JobError.self) { _ = try host.wait(host.submit(commit)) }
      }
      #expect(broker.messageCount("in") == 2)
      try broker.close()
    }
  }

  @Test("a queue that is deleted ends the job that reads it")
  func deleted() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.declare("in")
      try broker.declare("out")
      let executor = try JobExecutor(job, host: host(broker), options: smallSteps(readBytes: 500))
      _ = try executor.turn()
      try broker.deleteQueue("in")
      let gone = #expect(throws: JobError.self) { _ = try executor.turn() }
      #expect(gone?.code == .unknownQueue)
      try broker.close()
    }
  }

  @Test("a message wakes a job that waits, in the server's process and in a worker", arguments: [true, false])
  func wakes(isWorker: Bool) throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      try broker.broker.declare("in")
      try broker.broker.declare("out")
      let worker = WorkerHost(directory: directory)
      if isWorker { try worker.connect() }
      var options = JobOptions()
      options.idleWait = .seconds(25)
      let running = DispatchSemaphore(value: 0)
      let host: any JobHost = isWorker ? worker : host(broker.broker)
      let runner = JobRunner(job, host: host, options: options) { if $0 == .running { running.signal() } }
      runner.start()
      running.wait()
      let begun = MonotonicTime.now
      for round in 1...5 {
        usleep(20_000)
        broker.broker.publish(["\(round)"], to: "in")
        while texts(broker.broker.takeAll("out")) != ["\(round)"], MonotonicTime.now - begun < .seconds(20) {
          usleep(500)
        }
      }
      #expect(MonotonicTime.now - begun < .seconds(20), "the job waits for its own time")
      runner.stop()
      runner.join()
      #expect(runner.state == .stopped)
      #expect(broker.broker.messageCount("in") == 0)
      try broker.close()
    }
  }

  @Test("a worker's messages go back when its connection ends, and a killed server delivers what was not committed")
  func worker() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      try broker.broker.declare("in")
      try broker.broker.declare("out")
      broker.broker.publish((0..<50).map { "\($0)" }, to: "in")
      let first = WorkerHost(directory: directory)
      try first.connect()
      _ = try first.open(job: "forward") { _ in }
      try first.openQueue("in")
      while try first.takeMessages("in", maxBytes: 100) == nil {}
      first.disconnect()
      #expect(broker.awaitConnections(0))
      let second = WorkerHost(directory: directory)
      try second.connect()
      try drain(second)
      #expect(texts(broker.broker.takeAll("out")) == (0..<50).map { "\($0)" })
      #expect(broker.broker.messageCount("in") == 0)
      try broker.close()
    }
  }
}
