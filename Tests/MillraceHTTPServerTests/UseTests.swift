// UseTests: quotas and short memory as HTTP tells them, and connections that make room.

import Foundation
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceMetadata
import MillraceSecurity
import MillraceSimulation
import Testing

@testable import MillraceHTTPServer

@Suite struct UseTests {
  let world: HTTPWorld

  init() throws {
    world = try HTTPWorld(["max.connections": "2"])
    try world.topic("t")
  }

  private func limit(_ limit: ClientQuotas.Limit, _ value: Double) {
    world.broker.quotas.set([QuotaEntity(user: .named("ANONYMOUS")): [limit.rawValue: value]])
  }

  /// How often clients had to wait.
  private func waits(_ limit: ClientQuotas.Limit) -> UInt64 { world.broker.quotas.waits[limit]?.count ?? 0 }

  private func produce(_ client: HTTPClient, _ size: Int) -> Response? {
    client.ask(
      "POST", "/api/v1/topics/t/records?partition=0", String(repeating: "x", count: size),
      fields: "Content-Type: text/plain\r\n")
  }

  @Test("who used more than its quota is told when to come again, and is served then")
  func producer() throws {
    limit(.producerBytes, 1000)
    let client = world.connect()
    #expect(produce(client, 2500)?.status == 201)
    let refused = try #require(produce(client, 10))
    #expect(refused.status == 429 && refused.fields["retry-after"] == "2", "\(refused)")
    #expect(refused.json["type"] as? String == "urn:millrace:quota-exceeded")
    // A body that is not read ends the connection.
    client.connection.lose()
    let again = world.connect()
    #expect(again.ask("GET", "/api/v1/topics")?.status == 200, "what uses nothing goes on")
    world.world.run(for: .seconds(2))
    #expect(produce(again, 10)?.status == 201)
  }

  @Test("who reads more than its quota waits, too; a stream of events goes on more slowly")
  func reader() throws {
    let client = world.connect()
    for _ in 0..<4 { #expect(produce(client, 5000)?.status == 201) }
    limit(.consumerBytes, 1000)
    let path = "/api/v1/topics/t/partitions/0/records"
    #expect(client.ask("GET", "\(path)?limit=1&format=text")?.status == 200)
    #expect(waits(.consumerBytes) == 0, "it owes something, and nobody was told to wait")
    #expect(client.ask("GET", "\(path)?limit=1&format=text")?.status == 429)
    #expect(waits(.consumerBytes) == 1)
    world.world.run(for: .seconds(10))
    limit(.consumerBytes, 10_000)
    client.send("GET /api/v1/topics/t/partitions/0/events?from=earliest HTTP/1.1\r\nHost: localhost:8080\r\n\r\n")
    let first = client.output(after: .milliseconds(100))
    #expect(first.contains("id: 0"))
    #expect(waits(.consumerBytes) == 2, "the stream waits")
    #expect(produce(world.connect(), 10)?.status == 201)
    #expect(!client.output(after: .milliseconds(100)).contains("id: 4"), "its user owes more than a second's worth")
    #expect(client.output(after: .seconds(5)).contains("id: 4"))
  }

  @Test("who takes more of the thread's time than its quota is told when to come again; health is for everybody")
  func requestTime() throws {
    let spent = PlayedTime()
    world.server.processorTime = spent.look
    let client = world.connect()
    #expect(client.ask("GET", "/api/v1/topics")?.status == 200)
    #expect(spent.looks == 0, "without such a quota no clock is read")
    limit(.requestTime, 10)
    spent.step = .milliseconds(90)
    #expect(client.ask("GET", "/api/v1/topics")?.status == 200)
    #expect(spent.looks >= 2)
    #expect(client.ask("GET", "/api/v1/topics")?.status == 200, "a tenth of a second is free")
    #expect(waits(.requestTime) == 0, "nobody was told to wait")
    spent.step = .seconds(60)
    let refused = try #require(client.ask("GET", "/api/v1/topics"))
    // Twice 0.09 s less the 0.1 s that are free: 0.08 s at 10 %.
    #expect(refused.status == 429 && refused.fields["retry-after"] == "1", "\(refused)")
    #expect(refused.body.contains("quota request_percentage"), "\(refused)")
    #expect(waits(.requestTime) == 1)
    #expect(client.ask("GET", "/health/live")?.status == 200)
    let metrics = try #require(client.ask("GET", "/metrics"), "whoever looks after the server has to see why")
    #expect(
      metrics.status == 200 && metrics.body.contains("millrace_quota_waits_total{quota=\"request_percentage\"} 1\n"))
    world.world.run(for: .seconds(1))
    #expect(
      client.ask("GET", "/api/v1/topics")?.status == 200, "what was turned away, and metrics, did not cost anything")
    // That took a minute; no more than ten windows' worth is owed, and it is paid for in as many seconds.
    #expect(client.ask("GET", "/api/v1/topics")?.status == 429)
    world.world.run(for: .milliseconds(9_000))
    #expect(client.ask("GET", "/api/v1/topics")?.status == 429)
    world.world.run(for: .milliseconds(1_100))
    #expect(client.ask("GET", "/api/v1/topics")?.status == 200)
    #expect(waits(.requestTime) == 3)
  }

  /// Believes everybody, which takes some of the thread's time.
  private final class SlowBelief: HTTPAuthenticator {
    let spend: (String) -> Void

    init(_ spend: @escaping (String) -> Void) { self.spend = spend }

    func authenticate(_ credentials: HTTPCredentials, completion: @escaping (HTTPIdentity) -> Void) {
      let name = credentials.authorization ?? ""
      spend(name)
      completion(name == "mallory" ? .refused(challenges: [], reason: "no") : .known(Principal(name), isProven: true))
    }

    func authorize(
      _ principal: Principal, _ operation: AccessOperation, _ kind: ResourceKind, _ name: String, from: SocketAddress
    ) -> Bool { true }
  }

  @Test("the time of requests that are turned away is not charged to another user's, which came with them")
  func pipelinedTime() throws {
    var time = Duration.zero
    world.server.processorTime = { time }
    world.authenticator = SlowBelief { if $0 != "alice" { time += .seconds(5) } }
    world.broker.quotas.set([
      QuotaEntity(user: .named("bob")): ["request_percentage": 10],
      QuotaEntity(user: .named("alice")): ["request_percentage": 100],
    ])
    let client = world.connect()
    func request(_ user: String) -> String {
      "GET /api/v1/topics HTTP/1.1\r\nHost: localhost:8080\r\nAuthorization: \(user)\r\n\r\n"
    }
    client.send(request("bob"))
    #expect(client.response()?.status == 200)
    client.send(["bob", "mallory", "alice"].map(request).joined())
    #expect((0..<3).map { _ in client.response()?.status } == [429, 401, 200])
    let now = world.broker.reactor.now
    #expect(world.broker.quotas.owed(.requestTime, user: "bob", clientID: "", now: now) > .seconds(9))
    #expect(world.broker.quotas.owed(.requestTime, user: "alice", clientID: "", now: now) == .zero)
  }

  @Test("what is answered later is its user's time, too")
  func laterTime() throws {
    let spent = PlayedTime()
    world.server.processorTime = spent.look
    limit(.requestTime, 100)
    let client = world.connect()
    // Taken without an answer, which comes when the record is durable.
    client.send(
      "POST /api/v1/topics/t/records?partition=0 HTTP/1.1\r\nHost: localhost:8080\r\nContent-Type: text/plain\r\n"
        + "Content-Length: 1\r\n\r\nx")
    let before = spent.looks
    spent.step = .seconds(3)
    #expect(client.response(to: "POST")?.status == 201)
    #expect(spent.looks > before)
    #expect(client.ask("GET", "/api/v1/topics")?.status == 429)
  }

  @Test("while memory is short nothing is taken, and all can be read")
  func memory() throws {
    let client = world.connect()
    #expect(produce(client, 10)?.status == 201)
    var held: Int64 = 900
    world.broker.memory.watch(limit: 1000, resident: { held }, relieve: {})
    #expect(client.ask("GET", "/api/v1/topics/t/partitions/0/records")?.status == 200)
    #expect(client.ask("GET", "/health/ready")?.status == 503)
    let refused = try #require(produce(client, 10))
    #expect(refused.status == 503 && refused.fields["retry-after"] == "1", "\(refused)")
    client.connection.lose()
    held = 100
    world.world.run(for: .seconds(2))
    #expect(produce(world.connect(), 10)?.status == 201)
  }

  @Test("connections whose clients say nothing make room, those that have logged in do not, and metrics tell of it")
  func displacement() throws {
    let user = BrokerAuthenticator(broker: world.broker, security: ListenerSecurity(mechanisms: [.plain]))
    func connect() -> PlayedConnection {
      let connection = PlayedConnection()
      connection.handler = world.server.accept(connection, user, isStranger: true)
      return connection
    }
    let (first, second, third) = (connect(), connect(), connect())
    #expect(first.isClosing && !second.isClosing && !third.isClosing)
    first.lose()
    second.lose()
    let metrics = try #require(world.connect().ask("GET", "/metrics")).body
    #expect(metrics.contains("millrace_connections_displaced_total 1\n"))
    #expect(metrics.contains("millrace_connections_unauthenticated 1\n"))
    #expect(
      metrics.contains("millrace_connections_refused_total{protocol=\"http\",reason=\"max.connections\"} 0\n"),
      "\(metrics)")
    #expect(!third.isClosing)
  }

  @Test("who has logged in is a stranger no more, and makes room for nobody")
  func known() throws {
    let user = BrokerAuthenticator(broker: world.broker, security: ListenerSecurity(mechanisms: [.plain]))
    let credential = try ScramCredential(password: Secret("wonderland"), mechanism: .sha256, iterations: 4096)
    var isDone = false
    try world.broker.setUser("alice", tags: [], credentials: [credential]) { _ in isDone = true }
    try #require(world.world.run(until: { isDone }))
    func connect() -> PlayedConnection {
      let connection = PlayedConnection()
      connection.handler = world.server.accept(connection, user, isStranger: true)
      return connection
    }
    let alice = connect()
    let field = "Authorization: Basic \(Data("alice:wonderland".utf8).base64EncodedString())"
    alice.receive([UInt8]("GET /api/v1/topics HTTP/1.1\r\nHost: localhost:8080\r\n\(field)\r\n\r\n".utf8))
    world.world.run(for: .seconds(1))
    #expect(String(decoding: alice.takeOutput(), as: UTF8.self).hasPrefix("HTTP/1.1 200 "))
    let (second, third) = (connect(), connect())
    #expect(!alice.isClosing && second.isClosing && !third.isClosing)
  }
}
