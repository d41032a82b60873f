// ListenerDefinitionTests: what a listener's URL says, what it leaves to be filled in, and what is refused with a reason.

import Millrace
import MillraceIO
import MillraceSecurity
import Testing

@testable import MillraceServer

private func definition(_ text: String) throws -> ListenerDefinition { try ListenerDefinition(text) }

@Test("a listener's URL names protocol, address and all that it asks for")
func readsURLs() throws {
  let full = try definition(
    "kafka+tls://[::1]:9093?auth=scram,plain&advertise=broker.example.com:19093&client-certificates=requested"
      + "&certificate=c&key=k&client-ca=a&crl=r")
  #expect(full.service == .kafka && full.isEncrypted && full.host == "::1" && full.port == 9093)
  #expect(full.mechanisms == [.plain, .scramSHA256, .scramSHA512])
  #expect(full.advertised == SocketAddress(host: "broker.example.com", port: 19093))
  #expect(full.clientCertificates == .requested)
  #expect(full.files == TLSFiles(certificate: "c", key: "k", clientAuthority: "a", revocations: "r"))
  #expect(full.scheme == "kafka+tls")
  let bare = try definition("amqp://localhost:0")
  #expect(bare.service == .amqp && !bare.isEncrypted && bare.addresses == ["127.0.0.1", "::1"] && bare.port == 0)
  #expect(bare.mechanisms == nil && bare.effectiveMechanisms.isEmpty && bare.isLoopback)
  #expect(try definition("kafka://127.0.0.1:1?auth=oauth,plain").mechanisms == [.plain, .bearer])
}

@Test("tokens need the keys of whoever signs them, and are no more taken in the clear than passwords are")
func tokens() throws {
  for text in [
    "kafka+tls://0.0.0.0:1?auth=oauth", "amqps://0.0.0.0:1?auth=oauth", "https://0.0.0.0:1?auth=plain,oauth",
  ] {
    let one = try definition(text)
    #expect(one.problem(allowsInsecure: false, files: files, tokenKeys: "k") == nil, "\(text)")
    #expect(
      one.problem(allowsInsecure: false, files: files)?.contains("sasl.oauthbearer.jwks.endpoint.url") == true,
      "\(text)")
  }
  for text in ["kafka://0.0.0.0:1?auth=oauth", "amqp://10.0.0.1:1?auth=oauth", "http://[::]:1?auth=oauth"] {
    let one = try definition(text)
    #expect(
      one.problem(allowsInsecure: false, files: files, tokenKeys: "k")?.contains("without encryption") == true,
      "\(text)")
  }
}

@Test("what cannot be read is refused, and the words that are wrong are named")
func refusesURLs() throws {
  for (text, words) in [
    ("", "SCHEME"), ("kafka", "SCHEME"), ("mqtt://127.0.0.1:1", "mqtt"), ("kafka://127.0.0.1", "HOST:PORT"),
    ("kafka://127.0.0.1:x", "HOST:PORT"), ("kafka://127.0.0.1:65536", "HOST:PORT"), ("kafka://::1:9092", "brackets"),
    ("kafka://example.com:9092", "example.com"), ("kafka://:9092", "numeric"),
    ("kafka://127.0.0.1:1?auth", "NAME=VALUE"),
    ("kafka://127.0.0.1:1?auth=", "no value"), ("kafka://127.0.0.1:1?auth=none&auth=none", "more than once"),
    ("kafka://127.0.0.1:1?auth=gssapi", "gssapi"), ("kafka://127.0.0.1:1?auth=none,plain", "none"),
    ("kafka://127.0.0.1:1?colour=red", "colour"), ("amqp://127.0.0.1:1?advertise=a:1", "advertise"),
    ("kafka://127.0.0.1:1?advertise=a", "advertise"), ("kafka+tls://127.0.0.1:1?client-certificates=maybe", "maybe"),
    ("kafka://127.0.0.1:1?", "NAME=VALUE"),
  ] {
    do throws(ListenerDefinition.Problem) {
      _ = try ListenerDefinition(text)
      Issue.record("\(text) was taken")
    } catch {
      #expect(error.text.contains(words), "\(text): \(error.text)")
    }
  }
}

private let files = TLSFiles(certificate: "c", key: "k", clientAuthority: nil, revocations: nil)

@Test("a listener that others can reach needs encryption and a proof, or the word of whoever starts it")
func exposedListeners() throws {
  for text in [
    "kafka://0.0.0.0:1", "kafka://[::]:1?auth=scram", "kafka://10.0.0.1:1?auth=none", "amqp://192.0.2.1:1",
    "kafka+tls://0.0.0.0:1?auth=none",
  ] {
    let one = try definition(text)
    let problem = one.problem(allowsInsecure: false, files: files)
    #expect(
      problem?.contains("--insecure-listener") == true && problem?.contains("--tls-certificate") == true, "\(text)")
    #expect(one.problem(allowsInsecure: true, files: files) == nil, "\(text)")
  }
  for text in [
    "kafka+tls://0.0.0.0:1", "amqps://0.0.0.0:1", "kafka://127.0.0.1:1", "kafka://127.3.2.1:1", "kafka://[::1]:1",
    "kafka://[::ffff:127.0.0.1]:1", "kafka://localhost:1?auth=scram",
  ] {
    #expect(try definition(text).problem(allowsInsecure: false, files: files) == nil, "\(text)")
  }
}

@Test("what contradicts itself is refused with the words that mend it")
func contradictions() throws {
  for (text, words) in [
    ("kafka://127.0.0.1:1?auth=certificate", "kafka+tls"), ("amqp://127.0.0.1:1?auth=certificate", "amqps"),
    ("kafka://127.0.0.1:1?key=k", "kafka+tls"), ("amqp://127.0.0.1:1?client-certificates=required", "amqps"),
    ("amqps://127.0.0.1:1?auth=scram", "SCRAM"), ("https://127.0.0.1:1?auth=scram", "SCRAM"),
    ("http://127.0.0.1:1?auth=certificate", "https"), ("kafka+tls://127.0.0.1:1?auth=certificate", "--tls-client-ca"),
    ("kafka+tls://127.0.0.1:1?auth=plain&client-certificates=required", "--tls-client-ca"),
    ("kafka+tls://127.0.0.1:1?auth=certificate&client-certificates=none&client-ca=a", "requested"),
  ] {
    #expect(try definition(text).problem(allowsInsecure: true, files: files)?.contains(words) == true, "\(text)")
  }
  #expect(
    try definition("kafka+tls://127.0.0.1:1").problem(allowsInsecure: true, files: TLSFiles())?
      .contains("--tls-certificate") == true)
}

@Test("what is advertised is an address, and of Kafka's listeners, also where no URL was read")
func advertisedAddresses() {
  func problem(_ service: ListenerDefinition.Service, _ host: String, _ port: UInt16) -> String? {
    var one = ListenerDefinition(service, port: 1)
    one.advertised = SocketAddress(host: host, port: port)
    return one.problem(allowsInsecure: false, files: files)
  }
  #expect(problem(.kafka, "broker.example.com", 1) == nil)
  for service in [ListenerDefinition.Service.amqp, .http] {
    #expect(problem(service, "broker.example.com", 1)?.contains("Kafka's clients") == true)
  }
  #expect(problem(.kafka, "broker.example.com", 0)?.contains("without a host or a port") == true)
  #expect(problem(.kafka, "", 1)?.contains("without a host or a port") == true)
}

@Test("proofs and certificates that nobody named follow from who can connect, and how")
func fillsIn() throws {
  func filled(_ text: String) throws -> ([SaslMechanism], TLSConfiguration.ClientCertificates) {
    let one = try definition(text)
    return (one.effectiveMechanisms, one.effectiveClientCertificates)
  }
  #expect(try filled("kafka://127.0.0.1:1") == ([], .none))
  #expect(try filled("kafka+tls://127.0.0.1:1") == ([.plain, .scramSHA256, .scramSHA512], .none))
  #expect(try filled("kafka://0.0.0.0:1") == ([.scramSHA256, .scramSHA512], .none))
  #expect(try filled("amqps://0.0.0.0:1") == ([.plain], .none))
  #expect(try filled("amqps://0.0.0.0:1?auth=certificate") == ([.external], .required))
  #expect(try filled("amqps://0.0.0.0:1?auth=certificate,plain") == ([.plain, .external], .requested))
}
