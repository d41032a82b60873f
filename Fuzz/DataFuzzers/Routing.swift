// Routing: exchanges and bindings as they lie in snapshots and events.

import FuzzHarness
import MillraceBase
import MillraceRouting

/// What is accepted must survive writing and reading again, and must be fit to route by.
let routingSnapshots = FuzzTarget(
  name: "routing-snapshots",
  // A snapshot of few bytes may name many virtual hosts, each of which has its own tables once something is declared.
  allowance: 8 << 20,
  seeds: {
    do throws(RoutingError) {
      var routing = Routing()
      let arguments: RoutingTable = ["alternate-exchange": .string("amq.topic"), "a": .array([.table(["n": .null])])]
      routing.applyDeclare(
        try Exchange(name: "t", type: "topic", isDurable: true, isAutoDelete: true, arguments: arguments), in: "/")
      for type in ["x-consistent-hash", "x-modulus-hash", "x-random", "headers", "direct", "fanout"] {
        routing.applyDeclare(try Exchange(name: type, type: type, isDurable: true), in: "/")
        let binding = Binding(source: type, destination: .exchange("t"), key: "3", arguments: ["h": .int64(1)])
        routing.applyBind(binding, isDurable: true, in: "/")
        routing.applyBind(Binding(source: "t", destination: .exchange(type), key: "#.a.*"), isDurable: true, in: "/")
        routing.applyBind(Binding(source: type, destination: .queue("q"), key: "5"), isDurable: true, in: "/")
      }
      let removal = routing.removal(of: .destination(.queue("q")), in: "/")
      var writer = ByteWriter()
      if let removal { writer.removal(removal) }
      return [[0] + routing.snapshot().array, [1] + writer.finishJoined().array]
    } catch {
      return []
    }
  }
) { input in
  var choices = Choices(input)
  do throws(DecodingError) {
    if choices.byte() % 2 == 0 {
      var routing = try Routing(snapshot: choices.rest())
      let again = try Routing(snapshot: routing.snapshot())
      precondition(again.snapshot() == routing.snapshot(), "a snapshot changes when written and read again")
      exercise(&routing)
    } else {
      var reader = ByteReader(choices.rest())
      let removal = try reader.removal()
      var writer = ByteWriter()
      writer.removal(removal)
      let bytes = writer.finishJoined()
      var again = ByteReader(bytes)
      var copy = ByteWriter()
      copy.removal(try again.removal())
      precondition(copy.finishJoined() == bytes, "a removal changes when written and read again: \(removal)")
      var routing = Routing()
      routing.apply(removal, in: "/")
      precondition(routing.exchanges(in: "/").count == 7, "a removal took what belongs to the broker: \(removal)")
    }
  } catch {
    return
  }
}

/// Publishes to the first exchanges of each virtual host, then deletes them.
private func exercise(_ routing: inout Routing) {
  var random = SeededRandom(seed: 1)
  var result = RouteResult()
  for host in routing.virtualHosts.prefix(4) {
    for exchange in routing.exchanges(in: host).prefix(20) {
      do throws(RoutingError) {
        try routing.route(
          to: Bytes(exchange.name), in: host, key: Bytes("b.a.c"), extraKeys: [Bytes("5")], allowsInternal: true,
          headers: { ["h": .int64(1)] }, random: &random, into: &result)
      } catch {
        preconditionFailure("an exchange that is there is not found: \(error)")
      }
    }
    for exchange in routing.exchanges(in: host).prefix(20) {
      if let removal = routing.removal(of: .exchange(exchange.name), in: host) { routing.apply(removal, in: host) }
    }
  }
}
