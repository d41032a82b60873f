// TLSListenerTests: listeners with TLS on real sockets, and the blocking client: who is let in, and what both ends know.

import Foundation
import MillraceBase
import Synchronization
import Testing

@testable import MillraceIO

private func echo(_ connection: any Connection, _ handler: ClosureHandler) {
  handler.received = { [unowned connection] input in connection.write([input.take(input.count)]) }
}

@Test("what is sent over TLS comes back, and both ends know version, suite and protocol")
func tlsEcho() throws {
  let files = try Certificates()
  var configuration = files.configuration()
  configuration.applicationProtocols = ["http/1.1"]
  let context = try TLSContext(configuration)
  let seen = Mutex<ConnectionSecurity?>(nil)
  let before = Mutex<Bool?>(nil)
  try withReactor { reactor in
    let address = reactor.serve(context) { connection, handler in
      before.withLock { $0 = connection.security == nil }
      handler.received = { [unowned connection] input in
        seen.withLock { $0 = connection.security }
        connection.write([input.take(input.count)])
      }
    }
    var asked = files.client()
    asked.applicationProtocols = ["h2", "http/1.1"]
    let client = try TLSClient(address, asked)
    try client.send(Array("hello".utf8))
    #expect(try client.receiveExactly(5) == Array("hello".utf8))
    let large = tlsPattern(3_000_000)
    // One thread may use the client at once, so parts that fit the sockets' buffers go back and forth.
    for start in stride(from: 0, to: large.count, by: 50_000) {
      let part = Array(large[start..<min(large.count, start + 50_000)])
      try client.send(part)
      #expect(try client.receiveExactly(part.count) == part)
    }
    #expect(client.security?.version == "TLSv1.3")
    #expect(client.security?.applicationProtocol == "http/1.1")
    #expect(client.security?.peerCertificate?.dnsNames == ["localhost"])
    #expect(client.security?.peerCertificate?.addresses == ["127.0.0.1", "::1"])
    let server = try #require(seen.withLock { $0 })
    #expect(server.version == "TLSv1.3" && server.cipherSuite == client.security?.cipherSuite)
    #expect(server.cipherSuite.hasPrefix("TLS_"))
    #expect(server.applicationProtocol == "http/1.1" && server.peerCertificate == nil)
    #expect(before.withLock { $0 } == true)
  }
  #expect(context.figures == TLSContext.Figures(handshakes: 1, failures: 0))
}

/// Connects, and sends a byte so that a refusal after the client's side of the handshake shows too (TLS 1.3).
private func refusal(_ address: SocketAddress, _ configuration: TLSClientConfiguration) throws -> String? {
  do {
    let client = try TLSClient(address, configuration)
    try client.send([1])
    #expect(try client.receiveExactly(1) == [1])
    return nil
  } catch {
    return "\(error)"
  }
}

/// Lines that were logged.
private final class Lines: Sendable {
  private let lines = Mutex<[String]>([])
  var all: [String] { lines.withLock { $0 } }
  var logger: Logger { Logger(minimum: .debug) { [self] _, line in lines.withLock { $0.append(line) } } }
}

@Test("a client refuses a server of another authority, of another host, or out of its time, and says why")
func clientRefusesServers() throws {
  let files = try Certificates()
  let other = try CertificateMaker(new: CertificatePlan(.authority, commonName: "Another authority", days: 10))
  try files.write("other", other.own)
  let old = Timestamp(milliseconds: Timestamp.now.milliseconds - 20 * 86_400_000)
  try files.write("old", try files.issue(.server, "localhost", hosts: ["127.0.0.1"], now: old))
  let coming = Timestamp(milliseconds: Timestamp.now.milliseconds + 86_400_000)
  try files.write("coming", try files.issue(.server, "localhost", hosts: ["127.0.0.1"], now: coming))
  let lines = Lines()
  try withReactor { reactor in
    let context = try TLSContext(files.configuration())
    let address = reactor.serve(context, logger: lines.logger, echo)
    #expect(try refusal(address, files.client()) == nil)
    #expect(try refusal(address, files.client(serverName: "localhost")) == nil)
    let wrongAuthority = try #require(try refusal(address, files.client(authority: "other")))
    #expect(wrongAuthority.contains("unable to get local issuer certificate"))
    let wrongHost = try #require(try refusal(address, files.client(serverName: "example.org")))
    #expect(wrongHost.contains("hostname mismatch"))
    let wrongAddress = try #require(try refusal(address, files.client(serverName: "127.0.0.2")))
    #expect(wrongAddress.contains("IP address mismatch"))
    let noName = try #require(try refusal(address, files.client(serverName: "not a name")))
    #expect(noName.contains("neither a host's name nor an IP address"))
    for (name, words) in [("old", "certificate has expired"), ("coming", "certificate is not yet valid")] {
      let late = try TLSContext(files.configuration(name))
      #expect(late.warnings(at: .now).map(\.subject) == [files.path("\(name).pem")])
      let address = reactor.serve(late, echo)
      #expect(try #require(try refusal(address, files.client())).contains(words))
    }
    #expect(context.figures.handshakes == 2)
  }
  // The client's alert says why it went.
  #expect(
    lines.all.contains { $0.contains("TLS handshake failed: ") && $0.contains("unknown ca") && $0.contains("peer=") })
}

@Test("client certificates: absent, of another authority, out of time, revoked and valid ones, requested or required")
func clientCertificates() throws {
  let files = try Certificates()
  let other = try CertificateMaker(new: CertificatePlan(.authority, commonName: "Another authority", days: 10))
  try files.write("mallory", try other.issue(CertificatePlan(.client, commonName: "mallory", days: 10)))
  let old = Timestamp(milliseconds: Timestamp.now.milliseconds - 20 * 86_400_000)
  try files.write("old", try files.issue(.client, "old", now: old))
  try files.write("server-as-client", try files.issue(.server, "localhost", hosts: ["localhost"]))
  try files.write("bob", try files.issue(.client, "bob"))
  try files.write("revoked.crl", try revocationList(files, of: ["bob"]))
  let subject = Mutex<String?>(nil)
  try withReactor { reactor in
    func serve(_ configuration: TLSConfiguration) throws -> SocketAddress {
      reactor.serve(try TLSContext(configuration)) { connection, handler in
        handler.received = { [unowned connection] input in
          subject.withLock { $0 = connection.security?.peerCertificate?.subject }
          connection.write([input.take(input.count)])
        }
      }
    }
    let requested = try serve(files.configuration("server", .requested))
    let required = try serve(files.configuration("server", .required))
    #expect(try refusal(requested, files.client()) == nil)
    #expect(subject.withLock { $0 } == nil)
    #expect(try #require(try refusal(required, files.client())).contains("certificate required"))
    for address in [requested, required] {
      subject.withLock { $0 = nil }
      #expect(try refusal(address, files.client("alice")) == nil)
      #expect(subject.withLock { $0 } == "CN=alice")
      #expect(try #require(try refusal(address, files.client("mallory"))).contains("unknown ca"))
      #expect(try #require(try refusal(address, files.client("old"))).contains("certificate expired"))
      #expect(try #require(try refusal(address, files.client("server-as-client"))).contains("alert"))
    }
    var configuration = files.configuration("server", .required)
    configuration.revocationFile = files.path("revoked.crl")
    let checking = try serve(configuration)
    #expect(try refusal(checking, files.client("alice")) == nil)
    #expect(try #require(try refusal(checking, files.client("bob"))).contains("revoked"))
    #expect(try refusal(required, files.client("bob")) == nil)
    // A list that is out of date lets nobody in, and there is a warning.
    try files.write("old.crl", try revocationList(files, of: [], now: old))
    configuration.revocationFile = files.path("old.crl")
    #expect(try TLSContext(configuration).warnings(at: .now).map(\.code) == [.badRevocationList])
    #expect(try refusal(try serve(configuration), files.client("alice")) != nil)
  }
}

@Test("a client that speaks plain text to a TLS port is told so and closed, and the line says who it was")
func plainTextOnTLSPort() throws {
  let files = try Certificates()
  let lines = Lines()
  let ledger = Ledger()
  try withReactor { reactor in
    let context = try TLSContext(files.configuration())
    let address = reactor.serve(context, logger: lines.logger) { _, handler in
      handler.received = { _ in ledger.add("offered") }
      handler.closed = { error in ledger.add(error == nil ? "clean" : "failed") }
    }
    // A Kafka ApiVersions request, AMQP's greeting, and HTTP's.
    let kafka: [UInt8] = [0, 0, 0, 20, 0, 18, 0, 0, 0, 0, 0, 1, 0, 10] + Array("rdkafka-id".utf8)
    for (index, text) in [kafka, Array("AMQP".utf8) + [0, 0, 9, 1], Array("GET / HTTP/1.1\r\n\r\n".utf8)].enumerated() {
      let client = try Client(address)
      defer { client.close() }
      try client.send(text)
      let answer = try client.receiveToEnd()
      // An alert record or nothing, but an end.
      #expect(answer.isEmpty || answer.first == 21)
      ledger.wait("failed", atLeast: index + 1)
    }
    // Whoever leaves without a word is no failure worth a line.
    try Client(address).close()
    ledger.wait("failed", atLeast: 4)
    #expect(ledger["offered"] == 0)
    #expect(context.figures == TLSContext.Figures(handshakes: 0, failures: 3))
  }
  #expect(lines.all.count == 1 && lines.all[0].contains("peer=127.0.0.1:"))
}

@Test("new files serve new connections, open ones stay, and bad files change nothing")
func reloading() throws {
  let files = try Certificates()
  let context = try TLSContext(files.configuration())
  try withReactor { reactor in
    let address = reactor.serve(context, echo)
    let early = try TLSClient(address, files.client())
    let first = try #require(early.security?.peerCertificate?.fingerprint)
    try files.write("server", try files.issue(.server, "localhost", hosts: ["127.0.0.1"]))
    #expect(try #require(try TLSClient(address, files.client()).security?.peerCertificate).fingerprint == first)
    try context.reload()
    let second = try #require(try TLSClient(address, files.client()).security?.peerCertificate).fingerprint
    #expect(second != first && second == context.certificate.fingerprint)

    try files.write("server.key", Array("no key".utf8))
    let refused = #expect(throws: TLSError.self) { try context.reload() }
    #expect(refused?.code == .badKey && refused?.subject == files.path("server.key"))
    #expect(try #require(try TLSClient(address, files.client()).security?.peerCertificate).fingerprint == second)
    try early.send([7])
    #expect(try early.receiveExactly(1) == [7])
  }
}

@Test("TLS 1.3 alone is spoken, and a client that offers other protocols only is refused")
func versionsAndProtocols() throws {
  let files = try Certificates()
  try withReactor { reactor in
    var configuration = files.configuration()
    configuration.minimumVersion = .tls13
    configuration.applicationProtocols = ["http/1.1"]
    let address = reactor.serve(try TLSContext(configuration), echo)
    #expect(try refusal(address, files.client()) == nil)
    var other = files.client()
    other.applicationProtocols = ["h2"]
    #expect(try #require(try refusal(address, other)).contains("no application protocol"))
  }
}
