// Some values of a key.

import Millrace

let selections = [
  Example(
    "top",
    [
      sales.keyBy { _ in "all" }.top(2) { $0.cents }
        .map { Keyed(key: $0.key, value: $0.value.map(\.customer).joined(separator: " ")) }.to(topic: "out")
    ], of: [["ann 30", "bob 5", "cid 10"], ["dan 20"]], gives: ["all=ann cid", "all=ann dan"]),
  Example(
    "deduplicate", [sales.keyBy { $0.customer }.deduplicate().map { "\($0.customer) \($0.cents)" }.to(topic: "out")],
    of: [["ann 30", "ann 31", "bob 5"], ["bob 6"]], gives: ["ann 30", "bob 5"]),
  Example(
    "deduplicateLast",
    [sales.keyBy { $0.customer }.deduplicateLast().map { "\($0.key) \($0.value.cents)" }.to(topic: "out")],
    of: [["ann 30", "ann 31"], ["ann 32"]], gives: ["ann 31", "ann 32"]),
  Example(
    "sortedByTime",
    [
      sales.eventTime(.boundedOutOfOrderness(.seconds(5))) { Timestamp(milliseconds: $0.second * 1000) }
        .keyBy { $0.customer }.sortedByTime()
        .keyBy { $0.customer }.fold("") { $0 += "\($1.second);" }.to(topic: "out")
    ], of: [["ann 1 2", "ann 1 1"], ["ann 1 9"]], gives: ["ann=1;2;"]),
]
