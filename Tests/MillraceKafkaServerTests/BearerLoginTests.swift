// BearerLoginTests: OAUTHBEARER over Kafka's protocol: who comes in, what who is refused is told and the audit counts, and when sessions end.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceKafkaProtocol
import MillraceSecurity
import TestTokens
import Testing

@testable import MillraceKafkaServer

/// A server that takes tokens, with keys that one file says.
private final class TokenWorld {
  let server: ServerWorld

  init(_ settings: [String: String] = [:], keys: String? = TestTokens.keys) throws {
    var given = BrokerSettings()
    try given.set("sasl.oauthbearer.clock.skew.seconds", "0")
    for (name, value) in settings { try given.set(name, value) }
    server = try ServerWorld(settings: given)
    if let keys { try use(keys) }
  }

  func use(_ keys: String) throws { server.broker.authentication.use(try JSONWebKeys(Bytes(keys))) }

  func connect() -> TokenClient { TokenClient(server) }

  var refusals: Int { server.broker.authentication.counts.refused }
}

private final class TokenClient {
  let world: ServerWorld
  let connection = PlayedConnection()
  private var sent: Int32 = 0

  init(_ world: ServerWorld) {
    self.world = world
    connection.handler = world.server.accept(
      connection,
      KafkaListener(security: ListenerSecurity(mechanisms: [.plain, .bearer]), advertised: nil))
  }

  func ask<Request: KafkaRequest>(_ request: Request, _ version: Int16? = nil) throws -> Request.Response {
    let version = version ?? Request.api.supportedVersions.upperBound
    sent += 1
    connection.receive(frame(request, version, sent))
    try world.wait(connection, answers: Int(sent))
    return try connection.last(Request.self, version)
  }

  func authenticate(_ bytes: Bytes) throws -> SaslAuthenticateResponse {
    try ask(SaslAuthenticateRequest(authBytes: bytes))
  }

  /// Shows a token, and gives what the server says to it.
  func show(_ token: String) throws -> SaslAuthenticateResponse {
    #expect(try ask(SaslHandshakeRequest(mechanism: "OAUTHBEARER")).errorCode == .none)
    return try authenticate(BearerMechanism.message(token: Secret(token)))
  }

  func isServed() throws -> Bool {
    sent += 1
    connection.receive(frame(MetadataRequest(topics: []), 1, sent))
    return !connection.isClosing && connection.answers.ids.last == sent
  }
}

@Test("a token lets its bearer in for as long as it lasts, and no longer than sessions may")
func tokenLetsIn() throws {
  for (settings, lifetime) in [([:], Int64(300_000)), (["connections.max.reauth.ms": "60000"], 60_000)] {
    let world = try TokenWorld(settings)
    let client = world.connect()
    let answer = try client.show(TestTokens.alice)
    #expect(answer.errorCode == .none && answer.authBytes.count == 0)
    let early = lifetime - answer.sessionLifetimeMilliseconds
    #expect((0...5000).contains(early), "\(answer.sessionLifetimeMilliseconds)")
    #expect(try client.isServed())
    #expect(
      world.server.broker.authentication.attempts == [
        .init(protocolName: "kafka", mechanism: .bearer, isAccepted: true): 1
      ])
  }
}

@Test(
  "who is refused is told so in the mechanism's words, then in Kafka's, and is counted once",
  arguments: [
    (TestTokens.expired, [:]), (TestTokens.aliceBySecond, [:]), ("nonsense", [:]),
    (TestTokens.alice, ["sasl.oauthbearer.expected.issuer": "https://other.example"]),
    (TestTokens.alice, ["sasl.oauthbearer.expected.audience": "other,another"]),
    (TestTokens.alice, ["sasl.oauthbearer.sub.claim.name": "name"]),
  ] as [(String, [String: String])])
func refusedToken(_ token: String, _ settings: [String: String]) throws {
  let world = try TokenWorld(settings)
  let client = world.connect()
  let before = world.server.world.now
  let told = try client.show(token)
  #expect(told.errorCode == .none && told.authBytes.text == #"{"status":"invalid_token"}"#)
  #expect(world.server.world.now - before >= .milliseconds(100) && !client.connection.isClosing)
  let last = try client.authenticate(Bytes([1]))
  #expect(last.errorCode == .saslAuthenticationFailed && client.connection.isClosing)
  let isToken = token != "nonsense"
  #expect(last.errorMessage == "Authentication failed: \(isToken ? "invalid token" : "malformed message")")
  #expect(world.refusals == 1)
}

@Test("a scope that is missing is told by its own word")
func missingScope() throws {
  let world = try TokenWorld(["sasl.oauthbearer.expected.scope": "produce"])
  #expect(try world.connect().show(TestTokens.alice).authBytes.text == #"{"status":"insufficient_scope"}"#)
}

@Test("who was refused and goes on as if nothing were is served nothing")
func refusedAndGoesOn() throws {
  let world = try TokenWorld()
  let client = world.connect()
  _ = try client.show(TestTokens.expired)
  #expect(try !client.isServed() && client.connection.isClosing)
}

@Test("a token of expected issuer and audience is taken")
func expectedIssuer() throws {
  let world = try TokenWorld([
    "sasl.oauthbearer.expected.issuer": "https://issuer.example",
    "sasl.oauthbearer.expected.audience": "other, millrace",
  ])
  #expect(try world.connect().show(TestTokens.alice).authBytes.count == 0)
}

@Test("keys that are replaced count for the next login, and sessions stay")
func replacedKeys() throws {
  let world = try TokenWorld()
  let early = world.connect()
  #expect(try early.show(TestTokens.alice).authBytes.count == 0)
  try world.use(TestTokens.nextKeys)
  #expect(try world.connect().show(TestTokens.alice).authBytes.count > 0)
  #expect(try world.connect().show(TestTokens.aliceBySecond).authBytes.count == 0)
  #expect(try early.isServed())
}

@Test("without keys every token is refused")
func noKeys() throws {
  let world = try TokenWorld(keys: nil)
  let answer = try world.connect().show(TestTokens.alice)
  #expect(answer.errorCode == .saslAuthenticationFailed && world.refusals == 1)
}

@Test("a session ends with its token, unless the same user has shown the next one")
func nextToken() throws {
  let world = try TokenWorld()
  let (patient, idle, other, late) = (world.connect(), world.connect(), world.connect(), world.connect())
  for client in [patient, idle, other, late] { _ = try client.show(TestTokens.alice) }
  world.server.world.run(for: .seconds(250))
  let answer = try patient.show(TestTokens.aliceLater)
  #expect(answer.errorCode == .none && (340_000...350_000).contains(answer.sessionLifetimeMilliseconds))
  #expect(try other.show(TestTokens.bob).errorCode == .saslAuthenticationFailed && other.connection.isClosing)
  world.server.world.run(for: .seconds(60))
  #expect(try patient.isServed())
  #expect(try !idle.isServed() && idle.connection.isClosing)
  // Whose time is over may still prove itself, as with Kafka.
  #expect(try late.show(TestTokens.aliceLater).errorCode == .none)
  #expect(try late.isServed())
}
