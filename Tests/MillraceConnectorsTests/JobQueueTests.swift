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

extension RunningBroker {
  /// Declares a queue, durable unless told otherwise.
  func declare(_ name: String, isDurable: Bool = true, _ arguments: RoutingTable = .empty) throws {
    let error: RoutingError? = ask { broker, answer in
      broker.queues.register(AMQPMessageFormat.shared)
      let declaration = QueueDeclaration(
        name: name, virtualHost: "/", isDurable: isDurable, arguments: arguments)
      broker.queues.declare(declaration, in: "/", owner: nil) { result in
        if case .failure(let error) = result { answer(error) } else { answer(nil) }
      }
    }
    if let error { throw error }
  }

  func deleteQueue(_ name: String) throws {
    let error: RoutingError? = ask { broker, answer in
      broker.queues.delete(name, in: "/", owner: nil) { result in
        if case .failure(let error) = result { answer(error) } else { answer(nil) }
      }
    }
    if let error { throw error }
  }

  /// Messages that are ready or in flight.
  func messageCount(_ queue: String) -> Int {
    get { broker in
      do throws(RoutingError) {
        let found = try broker.queues.list(in: "/", after: nil, limit: 100).first { $0.declaration.name == queue }
        return found.map { $0.length + $0.inFlight } ?? -1
      } catch {
        return -1
      }
    }
  }

  /// Takes all messages that are ready, in order, and settles them.
  func takeAll(_ queue: String) -> [Record] {
    var all: [Record] = []
    while let one = take(queue) { all.append(one) }
    return all
  }

  private func take(_ queue: String) -> Record? {
    ask { broker, answer in
      let format = AMQPMessageFormat.shared
      broker.queues.register(format)
      do throws(RoutingError) {
        let consumer = try broker.queues.attach(queue, in: "/", owner: nil, sink: NoSink.shared)
        consumer.get(isNoAck: true) { got in
          consumer.close(isFailure: false)
          answer(
            got.map {
              Record(
                key: Bytes($0.delivery.message.routingKey), value: $0.delivery.message.body,
                headers: format.recordHeaders($0.delivery.message.properties))
            })
        }
      } catch {
        preconditionFailure("\(error)")
      }
    }
  }
}

private final class NoSink: DeliverySink, Sendable {
  static let shared = NoSink()
  func deliver(_ delivery: Delivery, to consumer: QueueConsumer) {}
  func ended(_ consumer: QueueConsumer, _ reason: QueueConsumer.EndReason) {}
}

private func texts(_ records: [Record]) -> [String] { records.map { $0.value?.text ?? "" } }

private func options() -> JobOptions {
  var options = JobOptions()
  options.readBytes = 500
  options.stepBytes = 1
  options.idleWait = .zero
  options.briefWait = .zero
  options.commitsInFlight = 3
  return options
}

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
  let executor = try JobExecutor(job, host: host, options: options())
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
        let executor = try JobExecutor(job, host: host(broker), options: options())
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
      var options = options()
      options.readBytes = 1
      let runner = JobRunner(job, host: host(broker), options: options)
      runner.start()
      var got: [String] = []
      let deadline = MonotonicTime.now + .seconds(20)
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
      let executor = try JobExecutor(job, host: host(broker), options: options())
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
      let executor = try JobExecutor(job, host: host(broker), options: options())
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
