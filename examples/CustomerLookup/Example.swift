// CustomerLookup: orders enriched by a slow service: many calls at a time, in the order of the orders, each once in the results.
//
//   swift run --package-path examples CustomerLookup

import Foundation
import Millrace

/// A service that knows customers. It takes its time, fails at first for some of them, and always for those that it does not know.
actor Customers {
  struct Unavailable: Error {}
  struct Unknown: Error {}

  private var failed: Set<Int> = []
  private var open = 0
  private(set) var calls = 0
  /// Most calls that it had to answer at a time.
  private(set) var most = 0

  func country(of customer: Int) async throws -> String {
    calls += 1
    open += 1
    most = max(most, open)
    defer { open -= 1 }
    try await Task.sleep(for: .milliseconds(20))
    if customer % 10 == 7, failed.insert(customer).inserted { throw Unavailable() }
    guard customer < 100 else { throw Unknown() }
    return ["NO", "SE", "DK"][customer % 3]
  }
}

enum Example {
  static let count = 200

  /// A record is an order, `NUMBER CUSTOMER`.
  static func job(asking customers: Customers) -> JobDefinition {
    DataStream.topic("orders").map { $0.value.text }
      .mapAsync(
        name: "countries", inFlight: 50, timeout: .seconds(10), retry: .attempts(2, delay: .milliseconds(5)),
        onError: .fallback { order, _ in "\(order) ?" }
      ) { order in
        let customer = order.split(separator: " ").last.flatMap { Int($0) } ?? -1
        return "\(order) \(try await customers.country(of: customer))"
      }
      .to(topic: "enriched")
      .job(named: "customer-lookup")
  }

  static func run() async throws {
    let directory = NSTemporaryDirectory() + "millrace-example-\(UUID().uuidString)"
    let customers = Customers()
    let broker = try await EmbeddedBroker.open(directory: directory)
    let running = try await broker.run(job(asking: customers))
    // Every fortieth customer is one that the service does not know.
    let orders = (0..<count).map { "\($0) \($0 % 40 == 39 ? 100 + $0 : $0 % 40)" }
    try await broker.produce(orders.map { Record(value: Bytes($0)) }, to: "orders")
    var enriched: [String] = []
    for try await order in broker.consume("enriched") {
      enriched.append(order.text)
      if enriched.count == count { break }
    }
    try await running.stop()
    try await broker.close()
    try FileManager.default.removeItem(atPath: directory)
    let (calls, most) = (await customers.calls, await customers.most)
    print("\(enriched[0]), \(enriched[1]), …: \(calls) calls, up to \(most) at a time")
    let expected = orders.enumerated().map { number, order in
      number % 40 == 39 ? "\(order) ?" : "\(order) \(["NO", "SE", "DK"][number % 40 % 3])"
    }
    // Customers 7, 17, 27 and 37 fail once, and each call for one that is not known is made twice.
    guard enriched == expected, calls == count + 4 + count / 40, (2...50).contains(most) else {
      print("expected \(expected.count) orders in their order, \(count + 4 + count / 40) calls, 2 to 50 at a time")
      exit(1)
    }
  }
}
