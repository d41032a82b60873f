// QueueSourceTests: what jobs take out of queues, in memory: each message once, and settled with what it led to.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private func texts(_ records: [Record]) -> [String] { records.map { $0.value?.text ?? "" } }

/// Counts what comes, and passes it on.
private let job = StreamOutput.job(
  named: "forward",
  [
    DataStream.queue("in").map { $0.value.text }.to(queue: "out"),
    DataStream.queue("in").keyBy { _ in "all" }.count(name: "n").to(topic: "counts"),
  ])

@Suite("queues as sources of jobs")
struct QueueSourceTests {
  @Test("a message comes with body, properties and time, and is settled by the step's commit")
  func takes() throws {
    let job = DataStream.queue("in").map { record in
      let names = record.headers.map { "\($0.key)=\($0.value?.text ?? "")" }.joined(separator: ",")
      return "\(record.value.text) \(record.timestamp.milliseconds) \(names)"
    }.to(topic: "out").job(named: "take")
    let driver = TestDriver(job)
    driver.pass(.milliseconds(12))
    try driver.publish(OutputMessage(Bytes("hello"), priority: 3), to: "in")
    #expect(driver.unsettledCount("in") == 1)
    #expect(try driver.run() == false)
    #expect(texts(try driver.output("out")) == ["hello 12 amqp.delivery-mode=2,amqp.priority=3"])
    #expect(driver.unsettledCount("in") == 0)
  }

  @Test("each message counts once, whatever becomes of commits and runs", arguments: 1...3, [UInt64(1), 2, 3, 4])
  func once(workers: Int, seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    let driver = TestDriver(job)
    driver.workers = workers
    var sent: [String] = []
    for _ in 0..<12 {
      for _ in 0..<Int.random(in: 1...5, using: &random) {
        sent.append("\(sent.count)")
        try driver.publish(OutputMessage(sent[sent.count - 1]), to: "in")
      }
      switch Int.random(in: 0..<4, using: &random) {
      case 0: driver.next(.lost)
      case 1: driver.next(.applied)
      case 2:
        driver.crash()
        driver.workers = Int.random(in: 1...3, using: &random)
      default: break
      }
      do throws(JobError) {
        try driver.run()
        #expect(driver.unsettledCount("in") == 0)
      } catch {
        #expect(error.code == .commitFailed)
      }
    }
    driver.next(.acknowledged)
    try driver.run()
    #expect(texts(try driver.messages("out")) == sent, "seed \(seed)")
    #expect(texts(try driver.output("counts")).last == "\(sent.count)", "seed \(seed)")
    #expect(driver.unsettledCount("in") == 0)
  }

  @Test("a message that is too large for a step of many is settled by a step of its own")
  func smallerSteps() throws {
    let host = MemoryHost(largestCommit: 30_000, newTopicPartitions: 1)
    host.createQueue("in")
    let body = String(repeating: "x", count: 3000)
    for _ in 0..<40 {
      try host.append(queue: "in", OutputMessage(body), at: Timestamp(milliseconds: 1))
    }
    var options = JobOptions()
    options.readBytes = 4000
    options.idleWait = .zero
    let executor = try JobExecutor(job, host: host, options: options)
    while try executor.turn() == .progress {}
    try executor.settle()
    #expect(texts(try host.messages(queue: "out")).count == 40)
    #expect(host.unsettledCount(queue: "in") == 0)
    #expect(host.commitCount > 3)
  }

  @Test("event time follows a queue's messages beside a topic's records")
  func eventTime() throws {
    let job = DataStream.queue("in").merge(DataStream.topic("more")).keyBy { $0.value }
      .window(.tumbling(.milliseconds(10))).count(name: "n").to(topic: "out").job(named: "time")
    let driver = TestDriver(job)
    try driver.publish(OutputMessage("a"), to: "in")
    try driver.send("more", value: "a", at: 5)
    try driver.run()
    driver.pass(.milliseconds(20))
    try driver.publish(OutputMessage("b"), to: "in")
    try driver.run()
    #expect(try driver.output("out").isEmpty, "the topic is behind")
    try driver.send("more", value: "c", at: 30)
    try driver.run()
    #expect(texts(try driver.output("out")) == ["2"])
  }

  @Test("a host without queues refuses the job, and so does one where the queue is missing")
  func unknownQueue() {
    let host = MemoryHost()
    let error = #expect(throws: JobError.self) {
      try JobExecutor(DataStream.queue("in").to(queue: "in").job(named: "none"), host: host)
    }
    #expect(error?.code == .unknownQueue)
  }

  @Test("explain names the queue that is read")
  func explains() {
    #expect(DataStream.queue("in").to(queue: "out").job(named: "j").explain().text.contains("RecordInput in"))
  }
}
