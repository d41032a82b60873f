// RoutingSnapshotTests: what survives a restart, and that events and snapshots lead to the same state.

import MillraceBase
import Testing

@testable import MillraceRouting

private func restored(_ routing: Routing) throws -> Routing { try Routing(snapshot: routing.snapshot()) }

@Test("a snapshot keeps what is durable, and only that")
func durableOnly() throws {
  var ground = Playground()
  ground.routing.applyCreate(virtualHost: "other")
  let arguments: RoutingTable = [
    "alternate-exchange": .string("y"), "n": .null, "b": .bool(true), "i": .int64(-5), "d": .double(0.5),
    "a": .array([.bool(false), .string("s")]), "t": .table(["k": .timestamp(9)]),
  ]
  try ground.declare("x", "topic", autoDelete: true, isInternal: true, arguments)
  try ground.declare("y", "x-delayed-message", ["x-delayed-type": .string("headers")])
  try ground.declare("gone", "fanout", durable: false)
  try ground.bind("x", .queue("q"), "a.#", arguments)
  try ground.bind("x", .topic("t"), "b")
  try ground.bind("x", .exchange("y"), "c")
  try ground.bind("amq.direct", .exchange("x"), "d")
  try ground.bind("x", .queue("transient"), "e", queue: .transient)
  try ground.bind("x", .exchange("gone"), "f")
  try ground.bind("gone", .queue("q"), "g")
  let again = try restored(ground.routing)
  #expect(again.virtualHosts == ["/", "other"])
  #expect(again.exchanges(in: "other") == Routing().exchanges(in: "/"))
  #expect(again.exchanges(in: "/") == ground.routing.exchanges(in: "/").filter { $0.name != "gone" })
  #expect(again.bindings(in: "/").map { $0.key.text } == ["d", "a.#", "b", "c"])
  #expect(again.bindings(in: "/") == ground.routing.bindings(in: "/").filter { "abcd".contains($0.key.text.first!) })
  #expect(again.snapshot() == ground.routing.snapshot())
}

@Test("a binding that an event calls durable is not written when one of its ends is not")
func neverMoreDurable() throws {
  var ground = Playground()
  try ground.declare("gone", "fanout", durable: false)
  for binding in [
    Binding(source: "gone", destination: .queue("q")), Binding(source: "amq.fanout", destination: .exchange("gone")),
  ] { ground.routing.applyBind(binding, isDurable: true, in: "/") }
  #expect(ground.routing.bindings(in: "/").count == 2)
  #expect(try restored(ground.routing).bindings(in: "/").isEmpty)
}

@Test("a snapshot without the default virtual host does not bring it back")
func deletedDefault() throws {
  var routing = Routing()
  routing.applyDelete(virtualHost: "/")
  #expect(try restored(routing).virtualHosts == [])
}

/// Random changes, as a state machine makes them; `log` gets the durable ones.
private struct Script {
  enum Event {
    case declare(Exchange)
    case bind(Binding)
    case remove(RoutingRemoval)
  }

  var routing = Routing()
  var log: [Event] = []
  var random: SeededRandom

  static func apply(_ event: Event, to routing: inout Routing) {
    switch event {
    case .declare(let exchange): routing.applyDeclare(exchange, in: "/")
    case .bind(let binding): routing.applyBind(binding, isDurable: true, in: "/")
    case .remove(let removal): routing.apply(removal, in: "/")
    }
  }

  private mutating func number(_ limit: Int) -> Int { Int.random(in: 0..<limit, using: &random) }

  mutating func step() throws {
    let exchange = "x\(number(6))"
    // Queues with an odd number are transient.
    let queue = number(6)
    let destination: Destination = number(3) == 0 ? .exchange("x\(number(6))") : .queue("q\(queue)")
    let binding = Binding(source: exchange, destination: destination, key: "k.\(number(2)).#")
    switch number(10) {
    case 0, 1, 2:
      let type = ["topic", "direct", "fanout", "headers"][number(4)]
      let declared = try Exchange(
        name: exchange, type: type, isDurable: number(3) > 0, isAutoDelete: number(2) == 0)
      guard routing.exchange(exchange, in: "/") == nil else { return }
      if case .new(let isDurable) = try routing.checkDeclare(declared, in: "/") {
        routing.applyDeclare(declared, in: "/")
        if isDurable { log.append(.declare(declared)) }
      }
    case 3, 4, 5, 6:
      guard routing.exchange(exchange, in: "/") != nil else { return }
      if case .exchange(let name) = destination, routing.exchange(name, in: "/") == nil { return }
      let change = try routing.checkBind(binding, to: queue % 2 == 0 ? .durable : .transient, in: "/")
      if case .new(let isDurable) = change {
        routing.applyBind(binding, isDurable: isDurable, in: "/")
        if isDurable { log.append(.bind(binding)) }
      }
    case 7: remove(.binding(routing.bindings(from: exchange, in: "/").last ?? binding))
    case 8: remove(.destination(.queue("q\(queue)")))
    default: remove(.exchange(exchange))
    }
  }

  private mutating func remove(_ cause: RoutingRemoval.Cause) {
    guard let removal = routing.removal(of: cause, in: "/") else { return }
    if routing.isDurable(removal, in: "/") { log.append(.remove(removal)) }
    routing.apply(removal, in: "/")
  }
}

@Test(
  "oracle: reading only the durable events again leads to the durable part of the state",
  arguments: 1...20 as ClosedRange<UInt64>)
func oracleReplay(seed: UInt64) throws {
  var script = Script(random: SeededRandom(seed: seed))
  var replica = Routing()
  var read = 0
  for step in 0..<600 {
    try script.step()
    while read < script.log.count {
      Script.apply(script.log[read], to: &replica)
      read += 1
    }
    #expect(replica.snapshot() == script.routing.snapshot(), "seed \(seed), step \(step)")
    // A restart in between changes nothing that comes after.
    if step % 50 == 49 { replica = try restored(replica) }
  }
  #expect(script.log.count > 50, "seed \(seed): the script did nothing")
}

@Test(
  "oracle: the bindings that are found match a recount, whatever came and went", arguments: 1...5 as ClosedRange<UInt64>
)
func oracleConsistency(seed: UInt64) throws {
  var script = Script(random: SeededRandom(seed: seed))
  for step in 0..<400 {
    try script.step()
    let all = script.routing.bindings(in: "/")
    for number in 0..<6 {
      for destination in [Destination.queue("q\(number)"), .exchange("x\(number)")] {
        let expected = all.filter { $0.destination == destination }
        let found = script.routing.bindings(to: destination, in: "/")
        #expect(found.count == expected.count && found.allSatisfy(expected.contains), "seed \(seed), step \(step)")
      }
    }
    for binding in all {
      #expect(script.routing.hasBinding(binding, in: "/"))
      #expect(script.routing.exchange(binding.source, in: "/") != nil, "seed \(seed), step \(step)")
    }
  }
}

@Test("every cut of a snapshot is refused, and no changed byte crashes")
func damage() throws {
  var ground = Playground()
  try ground.declare("x", "topic", ["a": .array([.int64(1), .table(["k": .string("v")])])])
  try ground.bind("x", .queue("q"), "a.#", ["n": .null])
  let bytes = ground.routing.snapshot().array
  for length in 0..<bytes.count {
    #expect(throws: DecodingError.self) { _ = try Routing(snapshot: Bytes(Array(bytes[..<length]))) }
  }
  #expect(throws: DecodingError.self) { _ = try Routing(snapshot: Bytes(bytes + [0])) }
  for position in bytes.indices {
    for value in [0, 1, 0x7f, 0xff] as [UInt8] {
      var changed = bytes
      changed[position] = value
      if let routing = try? Routing(snapshot: Bytes(changed)) {
        #expect(try restored(routing).snapshot() == routing.snapshot())
      }
    }
  }
}

@Test("exchanges, bindings and removals are the same after writing and reading")
func codecs() throws {
  let exchange = try Exchange(
    name: "x", type: "x-consistent-hash", isDurable: true, isInternal: true, arguments: ["hash-header": .string("h")])
  let binding = Binding(source: "x", destination: .topic("t"), key: Bytes([0xff, 0]), arguments: ["a": .int64(.min)])
  let removals = [
    RoutingRemoval(cause: .binding(binding), autoDeleted: ["a", "b"]),
    RoutingRemoval(cause: .destination(.queue("q")), autoDeleted: []),
    RoutingRemoval(cause: .exchange("x"), autoDeleted: ["c"]),
  ]
  var writer = ByteWriter()
  writer.exchange(exchange)
  writer.binding(binding)
  for removal in removals { writer.removal(removal) }
  var reader = ByteReader(writer.finishJoined())
  #expect(try reader.exchange() == exchange)
  #expect(try reader.binding() == binding)
  for removal in removals { #expect(try reader.removal() == removal) }
  #expect(reader.remaining == 0)
}

@Test("arguments nested deeper than a snapshot may hold are cut where they would not be readable")
func deepArguments() throws {
  var deep = RoutingValue.int64(1)
  for _ in 0..<100 { deep = .array([deep]) }
  var routing = Routing()
  routing.applyDeclare(try Exchange(name: "x", type: "direct", isDurable: true, arguments: ["a": deep]), in: "/")
  #expect(try restored(routing).exchange("x", in: "/") == routing.exchange("x", in: "/"))
}
