// QueueGuideTests: the code of docs/guides/queues.md, as it stands there, and what it says of it.

import Foundation
import Millrace
import Testing

@Suite("the guide to message queues")
struct QueueGuideTests {
  private func work(on delivery: QueueDelivery) async throws {}
  private func store(_ bodies: [Bytes]) async throws {}

  @Test("declares, publishes and consumes")
  func consumes() async throws {
    try await withBroker { broker in
      let orders = try await broker.queue("orders")
      let bills = try await broker.queue("bills")

      try await orders.publish(Bytes("order 1"), headers: ["customer": "anna", "amount": 20])
      try await orders.publish(contentsOf: (2...100).map { QueueMessage("order \($0)") })

      for try await order in orders.deliveries(prefetch: 100) {
        if order.text == "order 50" {
          try await order.complete(publishing: [(bills, QueueMessage("bill for \(order.text)"))])
          break
        }
        try await order.ack()
      }
      #expect(try await orders.counts().length == 50)
      #expect(try await bills.browse(limit: 2).map(\.text) == ["bill for order 50"])

      let processing = Task {
        try await orders.process(concurrency: 8) { order in
          try await work(on: order)
        }
      }
      while try await orders.counts().length > 0 { await Task.yield() }
      try await orders.close()
      try await processing.value
      let again = try await broker.queue("orders")
      #expect(try await again.counts().inFlight == 0)
      for try await batch in bills.batches(of: 100, within: .milliseconds(50)) {
        try await store(batch.map(\.body))
        try await batch.ack()
        break
      }
      #expect(try await bills.counts().length == 0)
    }
  }

  @Test("takes options, schedules, looks in, and moves")
  func administers() async throws {
    try await withBroker { broker in
      let orders = try await broker.queue(
        "orders",
        Queue.Options {
          $0.retry = .init(from: .seconds(1), to: .seconds(60), growth: .exponential, jitter: 0.2)
          $0.deliveryLimit = 5
          $0.deadLetter = .queue("orders.failed")
        })
      let (failed, archive) = (try await broker.queue("orders.failed"), try await broker.queue("archive"))
      try await orders.publish(Bytes("reminder"), delay: .seconds(3600))
      for message in try await orders.scheduled(limit: 100) { try await orders.remove(message) }
      #expect(try await orders.counts().length == 0)

      try await orders.publish(contentsOf: ["one", "two"].map { QueueMessage($0) })
      var deliveries = orders.deliveries().makeAsyncIterator()
      for _ in 0..<2 { try await deliveries.next()?.reject() }
      #expect(try await failed.redrive(limit: 1) == 1)
      #expect(try await failed.move(to: archive, limit: 1000) == 1)
      #expect(try await archive.browse(limit: 10).map(\.text) == ["two"])
      #expect(try await orders.figures().totals.arrived == 4)
      #expect(try await archive.purge() == 1)
      try await broker.deleteQueue("orders")
    }
  }
}
