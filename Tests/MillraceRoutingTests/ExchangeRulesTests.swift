// ExchangeRulesTests: declaring and deleting exchanges and virtual hosts, with the texts that clients are told.

import MillraceBase
import Testing

@testable import MillraceRouting

@Test("every virtual host has the default exchange and amq.direct, fanout, headers, match, rabbitmq.trace and topic")
func predeclared() {
  let exchanges = Routing().exchanges(in: "/")
  #expect(
    exchanges.map(\.name) == [
      "", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace", "amq.topic",
    ])
  #expect(exchanges.map(\.type) == [.direct, .direct, .fanout, .headers, .headers, .topic, .topic])
  #expect(exchanges.allSatisfy { $0.isDurable && !$0.isAutoDelete })
  #expect(exchanges.filter(\.isInternal).map(\.name) == ["amq.rabbitmq.trace"])
}

@Test("the default exchange cannot be declared, looked for, deleted, bound or unbound: 403")
func defaultExchange() {
  var ground = Playground()
  let text = "ACCESS_REFUSED - operation not permitted on the default exchange"
  #expect(refusal { () throws(RoutingError) in try ground.declare("", "direct") } == text)
  #expect(refusal { () throws(RoutingError) in try ground.routing.checkPassiveDeclare("", in: "/") } == text)
  #expect(refusal { () throws(RoutingError) in try ground.routing.checkDelete("", ifUnused: false, in: "/") } == text)
  #expect(refusal { () throws(RoutingError) in try ground.bind("", .queue("q"), "q") } == text)
  #expect(refusal { () throws(RoutingError) in try ground.bind("amq.direct", .exchange(""), "q") } == text)
  let binding = Binding(source: "", destination: .queue("q"), key: "q")
  #expect(refusal { () throws(RoutingError) in try ground.routing.checkUnbind(binding, in: "/") } == text)
  ground.routing.applyBind(binding, isDurable: true, in: "/")
  #expect(!ground.routing.hasBinding(binding, in: "/"))
}

@Test("names that begin with amq. are the broker's: new ones are refused, old ones may be declared again, none deleted")
func reservedNames() throws {
  var ground = Playground()
  #expect(
    refusal { () throws(RoutingError) in try ground.declare("amq.mine", "direct") }
      == "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'")
  try ground.declare("amq.topic", "topic")
  try ground.declare("amqp.fine", "topic")
  #expect(
    refusal { () throws(RoutingError) in try ground.routing.checkDelete("amq.topic", ifUnused: false, in: "/") }
      == "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed")
  #expect(ground.routing.removal(of: .exchange("amq.topic"), in: "/") == nil)
  ground.routing.apply(RoutingRemoval(cause: .exchange("amq.topic"), autoDeleted: ["amq.fanout"]), in: "/")
  #expect(ground.routing.exchanges(in: "/").count == 8)
}

@Test("declaring again with the same properties changes nothing, with others is refused, naming the first that differs")
func equivalence() throws {
  var ground = Playground()
  try ground.declare("x", "direct")
  #expect(
    try ground.routing.checkDeclare(Exchange(name: "x", type: "direct", isDurable: true), in: "/") == .exists)
  func refused(_ type: String, durable: Bool = true, autoDelete: Bool = false, isInternal: Bool = false) -> String? {
    var ground = ground
    return refusal { () throws(RoutingError) in
      try ground.declare("x", type, durable: durable, autoDelete: autoDelete, isInternal: isInternal)
    }
  }
  let start = "PRECONDITION_FAILED - inequivalent arg"
  #expect(
    refused("fanout") == "\(start) 'type' for exchange 'x' in vhost '/': received 'fanout' but current is 'direct'")
  #expect(
    refused("x-random")
      == "\(start) 'type' for exchange 'x' in vhost '/': received ''x-random'' but current is 'direct'")
  #expect(
    refused("direct", durable: false)
      == "\(start) 'durable' for exchange 'x' in vhost '/': received 'false' but current is 'true'")
  #expect(
    refused("direct", autoDelete: true)
      == "\(start) 'auto_delete' for exchange 'x' in vhost '/': received 'true' but current is 'false'")
  #expect(
    refused("direct", isInternal: true)
      == "\(start) 'internal' for exchange 'x' in vhost '/': received 'true' but current is 'false'")
}

@Test("of the arguments only alternate-exchange is compared when an exchange is declared again")
func equivalenceOfArguments() throws {
  var ground = Playground()
  try ground.declare("x", "direct", ["alternate-exchange": .string("a"), "other": .int64(1)])
  try ground.declare("x", "direct", ["alternate-exchange": .string("a"), "more": .int64(2)])
  let start = "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/':"
  #expect(
    refusal { () throws(RoutingError) in try ground.declare("x", "direct", ["alternate-exchange": .string("b")]) }
      == "\(start) received 'b' but current is 'a'")
  #expect(
    refusal { () throws(RoutingError) in try ground.declare("x", "direct") }
      == "\(start) received none but current is the value 'a' of type 'longstr'")
}

@Test("types and arguments that make no sense are refused with 406")
func badArguments() throws {
  var ground = Playground()
  func refused(_ type: String, _ arguments: RoutingTable = .empty) -> String? {
    var ground = ground
    return refusal { () throws(RoutingError) in try ground.declare("x", type, arguments) }
  }
  #expect(refused("nonsense") == "PRECONDITION_FAILED - unknown exchange type 'nonsense'")
  #expect(
    refused("direct", ["alternate-exchange": .int64(5)])
      == "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'")
  let delayed = "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type"
  #expect(refused("x-delayed-message") == delayed)
  #expect(refused("x-delayed-message", ["x-delayed-type": .string("x-delayed-message")]) == delayed)
  #expect(refused("x-delayed-message", ["x-delayed-type": .string("topic")]) == nil)
  #expect(
    refused("x-consistent-hash", ["hash-property": .string("app_id")])
      == "PRECONDITION_FAILED - Unsupported property: app_id")
  #expect(
    refused("x-consistent-hash", ["hash-header": .string("h"), "hash-property": .string("timestamp")])
      == "PRECONDITION_FAILED - hash-header and hash-property are mutually exclusive")
  var deep = RoutingValue.int64(1)
  for _ in 0..<31 { deep = .array([deep]) }
  #expect(refused("direct", ["a": deep]) == nil)
  #expect(refused("direct", ["a": .array([deep])]) == "PRECONDITION_FAILED - arguments nest deeper than 32 levels")
  #expect(
    refusal { () throws(RoutingError) in try ground.declare(String(repeating: "x", count: 256), "direct") }
      == "PRECONDITION_FAILED - exchange name of 256 bytes exceeds 255")
}

@Test("a passive declaration asks only whether the exchange is there")
func passive() throws {
  var ground = Playground()
  try ground.declare("x", "direct")
  try ground.routing.checkPassiveDeclare("x", in: "/")
  #expect(
    refusal { () throws(RoutingError) in try ground.routing.checkPassiveDeclare("y", in: "/") }
      == "NOT_FOUND - no exchange 'y' in vhost '/'")
}

@Test("if-unused refuses to delete an exchange that bindings lead from, not one that they lead to")
func ifUnused() throws {
  var ground = Playground()
  try ground.declare("x", "direct")
  try ground.declare("y", "direct")
  try ground.bind("x", .exchange("y"))
  #expect(
    refusal { () throws(RoutingError) in try ground.routing.checkDelete("x", ifUnused: true, in: "/") }
      == "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use")
  try ground.routing.checkDelete("x", ifUnused: false, in: "/")
  try ground.routing.checkDelete("y", ifUnused: true, in: "/")
  try ground.routing.checkDelete("missing", ifUnused: true, in: "/")
  ground.unbind("x", .exchange("y"))
  try ground.routing.checkDelete("x", ifUnused: true, in: "/")
}

@Test("virtual hosts are made, listed and deleted, and share nothing")
func virtualHosts() throws {
  var routing = Routing()
  routing.applyCreate(virtualHost: "b")
  routing.applyCreate(virtualHost: "a")
  #expect(routing.virtualHosts == ["/", "a", "b"])
  let exchange = try Exchange(name: "x", type: "fanout")
  routing.applyDeclare(exchange, in: "a")
  #expect(routing.exchange("x", in: "a") != nil && routing.exchange("x", in: "b") == nil)
  routing.applyCreate(virtualHost: "a")
  #expect(routing.exchange("x", in: "a") != nil)
  routing.applyDelete(virtualHost: "a")
  #expect(routing.virtualHosts == ["/", "b"])
  #expect(
    refusal { () throws(RoutingError) in _ = try routing.checkDeclare(exchange, in: "a") }
      == "NOT_ALLOWED - vhost 'a' not found")
  routing.applyCreate(virtualHost: "a")
  #expect(routing.exchange("x", in: "a") == nil && routing.exchanges(in: "a").count == 7)
}
