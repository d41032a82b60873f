// SaslTests: who a client is, proved over the wire: each mechanism, what comes too early, too late or wrong, and again.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceKafkaProtocol
import MillraceSecurity
import MillraceSimulation
import Testing

@testable import MillraceKafkaServer

private let all: [SaslMechanism] = [.plain, .scramSHA256, .scramSHA512]

/// A server that asks who its clients are, with the user alice.
private final class LoginWorld {
  let server: ServerWorld

  init(_ settings: [String: String] = [:]) throws {
    var given = BrokerSettings()
    for (name, value) in settings { try given.set(name, value) }
    server = try ServerWorld(settings: given)
    try setUser("alice", "wonderland")
  }

  func setUser(_ name: String, _ password: String) throws {
    let credentials = try ScramMechanism.allCases.map {
      try ScramCredential(password: Secret(password), mechanism: $0, iterations: 4096)
    }
    var isDone = false
    try server.broker.setUser(name, tags: [], credentials: credentials) { error in
      #expect(error == nil)
      isDone = true
    }
    try #require(server.world.run { isDone })
  }

  func connect(_ mechanisms: [SaslMechanism] = all) -> LoginClient {
    let connection = PlayedConnection()
    let handler = server.server.accept(
      connection, KafkaListener(security: ListenerSecurity(mechanisms: mechanisms), advertised: nil))
    connection.handler = handler
    return LoginClient(server, connection)
  }
}

private final class LoginClient {
  let world: ServerWorld
  let connection: PlayedConnection
  private var sent: Int32 = 0

  init(_ world: ServerWorld, _ connection: PlayedConnection) {
    self.world = world
    self.connection = connection
  }

  func ask<Request: KafkaRequest>(_ request: Request, _ version: Int16? = nil) throws -> Request.Response {
    let version = version ?? Request.api.supportedVersions.upperBound
    sent += 1
    connection.receive(frame(request, version, sent))
    try world.wait(connection, answers: Int(sent))
    return try connection.last(Request.self, version)
  }

  func send<Request: KafkaRequest>(_ request: Request, _ version: Int16) {
    sent += 1
    connection.receive(frame(request, version, sent))
  }

  func handshake(_ mechanism: String) throws -> SaslHandshakeResponse {
    try ask(SaslHandshakeRequest(mechanism: mechanism))
  }

  func authenticate(_ bytes: Bytes) throws -> SaslAuthenticateResponse {
    try ask(SaslAuthenticateRequest(authBytes: bytes))
  }

  func plain(_ user: String, _ password: String) throws -> SaslAuthenticateResponse {
    #expect(try handshake("PLAIN").errorCode == .none)
    return try authenticate(PlainMechanism.message(user: user, password: Secret(password)))
  }

  func scram(_ user: String, _ password: String, _ mechanism: ScramMechanism) throws -> SaslAuthenticateResponse {
    #expect(try handshake(mechanism.name).errorCode == .none)
    var client = ScramClient(mechanism: mechanism, user: user, password: Secret(password))
    let challenge = try authenticate(client.first)
    try #require(challenge.errorCode == .none)
    let answer = try authenticate(try client.answer(challenge.authBytes))
    if answer.errorCode == .none { try client.finish(answer.authBytes) }
    return answer
  }

  /// Whether the client may ask for something.
  func isServed() throws -> Bool {
    sent += 1
    connection.receive(frame(MetadataRequest(topics: []), 1, sent))
    return !connection.isClosing && connection.answers.ids.last == sent
  }
}

@Test("a client that proves who it is by any mechanism is served", arguments: all)
func provesItself(_ mechanism: SaslMechanism) throws {
  let world = try LoginWorld()
  let client = world.connect()
  #expect(try client.ask(ApiVersionsRequest(), 3).errorCode == .none)
  let answer =
    if let scram = mechanism.scram {
      try client.scram("alice", "wonderland", scram)
    } else {
      try client.plain("alice", "wonderland")
    }
  #expect(answer.errorCode == .none && answer.sessionLifetimeMilliseconds == 0)
  #expect(try client.isServed())
  #expect(world.server.broker.authentication.counts.accepted == 1)
}

@Test("who has logged in is a stranger no more, and makes room for nobody", arguments: all)
func makesNoRoom(_ mechanism: SaslMechanism) throws {
  let world = try LoginWorld(["max.connections": "2"])
  let client = world.connect()
  if let scram = mechanism.scram {
    _ = try client.scram("alice", "wonderland", scram)
  } else {
    _ = try client.plain("alice", "wonderland")
  }
  let (second, third) = (world.connect(), world.connect())
  #expect(!client.connection.isClosing && second.connection.isClosing && !third.connection.isClosing)
  #expect(try client.isServed())
}

@Test("a wrong password and an unknown user get the same answer, late, and the connection ends", arguments: all)
func provesNothing(_ mechanism: SaslMechanism) throws {
  let world = try LoginWorld()
  var answers: [SaslAuthenticateResponse] = []
  for (user, password) in [("alice", "wrong"), ("nobody", "wonderland")] {
    let client = world.connect()
    let before = world.server.world.now
    let answer =
      if let scram = mechanism.scram {
        try client.scram(user, password, scram)
      } else {
        try client.plain(user, password)
      }
    #expect(world.server.world.now - before >= .milliseconds(100))
    #expect(answer.errorCode == .saslAuthenticationFailed && client.connection.isClosing)
    answers.append(answer)
  }
  #expect(answers[0] == answers[1] && answers[0].errorMessage?.contains("alice") == false)
  #expect(world.server.broker.authentication.counts.refused == 2)
}

@Test("a mechanism that is not offered is refused with those that are")
func mechanismNotOffered() throws {
  let world = try LoginWorld()
  let client = world.connect([.scramSHA512])
  for (name, isOffered) in [("SCRAM-SHA-512", true), ("PLAIN", false), ("GSSAPI", false), ("", false)] {
    let client = isOffered ? client : world.connect([.scramSHA512])
    let answer = try client.handshake(name)
    #expect(answer.errorCode == (isOffered ? .none : .unsupportedSaslMechanism), "\(name)")
    #expect(answer.mechanisms == ["SCRAM-SHA-512"] && client.connection.isClosing == !isOffered)
  }
}

@Test("whatever comes before the client is known ends the connection, and nothing of it is done")
func tooEarly() throws {
  let world = try LoginWorld()
  for (request, version) in [(frame(produce(), 9, 1), 9), (frame(MetadataRequest(topics: nil), 1, 1), 1)] {
    let client = world.connect()
    client.connection.receive(request)
    #expect(client.connection.isClosing && client.connection.answers.ids.isEmpty, "version \(version)")
  }
  // Millrace's own requests as well.
  for key in [FiguresAPI.key, QueueAPI.key] {
    let client = world.connect()
    var writer = ByteWriter()
    writer.int32(10)
    writer.int16(key)
    writer.int16(0)
    writer.int32(1)
    writer.int16(-1)
    client.connection.receive(writer.finishJoined().withBuffer { Array($0) })
    #expect(client.connection.isClosing && client.connection.answers.ids.isEmpty, "\(key)")
  }
  let client = world.connect()
  #expect(try client.authenticate(Bytes("x")).errorCode == .illegalSaslState)
  #expect(client.connection.isClosing)
}

@Test("between handshake and proof nothing else is served, nor a second handshake")
func inBetween() throws {
  let world = try LoginWorld()
  let client = world.connect()
  _ = try client.handshake("PLAIN")
  client.send(MetadataRequest(topics: []), 1)
  #expect(client.connection.isClosing)
  let other = world.connect()
  _ = try other.handshake("PLAIN")
  #expect(try other.handshake("PLAIN").errorCode == .illegalSaslState && other.connection.isClosing)
}

@Test("a request that is pipelined behind a password waits until it was checked, and is not served when it was wrong")
func pipelinedBehindPassword() throws {
  let world = try LoginWorld()
  for (password, isRight) in [("wonderland", true), ("wrong", false)] {
    let client = world.connect()
    _ = try client.handshake("PLAIN")
    let message = PlainMechanism.message(user: "alice", password: Secret(password))
    client.connection.receive(
      frame(SaslAuthenticateRequest(authBytes: message), 2, 2) + frame(MetadataRequest(topics: []), 1, 3))
    #expect(client.connection.answers.ids == [1] && !client.connection.isReading)
    try #require(world.server.world.run { client.connection.answers.ids.count == 2 })
    client.connection.offer()
    world.server.world.run(for: .seconds(1))
    #expect(client.connection.answers.ids == (isRight ? [1, 2, 3] : [1, 2]))
  }
}

@Test("a client that says nothing is closed after ten seconds, and one that is known stays")
func saysNothing() throws {
  let world = try LoginWorld()
  let silent = world.connect()
  let known = world.connect()
  _ = try known.plain("alice", "wonderland")
  world.server.world.run(for: .seconds(9))
  #expect(!silent.connection.isClosing)
  world.server.world.run(for: .seconds(2))
  #expect(silent.connection.isClosing && !known.connection.isClosing)
}

@Test("a client that is not known may not announce more than 64 KiB")
func largeBeforeProof() throws {
  let world = try LoginWorld()
  let client = world.connect()
  client.connection.receive([0, 1, 0, 1, 0, 36])
  #expect(client.connection.isClosing)
  let other = world.connect()
  other.connection.receive([0, 1, 0, 0, 0, 36])
  #expect(!other.connection.isClosing)
  let known = world.connect()
  _ = try known.plain("alice", "wonderland")
  known.connection.receive([0, 1, 0, 1, 0, 0])
  #expect(!known.connection.isClosing)
}

@Test("mechanisms' messages come without headers after version 0 of the handshake")
func rawMessages() throws {
  let world = try LoginWorld()
  func raw(_ bytes: Bytes) -> [UInt8] {
    var writer = ByteWriter()
    writer.int32(Int32(bytes.count))
    writer.append(bytes)
    return writer.finishJoined().withBuffer { Array($0) }
  }
  for (password, isRight) in [("wonderland", true), ("wrong", false)] {
    let client = world.connect()
    _ = try client.ask(SaslHandshakeRequest(mechanism: "PLAIN"), 0)
    client.connection.receive(raw(PlainMechanism.message(user: "alice", password: Secret(password))))
    let before = client.connection.written.count
    try #require(
      world.server.world.run { client.connection.isClosing || client.connection.written.count > before })
    #expect(client.connection.isClosing == !isRight)
    if isRight {
      #expect(Array(client.connection.written.suffix(4)) == [0, 0, 0, 0])
      client.connection.receive(frame(MetadataRequest(topics: []), 1, 9))
      #expect(!client.connection.isClosing)
    }
  }
}

@Test(
  "a session that has to be proved again ends with the next request unless that was done, by the same user and mechanism"
)
func provesAgain() throws {
  let world = try LoginWorld(["connections.max.reauth.ms": "60000"])
  try world.setUser("bob", "builder")
  func known() throws -> LoginClient {
    let client = world.connect()
    let answer = try client.plain("alice", "wonderland")
    #expect(answer.sessionLifetimeMilliseconds == 60_000)
    return client
  }
  func wait() { world.server.world.run(for: .seconds(50)) }
  let (patient, idle, other, mixed) = (try known(), try known(), try known(), try known())
  wait()
  #expect(try patient.plain("alice", "wonderland").sessionLifetimeMilliseconds == 60_000)
  #expect(try other.plain("bob", "builder").errorCode == .saslAuthenticationFailed && other.connection.isClosing)
  #expect(try mixed.handshake("SCRAM-SHA-256").errorCode == .illegalSaslState && mixed.connection.isClosing)
  wait()
  #expect(try patient.isServed())
  #expect(try !idle.isServed() && idle.connection.isClosing)
}

@Test("whoever is removed while connected is allowed nothing any more")
func removedUser() throws {
  let world = try LoginWorld()
  let client = world.connect()
  _ = try client.scram("alice", "wonderland", .sha256)
  func write() throws -> KafkaErrorCode {
    try client.ask(DescribeAclsRequest(resourceTypeFilter: 1, patternTypeFilter: 1, operation: 1, permissionType: 1))
      .errorCode
  }
  #expect(try write() == .none)
  var isGone = false
  world.server.broker.removeUser("alice") { _ in isGone = true }
  try #require(world.server.world.run { isGone })
  #expect(try write() == .clusterAuthorizationFailed)
  #expect(try world.connect().scram("alice", "wonderland", .sha256).errorCode == .saslAuthenticationFailed)
}

@Test("a listener that asks for nothing offers no mechanism")
func nothingAsked() throws {
  let world = try LoginWorld()
  let client = world.connect([])
  #expect(try client.isServed())
  let answer = try client.handshake("PLAIN")
  #expect(answer.errorCode == .illegalSaslState && answer.mechanisms.isEmpty && client.connection.isClosing)
}

@Test("users are made, shown and removed by Kafka's calls, and log in with what these say")
func managesUsers() throws {
  let world = try ServerWorld()
  let admin = AdminClient(world)
  let salt = Array(repeating: UInt8(7), count: 16)
  // What a client salts itself: one credential's stored key must fit another's password.
  func upsert(
    _ name: String, mechanism: Int8 = 1, iterations: Int32 = 4096, salted: Int = 32
  ) -> AlterUserScramCredentialsRequest.ScramCredentialUpsertion {
    .init(
      name: name, mechanism: mechanism, iterations: iterations, salt: Bytes(salt),
      saltedPassword: Bytes(Array(repeating: 1, count: salted)))
  }
  let answer = try admin.ask(
    AlterUserScramCredentialsRequest(
      upsertions: [
        upsert("a"), upsert("few", iterations: 4095), upsert("many", iterations: 16_385), upsert("short", salted: 31),
        upsert("odd", mechanism: 3), upsert(""), upsert("*"), upsert("ANONYMOUS"), upsert("twice"), upsert("twice"),
        upsert("both"), upsert("both", mechanism: 2, salted: 64),
      ]))
  let codes = Dictionary(uniqueKeysWithValues: answer.results.map { ($0.user, $0.errorCode) })
  #expect(
    codes == [
      "a": .none, "few": .unacceptableCredential, "many": .unacceptableCredential, "short": .unacceptableCredential,
      "odd": .unsupportedSaslMechanism, "": .unacceptableCredential, "*": .unacceptableCredential,
      "ANONYMOUS": .unacceptableCredential, "twice": .duplicateResource, "both": .none,
    ])
  func shown(_ names: [String]?) throws -> [String] {
    try admin.ask(DescribeUserScramCredentialsRequest(users: names?.map { .init(name: $0) })).results.map {
      "\($0.user) \($0.errorCode.rawValue) "
        + $0.credentialInfos.map { "\($0.mechanism):\($0.iterations)" }.joined(separator: ",")
    }
  }
  #expect(try shown(nil) == ["a 0 1:4096", "both 0 1:4096,2:4096"])
  #expect(try shown(["a", "none", "both", "both"]) == ["a 0 1:4096", "none 91 ", "both 92 "])
  let gone = try admin.ask(
    AlterUserScramCredentialsRequest(
      deletions: [.init(name: "a", mechanism: 1), .init(name: "both", mechanism: 2), .init(name: "none", mechanism: 1)])
  )
  #expect(gone.results.map(\.errorCode) == [.none, .none, .resourceNotFound])
  #expect(try shown([]) == ["both 0 1:4096"])
}
