// MessageFormatTests: what the broker reads of properties, and the history of messages that were dead-lettered.

import MillraceAMQPProtocol
import MillraceBase
import MillraceModel
import MillraceRouting
import Testing

@testable import MillraceAMQPServer
@testable import MillraceBroker

private let format = AMQPMessageFormat.shared

private func properties(_ set: (inout BasicPropertiesBuilder) -> Void) -> Bytes { BasicProperties.build(set).encoded }

private func properties(headers: AMQPFieldTable) -> Bytes { properties { $0.encodedHeaders = headers.encoded } }

private func table(_ entries: (String, AMQPValue)...) -> AMQPFieldTable { AMQPFieldTable(entries) }

private func death(
  _ queue: String = "q", _ reason: String = "rejected", exchange: String = "x", keys: [String] = ["k"],
  seconds: Int64 = 1000, isKeyReplaced: Bool = false
) -> MessageDeath {
  MessageDeath(
    queue: queue, reason: reason, exchange: exchange, routingKeys: keys.map { Bytes($0) },
    time: Timestamp(milliseconds: seconds * 1000 + 7), isKeyReplaced: isKeyReplaced)
}

private func headers(_ encoded: Bytes) throws -> AMQPFieldTable {
  try #require(try BasicProperties(decoding: encoded).headers())
}

private func entries(_ encoded: Bytes) throws -> [AMQPFieldTable] {
  try #require(try headers(encoded)["x-death"]?.array).compactMap(\.table)
}

@Test("the facts of properties")
func facts() {
  let facts = format.facts(
    properties {
      $0.deliveryMode = 2
      $0.priority = 7
      $0.expiration = "1500"
      $0.messageID = "m"
      $0.encodedHeaders =
        table(("CC", ["a", 1, "b"]), ("BCC", ["c"]), ("x-delay", 40), ("CC", ["no"])).encoded
    })
  #expect(facts.isPersistent && facts.priority == 7 && facts.timeToLive == 1500 && facts.delay == 40)
  #expect(facts.messageID == Bytes("m") && facts.extraKeys == ["a", "b", "c"].map { Bytes($0) })
  let none = format.facts(BasicProperties().encoded)
  #expect(!none.isPersistent && none.priority == 0 && none.timeToLive == nil && none.messageID == nil)
}

@Test("what makes no sense in stored properties is left out")
func senselessFacts() {
  let odd = format.facts(
    properties {
      $0.expiration = "soon"
      $0.deliveryMode = 1
      $0.encodedHeaders = table(("CC", "text"), ("x-delay", -5)).encoded
    })
  #expect(odd.timeToLive == nil && odd.delay == nil && odd.extraKeys.isEmpty && !odd.isPersistent)
  for broken in [Bytes(), Bytes([0x80]), Bytes([0x20, 0, 0, 0, 0, 9, 1])] {
    #expect(format.facts(broken).extraKeys.isEmpty && format.headers(broken) == .empty && format.deaths(broken).isEmpty)
    #expect(format.header("a", broken) == nil && format.property(.messageID, broken) == nil)
    #expect(format.deaths(format.deadLettered(broken, death())).map(\.queue) == ["q"])
  }
}

@Test("headers and properties as text")
func texts() {
  let some = properties {
    $0.correlationID = "c"
    $0.messageID = "m"
    $0.timestamp = 77
    $0.encodedHeaders = table(("s", "text"), ("n", 12), ("b", true), ("l", ["x"])).encoded
  }
  #expect(format.header("s", some) == Bytes("text") && format.header("n", some) == Bytes("12"))
  #expect(format.header("b", some) == Bytes("true"))
  #expect(format.header("l", some) == nil && format.header("missing", some) == nil)
  #expect(format.property(.correlationID, some) == Bytes("c") && format.property(.messageID, some) == Bytes("m"))
  #expect(format.property(.timestamp, some) == Bytes("77"))
  #expect(format.headers(some)["n"] == .int64(12) && format.headers(some)["l"] == .array([.string("x")]))
}

@Test("a first death: its entry, first and last, and the expiration gone")
func firstDeath() throws {
  let dead = format.deadLettered(
    properties {
      $0.expiration = "30"
      $0.messageID = "m"
      $0.encodedHeaders = table(("mine", 1)).encoded
    }, death("q", "expired", keys: ["k", "cc"]))
  let decoded = try BasicProperties(decoding: dead)
  #expect(decoded.expiration == nil && decoded.messageID == "m")
  #expect(
    try entries(dead) == [
      table(
        ("original-expiration", "30"), ("count", .int64(1)), ("reason", "expired"), ("queue", "q"),
        ("time", .timestamp(1000)), ("exchange", "x"), ("routing-keys", ["k", "cc"]))
    ])
  let all = try headers(dead)
  #expect(all["mine"] == 1)
  for which in ["first", "last"] {
    #expect(all["x-\(which)-death-reason"] == "expired" && all["x-\(which)-death-queue"] == "q")
    #expect(all["x-\(which)-death-exchange"] == "x")
  }
  #expect(format.deaths(dead).map { [$0.queue, $0.reason] } == [["q", "expired"]])
}

@Test("a second death of queue and reason is counted and comes first; the first one stays the first")
func laterDeaths() throws {
  var message = format.deadLettered(BasicProperties().encoded, death("one", "rejected"))
  message = format.deadLettered(message, death("two", "expired", exchange: "y", seconds: 2000))
  message = format.deadLettered(message, death("one", "rejected", exchange: "z", seconds: 3000))
  message = format.deadLettered(message, death("one", "maxlen", seconds: 4000))
  #expect(
    try entries(message).map { "\($0["queue"] ?? .void) \($0["reason"] ?? .void) \($0["count"] ?? .void)" }
      == ["one maxlen 1", "one rejected 2", "two expired 1"])
  // The entry tells of the first time.
  #expect(try entries(message)[1]["time"] == .timestamp(1000) && entries(message)[1]["exchange"] == "x")
  let all = try headers(message)
  #expect(all["x-first-death-queue"] == "one" && all["x-first-death-reason"] == "rejected")
  #expect(all["x-last-death-queue"] == "one" && all["x-last-death-reason"] == "maxlen")
}

@Test("a history that a client made up is none, and is replaced")
func madeUpHistory() throws {
  let made: AMQPFieldTable = [
    "x-death": [["queue": "q", "reason": "rejected", "count": 41]], "x-first-death-queue": "other",
  ]
  let sent = properties(headers: made)
  #expect(format.deaths(sent).isEmpty)
  let dead = format.deadLettered(sent, death())
  #expect(try entries(dead).map { $0["count"] } == [.int64(1)])
  #expect(try headers(dead)["x-first-death-queue"] == "q")
  // A client that publishes what it was delivered cannot set the mark either.
  let again = try BasicProperties(decoding: dead).encoded
  #expect(format.deaths(again).isEmpty)
}

@Test("CC goes when the key is replaced, and only then")
func copies() throws {
  let sent = properties(headers: ["CC": ["a"], "n": 1])
  #expect(try headers(format.deadLettered(sent, death()))["CC"] != nil)
  let replaced = try headers(format.deadLettered(sent, death(isKeyReplaced: true)))
  #expect(replaced["CC"] == nil && replaced["n"] == 1)
}

@Test("a history is bounded; the oldest entries go")
func longHistory() throws {
  var message = BasicProperties().encoded
  for number in 0..<(AMQPMessageFormat.longestHistory + 10) {
    message = format.deadLettered(message, death("q\(number)", "expired"))
  }
  let queues = format.deaths(message).map(\.queue)
  #expect(queues.count == AMQPMessageFormat.longestHistory && queues.first == "q137" && queues.last == "q10")
}
