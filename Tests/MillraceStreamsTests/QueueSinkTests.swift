// QueueSinkTests: what jobs put into queues, in memory: bodies, keys, properties, and each message once.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private struct Order: TypedRecord {
  var id: Int64 = 0
  static let schema = RecordSchema<Order>(.field("id", \.id))
}

private func texts(_ records: [Record]) -> [String] { records.map { $0.value?.text ?? "" } }

private func headers(_ record: Record) -> [String: String] {
  Dictionary(record.headers.map { ($0.key, $0.value?.text ?? "") }) { $1 }
}

@Suite("queues as sinks of jobs")
struct QueueSinkTests {
  @Test("a message has the properties that are set, as headers of records of topics have them, then its own headers")
  func properties() throws {
    let job = DataStream.topic("orders").to(queue: "mail") { record in
      var message = OutputMessage(
        record.value.copy, headers: [RecordHeader("shop", Bytes("north"))], priority: 7, expiresAfter: .seconds(3),
        messageID: "m1")
      message.correlationID = "c1"
      message.replyTo = "answers"
      message.contentType = "text/plain"
      message.type = "order"
      return message
    }.job(named: "mail")
    let driver = TestDriver(job)
    try driver.send("orders", value: "one", at: 5)
    try driver.run()
    let message = try #require(try driver.messages("mail").first)
    #expect(message.value?.text == "one")
    #expect(message.key == nil)
    #expect(message.timestamp == Timestamp(milliseconds: 5))
    #expect(
      headers(message) == [
        "amqp.delivery-mode": "2", "amqp.content-type": "text/plain", "amqp.priority": "7", "amqp.correlation-id": "c1",
        "amqp.reply-to": "answers", "amqp.expiration": "3000", "amqp.message-id": "m1", "amqp.type": "order",
        "shop": "north",
      ])
    #expect(message.headers.last?.key == "shop")
  }

  @Test("a time beyond what a message can say is the longest that it can")
  func longestExpiration() throws {
    let job = DataStream.topic("orders").to(queue: "mail") { _ in
      OutputMessage(Bytes(), expiresAfter: .seconds(1 << 40))
    }.job(named: "mail")
    let driver = TestDriver(job)
    try driver.send("orders", value: "one")
    try driver.run()
    #expect(headers(try driver.messages("mail")[0])["amqp.expiration"] == "4294967295")
  }

  @Test("values are bodies; keys are a header; structs are text; records keep their headers and delivery mode")
  func kinds() throws {
    let topic = DataStream.topic("orders")
    let job = StreamOutput.job(
      named: "kinds",
      [
        topic.map { $0.value.text }.to(queue: "texts"),
        topic.keyBy { $0.key }.count(name: "counts").to(queue: "counts"),
        topic.keyBy { $0.key }.window(.tumbling(.milliseconds(10))).count(name: "windows").to(queue: "windows"),
        topic.map { Order(id: Int64($0.value.text) ?? 0) }.to(queue: "structs", as: .json),
        topic.to(queue: "records"),
      ])
    let driver = TestDriver(job)
    let sent = Record(
      key: Bytes("k"), value: Bytes("12"), headers: [RecordHeader("amqp.delivery-mode", Bytes("1"))],
      timestamp: Timestamp(milliseconds: 3))
    try driver.send("orders", [sent])
    try driver.send("orders", key: "k", value: "13", at: 40)
    try driver.run()
    #expect(texts(try driver.messages("texts")) == ["12", "13"])
    let counts = try driver.messages("counts")
    #expect(counts.last?.value?.text == "2")
    #expect(headers(counts[0]) == ["amqp.delivery-mode": "2", "x-record-key": "k"])
    let windows = try driver.messages("windows")
    #expect(texts(windows) == ["1"])
    #expect(headers(windows[0])["x-record-key"] == "k")
    let structs = try driver.messages("structs")
    #expect(texts(structs) == [#"{"id":12}"#, #"{"id":13}"#])
    #expect(headers(structs[0])["amqp.content-type"] == "application/json")
    let records = try driver.messages("records")
    #expect(headers(records[0]) == ["amqp.delivery-mode": "1", "x-record-key": "k"])
  }

  @Test("a queue and a topic of one name are two ends")
  func oneName() throws {
    let values = DataStream.topic("in").map { $0.value.text }
    let driver = TestDriver(
      StreamOutput.job(named: "two", [values.to(queue: "out"), values.to(topic: "out")]))
    try driver.send("in", value: "a")
    try driver.run()
    #expect(texts(try driver.messages("out")) == ["a"])
    #expect(texts(try driver.output("out")) == ["a"])
  }

  @Test("each message is there once, whatever becomes of commits", arguments: 1...3)
  func once(workers: Int) throws {
    let job = DataStream.topic("in").keyBy { $0.value }.count(name: "n").map { "\($0.key.text) \($0.value)" }
      .to(queue: "out").job(named: "once")
    let driver = TestDriver(job)
    driver.workers = workers
    for round in 0..<6 {
      for value in ["a", "b", "c"] { try driver.send("in", value: value) }
      if round % 3 > 0 { driver.next(round % 3 == 1 ? .lost : .applied) }
      do throws(JobError) {
        try driver.run()
      } catch {
        #expect(error.code == .commitFailed)
      }
    }
    try driver.run()
    let got = texts(try driver.messages("out"))
    #expect(Set(got).count == got.count, "a message came twice: \(got)")
    #expect(Set(["a 6", "b 6", "c 6"]).isSubset(of: got))
  }

  @Test("a host without the queue refuses the job")
  func unknownQueue() {
    let job = DataStream.topic("in").to(queue: "out").job(named: "none")
    let host = MemoryHost()
    host.createTopic("in", partitions: 1)
    let error = #expect(throws: JobError.self) { try JobExecutor(job, host: host) }
    #expect(error?.code == .unknownQueue)
  }

  @Test("what messages take in a queue counts against a commit's size")
  func size() throws {
    let job = DataStream.topic("in").map { $0.value.text }.to(queue: "out").job(named: "size")
    let host = MemoryHost(largestCommit: 20_000, newTopicPartitions: 1)
    var builder = RecordBatchBuilder()
    for _ in 0..<200 { builder.append(Record(value: Bytes("x"))) }
    _ = try host.partitionCount(topic: "in")
    try host.append(topic: "in", partition: 0, batch: builder.finish())
    let executor = try JobExecutor(job, host: host)
    let error = #expect(throws: JobError.self) { _ = try executor.turn() }
    #expect(error?.code == .stepTooLarge)
  }

  @Test("explain names the queue")
  func explains() {
    let text = DataStream.topic("in").to(queue: "out").job(named: "j").explain().text
    #expect(text.contains("QueueSink out"))
  }
}
