// The embedded job: a broker, the job and its clicks in one process.

import Millrace
import PageViewsJob

@main
enum Program {
  static let clicks = [
    #"{"user":"ann","page":"/","time":1000}"#,
    #"{"user":"bob","page":"/","time":20000}"#,
    #"{"user":"ann","page":"/cart","time":30000}"#,
  ]

  static func main() async throws {
    let broker = try await EmbeddedBroker.open(directory: "embedded-data")
    let running = try await broker.run(job)
    let positions = try await broker.produce(clicks.map { Record(value: Bytes($0)) }, to: "clicks")

    // The last click's offset says how many clicks the topic holds, those of earlier runs among them.
    let total = (positions.last?.offset ?? 0) + 1
    var views: [String: Int64] = [:]
    for try await count in broker.consume("views") {
      views[count.key?.text ?? ""] = Int64(count.text)
      if views.values.reduce(0, +) == total { break }
    }
    for (page, count) in views.sorted(by: { $0.key < $1.key }) { print(page, count) }

    try await running.stop()
    try await broker.close()
  }
}
