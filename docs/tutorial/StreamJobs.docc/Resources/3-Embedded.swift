// The embedded job: a broker, the job and its clicks in one process.

import Millrace
import PageViewsJob

@main
enum Program {
  /// Event time moves behind each of these batches.
  static let batches = [
    [
      #"{"user":"ann","page":"/","time":1000}"#, #"{"user":"bob","page":"/","time":20000}"#,
      #"{"user":"ann","page":"/cart","time":30000}"#,
    ],
    // The second one comes out of order, but not late: event time is at 20 s.
    [#"{"user":"bob","page":"/cart","time":65000}"#, #"{"user":"cid","page":"/","time":50000}"#],
    // Event time comes to 65 s: minute 0 closes.
    [#"{"user":"ann","page":"/","time":75000}"#],
    // Late, but within the 30 s that are allowed: minute 0 of /cart is handed on again.
    [#"{"user":"cid","page":"/cart","time":10000}"#],
    // Event time comes to 95 s: minute 0 is over.
    [#"{"user":"ann","page":"/","time":105000}"#],
    // Too late.
    [#"{"user":"bob","page":"/","time":5000}"#],
    // Event time comes to 121 s: minute 1 closes.
    [#"{"user":"ann","page":"/","time":131000}"#],
  ]

  static func main() async throws {
    let broker = try await EmbeddedBroker.open(directory: "embedded-data")
    let running = try await broker.run(job)
    for batch in batches {
      try await broker.produce(batch.map { Record(value: Bytes($0)) }, to: "clicks")
    }
    try await show(5, of: "minutes", broker)
    try await show(1, of: "too-late", broker)
    try await running.stop()
    try await broker.close()
  }

  /// Prints the first records of a topic, and waits for those that are not there yet.
  static func show(_ count: Int, of topic: String, _ broker: EmbeddedBroker) async throws {
    var left = count
    for try await record in broker.consume(topic) {
      print(topic, record.text)
      left -= 1
      if left == 0 { break }
    }
  }
}
