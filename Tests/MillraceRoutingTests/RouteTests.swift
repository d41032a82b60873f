// RouteTests: where messages go, exchange type by exchange type.

import MillraceBase
import Testing

@testable import MillraceRouting

@Test("the default exchange routes by queue name, whether or not the queue is there, and once for CC and BCC's keys")
func byName() throws {
  var ground = Playground()
  try ground.bind("amq.direct", .queue("bound"), "k")
  #expect(try ground.route("", "q") == ["q"])
  #expect(try ground.route("", "bound", extra: ["q", "bound", "q", "r"]) == ["bound", "q", "r"])
}

@Test("a direct exchange routes by the whole key, each destination once")
func direct() throws {
  var ground = Playground()
  try ground.declare("x", "direct")
  try ground.bind("x", .queue("a"), "k")
  try ground.bind("x", .queue("b"), "k")
  try ground.bind("x", .queue("a"), "l")
  try ground.bind("x", .queue("c"), "")
  #expect(try ground.route("x", "k") == ["a", "b"])
  #expect(try ground.route("x", "l", extra: ["k"]) == ["a", "b"])
  #expect(try ground.route("x", "") == ["c"])
  #expect(try ground.route("x", "K") == [])
  ground.unbind("x", .queue("a"), "k")
  #expect(try ground.route("x", "k") == ["b"])
  #expect(try ground.route("x", "l") == ["a"])
}

@Test("a fanout exchange routes to everything bound, in the order of binding")
func fanout() throws {
  var ground = Playground()
  for name in ["c", "a", "b"] { try ground.bind("amq.fanout", .queue(name), name) }
  try ground.bind("amq.fanout", .queue("c"), "again")
  #expect(try ground.route("amq.fanout", "whatever") == ["c", "a", "b"])
}

@Test("oracle: routing by topic finds what the definition finds, with CC's keys", arguments: [1, 2, 3] as [UInt64])
func oracleTopic(seed: UInt64) throws {
  var ground = Playground()
  var random = SeededRandom(seed: seed)
  func text(_ words: [String]) -> String {
    (0..<Int.random(in: 0...4, using: &random)).map { _ in words.randomElement(using: &random)! }
      .joined(separator: ".")
  }
  var model: [(pattern: String, queue: String)] = []
  for _ in 0..<200 {
    let one = (text(["a", "b", "c", "", "*", "#"]), "q\(Int.random(in: 0..<50, using: &random))")
    try ground.bind("amq.topic", .queue(one.1), one.0)
    model.append(one)
  }
  for _ in 0..<300 {
    let keys = (0..<Int.random(in: 1...3, using: &random)).map { _ in text(["a", "b", "c", "d", ""]) }
    let found = try ground.route("amq.topic", keys[0], extra: Array(keys.dropFirst()))
    let expected = Set(model.filter { one in keys.contains { naiveMatch(one.pattern, $0) } }.map(\.queue))
    #expect(Set(found) == expected && found.count == expected.count, "seed \(seed), keys \(keys)")
  }
}

@Test("headers: all and any pass over names that begin with x-, all-with-x and any-with-x do not")
func headersModes() throws {
  var ground = Playground()
  for mode in ["all", "any", "all-with-x", "any-with-x"] {
    try ground.bind(
      "amq.headers", .queue(mode), "",
      ["x-match": .string(mode), "a": .int64(1), "b": .string("two"), "x-c": .bool(true)])
  }
  try ground.bind("amq.headers", .queue("default"), "", ["a": .int64(1)])
  func route(_ headers: RoutingTable) throws -> Set<String> {
    var ground = ground
    return Set(try ground.route("amq.headers", headers: headers))
  }
  #expect(try route([:]) == [])
  #expect(try route(["a": .int64(1)]) == ["any", "any-with-x", "default"])
  #expect(try route(["x-c": .bool(true)]) == ["any-with-x"])
  #expect(try route(["a": .int64(1), "b": .string("two")]) == ["all", "any", "any-with-x", "default"])
  #expect(
    try route(["a": .int64(1), "b": .string("two"), "x-c": .bool(true), "more": .null])
      == ["all", "any", "all-with-x", "any-with-x", "default"])
  #expect(try route(["a": .int64(2), "b": .string("three"), "x-c": .bool(false)]) == [])
}

@Test(
  "headers: no arguments fit every message under all and none under any; an argument without value asks for presence")
func headersEdges() throws {
  var ground = Playground()
  try ground.bind("amq.headers", .queue("all"))
  try ground.bind("amq.headers", .queue("any"), "", ["x-match": .string("any")])
  try ground.bind("amq.headers", .queue("present"), "", ["h": .null])
  #expect(try ground.route("amq.headers") == ["all"])
  #expect(try ground.route("amq.headers", headers: ["h": .double(1.5)]) == ["all", "present"])
  #expect(try ground.route("amq.headers", headers: ["h": .null]) == ["all", "present"])
}

@Test(
  "headers: values compare as RabbitMQ's do",
  arguments: [
    (.int64(1), .int64(1), true), (.int64(1), .double(1), false), (.int64(1), .string("1"), false),
    (.int64(1), .bool(true), false), (.string("a"), .string("a"), true), (.string("a"), .string("A"), false),
    (.double(0.5), .double(0.5), true), (.timestamp(5), .timestamp(5), true), (.timestamp(5), .int64(5), false),
    (.array([.int64(1), .string("a")]), .array([.int64(1), .string("a")]), true),
    (.array([.int64(1)]), .array([.double(1)]), false), (.table(["k": .null]), .table(["k": .null]), true),
    (.int64(1), .null, false), (.null, .int64(1), true),
  ] as [(RoutingValue, RoutingValue, Bool)])
func headersValues(asked: RoutingValue, sent: RoutingValue, fits: Bool) throws {
  var ground = Playground()
  try ground.bind("amq.match", .queue("q"), "", ["h": asked])
  #expect(try ground.route("amq.match", headers: ["h": sent]) == (fits ? ["q"] : []))
}

@Test("headers are asked for once, and only when an exchange needs them")
func lazyHeaders() throws {
  var ground = Playground()
  try ground.declare("x", "fanout")
  for name in ["amq.headers", "amq.match"] {
    try ground.bind(name, .queue(name), "", ["h": .int64(1)])
    try ground.bind("x", .exchange(name))
  }
  var calls = 0
  func headers() -> RoutingTable {
    calls += 1
    return ["h": .int64(1)]
  }
  let direct = try ground.route("amq.direct", headers: headers())
  #expect(direct == [] && calls == 0)
  let both = try ground.route("x", headers: headers())
  #expect(both == ["amq.headers", "amq.match"] && calls == 1)
}

@Test("bindings between exchanges are followed, each exchange once, in cycles too")
func exchangeToExchange() throws {
  var ground = Playground()
  for name in ["a", "b", "c"] { try ground.declare(name, "fanout") }
  for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "a")] { try ground.bind(from, .exchange(to)) }
  for name in ["a", "b", "c"] { try ground.bind(name, .queue("of-\(name)")) }
  try ground.bind("c", .queue("of-a"))
  #expect(try ground.route("a") == ["of-a", "of-b", "of-c"])
  #expect(try ground.route("b") == ["of-b", "of-c", "of-a"])
}

@Test("the key goes along from exchange to exchange: a chain of topic exchanges takes a delay's bits apart")
func delayLevels() throws {
  // As kombu's native delayed delivery: level n takes the key's n-th bit, "1" into its queue, "0" on to the next level.
  var ground = Playground()
  for level in 0..<4 { try ground.declare("level-\(level)", "topic") }
  for level in 0..<4 {
    let stars = String(repeating: "*.", count: 3 - level)
    try ground.bind("level-\(level)", .queue("wait-\(level)"), "\(stars)1.#")
    if level > 0 { try ground.bind("level-\(level)", .exchange("level-\(level - 1)"), "\(stars)0.#") }
  }
  #expect(try ground.route("level-3", "1.0.1.0.target") == ["wait-3"])
  #expect(try ground.route("level-3", "0.0.1.0.target") == ["wait-1"])
  #expect(try ground.route("level-3", "0.0.0.0.target") == [])
}

@Test("an alternate exchange gets what fits no binding, through a chain, a cycle, and a name that is not there")
func alternate() throws {
  var ground = Playground()
  try ground.declare("x", "direct", ["alternate-exchange": .string("y")])
  #expect(try ground.route("x", "k") == [])
  try ground.declare("y", "topic", ["alternate-exchange": .string("z")])
  try ground.declare("z", "fanout", isInternal: true, ["alternate-exchange": .string("x")])
  #expect(try ground.route("x", "k") == [])
  try ground.bind("z", .queue("rest"))
  #expect(try ground.route("x", "k") == ["rest"])
  try ground.bind("y", .queue("topic"), "k")
  #expect(try ground.route("x", "k") == ["topic"])
  try ground.bind("x", .queue("direct"), "k")
  #expect(try ground.route("x", "k") == ["direct"])
}

@Test("what fits a binding to an exchange is routed, even when that exchange drops it")
func alternateLooksAtBindings() throws {
  var ground = Playground()
  try ground.declare("x", "fanout", ["alternate-exchange": .string("amq.fanout")])
  try ground.declare("empty", "direct")
  try ground.bind("amq.fanout", .queue("rest"))
  try ground.bind("x", .exchange("empty"))
  #expect(try ground.route("x") == [])
}

@Test("clients may not publish to an internal exchange, nor to one that is not there")
func refusals() throws {
  var ground = Playground()
  try ground.declare("i", "fanout", isInternal: true)
  try ground.bind("i", .queue("q"))
  try ground.bind("amq.fanout", .exchange("i"))
  #expect(
    refusal { () throws(RoutingError) in _ = try ground.route("i") }
      == "ACCESS_REFUSED - cannot publish to internal exchange 'i' in vhost '/'")
  #expect(
    refusal { () throws(RoutingError) in _ = try ground.route("missing") }
      == "NOT_FOUND - no exchange 'missing' in vhost '/'")
  #expect(try ground.route("amq.fanout") == ["q"])
  try ground.routing.route(
    to: Bytes("i"), in: "/", key: Bytes(), allowsInternal: true, random: &ground.random, into: &ground.result)
  #expect(ground.result.destinations == [.queue("q")])
}

@Test("x-delayed-message routes as the type it names, and tells that what passes it is delayed")
func delayed() throws {
  var ground = Playground()
  try ground.declare("d", "x-delayed-message", ["x-delayed-type": .string("topic")])
  try ground.declare("x", "fanout")
  try ground.bind("x", .queue("now"))
  try ground.bind("x", .exchange("d"))
  try ground.bind("d", .queue("later"), "a.*")
  #expect(try ground.route("d", "b") == [])
  #expect(try ground.route("d", "a.b") == ["later"])
  #expect(ground.result.routes.map(\.isDelayed) == [true])
  #expect(try ground.route("x", "a.b") == ["now", "later"])
  #expect(ground.result.routes.map(\.isDelayed) == [false, true])
}

@Test("a route is the same after names and numbers have been used again")
func reuse() throws {
  var ground = Playground()
  for round in 0..<50 {
    try ground.declare("x\(round % 3)", "topic", autoDelete: true)
    try ground.bind("x\(round % 3)", .queue("q\(round % 7)"), "r.\(round).#")
    #expect(try ground.route("x\(round % 3)", "r.\(round)") == ["q\(round % 7)"])
    #expect(try ground.route("x\(round % 3)", "r.\(round - 1)") == [])
    ground.remove(.destination(.queue("q\(round % 7)")))
    #expect(ground.names == [])
  }
}
