// Pairs of values of two streams, or of a stream and a table.

import Millrace

private let payments = DataStream.topic("payments").map(Sale.init)
private let timedPayments = payments.eventTime { Timestamp(milliseconds: $0.second * 1000) }

@Sendable private func text(_ pair: Joined<Sale, Sale>) -> String {
  "\(pair.left.customer) \(pair.left.cents) \(pair.right.cents)"
}

let joins = [
  Example(
    "join", [sales.keyBy { $0.customer }.join(payments.keyBy { $0.customer }).map(text).to(topic: "out")],
    of: [["ann 30", "payments: ann 10"], ["payments: ann 20", "payments: bob 5"]], gives: ["ann 30 10", "ann 30 20"]),
  Example(
    "intervalJoin",
    [
      timedSales.keyBy { $0.customer }.intervalJoin(
        timedPayments.keyBy { $0.customer }, between: .zero ... .seconds(60)
      )
      .map(text).to(topic: "out")
    ], of: [["ann 30 5", "payments: ann 10 20"], ["payments: ann 20 90"]], gives: ["ann 30 10"]),
  Example(
    "windowJoin",
    [
      timedSales.keyBy { $0.customer }.windowJoin(timedPayments.keyBy { $0.customer }, in: .tumbling(.seconds(10)))
        .map { text($0.value) }.to(topic: "out")
    ], of: [["ann 30 5", "payments: ann 10 8"], ["payments: ann 20 12"]], gives: ["ann 30 10"]),
  Example(
    "join with a table",
    [
      sales.keyBy { $0.customer }.join(payments.keyBy { $0.customer }.latest(name: "payments")).map(text).to(
        topic: "out")
    ], of: [["payments: ann 1"], ["ann 30", "bob 5"], ["payments: ann 2", "ann 31"]], gives: ["ann 30 1", "ann 31 2"]),
  Example(
    "leftJoin with a table",
    [
      sales.keyBy { $0.customer }.leftJoin(payments.keyBy { $0.customer }.latest(name: "payments"))
        .map { "\($0.left.customer) \($0.right.map { "\($0.cents)" } ?? "none")" }.to(topic: "out")
    ], of: [["payments: ann 1"], ["ann 30", "bob 5"]], gives: ["ann 1", "bob none"]),
]
