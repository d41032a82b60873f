// BindingTests: binding, unbinding, and what goes along with what goes.

import MillraceBase
import Testing

@testable import MillraceRouting

@Test("a binding is told by source, destination, key and arguments; binding again changes nothing")
func identity() throws {
  var ground = Playground()
  try ground.declare("x", "direct")
  for _ in 0..<2 {
    try ground.bind("x", .queue("q"), "k")
    try ground.bind("x", .queue("q"), "other")
    try ground.bind("x", .topic("q"), "k")
    try ground.bind("x", .queue("q"), "k", ["b": .int64(1), "a": .int64(2)])
    try ground.bind("x", .queue("q"), "k", ["a": .int64(2), "b": .int64(1)])
  }
  #expect(ground.routing.bindings(in: "/").count == 4)
  #expect(ground.routing.bindings(to: .queue("q"), in: "/").count == 3)
  #expect(try ground.route("x", "k") == ["q", "q"])
  #expect(ground.result.destinations == [.queue("q"), .topic("q")])
}

@Test("unbinding what is not bound, and deleting what is not there, is no error")
func nothingToRemove() throws {
  var ground = Playground()
  try ground.declare("x", "direct")
  for binding in [
    Binding(source: "x", destination: .queue("q"), key: "k"), Binding(source: "missing", destination: .queue("q")),
  ] {
    try ground.routing.checkUnbind(binding, in: "/")
    #expect(ground.routing.removal(of: .binding(binding), in: "/") == nil)
  }
  #expect(ground.routing.removal(of: .destination(.queue("q")), in: "/") == nil)
  #expect(ground.routing.removal(of: .exchange("missing"), in: "/") == nil)
}

@Test("binding needs both ends, the source first: 404")
func missingEnds() throws {
  var ground = Playground()
  try ground.declare("x", "direct")
  func refused(_ source: String, _ destination: Destination, _ state: Routing.DestinationState) -> String? {
    var ground = ground
    return refusal { () throws(RoutingError) in try ground.bind(source, destination, queue: state) }
  }
  #expect(refused("y", .queue("q"), .missing) == "NOT_FOUND - no exchange 'y' in vhost '/'")
  #expect(refused("x", .queue("q"), .missing) == "NOT_FOUND - no queue 'q' in vhost '/'")
  #expect(refused("x", .topic("t"), .missing) == "NOT_FOUND - no topic 't' in vhost '/'")
  #expect(refused("x", .exchange("y"), .durable) == "NOT_FOUND - no exchange 'y' in vhost '/'")
  ground.routing.applyBind(Binding(source: "x", destination: .exchange("y")), isDurable: true, in: "/")
  ground.routing.applyBind(Binding(source: "y", destination: .queue("q")), isDurable: true, in: "/")
  #expect(ground.routing.bindings(in: "/").isEmpty)
}

@Test("a binding is durable when both of its ends are")
func durability() throws {
  var ground = Playground()
  try ground.declare("d", "direct")
  try ground.declare("t", "direct", durable: false)
  func change(_ source: String, _ destination: Destination, _ state: Routing.DestinationState) throws -> Routing.Change
  {
    try ground.routing.checkBind(Binding(source: source, destination: destination), to: state, in: "/")
  }
  #expect(try change("d", .queue("q"), .durable) == .new(isDurable: true))
  #expect(try change("d", .queue("q"), .transient) == .new(isDurable: false))
  #expect(try change("t", .queue("q"), .durable) == .new(isDurable: false))
  #expect(try change("d", .exchange("t"), .durable) == .new(isDurable: false))
  #expect(try change("t", .exchange("d"), .durable) == .new(isDurable: false))
  #expect(try change("d", .exchange("amq.topic"), .missing) == .new(isDurable: true))
}

@Test("an auto-delete exchange goes with the last binding from it, not with those to it, and not before there was one")
func autoDelete() throws {
  var ground = Playground()
  try ground.declare("x", "direct", autoDelete: true)
  try ground.declare("source", "fanout")
  #expect(ground.names == ["source", "x"])
  try ground.bind("source", .exchange("x"))
  try ground.bind("x", .queue("a"))
  try ground.bind("x", .queue("b"))
  ground.unbind("source", .exchange("x"))
  ground.unbind("x", .queue("a"))
  #expect(ground.names == ["source", "x"])
  ground.unbind("x", .queue("b"))
  #expect(ground.names == ["source"])
}

@Test("deleting a queue removes its bindings and what auto-deletes with them, through a chain of exchanges")
func cascade() throws {
  var ground = Playground()
  for name in ["1", "2", "3"] { try ground.declare(name, "fanout", autoDelete: true) }
  try ground.declare("kept", "fanout")
  try ground.bind("kept", .exchange("1"))
  try ground.bind("1", .exchange("2"))
  try ground.bind("2", .exchange("3"))
  try ground.bind("3", .queue("q"), "one")
  try ground.bind("3", .queue("q"), "two")
  try ground.bind("kept", .queue("q"))
  try ground.bind("kept", .queue("other"))
  let removal = try #require(ground.routing.removal(of: .destination(.queue("q")), in: "/"))
  #expect(removal.autoDeleted == ["3", "2", "1"])
  #expect(ground.names == ["1", "2", "3", "kept"], "looking changes nothing")
  ground.routing.apply(removal, in: "/")
  #expect(ground.names == ["kept"])
  #expect(ground.routing.bindings(in: "/") == [Binding(source: "kept", destination: .queue("other"))])
}

@Test("deleting an exchange removes bindings from and to it, also in a cycle and to itself")
func deleteExchange() throws {
  var ground = Playground()
  try ground.declare("a", "fanout", autoDelete: true)
  try ground.declare("b", "fanout", autoDelete: true)
  try ground.declare("c", "fanout", autoDelete: true)
  try ground.bind("a", .exchange("b"))
  try ground.bind("b", .exchange("a"))
  try ground.bind("a", .exchange("a"))
  try ground.bind("c", .exchange("a"))
  try ground.bind("c", .queue("q"))
  ground.remove(.exchange("a"))
  #expect(ground.names == ["c"])
  #expect(ground.routing.bindings(in: "/") == [Binding(source: "c", destination: .queue("q"))])
}

@Test("keys and arguments that the source's type cannot read are refused with 406")
func badBindings() throws {
  var ground = Playground()
  try ground.declare("h", "headers")
  try ground.declare("c", "x-consistent-hash")
  func refused(_ source: String, _ key: String = "", _ arguments: RoutingTable = .empty) -> String? {
    var ground = ground
    return refusal { () throws(RoutingError) in try ground.bind(source, .queue("q"), key, arguments) }
  }
  #expect(
    refused("h", "", ["x-match": .string("some")])
      == "PRECONDITION_FAILED - Invalid x-match field value <<\"some\">>; "
      + "expected all, any, all-with-x, or any-with-x")
  #expect(
    refused("h", "", ["x-match": .bool(true)])
      == "PRECONDITION_FAILED - Invalid x-match field type bool (value true); expected longstr")
  for key in ["", "a", "1.5", "+", "1 "] {
    #expect(refused("c", key) == "PRECONDITION_FAILED - The binding key must be an integer: <<\"\(key)\">>")
  }
  for key in ["0", "-1", "-99999999999999999999"] {
    #expect(refused("c", key) == "PRECONDITION_FAILED - The binding key must be greater than 0")
  }
  #expect(refused("c", "+7") == nil && refused("c", "99999999999999999999") == nil)
  #expect(
    refused("h", String(repeating: "k", count: 256)) == "PRECONDITION_FAILED - routing key of 256 bytes exceeds 255")
}
