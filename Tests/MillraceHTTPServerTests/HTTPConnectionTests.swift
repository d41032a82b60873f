// HTTPConnectionTests: order, limits, time, back-pressure, and what is refused before a handler is asked.

import Foundation
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceSecurity
import Testing

@testable import MillraceHTTPServer

@Test("requests of one connection are answered in order, HEAD without a body, and close ends it")
func inOrder() throws {
  let world = try HTTPWorld()
  try world.topic("t")
  let client = world.connect()
  client.send(
    "POST /api/v1/topics/t/records HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 2\r\n\r\nhi"
      + "GET /health/live HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n"
      + "HEAD /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
      + "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
  )
  #expect(client.response()?.status == 201)
  let live = client.response()
  #expect(live?.status == 200 && live?.json["status"] as? String == "live")
  let head = client.response(to: "HEAD")
  #expect(head?.status == 200 && head?.fields["content-length"] == "\(live?.body.utf8.count ?? 0)")
  let last = client.response()
  #expect(last?.status == 404 && last?.fields["connection"] == "close")
  #expect(last?.fields["content-type"] == "application/problem+json")
  #expect(client.connection.isClosing && client.output().isEmpty)
}

@Test("what is no request is answered once, and the connection ends")
func malformed() throws {
  let world = try HTTPWorld()
  for (text, status) in [
    ("GET / HTTP/1.1\r\n\r\n", 400), ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505), ("\u{1}\r\n\r\n", 400),
    ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501), ("GET /\(String(repeating: "x", count: 9000))", 414),
    ("GET / HTTP/1.1\r\nHost: a\r\n\(String(repeating: "A: b\r\n", count: 101))\r\n", 431),
  ] {
    let client = world.connect()
    client.send(text)
    let response = client.response()
    #expect(response?.status == status && client.connection.isClosing, "\(text.prefix(40))")
    #expect(response?.fields["x-content-type-options"] == "nosniff")
  }
  #expect(world.server.figures.malformed == 6)
}

@Test("a body that is too large is refused before it is read, with or without a length")
func bodyLimits() throws {
  let world = try HTTPWorld(["message.max.bytes": "1000"])
  try world.topic("t")
  let announced = world.connect()
  announced.send(
    "POST /api/v1/topics/t/records HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
  #expect(announced.response()?.status == 413 && announced.connection.isClosing)
  let chunked = world.connect()
  chunked.send(
    "POST /api/v1/topics/t/records HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n"
      + String(repeating: "x", count: 1001))
  #expect(chunked.response()?.status == 413 && chunked.connection.isClosing)
  let unwanted = world.connect()
  #expect(unwanted.ask("GET", "/api/v1/topics", "{}")?.status == 413)
  #expect(world.server.heldBytes == 0)
}

@Test("a client that waits for a word gets it when its request may come in, and not otherwise")
func expectContinue() throws {
  let world = try HTTPWorld()
  try world.topic("t")
  let client = world.connect()
  client.send(
    "POST /api/v1/topics/t/records HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
  #expect(client.output() == "HTTP/1.1 100 Continue\r\n\r\n")
  client.send("hi")
  #expect(client.response()?.status == 201)
  client.send("POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
  #expect(client.response()?.status == 404 && client.connection.isClosing)
}

@Test("clients that are too slow are ended: silent ones, half a head, half a body, unread answers")
func slowClients() throws {
  let world = try HTTPWorld()
  let silent = world.connect()
  let half = world.connect()
  half.send("GET / HT")
  let body = world.connect()
  body.send("POST /api/v1/topics/t/records HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\nab")
  let kept = world.connect()
  #expect(kept.ask("GET", "/health/live")?.status == 200)
  let unread = world.connect()
  unread.connection.sendsAtOnce = false
  unread.send("GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
  world.world.run(for: .seconds(13))
  #expect(silent.connection.isClosing && silent.output(after: .zero).isEmpty)
  #expect(half.connection.isClosing && half.output(after: .zero).hasPrefix("HTTP/1.1 408 "))
  #expect(!body.connection.isClosing && !kept.connection.isClosing && !unread.connection.isClosing)
  // One byte now and then is no progress.
  body.send("c")
  world.world.run(for: .seconds(10))
  #expect(body.connection.isClosing && body.output(after: .zero).hasPrefix("HTTP/1.1 408 "))
  world.world.run(for: .seconds(45))
  #expect(unread.connection.isClosing && !kept.connection.isClosing)
  world.world.run(for: .seconds(600))
  #expect(kept.connection.isClosing)
  for one in [silent, half, body, kept, unread] { one.connection.lose() }
  #expect(world.server.connectionCount == 0 && world.server.heldBytes == 0)
}

@Test("what a page of another site makes a browser send is refused, and so is a name that is not the server's")
func otherSites() throws {
  let world = try HTTPWorld()
  world.server.advertisedNames = ["mill.example"]
  func status(_ method: String, _ fields: String, host: String = "localhost:8080", path: String = "/api/v1/topics/t")
    -> Int?
  {
    let client = world.connect()
    client.send("\(method) \(path) HTTP/1.1\r\nHost: \(host)\r\n\(fields)\r\n")
    return client.response()?.status
  }
  #expect(status("DELETE", "Origin: http://evil.example\r\n") == 403)
  #expect(status("DELETE", "Origin: null\r\n") == 403)
  #expect(status("DELETE", "Origin: http://localhost:8081\r\n") == 403)
  #expect(status("DELETE", "Origin: http://localhost:8080\r\nOrigin: http://localhost:8080\r\n") == 403)
  #expect(status("DELETE", "Sec-Fetch-Site: cross-site\r\n") == 403)
  #expect(status("DELETE", "Sec-Fetch-Site: same-site\r\n") == 403)
  // 404, because there is no such topic: these got as far as that.
  #expect(status("DELETE", "Origin: http://localhost:8080\r\nSec-Fetch-Site: same-origin\r\n") == 404)
  #expect(status("DELETE", "Sec-Fetch-Site: none\r\n") == 404)
  #expect(status("DELETE", "Origin: http://localhost\r\n", host: "localhost:80") == 404)
  #expect(status("DELETE", "Origin: https://localhost\r\n", host: "localhost:80") == 403)
  for own in ["127.0.0.1", "10.1.2.3:80", "[::1]:8080", "LocalHost", "a.localhost:1", "mill.example:8080"] {
    #expect(status("GET", "", host: own) == 404, "\(own)")
  }
  for other in [
    "evil.example", "evil.example:8080", "127.0.0.1.evil.example", "1.2.3", "[x]", "localhost.evil", "1.2.3.+4",
  ] {
    #expect(status("GET", "", host: other) == 421, "\(other)")
  }
  #expect(status("OPTIONS", "Origin: http://evil.example\r\nAccess-Control-Request-Method: PUT\r\n") == 200)
  let client = world.connect()
  let options = client.ask("OPTIONS", "/api/v1/topics/t", fields: "Origin: http://evil.example\r\n")
  #expect(options?.fields["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, PUT")
  #expect(options?.fields.keys.contains { $0.hasPrefix("access-control") } == false)
}

@Test("where nothing is asked, nobody in particular is believed, also guest, and with wrong credentials nobody is")
func openListener() throws {
  let world = try HTTPWorld()
  func status(_ host: String, _ fields: String = "") -> Response? {
    world.connect(from: host).ask("GET", "/api/v1/server", fields: fields)
  }
  #expect(status("127.0.0.1")?.json["user"] as? String == "ANONYMOUS")
  #expect(status("::1", "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n")?.json["user"] as? String == "ANONYMOUS")
  for wrong in ["Basic Z3Vlc3Q6d3Jvbmc=", "Basic !", "Basic", "Bearer x", "Basic Z3Vlc3Q="] {
    let refused = status("127.0.0.1", "Authorization: \(wrong)\r\n")
    #expect(refused?.status == 401 && refused?.fields["www-authenticate"]?.hasPrefix("Basic ") == true, "\(wrong)")
  }
  #expect(world.connect(from: "192.0.2.1").ask("GET", "/health/live")?.status == 200)
}

/// Answers later, and allows what it is told.
private final class SlowAuthenticator: HTTPAuthenticator {
  var waiting: [(HTTPIdentity) -> Void] = []
  var allowed: Set<String> = []
  func authenticate(_ credentials: HTTPCredentials, completion: @escaping (HTTPIdentity) -> Void) {
    waiting.append(completion)
  }
  func authorize(
    _ principal: Principal, _ operation: AccessOperation, _ kind: ResourceKind, _ name: String, from: SocketAddress
  ) -> Bool { allowed.contains("\(principal.name) \(operation.word) \(kind.word) \(name)") }
}

@Test("nothing is read while a client is being identified, and permission is asked for by the route")
func asynchronousIdentity() throws {
  let world = try HTTPWorld()
  try world.topic("t")
  try world.topic("u")
  let slow = SlowAuthenticator()
  world.authenticator = slow
  let client = world.connect()
  client.send("POST /api/v1/topics/t/records HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\nhi")
  #expect(client.output().isEmpty && !client.connection.isReading && slow.waiting.count == 1)
  slow.waiting.removeFirst()(.known(Principal("ann"), isProven: true))
  let refused = client.response()
  #expect(refused?.status == 403 && refused?.json["detail"] as? String == "User:ann may not write topic t")
  slow.allowed = ["ann write topic t", "ann describe topic u"]
  let other = world.connect()
  other.send("POST /api/v1/topics/t/records HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\nhi")
  slow.waiting.removeFirst()(.known(Principal("ann"), isProven: true))
  #expect(other.response()?.status == 201)
  other.send("GET /api/v1/topics HTTP/1.1\r\nHost: evil.example\r\n\r\n")
  world.world.run(for: .milliseconds(1))
  other.connection.offer()
  slow.waiting.removeFirst()(.known(Principal("ann"), isProven: true))
  let list = other.response()?.json["topics"] as? [[String: Any]]
  #expect(list?.compactMap { $0["name"] as? String } == ["u"], "what may not be described is not listed")
  // A client that is gone is nobody.
  let gone = world.connect()
  gone.send("GET /api/v1/topics HTTP/1.1\r\nHost: x\r\n\r\n")
  gone.connection.lose()
  slow.waiting.removeFirst()(.known(Principal("ann"), isProven: true))
}

@Test("a stream waits while its client does not read, and goes on when it does")
func streamsWait() throws {
  let world = try HTTPWorld()
  for index in 0..<40 { try world.topic("topic-\(index)", partitions: 100) }
  let client = world.connect()
  client.connection.sendsAtOnce = false
  client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
  world.world.run(for: .seconds(1))
  let unsent = client.connection.pendingWriteBytes
  #expect(unsent >= HTTPCall.mostUnsent && unsent < HTTPCall.mostUnsent + (256 << 10), "\(unsent)")
  world.world.run(for: .seconds(1))
  #expect(client.connection.pendingWriteBytes == unsent)
  client.connection.sendsAtOnce = true
  client.connection.drain()
  let response = client.response()
  #expect(response?.status == 200 && response?.body.contains("topic=\"topic-39\",partition=\"99\"") == true)
}

@Test("where clients have to say who they are, users come in with their passwords, and do what rules let them")
func closedListener() throws {
  let world = try HTTPWorld(["allow.everyone.if.no.acl.found": "false"])
  try world.topic("t")
  world.authenticator = BrokerAuthenticator(broker: world.broker, security: ListenerSecurity(mechanisms: [.plain]))
  let credential = try ScramCredential(password: Secret("wonderland"), mechanism: .sha256, iterations: 4096)
  var isDone = false
  try world.broker.setUser("alice", tags: [], credentials: [credential]) { _ in
    world.broker.changeRules(adding: [AccessRule(.init(.topic, "t"), Principal("alice"), .describe)]) { _ in
      isDone = true
    }
  }
  try #require(world.world.run(until: { isDone }))
  func ask(_ method: String, _ path: String, _ credentials: String?) -> Response? {
    let field = credentials.map { "Authorization: Basic \(Data($0.utf8).base64EncodedString())\r\n" } ?? ""
    return world.connect(from: "192.0.2.1").ask(method, path, fields: field)
  }
  #expect(ask("GET", "/api/v1/topics/t", nil)?.status == 401)
  #expect(ask("GET", "/api/v1/topics/t", nil)?.fields["www-authenticate"]?.hasPrefix("Basic ") == true)
  for wrong in ["alice:wrong", "guest:guest", "nobody:wonderland", "alice", ":", "alice:"] {
    #expect(ask("GET", "/api/v1/topics/t", wrong)?.status == 401, "\(wrong)")
  }
  #expect(ask("GET", "/api/v1/topics/t", "alice:wonderland")?.status == 200)
  #expect(ask("DELETE", "/api/v1/topics/t", "alice:wonderland")?.status == 403)
  #expect(ask("GET", "/api/v1/topics/u", "alice:wonderland")?.status == 403)
  #expect(world.broker.topic("t") != nil)
  // What everybody may know is not asked for.
  #expect(ask("GET", "/health/live", nil)?.status == 200)
}
