// AccessTests: who is allowed what, and that an answer that was kept does not outlive what it rested on.

import MillraceBase
import MillraceMetadata
import MillraceSecurity
import Testing

@testable import MillraceBroker

private let alice = Principal("alice")

extension AdminWorld {
  fileprivate func set(_ name: String, _ value: String) throws {
    try configure(ConfigResource(.broker, ""), (name, .set(value)))
  }

  fileprivate func change(adding added: [AccessRule] = [], removing removed: [AccessRule] = []) throws {
    var result: BrokerError??
    broker.changeRules(adding: added, removing: removed) { result = .some($0) }
    try #require(world.run { result != nil })
    #expect(result == .some(.none))
  }
}

@Test("without rules everybody may do everything on this machine, and nobody anything once listeners leave it")
func withoutRules() throws {
  let world = try AdminWorld()
  let session = ClientSession(world.broker.access, alice, from: "10.0.0.1")
  #expect(session.allows(.write, .topic, "t") && session.allowsCluster(.alter) && session.allowsSome(.write, .topic))
  world.broker.access.isExposed = true
  #expect(!session.allows(.write, .topic, "t") && !session.allowsCluster(.alter) && !session.allowsSome(.write, .topic))
  try world.set("allow.everyone.if.no.acl.found", "true")
  #expect(session.allows(.write, .topic, "t"))
  world.broker.access.isExposed = false
  try world.set("allow.everyone.if.no.acl.found", "false")
  #expect(!session.allows(.write, .topic, "t"))
}

@Test("a rule about a resource shuts out whom it does not name, and others stay as they were")
func ruleShutsOut() throws {
  let world = try AdminWorld()
  let session = ClientSession(world.broker.access, alice, from: "10.0.0.1")
  let other = ClientSession(world.broker.access, Principal("bob"), from: "10.0.0.1")
  let rule = AccessRule(.init(.topic, "t"), alice, .write)
  try world.change(adding: [rule])
  #expect(session.allows(.write, .topic, "t") && session.allows(.describe, .topic, "t"))
  #expect(!session.allows(.read, .topic, "t") && !other.allows(.write, .topic, "t"))
  #expect(other.allows(.write, .topic, "u"))
  // What was answered before does not count any more.
  try world.change(removing: [rule])
  #expect(session.allows(.read, .topic, "t") && other.allows(.write, .topic, "t"))
}

@Test("super users are allowed everything, even what is denied")
func superUsers() throws {
  let world = try AdminWorld()
  let session = ClientSession(world.broker.access, alice, from: "10.0.0.1")
  try world.change(adding: [AccessRule(.init(.topic, "*"), .everybody, .all, isAllowed: false)])
  #expect(!session.allows(.write, .topic, "t"))
  try world.set("super.users", "User:root;User:alice")
  #expect(session.allows(.write, .topic, "t"))
  try world.set("super.users", "User:root; User:alice")
  #expect(!session.allows(.write, .topic, "t"), "a space is part of the name")
}

@Test("denials are told with who, from where and what; what is only left out of a list is not")
func denialsAreTold() throws {
  let world = try AdminWorld()
  var told: [AccessControl.Decision] = []
  world.broker.access.onDecision = { told.append($0) }
  world.broker.access.isExposed = true
  let session = ClientSession(world.broker.access, alice, from: "::ffff:10.0.0.1")
  #expect(!session.sees(.describe, .topic, "t"))
  #expect(!session.allows(.read, .group, "g"))
  #expect(
    told == [
      .init(principal: alice, host: "10.0.0.1", operation: .read, kind: .group, name: "g", isAllowed: false)
    ])
}

@Test("a host's rule holds for its address alone, IPv4 or IPv4 in IPv6")
func hosts() throws {
  let world = try AdminWorld()
  try world.change(adding: [AccessRule(.init(.topic, "t"), alice, host: "10.0.0.1", .read)])
  #expect(ClientSession(world.broker.access, alice, from: "10.0.0.1").allows(.read, .topic, "t"))
  #expect(ClientSession(world.broker.access, alice, from: "::ffff:10.0.0.1").allows(.read, .topic, "t"))
  #expect(!ClientSession(world.broker.access, alice, from: "10.0.0.2").allows(.read, .topic, "t"))
}

@Test("so many different questions that their answers are forgotten are still answered right")
func manyQuestions() throws {
  let world = try AdminWorld()
  try world.change(adding: [AccessRule(.init(.topic, "7", isPrefix: true), alice, .read)])
  world.broker.access.isExposed = true
  let session = ClientSession(world.broker.access, alice, from: "h")
  for number in 0..<3000 {
    #expect(session.allows(.read, .topic, "\(number)") == "\(number)".hasPrefix("7"))
  }
}
