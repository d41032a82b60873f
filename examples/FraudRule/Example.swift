// FraudRule: a small payment that a large one follows within a minute is suspicious: state and timers of each card.
//
//   swift run --package-path examples FraudRule

import Foundation
import Millrace

enum Example {
  /// A payment is a record with the card as its key and the amount in cents as its value.
  static let job = DataStream.topic("payments")
    .keyBy { $0.key.text }
    .process(state: Bool.self, name: "small-before") {
      (payment: InputRecord, card: ProcessContext<String, Bool>, alert: (String) -> Void) in
      let cents = Int(payment.value.text) ?? 0
      if card.state == true, cents > 50_000 { alert("\(card.key): \(cents) cents") }
      // Whatever came, only the payment right before counts.
      for timer in card.timers { card.cancelTimer(at: timer) }
      card.state = cents < 100 ? true : nil
      if cents < 100 { card.setTimer(at: Timestamp(milliseconds: card.time.milliseconds + 60_000)) }
    } onTimer: { card, _ in
      card.state = nil
    }
    .to(topic: "alerts")
    .job(named: "fraud-rule")

  /// Card, cents, second.
  static let payments: [(card: String, cents: Int, second: Int64)] = [
    ("A", 50, 0), ("B", 20, 1), ("A", 90_000, 30), ("C", 60_000, 31),
    // Too late for B: its minute is over.
    ("C", 10, 62), ("B", 70_000, 63), ("C", 3_000, 64), ("C", 80_000, 65), ("C", 99, 70), ("C", 50_001, 100),
  ]

  static func run() async throws {
    let directory = NSTemporaryDirectory() + "millrace-example-\(UUID().uuidString)"
    let broker = try await EmbeddedBroker.open(directory: directory)
    let running = try await broker.run(job)
    for payment in payments {
      try await broker.produce(
        [
          Record(
            key: Bytes(payment.card), value: Bytes("\(payment.cents)"),
            timestamp: Timestamp(milliseconds: payment.second * 1000))
        ], to: "payments")
    }
    var alerts: [String] = []
    for try await alert in broker.consume("alerts") {
      alerts.append(alert.text)
      if alerts.count == 2 { break }
    }
    print("alerts: \(alerts)")
    try await running.stop()
    try await broker.close()
    try FileManager.default.removeItem(atPath: directory)
    guard alerts == ["A: 90000 cents", "C: 50001 cents"] else {
      print("expected those of A and of C")
      exit(1)
    }
  }
}
