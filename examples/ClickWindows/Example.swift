// ClickWindows: clicks per page and minute, by the clicks' own times, with clicks that come late.
//
//   swift run --package-path examples ClickWindows

import Foundation
import Millrace

enum Example {
  /// A click is a record whose value is the page and whose time is the click's. A minute is handed on when a click of a time 10 s
  /// behind its end was seen; clicks of up to 30 s later still change it; what comes even later goes to a topic of its own.
  static let job = DataStream.topic("clicks")
    .eventTime(.boundedOutOfOrderness(.seconds(10)), name: "click-times") { $0.timestamp }
    .keyBy { $0.value }
    .window(.tumbling(.seconds(60)))
    .allowedLateness(.seconds(30))
    .lateRecords(to: "too-late")
    .count(name: "clicks-per-minute")
    .map { "\($0.key.text) \($0.window.start.milliseconds / 60_000): \($0.value)" }
    .to(topic: "minutes")
    .job(named: "click-windows")

  /// Pages with seconds since the epoch, each list a batch.
  static let clicks: [[(page: String, second: Int64)]] = [
    [("home", 1), ("home", 20), ("cart", 30), ("home", 59)],
    [("cart", 65), ("home", 50), ("home", 69)],
    // Event time comes to 70 s, behind the first minute.
    [("home", 80)],
    // In the time that is allowed, and too late.
    [("cart", 10), ("home", 105)],
    [("cart", 5), ("home", 131)],
  ]

  static func run() async throws {
    let directory = NSTemporaryDirectory() + "millrace-example-\(UUID().uuidString)"
    let broker = try await EmbeddedBroker.open(directory: directory)
    let running = try await broker.run(job)
    for batch in clicks {
      try await broker.produce(
        batch.map { Record(value: Bytes($0.page), timestamp: Timestamp(milliseconds: $0.second * 1000)) }, to: "clicks")
    }
    let minutes = try await lines(5, of: "minutes", broker)
    let late = try await lines(1, of: "too-late", broker)
    print("minutes: \(minutes)")
    print("too late: \(late)")
    try await running.stop()
    try await broker.close()
    try FileManager.default.removeItem(atPath: directory)

    // Minute 0 of a page is handed on once, and that of "cart" again because of the late click.
    let expected = ["cart 0: 1", "cart 0: 2", "cart 1: 1", "home 0: 4", "home 1: 3"]
    guard minutes.sorted() == expected, late == ["cart"] else {
      print("expected \(expected)")
      exit(1)
    }
  }

  static func lines(_ count: Int, of topic: String, _ broker: EmbeddedBroker) async throws -> [String] {
    var lines: [String] = []
    for try await record in broker.consume(topic) {
      lines.append(record.text)
      if lines.count == count { break }
    }
    return lines
  }
}
