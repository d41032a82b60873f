// OrderPayments: orders joined with the payments that come within an hour, and what each customer owes at any time: an
// interval join, and a left join of changes.
//
//   swift run --package-path examples OrderPayments

import Foundation
import Millrace

/// An order with its customer and cents, or a payment for one.
typealias Posting = Keyed<String, Keyed<String, Int64>>

enum Example {
  static let orders = DataStream.topic("orders").map(posting)
  static let payments = DataStream.topic("payments").map(posting)

  /// The record's key is the order; its value is "customer cents", or "cents".
  @Sendable static func posting(_ record: InputRecord) -> Posting {
    let parts = record.value.text.split(separator: " ")
    return Posting(
      key: record.key.text,
      value: Keyed(key: String(parts.first ?? ""), value: Int64(parts.last ?? "") ?? 0))
  }

  /// Pairs are handed on when the second of the two comes; what is older than an hour takes no memory.
  static let paid = orders.keyBy { $0.key }
    .intervalJoin(payments.keyBy { $0.key }, between: .zero ... .seconds(3600), name: "paid-in-time")
    .map { "\($0.left.key) of \($0.left.value.key) was paid" }
    .to(topic: "paid")

  /// Every order is owed until a payment takes it back, and a customer without open orders is gone from the topic.
  static let owed = orders.asChanges().keyBy { $0.value.key }
    .leftJoin(payments.asChanges().keyBy { $0.value.key }, name: "open")
    .filter { $0.value.right == nil }
    .keyBy { $0.value.left.value.key }
    .sum(name: "owed") { $0.left.value.value }
    .to(topic: "owed")

  static let job = StreamOutput.job(named: "order-payments", [paid, owed])

  /// Order, customer, cents, minute; payments say no customer.
  static let postings: [(topic: String, order: String, text: String, minute: Int64)] = [
    ("orders", "1", "ann 500", 0), ("orders", "2", "bob 700", 1), ("orders", "3", "ann 100", 2),
    ("payments", "1", "500", 30),
    // Too late for the join in time, but not for what is owed.
    ("payments", "2", "700", 90), ("orders", "4", "cid 50", 91),
  ]

  static func run() async throws {
    let directory = NSTemporaryDirectory() + "millrace-example-\(UUID().uuidString)"
    let broker = try await EmbeddedBroker.open(directory: directory)
    let running = try await broker.run(job)
    for posting in postings {
      try await broker.produce(
        [
          Record(
            key: Bytes(posting.order), value: Bytes(posting.text),
            timestamp: Timestamp(milliseconds: posting.minute * 60_000))
        ], to: posting.topic)
    }
    var owed: [String: Int] = [:]
    for try await record in broker.consume("owed") {
      let customer = record.key?.text ?? ""
      owed[customer] = record.value == nil ? nil : Int(record.text)
      if owed == ["ann": 100, "cid": 50] { break }
    }
    print("owed: \(owed.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", "))")
    var paid: [String] = []
    for try await record in broker.consume("paid") {
      paid.append(record.text)
      if !paid.isEmpty { break }
    }
    print("paid: \(paid)")
    try await running.stop()
    try await broker.close()
    try FileManager.default.removeItem(atPath: directory)
    guard paid == ["1 of ann was paid"] else {
      print("expected that order 1 was paid in time")
      exit(1)
    }
  }
}
