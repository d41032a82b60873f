// ChoiceTests: exchanges that choose one of their bindings: consistent hash, modulus hash, random.

import MillraceBase
import Testing

@testable import MillraceRouting

private let messages = 20_000

/// How many of the messages each queue gets.
private func shares(_ ground: inout Playground, _ exchange: String) throws -> [String: Int] {
  var shares: [String: Int] = [:]
  for number in 0..<messages {
    let found = try ground.route(exchange, "key-\(number)")
    #expect(found.count == 1)
    shares[found[0], default: 0] += 1
  }
  return shares
}

@Test("x-consistent-hash shares by weight")
func weights() throws {
  var ground = Playground()
  try ground.declare("c", "x-consistent-hash")
  #expect(try ground.route("c", "k") == [])
  for (queue, weight) in [("a", "1"), ("b", "2"), ("c", "7")] { try ground.bind("c", .queue(queue), weight) }
  let shares = try shares(&ground, "c")
  // Five standard deviations of a binomial share are under 0.02 of the messages.
  for (queue, share) in [("a", 0.1), ("b", 0.2), ("c", 0.7)] {
    #expect(abs(Double(shares[queue] ?? 0) / Double(messages) - share) < 0.02, "\(queue): \(shares)")
  }
}

@Test("x-consistent-hash with equal weights shares equally, and alike whatever the weights are")
func equalWeights() throws {
  var one = Playground()
  var ten = Playground()
  for weight in ["1", "10"] {
    var ground = Playground()
    try ground.declare("c", "x-consistent-hash")
    for queue in 0..<10 { try ground.bind("c", .queue("q\(queue)"), weight) }
    if weight == "1" { one = ground } else { ten = ground }
  }
  for shares in [try shares(&one, "c"), try shares(&ten, "c")] {
    #expect(shares.count == 10)
    for share in shares.values { #expect(abs(Double(share) / Double(messages) - 0.1) < 0.011, "\(shares)") }
  }
}

@Test("x-consistent-hash: when a queue comes, only messages that it gets move; when it goes again, all go back")
func movement() throws {
  for newWeight in ["1", "3"] {
    var ground = Playground()
    try ground.declare("c", "x-consistent-hash")
    for queue in 0..<5 { try ground.bind("c", .queue("q\(queue)"), "1") }
    let before = try (0..<2000).map { try ground.route("c", "key-\($0)") }
    try ground.bind("c", .queue("new"), newWeight)
    let during = try (0..<2000).map { try ground.route("c", "key-\($0)") }
    for (old, new) in zip(before, during) { #expect(old == new || new == ["new"], "weight \(newWeight)") }
    #expect(during.contains(["new"]))
    ground.remove(.destination(.queue("new")))
    #expect(try (0..<2000).map { try ground.route("c", "key-\($0)") } == before, "weight \(newWeight)")
  }
}

@Test("golden: x-consistent-hash chooses the same in every process, in whatever order the bindings came")
func goldenChoices() throws {
  for order in [[0, 1, 2, 3], [3, 1, 0, 2]] {
    var ground = Playground()
    try ground.declare("c", "x-consistent-hash")
    for queue in order { try ground.bind("c", .queue("q\(queue)"), "\(queue + 1)") }
    let choices = try (0..<24).map { try ground.route("c", "key-\($0)")[0].dropFirst() }.joined()
    #expect(choices == "323323120321323131333233")
  }
}

@Test("x-consistent-hash hashes a header or a property when it is told to")
func hashInputs() throws {
  var ground = Playground()
  try ground.declare("h", "x-consistent-hash", ["hash-header": .string("id")])
  try ground.declare("p", "x-consistent-hash", ["hash-property": .string("message_id")])
  for exchange in ["h", "p"] {
    for queue in 0..<8 { try ground.bind(exchange, .queue("q\(queue)"), "1") }
  }
  func byHeader(_ value: RoutingValue?, key: String) throws -> String {
    try ground.route("h", key, headers: value.map { ["id": $0] } ?? .empty)[0]
  }
  for value in [.string("a"), .int64(7), nil] as [RoutingValue?] {
    #expect(Set(try (0..<20).map { try byHeader(value, key: "\($0)") }).count == 1)
  }
  #expect(Set(try (0..<100).map { try byHeader(.int64(Int64($0)), key: "k") }).count == 8)
  func byProperty(_ id: String, key: String) throws -> String {
    try ground.route("p", key, property: { $0 == .messageID ? Bytes(id) : nil })[0]
  }
  #expect(Set(try (0..<20).map { try byProperty("a", key: "\($0)") }).count == 1)
  #expect(Set(try (0..<100).map { try byProperty("\($0)", key: "k") }).count == 8)
}

@Test("x-modulus-hash gives a key to one destination, by the set of destinations alone")
func modulus() throws {
  var ground = Playground()
  var other = Playground()
  for queue in 0..<4 { try other.bind("amq.fanout", .queue("q\(queue)")) }
  try ground.declare("m", "x-modulus-hash")
  try other.declare("m", "x-modulus-hash")
  #expect(try ground.route("m", "k") == [])
  for queue in 0..<4 {
    try ground.bind("m", .queue("q\(queue)"), "any")
    try ground.bind("m", .queue("q\(queue)"), "twice")
    try other.bind("m", .queue("q\(3 - queue)"), "other")
  }
  let mine = try shares(&ground, "m")
  #expect(try shares(&other, "m") == mine)
  for share in mine.values { #expect(abs(Double(share) / Double(messages) - 0.25) < 0.016, "\(mine)") }
}

@Test("x-random and x-local-random choose one destination, each as often, by the generator that they are given")
func randomChoice() throws {
  for type in ["x-random", "x-local-random"] {
    var ground = Playground()
    try ground.declare("r", type)
    #expect(try ground.route("r") == [])
    for queue in 0..<4 { try ground.bind("r", .queue("q\(queue)")) }
    let shares = try shares(&ground, "r")
    for share in shares.values { #expect(abs(Double(share) / Double(messages) - 0.25) < 0.016, "\(shares)") }
    ground.random = SeededRandom(seed: 5)
    let first = try (0..<50).map { _ in try ground.route("r") }
    ground.random = SeededRandom(seed: 5)
    #expect(try (0..<50).map { _ in try ground.route("r") } == first)
  }
}
