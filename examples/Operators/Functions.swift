// Functions of one's own, with state, timers, and what another stream says. For functions that answer later see CustomerLookup.

import Millrace

private let last = ValueState<Int64>("last")
private let limits = MapState<String, Int64>("limits")

let functions = [
  Example(
    "process, with a timer",
    [
      timedSales.keyBy { $0.customer }.process(state: Int64.self) { sale, context, emit in
        context.state = (context.state ?? 0) + sale.cents
        context.setTimer(at: Timestamp(milliseconds: 10_000))
      } onTimer: { context, emit in
        emit("\(context.key) spent \(context.state ?? 0)")
      }.to(topic: "out")
    ], of: [["ann 1 3", "ann 2 8"], ["ann 4 12"]], gives: ["ann spent 7"]),
  Example(
    "process, with named states",
    [
      sales.keyBy { $0.customer }.process([last]) { sale, context, emit in
        if let before = context[last] { emit("\(sale.customer) \(sale.cents - before)") }
        context[last] = sale.cents
      }.to(topic: "out")
    ], of: [["ann 30", "ann 31"], ["ann 25"]], gives: ["ann 1", "ann -6"]),
  Example(
    "connect(broadcast:)",
    [
      sales.keyBy { $0.customer }.connect(broadcast: DataStream.topic("rules").map(Sale.init), [limits]) {
        sale, context, emit in
        if let limit = context.broadcast[limits][sale.customer], sale.cents > limit {
          emit("\(sale.customer) \(sale.cents)")
        }
      } onBroadcast: { rule, states in
        states[limits][rule.customer] = rule.cents
      }.to(topic: "out")
    ], of: [["rules: ann 20"], ["ann 30", "bob 30"], ["ann 10", "ann 21"]], gives: ["ann 30", "ann 21"]),
]
