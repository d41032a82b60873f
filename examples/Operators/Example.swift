// Operators: each operator of stream jobs in a line or two, with what goes in and what must come out.
//
//   swift run --package-path examples Operators [NAME]

import Millrace

/// A sale: `CUSTOMER CENTS SECOND`.
struct Sale: StateCodable, Equatable {
  var customer: String
  var cents: Int64
  var second: Int64

  init(_ record: InputRecord) {
    let parts = record.value.text.split(separator: " ")
    customer = String(parts[0])
    cents = parts.count > 1 ? Int64(parts[1]) ?? 0 : 0
    second = parts.count > 2 ? Int64(parts[2]) ?? 0 : 0
  }

  static var stateEncoding: String { "sale/1" }

  func encode(into writer: inout ByteWriter) {
    customer.encode(into: &writer)
    cents.encode(into: &writer)
    second.encode(into: &writer)
  }

  init(from reader: inout ByteReader) throws(StateDecodingError) {
    customer = try String(from: &reader)
    cents = try Int64(from: &reader)
    second = try Int64(from: &reader)
  }
}

/// What the examples read.
let lines = DataStream.topic("in").map { $0.value.text }
let sales = DataStream.topic("in").map(Sale.init)
let timedSales = sales.eventTime { Timestamp(milliseconds: $0.second * 1000) }

/// One operator at work.
struct Example: Sendable {
  let name: String
  let outputs: [StreamOutput]
  /// Each a step of the job; `TOPIC: TEXT` goes to another topic than `in`.
  let input: [[String]]
  /// What the topic `out` has at the end, and other topics as `TOPIC: TEXT`; records with keys as `KEY=VALUE`.
  let results: [String]

  init(_ name: String, _ outputs: [StreamOutput], of input: [[String]], gives results: [String]) {
    self.name = name
    self.outputs = outputs
    self.input = input
    self.results = results
  }

  /// Runs the job in a driver without broker and disk, and drops it before the last step: its results must not depend on that.
  func run() throws {
    let driver = TestDriver(StreamOutput.job(named: "example", outputs))
    for (number, texts) in input.enumerated() {
      if number > 0, number == input.count - 1 { driver.crash() }
      for text in texts {
        let parts = text.split(separator: ":", maxSplits: 1)
        let topic = parts.count > 1 ? String(parts[0]) : "in"
        try driver.send(topic, value: parts.count > 1 ? String(parts[1].dropFirst()) : text, at: 0)
      }
      try driver.run()
    }
    var found: [String] = []
    for topic in Set(["out"] + results.compactMap { $0.contains(": ") ? String($0.prefix { $0 != ":" }) : nil })
      .sorted()
    {
      for record in try driver.output(topic) {
        let text = (record.key.map { $0.text + "=" } ?? "") + (record.value?.text ?? "")
        found.append(topic == "out" ? text : "\(topic): \(text)")
      }
    }
    guard found.sorted() == results.sorted() else {
      throw Wrong(description: "\(name) gives \(found.sorted()), not \(results.sorted())")
    }
    print("\(name): \(found.joined(separator: ", "))")
  }

  struct Wrong: Error, CustomStringConvertible { let description: String }

  static let all = stateless + aggregates + selections + functions + joins

  static func run() throws {
    let wanted = CommandLine.arguments.dropFirst().first
    var wrong: [String] = []
    for example in all where wanted == nil || example.name == wanted {
      do { try example.run() } catch { wrong.append("\(error)") }
    }
    guard wrong.isEmpty else { throw Wrong(description: wrong.joined(separator: "\n")) }
  }
}
