// EmbeddedListenerTests: listeners of an embedded broker that encrypt and ask who clients are, used by the blocking client over TLS.

import Foundation
import MillraceIO
import MillraceKafkaProtocol
import MillraceMetadata
import Synchronization
import Testing

@testable import Millrace
@testable import MillraceBroker
@testable import MillraceServer

/// An authority's certificate, a server's, and those of clients.
private struct Certificates {
  let directory: TemporaryDirectory
  private let authority: CertificateMaker

  init() throws {
    directory = try TemporaryDirectory()
    authority = try CertificateMaker(new: CertificatePlan(.authority, commonName: "authority", days: 2))
    try authority.own.certificate.array.write(to: path("ca.pem"))
    try write("server", CertificatePlan(.server, commonName: "server", hosts: ["127.0.0.1"], days: 2))
  }

  func path(_ name: String) -> String { "\(directory.path)/\(name)" }

  private func write(_ name: String, _ plan: CertificatePlan) throws {
    let pair = try authority.issue(plan)
    try pair.certificate.array.write(to: path("\(name).pem"))
    try pair.key.array.write(to: path("\(name).key"))
  }

  var files: TLSFiles {
    TLSFiles(certificate: path("server.pem"), key: path("server.key"), clientAuthority: path("ca.pem"))
  }

  /// A client that shows a certificate with this common name, or none.
  func tls(client name: String? = nil) throws -> TLSClientConfiguration {
    if let name { try write(name, CertificatePlan(.client, commonName: name, days: 2)) }
    return TLSClientConfiguration(
      trust: .authorities(file: path("ca.pem")), certificateFile: name.map { path("\($0).pem") },
      keyFile: name.map { path("\($0).key") })
  }

  func login(_ user: String, _ password: String) throws -> ClientSecurity.Login {
    try Array(password.utf8).write(to: path("password"))
    return ClientSecurity.Login(user: user, passwordFile: path("password"))
  }
}

extension [UInt8] {
  fileprivate func write(to path: String) throws { try Data(self).write(to: URL(filePath: path)) }
}

/// An embedded broker for one test.
private func withEmbedded(
  _ settings: [String: String] = [:], _ body: (EmbeddedBroker) async throws -> Void
) async throws {
  let directory = try TemporaryDirectory()
  var configuration = EmbeddedBroker.Configuration()
  configuration.settings = settings.merging(["connection.failed.authentication.delay.ms": "0"]) { $1 }
  let broker = try await EmbeddedBroker.open(directory: directory.path + "/data", configuration: configuration)
  try await body(broker)
  try await broker.close()
}

private func client(_ address: SocketAddress, _ security: ClientSecurity) -> KafkaClient {
  KafkaClient(ServerAddress(host: address.host, port: address.port), security: security)
}

private func send(_ client: KafkaClient, _ topic: String, _ value: String) throws {
  let sender = try RecordSender(client, topic: try client.topic(topic))
  try sender.add(Record(value: Bytes(value)))
  try sender.flush()
}

private func texts(_ broker: EmbeddedBroker, _ topic: String) async throws -> [String] {
  var out: [String] = []
  for try await record in broker.consume(topic, until: .currentEnd) { out.append(record.text) }
  return out
}

@Test("an embedded broker lets clients in over TLS with their passwords, and asks its rules")
func embeddedTLSAndPasswords() async throws {
  let certificates = try Certificates()
  try await withEmbedded(["allow.everyone.if.no.acl.found": "false"]) { broker in
    for topic in ["open", "shut"] { try await broker.createTopic(topic, partitions: 1) }
    try await broker.setUser("alice", password: "wonderland")
    let rules = [AccessRule(ResourcePattern(.topic, "open"), Principal("alice"), .write)]
    try await broker.addRules(rules)
    #expect(try await broker.rules() == rules)
    var listener = ListenerDefinition(.kafka, isEncrypted: true)
    listener.files = certificates.files
    listener.mechanisms = [.scramSHA256, .scramSHA512]
    let address = try await broker.listen(listener)

    let tls = try certificates.tls()
    let alice = client(address, ClientSecurity(tls: tls, login: try certificates.login("alice", "wonderland")))
    try send(alice, "open", "over TLS")
    #expect(try await texts(broker, "open") == ["over TLS"])
    #expect(throws: ClientError.self) { try send(alice, "shut", "not allowed") }
    #expect(try await texts(broker, "shut").isEmpty)

    for security in [
      ClientSecurity(tls: tls, login: try certificates.login("alice", "looking-glass")),
      ClientSecurity(tls: tls, login: nil), ClientSecurity(tls: nil, login: nil),
    ] {
      #expect(throws: ClientError.self) { try send(client(address, security), "open", "no") }
    }
    // What was allowed ends at once, and so does the user.
    try await broker.removeRules(rules)
    #expect(throws: ClientError.self) { try send(alice, "open", "no more") }
    try await broker.setUser("alice", password: "looking-glass", isAdministrator: true)
    try send(
      client(address, ClientSecurity(tls: tls, login: try certificates.login("alice", "looking-glass"))), "shut", "all")
    try await broker.removeUser("alice")
    let gone = ClientSecurity(tls: tls, login: try certificates.login("alice", "looking-glass"))
    #expect(throws: ClientError.self) { try send(client(address, gone), "open", "no") }
    #expect(try await texts(broker, "open") == ["over TLS"])
    #expect(try await texts(broker, "shut") == ["all"])
  }
}

@Test("an embedded broker knows clients by their certificates, under the names that its rules for subjects make")
func embeddedCertificates() async throws {
  let certificates = try Certificates()
  let settings = ["allow.everyone.if.no.acl.found": "false", "ssl.principal.mapping.rules": "RULE:^CN=(\\w+)$/$1/"]
  try await withEmbedded(settings) { broker in
    try await broker.createTopic("t", partitions: 1)
    try await broker.addRules([AccessRule(ResourcePattern(.topic, "t"), Principal("bob"), .write)])
    var listener = ListenerDefinition(.kafka, isEncrypted: true, mechanisms: [.external])
    listener.files = certificates.files
    let address = try await broker.listen(listener)
    try send(client(address, ClientSecurity(tls: try certificates.tls(client: "bob"), login: nil)), "t", "bob's")
    let carol = client(address, ClientSecurity(tls: try certificates.tls(client: "carol"), login: nil))
    #expect(throws: ClientError.self) { try send(carol, "t", "carol's") }
    let nobody = client(address, ClientSecurity(tls: try certificates.tls(), login: nil))
    #expect(throws: ClientError.self) { try send(nobody, "t", "nobody's") }
    // Of another authority with the same names.
    let other = try Certificates().tls(client: "bob")
    var mixed = try certificates.tls()
    mixed.certificateFile = other.certificateFile
    mixed.keyFile = other.keyFile
    let stranger = client(address, ClientSecurity(tls: mixed, login: nil))
    #expect(throws: ClientError.self) { try send(stranger, "t", "a stranger's") }
    #expect(try await texts(broker, "t") == ["bob's"])
  }
}

@Test(
  "what `serve` refuses to listen on, an embedded broker refuses too, and what is allowed denies what no rule is about")
func embeddedExposure() async throws {
  let certificates = try Certificates()
  try await withEmbedded { broker in
    try await broker.createTopic("t", partitions: 1)
    func refused(_ text: String, _ words: String) async {
      do {
        try await broker.listen(try ListenerDefinition(text))
        Issue.record("\(text) was taken")
      } catch {
        #expect((error as? MillraceError)?.code == .invalidArgument, "\(text): \(error)")
        #expect("\(error)".contains(words), "\(text): \(error)")
      }
    }
    let files = "certificate=\(certificates.path("server.pem"))&key=\(certificates.path("server.key"))"
    await refused("kafka://0.0.0.0:0?auth=scram", "without encryption")
    await refused("kafka://0.0.0.0:0?auth=none", "without encryption and authentication")
    await refused("kafka+tls://0.0.0.0:0?auth=none&\(files)", "without authentication")
    await refused("amqp://[::]:0", "without encryption")
    await refused("kafka+tls://127.0.0.1:0", "certificate")
    await refused("kafka+tls://127.0.0.1:0?auth=certificate&\(files)", "clientAuthority")
    await refused("amqps://127.0.0.1:0?auth=scram&\(files)", "SCRAM")
    await refused("https://127.0.0.1:0?auth=oauth&\(files)", "sasl.oauthbearer.jwks.endpoint.url")
    await refused("kafka+tls://127.0.0.1:0?certificate=/nowhere&key=/nowhere", "/nowhere")
    await #expect(throws: MillraceError.self) {
      try await broker.listen(ListenerDefinition(.kafka, host: "example.com"))
    }

    // On this machine alone nobody is asked.
    let here = try await broker.listen()
    try send(client(here, .none), "t", "before")
    // The word of whoever starts it opens it, and closes what no rule is about.
    let open = try await broker.listen(
      ListenerDefinition(.kafka, host: "0.0.0.0", mechanisms: []), allowsInsecure: true)
    let address = SocketAddress(host: "127.0.0.1", port: open.port)
    #expect(throws: ClientError.self) { try send(client(address, .none), "t", "denied") }
    try await broker.addRules([AccessRule(ResourcePattern(.topic, "t"), .everybody, .write)])
    try send(client(address, .none), "t", "allowed")
    #expect(try await texts(broker, "t") == ["before", "allowed"])
  }
}

@Test("a listener that cannot be opened says so, and denies nothing to those who are there")
func embeddedTakenPort() async throws {
  try await withEmbedded { broker in
    try await broker.createTopic("t", partitions: 1)
    let here = try await broker.listen()
    await expectCode(.network) {
      _ = try await broker.listen(
        ListenerDefinition(.kafka, host: "0.0.0.0", port: here.port, mechanisms: []), allowsInsecure: true)
    }
    await expectCode(.network) { _ = try await broker.listen(kafkaPort: here.port) }
    try send(client(here, .none), "t", "still allowed")
    #expect(try await texts(broker, "t") == ["still allowed"])
    try await broker.close()
    await expectCode(.closed) { _ = try await broker.listen() }
  }
}

private func expectCode(_ code: MillraceError.Code, _ body: () async throws -> Void) async {
  do {
    try await body()
    Issue.record("no error, \(code) was expected")
  } catch {
    #expect((error as? MillraceError)?.code == code, "\(error)")
  }
}

/// A connection over TLS that asks and reads as a client of any protocol does.
private struct Caller {
  private let tls: TLSClient

  init(_ address: SocketAddress, _ configuration: TLSClientConfiguration) throws {
    let socket = try BlockingSocket(connectingTo: address, timeout: .seconds(10))
    tls = try TLSClient(over: socket, configuration, timeout: .seconds(10))
  }

  func send(_ bytes: [UInt8]) throws { try tls.send([Bytes(bytes)]) }

  /// So many bytes, or those until the other side closes.
  func receive(_ count: Int) throws -> [UInt8] {
    var out: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 4096)
    while out.count < count {
      let room = min(part.count, count - out.count)
      let got = try part.withUnsafeMutableBytes {
        try tls.receive(into: UnsafeMutableRawBufferPointer(rebasing: $0[..<room]))
      }
      if got == 0 { break }
      out += part[..<got]
    }
    return out
  }
}

/// The status of a request over HTTP.
private func status(_ caller: Caller, authorization: String?) throws -> Int? {
  let proof = authorization.map { "Authorization: Basic \(Data($0.utf8).base64EncodedString())\r\n" } ?? ""
  try caller.send(
    Array("GET /api/v1/topics HTTP/1.1\r\nHost: localhost\r\n\(proof)Connection: close\r\n\r\n".utf8))
  let words = String(decoding: try caller.receive(12), as: UTF8.self).split(separator: " ")
  return words.count == 2 ? Int(words[1]) : nil
}

/// Class and method of AMQP's next frame; nil when the server has closed.
private func method(_ caller: Caller) throws -> [UInt8]? {
  let head = try caller.receive(7)
  guard head.count == 7 else { return nil }
  let size = head[3...].reduce(0) { $0 << 8 | Int($1) }
  let frame = try caller.receive(size + 1)
  try #require(head[0] == 1 && frame.count == size + 1 && size >= 4)
  return Array(frame[..<4])
}

/// What AMQP's server says to a start with this mechanism and proof: class and method; nil when it closes without a word.
private func started(_ caller: Caller, _ mechanism: String, _ proof: String) throws -> [UInt8]? {
  try caller.send(Array("AMQP".utf8) + [0, 0, 9, 1])
  try #require(try method(caller) == [0, 10, 0, 10], "connection.start")
  func short(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + text.utf8 }
  func size(_ count: Int) -> [UInt8] { [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: count >> $0) } }
  let fields = size(0) + short(mechanism) + size(proof.utf8.count) + proof.utf8 + short("en_US")
  let payload: [UInt8] = [0, 10, 0, 11] + fields
  try caller.send([1, 0, 0] + size(payload.count) + payload + [0xCE])
  return try method(caller)
}

@Test("an embedded broker asks clients of AMQP and HTTP who they are, too")
func embeddedProtocols() async throws {
  let certificates = try Certificates()
  try await withEmbedded { broker in
    try await broker.setUser("alice", password: "wonderland")
    func listener(_ service: ListenerDefinition.Service) async throws -> () throws -> Caller {
      var listener = ListenerDefinition(service, isEncrypted: true)
      listener.files = certificates.files
      let address = try await broker.listen(listener)
      let tls = try certificates.tls()
      return { try Caller(address, tls) }
    }
    let http = try await listener(.http)
    #expect(try status(http(), authorization: nil) == 401)
    #expect(try status(http(), authorization: "alice:looking-glass") == 401)
    #expect(try status(http(), authorization: "bob:wonderland") == 401)
    #expect(try status(http(), authorization: "alice:wonderland") == 200)

    let amqp = try await listener(.amqp)
    let tune: [UInt8] = [0, 10, 0, 30]
    #expect(try started(amqp(), "PLAIN", "\0alice\0wonderland") == tune)
    let close: [UInt8] = [0, 10, 0, 50]
    for (mechanism, proof) in [
      ("PLAIN", "\0alice\0looking-glass"), ("PLAIN", "\0guest\0guest"), ("PLAIN", "\0\0"), ("PLAIN", ""),
      ("ANONYMOUS", ""), ("EXTERNAL", ""),
    ] {
      let answer = try started(amqp(), mechanism, proof)
      #expect(answer == nil || answer == close, "\(mechanism) \(proof): \(answer ?? [])")
    }
  }
}

@Test("a new password takes no tags away, and the word of administrators takes or gives theirs alone")
func embeddedTags() async throws {
  try await withEmbedded { broker in
    func tags() async throws -> [String]? {
      try await broker.ask { broker, answer in answer.give(.success(broker.user("alice")?.tags)) }
    }
    try await broker.setUser("alice", password: "wonderland")
    #expect(try await tags() == [])
    let _: Void = try await broker.ask { broker, answer in
      do throws(BrokerError) {
        try broker.setUser("alice", tags: ["monitoring", "administrator"]) { _ in answer.give(.success(())) }
      } catch {
        answer.give(.failure(MillraceError(error)))
      }
    }
    try await broker.setUser("alice", password: "looking-glass")
    #expect(try await tags() == ["administrator", "monitoring"])
    try await broker.setUser("alice", password: "looking-glass", isAdministrator: false)
    #expect(try await tags() == ["monitoring"])
    for _ in 0..<2 {
      try await broker.setUser("alice", password: "wonderland", isAdministrator: true)
      #expect(try await tags() == ["administrator", "monitoring"])
    }
  }
}

@Test("an embedded broker that listens watches its memory, takes samples, and goes by the settings that clients change")
func embeddedWatching() async throws {
  let directory = try TemporaryDirectory()
  var configuration = EmbeddedBroker.Configuration()
  configuration.settings = ["memory.high.watermark.percent": "50"]
  func opened() async throws -> EmbeddedBroker {
    try await EmbeddedBroker.open(directory: directory.path + "/data", configuration: configuration)
  }
  func watched(_ broker: EmbeddedBroker) async throws -> [Int64?] {
    try await broker.ask { broker, answer in
      answer.give(.success([broker.memory.limit, broker.memory.highWatermark, broker.samples.isRunning ? 1 : 0]))
    }
  }
  func interval(_ broker: EmbeddedBroker) async throws -> Duration {
    let listeners = broker.listeners
    return try await broker.ask { _, answer in answer.give(.success(listeners.take().certificates.interval)) }
  }
  var broker = try await opened()
  #expect(try await watched(broker) == [nil, nil, 0])
  for _ in 0..<2 {
    try await broker.listen()
    let limit = try #require(MachineMemory.limit)
    #expect(try await watched(broker) == [limit, Int64(Double(limit) * 0.5), 1])
  }
  #expect(try await interval(broker) == .seconds(5))
  let _: Void = try await broker.ask { broker, answer in
    let node = ConfigResource(.broker, "")
    do throws(BrokerError) {
      let changes = try broker.check([("tls.watch.interval.ms", .set("70"))], of: node)
      broker.configure(node, changes) { _ in answer.give(.success(())) }
    } catch {
      answer.give(.failure(MillraceError(error)))
    }
  }
  #expect(try await interval(broker) == .milliseconds(70))
  try await broker.close()
  broker = try await opened()
  #expect(try await interval(broker) == .milliseconds(70))
  try await broker.close()
}

@Test("nobody is let in any more once closing has begun, also while a job still has to end")
func embeddedListenWhileClosing() async throws {
  try await withEmbedded { broker in
    try await broker.createTopic("t", partitions: 1)
    let isInside = Atomic(false)
    let gate = DispatchSemaphore(value: 0)
    let job = DataStream.topic("t")
      .map { record in
        isInside.store(true, ordering: .releasing)
        gate.wait()
        return record.value.text
      }
      .keyBy { $0 }
      .sum { _ in 1 }
      .to(topic: "counts")
      .job(named: "slow")
    _ = try await broker.run(job)
    try await broker.produce([Record(value: Bytes("one"))], to: "t")
    while !isInside.load(ordering: .acquiring) { await Task.yield() }
    let closing = Task { try await broker.close() }
    while broker.isOpen { await Task.yield() }
    await expectCode(.closed) { _ = try await broker.listen() }
    await expectCode(.closed) { try await broker.listenForWorkers() }
    gate.signal()
    try await closing.value
  }
}

@Test("localhost is not half opened: where another program has the port of ::1, nobody is to be led there")
func halfTaken() async throws {
  let other = socket(AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
  // A machine may be without IPv6.
  guard other >= 0 else { return }
  defer { close(other) }
  var address = sockaddr_in6()
  address.sin6_family = sa_family_t(AF_INET6)
  address.sin6_addr = in6addr_loopback
  var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
  let isBound = withUnsafeMutablePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      bind(other, $0, length) == 0 && listen(other, 1) == 0 && getsockname(other, $0, &length) == 0
    }
  }
  guard isBound else { return }
  let port = UInt16(bigEndian: address.sin6_port)
  try await withEmbedded { broker in
    do {
      _ = try await broker.listen(host: "localhost", kafkaPort: port)
      Issue.record("it listens on 127.0.0.1 alone")
    } catch {
      #expect("\(error)".contains("cannot listen") && "\(error)".contains("[::1]:\(port)"), "\(error)")
    }
  }
}
