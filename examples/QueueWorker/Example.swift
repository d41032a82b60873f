// QueueWorker: orders are worked off a durable queue by several tasks; each result is published in the commit that takes
// its order off the queue, what fails is tried again, and what keeps failing ends in a queue of its own.
//
//   swift run --package-path examples QueueWorker

import Foundation
import Millrace

enum Example {
  struct OutOfStock: Error {}

  static func run() async throws {
    let directory = NSTemporaryDirectory() + "millrace-example-\(UUID().uuidString)"
    let broker = try await EmbeddedBroker.open(directory: directory)

    // What is not said is a durable first-in, first-out queue without limits.
    let orders = try await broker.queue(
      "orders",
      Queue.Options {
        $0.retry = .init(from: .milliseconds(10), to: .seconds(1), growth: .exponential, jitter: 0.2)
        $0.deliveryLimit = 2
        $0.deadLetter = .queue("orders.failed")
      })
    let bills = try await broker.queue("bills")

    // In one commit; a single `publish` returns when its message is durable.
    try await orders.publish(
      contentsOf: (1...20).map { number in
        QueueMessage(
          Bytes("order \(number)"), headers: ["customer": "anna", "amount": .int(Int64(number))],
          messageID: "order-\(number)")
      })
    try await orders.publish(Bytes("reminder"), delay: .seconds(3600))

    // Four tasks; acknowledged when the body returns or settles, tried again when it throws.
    let failed = try await broker.queue("orders.failed")
    let work = Task {
      try await orders.process(concurrency: 4) { order in
        guard let amount = order.headers["amount"]?.int, amount != 13 else { throw OutOfStock() }
        try await order.complete(publishing: [(bills, QueueMessage("\(order.text): \(amount) EUR"))])
      }
    }
    for try await letter in failed.deliveries() {
      print("\(letter.text) failed: \(letter.deaths.map { "\($0.reason) in \($0.queue)" })")
      try await letter.release()
      break
    }
    while try await bills.counts().length < 19 { try await Task.sleep(for: .milliseconds(1)) }
    // Running bodies end, and the call returns.
    try await orders.close()
    try await work.value

    var total = 0
    for try await batch in bills.batches(of: 10, within: .milliseconds(20)) {
      total += batch.count
      print("\(batch.count) bills, the first: \(batch[0].text)")
      try await batch.ack()
      if total == 19 { break }
    }

    // What is left: the reminder, which is called off, and the order that failed, which goes back.
    let again = try await broker.queue("orders")
    let scheduled = try await again.scheduled(limit: 10)
    for message in scheduled { try await again.remove(message) }
    let redriven = try await failed.redrive()
    let left = try await again.browse(limit: 10).map(\.text)
    print("called off: \(scheduled.map(\.text)), in the queue again: \(left)")

    try await broker.close()
    try FileManager.default.removeItem(atPath: directory)
    guard total == 19, scheduled.map(\.text) == ["reminder"], redriven == 1, left == ["order 13"] else {
      print("expected 19 bills, one reminder and order 13 again")
      exit(1)
    }
  }
}
