// WordCount: a streaming word count whose counts stay exact over a restart.
//
//   swift run --package-path examples WordCount

import Foundation
import Millrace

enum Example {
  /// Lines in, a count for each word out. State and positions are kept under the job's name.
  static let job = DataStream.topic("lines")
    .flatMap(Words())
    .keyBy { $0 }
    .count(name: "words")
    .to(topic: "counts")
    .job(named: "word-count")

  static func run() async throws {
    let directory = NSTemporaryDirectory() + "millrace-example-\(UUID().uuidString)"
    let first = try await counts(in: directory, after: ["To be, or not to be:", "that is the question."], words: 10)
    print("after two lines: \(first.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" })")
    // The broker was closed and is opened again: the job goes on where it was.
    let second = try await counts(in: directory, after: ["Not the answer!"], words: 13)
    print("after three lines: \(second.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" })")
    try FileManager.default.removeItem(atPath: directory)

    let expected = ["to": 2, "be": 2, "or": 1, "not": 2, "that": 1, "is": 1, "the": 2, "question": 1, "answer": 1]
    guard second == expected else {
      print("expected \(expected)")
      exit(1)
    }
  }

  /// Runs the job until it has counted `words` words, and returns the last count of each.
  static func counts(in directory: String, after lines: [String], words: Int) async throws -> [String: Int] {
    let broker = try await EmbeddedBroker.open(directory: directory)
    let running = try await broker.run(job)
    try await broker.produce(lines.map { Record(value: Bytes($0)) }, to: "lines")
    var counts: [String: Int] = [:]
    for try await count in broker.consume("counts") {
      counts[count.key?.text ?? ""] = Int(count.text)
      if counts.values.reduce(0, +) == words { break }
    }
    try await running.stop()
    try await broker.close()
    return counts
  }
}
