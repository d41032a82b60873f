// What becomes of all values of a key: handed on once a step for each key that changed.

import Millrace

private let twoSteps = [["ann 30", "bob 5", "ann 10"], ["ann 2"]]

let aggregates = [
  Example(
    "keyBy, count", [sales.keyBy { $0.customer }.count().to(topic: "out")], of: twoSteps,
    gives: ["ann=2", "bob=1", "ann=3"]),
  Example(
    "sum", [sales.keyBy { $0.customer }.sum { $0.cents }.to(topic: "out")], of: twoSteps,
    gives: ["ann=40", "bob=5", "ann=42"]),
  Example(
    "minimum", [sales.keyBy { $0.customer }.minimum { $0.cents }.to(topic: "out")], of: twoSteps,
    gives: ["ann=10", "bob=5", "ann=2"]),
  Example(
    "maximum", [sales.keyBy { $0.customer }.maximum { $0.cents }.to(topic: "out")], of: twoSteps,
    gives: ["ann=30", "bob=5"]),
  Example(
    "average",
    [
      sales.keyBy { $0.customer }.average { $0.cents }.map { Keyed(key: $0.key, value: "\($0.value.average)") }.to(
        topic: "out")
    ],
    of: twoSteps, gives: ["ann=20.0", "bob=5.0", "ann=14.0"]),
  Example(
    "reduce",
    [
      sales.keyBy { $0.customer }.reduce { $0.cents >= $1.cents ? $0 : $1 }
        .map { Keyed(key: $0.key, value: "\($0.value.cents)") }.to(topic: "out")
    ], of: [["ann 30", "ann 40"], ["ann 2"]], gives: ["ann=40", "ann=40"]),
  Example(
    "fold",
    [sales.keyBy { $0.customer }.fold("") { $0 += "\($1.cents);" }.to(topic: "out")],
    of: twoSteps, gives: ["ann=30;10;", "bob=5;", "ann=30;10;2;"]),
  Example(
    "distinctCount", [sales.keyBy { $0.customer }.distinctCount { "\($0.cents)" }.to(topic: "out")],
    of: [["ann 30", "ann 30"], ["ann 2"]], gives: ["ann=1", "ann=2"]),
  Example(
    "window",
    [
      timedSales.keyBy { $0.customer }.window(.tumbling(.seconds(10))).sum { $0.cents }
        .map { Keyed(key: $0.key, value: "\($0.window.start.milliseconds / 1000):\($0.value)") }.to(topic: "out")
    ], of: [["ann 1 3", "ann 2 8", "ann 4 12"], ["ann 8 21"]], gives: ["ann=0:3", "ann=10:4"]),
]
