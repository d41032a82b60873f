// Messages: jobs with message queues at their ends.

import Millrace

/// Jobs whose messages are counted by whoever kills them.
enum Messages {
  /// Each record of the topic `orders` becomes a message of the queue `work`; the first digit of its value is the priority.
  static func toQueue() -> JobDefinition {
    DataStream.topic("orders").to(queue: "work") { record in
      OutputMessage(record.value.copy, priority: record.valueBuffer.first.map { $0 &- UInt8(ascii: "0") })
    }.job(named: "orders")
  }

  /// Each message of the queue `inbox` goes on to the queue `outbox`, with its properties, and is counted in the topic `seen`.
  static func throughQueues() -> JobDefinition {
    let inbox = DataStream.queue("inbox")
    return StreamOutput.job(
      named: "inbox",
      [
        inbox.to(queue: "outbox"),
        inbox.keyBy { _ in "all" }.count(name: "all").to(topic: "seen"),
      ])
  }

  /// Small steps, so that there are many to be killed in.
  static var options: JobOptions {
    var options = JobOptions()
    options.readBytes = 4 << 10
    options.stepBytes = 8 << 10
    options.idleWait = .milliseconds(100)
    return options
  }
}
