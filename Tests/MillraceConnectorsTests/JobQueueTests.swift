// JobQueueTests: jobs that write durable queues of a real broker: messages are there with their commit, and only once.

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

/// Each value of `in` goes to the queue `out` with its first digit as the priority, and to the topic `copy`.
private let job = StreamOutput.job(
  named: "forward",
  [
    DataStream.topic("in").map { $0.value.text }.to(queue: "out") { text in
      OutputMessage(Bytes(text), priority: text.utf8.first.map { $0 &- UInt8(ascii: "0") })
    },
    DataStream.topic("in").map { $0.value.text }.to(topic: "copy"),
  ])

private func drain(_ host: any JobHost) throws {
  let executor = try JobExecutor(job, host: host, options: smallSteps(readBytes: 500))
  while try executor.turn() == .progress {}
  try executor.settle()
}

private func host(_ broker: RunningBroker) -> BrokerJobHost { broker.get { BrokerJobHost($0) } }

@Suite("jobs that write queues of a broker")
struct JobQueueTests {
  @Test("messages are delivered by priority, with properties, persistent, under the queue's name, as large as 100 kB")
  func delivers() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.createTopic("in", partitions: 1)
      try broker.declare("out", ["x-max-priority": .int64(9)])
      let large = "9" + String(repeating: "x", count: 100_000)
      try broker.produce("in", 0, ["1 a", "5 b", "1 c", large, "5 d"])
      try drain(host(broker))
      let got = broker.takeAll("out")
      #expect(texts(got) == [large, "5 b", "5 d", "1 a", "1 c"])
      #expect(got[1].key?.text == "out")
      #expect(
        got[1].headers == [
          RecordHeader("amqp.delivery-mode", Bytes("2")), RecordHeader("amqp.priority", Bytes("5")),
        ])
      #expect(try broker.records("copy").count == 5)
      try broker.close()
    }
  }

  @Test("each message is there once after crashes in the middle of steps", arguments: [UInt64(1), 2, 3])
  func recoversAfterCrashes(seed: UInt64) throws {
    try inTemporaryDirectory { directory in
      var random = SeededRandom(seed: seed)
      var broker = try RunningBroker("\(directory)/0")
      try broker.createTopic("in", partitions: 2)
      try broker.declare("out")
      var written = 0
      for crash in 0..<4 {
        for number in written..<(written + 100) { try broker.produce("in", Int32(number % 2), ["\(number)"]) }
        written += 100
        let executor = try JobExecutor(job, host: host(broker), options: smallSteps(readBytes: 500))
        for _ in 0..<Int.random(in: 1...6, using: &random) { _ = try executor.turn() }
        broker.crash()
        // A copy, because this process still holds the lock of the original.
        try FileManager.default.copyItem(atPath: "\(directory)/\(crash)", toPath: "\(directory)/\(crash + 1)")
        broker = try RunningBroker("\(directory)/\(crash + 1)")
        broker.get { $0.queues.register(AMQPMessageFormat.shared) }
      }
      try drain(host(broker))
      let got = texts(broker.takeAll("out")).compactMap { Int($0) }
      #expect(got.sorted() == Array(0..<written), "seed \(seed)")
      #expect(try broker.records("copy").count == written)
      try broker.close()
    }
  }

  @Test("a full queue that refuses publications holds the job back, and one that drops does not")
  func fullQueue() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.createTopic("in", partitions: 1)
      try broker.declare("out", ["x-max-length": .int64(10), "x-overflow": .string(Bytes("reject-publish"))])
      for number in 0..<50 { try broker.produce("in", 0, ["\(number)"]) }
      var options = smallSteps(readBytes: 500)
      options.readBytes = 1
      let runner = JobRunner(job, host: host(broker), options: options)
      runner.start()
      var got: [String] = []
      let deadline = MonotonicTime.now + .seconds(20)
      while broker.messageCount("out") < 10, MonotonicTime.now < deadline { usleep(1000) }
      // Nobody takes any: the job has time to put more there than it may.
      usleep(200_000)
      #expect(broker.messageCount("out") == 10)
      while got.count < 50, MonotonicTime.now < deadline {
        #expect(broker.messageCount("out") <= 10)
        got += texts(broker.takeAll("out"))
        usleep(1000)
      }
      runner.stop()
      runner.join()
      #expect(runner.state == .stopped)
      #expect(got == (0..<50).map { "\($0)" })
      // A step of more than it ever takes goes in when it is empty.
      try broker.produce("in", 0, (50..<80).map { "\($0)" })
      try drain(host(broker))
      #expect(texts(broker.takeAll("out")) == (50..<80).map { "\($0)" })
      try broker.deleteQueue("out")
      try broker.declare("out", ["x-max-length": .int64(10)])
      try broker.produce("in", 0, (80..<120).map { "\($0)" })
      try drain(host(broker))
      #expect(texts(broker.takeAll("out")) == (110..<120).map { "\($0)" })
      try broker.close()
    }
  }

  @Test("a queue that is missing or not durable refuses the start, and one that goes away ends the job")
  func unknownQueue() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.createTopic("in", partitions: 1)
      #expect(throws: JobError(.unknownQueue, "there is no queue out in the virtual host /")) {
        try drain(host(broker))
      }
      try broker.declare("out", isDurable: false)
      let transient = #expect(throws: JobError.self) { try drain(host(broker)) }
      #expect(transient?.code == .unknownQueue)
      try broker.deleteQueue("out")
      try broker.declare("out")
      let executor = try JobExecutor(job, host: host(broker), options: smallSteps(readBytes: 500))
      try broker.deleteQueue("out")
      try broker.produce("in", 0, ["1"])
      let gone = #expect(throws: JobError.self) {
        _ = try executor.turn()
        try executor.settle()
      }
      #expect(gone?.code == .unknownQueue)
      #expect(try broker.records("copy").isEmpty)
      try broker.close()
    }
  }

  @Test("a message that a queue knows already is not put there again")
  func deduplicates() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.createTopic("in", partitions: 1)
      try broker.declare("out", ["x-deduplication-count": .int64(100)])
      let job = DataStream.topic("in").map { $0.value.text }.to(queue: "out") { text in
        OutputMessage(Bytes(text), messageID: text)
      }.job(named: "ids")
      try broker.produce("in", 0, ["a", "b", "a"])
      let executor = try JobExecutor(job, host: host(broker), options: smallSteps(readBytes: 500))
      while try executor.turn() == .progress {}
      try executor.settle()
      #expect(texts(broker.takeAll("out")) == ["a", "b"])
      try broker.close()
    }
  }

  @Test("a worker's job writes queues of its server, and is refused one that is not there")
  func worker() throws {
    try inTemporaryDirectory { directory in
      let broker = try WorkerBroker(directory)
      try broker.broker.createTopic("in", partitions: 1)
      let host = WorkerHost(directory: directory)
      try host.connect()
      #expect(throws: JobError(.unknownQueue, "there is no queue out in the virtual host /")) { try drain(host) }
      try broker.broker.declare("out", ["x-max-priority": .int64(9)])
      try broker.broker.produce("in", 0, ["1 a", "5 b"])
      try drain(host)
      #expect(texts(broker.broker.takeAll("out")) == ["5 b", "1 a"])
      #expect(try broker.broker.records("copy").count == 2)
      try broker.close()
    }
  }
}
