// EmbeddedListenerTests: listeners of an embedded broker that encrypt and ask who clients are, used by the blocking client over TLS.

import Foundation
import Millrace
import MillraceIO
import MillraceKafkaProtocol
import Testing

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

@Test("an embedded broker has listeners for AMQP and HTTP over TLS, too")
func embeddedProtocols() async throws {
  let certificates = try Certificates()
  try await withEmbedded { broker in
    for service in ListenerDefinition.Service.allCases {
      var listener = ListenerDefinition(service, isEncrypted: true)
      listener.files = certificates.files
      let address = try await broker.listen(listener)
      let socket = try BlockingSocket(connectingTo: address, timeout: .seconds(10))
      let tls = try TLSClient(over: socket, try certificates.tls(), timeout: .seconds(10))
      #expect(tls.security != nil)
    }
  }
}
