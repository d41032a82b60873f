// BearerRequestTests: tokens in the field Authorization, what who is refused is told, and how often the audit hears of who is not.

import Foundation
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceSecurity
import TestTokens
import Testing

@testable import MillraceHTTPServer

private func world(_ mechanisms: [SaslMechanism], _ settings: [String: String] = [:]) throws -> HTTPWorld {
  let world = try HTTPWorld(["sasl.oauthbearer.clock.skew.seconds": "0"].merging(settings) { $1 })
  world.broker.authentication.use(try JSONWebKeys(Bytes(TestTokens.keys)))
  world.authenticator = BrokerAuthenticator(broker: world.broker, security: ListenerSecurity(mechanisms: mechanisms))
  return world
}

extension HTTPWorld {
  fileprivate func ask(_ authorization: String?, _ path: String = "/api/v1/server") -> Response? {
    connect().ask("GET", path, fields: authorization.map { "Authorization: \($0)\r\n" } ?? "")
  }
}

@Test("a token says who asks, until it expires")
func tokenSaysWho() throws {
  let world = try world([.bearer])
  #expect(world.ask("Bearer \(TestTokens.alice)")?.json["user"] as? String == "alice")
  #expect(world.ask("bearer  \(TestTokens.bob)")?.json["user"] as? String == "bob")
  world.world.run(for: .seconds(301))
  #expect(world.ask("Bearer \(TestTokens.alice)")?.status == 401)
  #expect(world.ask("Bearer \(TestTokens.aliceLater)")?.json["user"] as? String == "alice")
}

@Test("a token that was good is not good any more once the keys are others")
func rememberedToken() throws {
  let world = try world([.bearer])
  #expect(world.ask("Bearer \(TestTokens.alice)")?.status == 200)
  world.broker.authentication.use(try JSONWebKeys(Bytes(TestTokens.nextKeys)))
  #expect(world.ask("Bearer \(TestTokens.alice)")?.status == 401)
}

@Test("what is asked for instead is told with the refusal")
func challenges() throws {
  let both = try world([.plain, .bearer])
  let nothing = both.ask(nil)
  #expect(nothing?.status == 401)
  #expect(both.broker.authentication.counts.refused == 0)
  let expired = try world([.bearer]).ask("Bearer \(TestTokens.expired)")
  #expect(expired?.status == 401)
  #expect(expired?.fields["www-authenticate"] == #"Bearer realm="millrace", error="invalid_token""#)
  #expect(expired?.json["detail"] as? String == "Authentication failed: invalid token")
  let scope = try world([.bearer], ["sasl.oauthbearer.expected.scope": "admin"]).ask("Bearer \(TestTokens.alice)")
  #expect(scope?.fields["www-authenticate"] == #"Bearer realm="millrace", error="insufficient_scope""#)
}

@Test("where tokens are not offered, or nothing else is, the other is refused and counted")
func otherSchemes() throws {
  for (mechanisms, authorization) in [
    ([SaslMechanism.plain], "Bearer \(TestTokens.alice)"), ([.bearer], "Basic YWxpY2U6d29uZGVybGFuZA=="),
    ([.external], "Bearer \(TestTokens.alice)"), ([.bearer], "Digest x"), ([.bearer], "Bearer "),
  ] {
    let world = try world(mechanisms)
    #expect(world.ask(authorization)?.status == 401, "\(mechanisms) \(authorization)")
    #expect(world.broker.authentication.counts.refused == 1)
  }
}

@Test("a stream that a token began ends with it")
func streamEnds() throws {
  let world = try world([.bearer])
  try world.topic("t")
  let client = world.connect()
  client.send(
    "GET /api/v1/topics/t/partitions/0/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \(TestTokens.alice)\r\n\r\n"
  )
  #expect(client.output().hasPrefix("HTTP/1.1 200"))
  world.world.run(for: .seconds(250))
  #expect(!client.connection.isClosing)
  world.world.run(for: .seconds(60))
  #expect(client.connection.isClosing)
}

@Test("of logins by every request the audit is told one a minute for each user and address, and of refusals every one")
func loginsAreTold() throws {
  let world = try world([.bearer])
  func counted(_ isAccepted: Bool) -> UInt64 {
    world.broker.authentication.attempts[
      .init(protocolName: "http", mechanism: .bearer, isAccepted: isAccepted)] ?? 0
  }
  for _ in 0..<50 { _ = world.ask("Bearer \(TestTokens.alice)") }
  #expect(counted(true) == 1)
  _ = world.ask("Bearer \(TestTokens.bob)")
  #expect(counted(true) == 2)
  world.world.run(for: .seconds(61))
  for _ in 0..<50 { _ = world.ask("Bearer \(TestTokens.alice)") }
  #expect(counted(true) == 3)
  for _ in 0..<3 { _ = world.ask("Bearer nonsense") }
  #expect(counted(false) == 3)
  #expect(world.broker.topic(AuditLog.topic) != nil)
}

@Test("more users than are remembered are told, and memory does not grow with them")
func manyLogins() throws {
  let world = try world([.plain])
  world.broker.access.isExposed = true
  let authenticator = try #require(world.authenticator as? BrokerAuthenticator)
  let connection = PlayedConnection()
  let credential = try ScramCredential(password: Secret("p"), mechanism: .sha256, iterations: 4096)
  var isDone = false
  try world.broker.setUser("alice", tags: [], credentials: [credential]) { _ in isDone = true }
  try #require(world.world.run(until: { isDone }))
  var known = 0
  for number in 0..<2500 {
    connection.remoteAddress = SocketAddress(host: "10.0.\(number / 250).\(number % 250)", port: 1)
    authenticator.authenticate(
      HTTPCredentials(authorization: "Basic YWxpY2U6cA==", connection: connection)
    ) { if case .known = $0 { known += 1 } }
    _ = world.world.run(until: { known > number })
  }
  #expect(known == 2500 && authenticator.toldCount <= 1000)
}
