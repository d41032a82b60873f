// Operators without state.

import Millrace

let stateless = [
  Example("map", [lines.map { $0.uppercased() }.to(topic: "out")], of: [["a", "b"]], gives: ["A", "B"]),
  Example("filter", [lines.filter { $0.count > 1 }.to(topic: "out")], of: [["a", "bb"]], gives: ["bb"]),
  Example(
    "compactMap", [lines.compactMap { Int($0).map { "\($0 + 1)" } }.to(topic: "out")], of: [["1", "x"]], gives: ["2"]),
  Example(
    "flatMap",
    [lines.flatMap { line, emit in for word in line.split(separator: " ") { emit(String(word)) } }.to(topic: "out")],
    of: [["a b", "c"]], gives: ["a", "b", "c"]),
  Example(
    "merge", [lines.merge(DataStream.topic("other").map { $0.value.text }).to(topic: "out")],
    of: [["a", "other: b"]], gives: ["a", "b"]),
  Example(
    "shared",
    {
      let long = lines.filter { $0.count > 1 }.shared()
      return [long.to(topic: "out"), long.map { "\($0.count)" }.to(topic: "lengths")]
    }(), of: [["a", "bb"]], gives: ["bb", "lengths: 2"]),
  Example(
    "split",
    {
      let bySize = sales.split { $0.cents >= 1000 ? "large" : "small" }
      return [
        bySize["large"].map { $0.customer }.to(topic: "out"), bySize["small"].map { $0.customer }.to(topic: "small"),
      ]
    }(), of: [["ann 5000", "bob 20"]], gives: ["ann", "small: bob"]),
  Example(
    "side output of late values",
    [
      DataStream.topic("in").eventTime { Timestamp(milliseconds: Sale($0).second * 1000) }
        .keyBy { Sale($0).customer }.window(.tumbling(.seconds(10))).lateRecords(to: "late").count()
        .map { Keyed(key: $0.key, value: $0.value) }.to(topic: "out")
    ], of: [["ann 1 3", "ann 1 12"], ["ann 1 4", "ann 1 25"]], gives: ["ann=1", "ann=1", "late: ann 1 4"]),
]
