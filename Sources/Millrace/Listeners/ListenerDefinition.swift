// ListenerDefinition: where clients of a protocol connect: address, encryption, and what they must prove; as a value and as a URL.
//
//   SCHEME://HOST:PORT[?NAME=VALUE[&NAME=VALUE…]]
//
// SCHEME is kafka, kafka+tls, amqp, amqps, http or https; HOST a numeric address or localhost. Names:
//   auth                 none, or a list of scram, scram-sha-256, scram-sha-512, plain, certificate, oauth
//   advertise            HOST:PORT that Kafka's clients are told to connect to
//   client-certificates  none, requested or required
//   certificate, key, client-ca, crl   files of this listener in place of --tls-certificate and so on

import MillraceBase
import MillraceIO
import MillraceSecurity

/// Where files of TLS are; nil where none was named. All of them are PEM.
public struct TLSFiles: Equatable, Sendable {
  /// The server's certificate, then those between it and its authority, in order.
  public var certificate: String?
  /// The private key of that certificate, not encrypted.
  public var key: String?
  /// The authorities that clients' certificates must come from.
  public var clientAuthority: String?
  /// Lists of clients' certificates that are revoked.
  public var revocations: String?

  /// Where files are.
  public init(
    certificate: String? = nil, key: String? = nil, clientAuthority: String? = nil, revocations: String? = nil
  ) {
    self.certificate = certificate
    self.key = key
    self.clientAuthority = clientAuthority
    self.revocations = revocations
  }

  /// These, and where there are none, those of `other`.
  package func completed(by other: TLSFiles) -> TLSFiles {
    TLSFiles(
      certificate: certificate ?? other.certificate, key: key ?? other.key,
      clientAuthority: clientAuthority ?? other.clientAuthority, revocations: revocations ?? other.revocations)
  }
}

/// A listener as it is asked for: of ``EmbeddedBroker/listen(_:allowsInsecure:)``, and of `millrace serve --listener`.
///
///     var listener = ListenerDefinition(.kafka, host: "0.0.0.0", port: 9093, isEncrypted: true)
///     listener.mechanisms = [.scramSHA256, .scramSHA512]
///     listener.files = TLSFiles(certificate: "server.pem", key: "server.key")
public struct ListenerDefinition: Equatable, Sendable {
  /// What is spoken there.
  public enum Service: String, CaseIterable, Sendable {
    /// Kafka's protocol.
    case kafka
    /// AMQP 0-9-1.
    case amqp
    /// The HTTP API, metrics and health.
    case http
  }

  /// Why a text is no listener.
  public struct Problem: Error, Equatable, CustomStringConvertible {
    /// What is wrong, with the words that are.
    public var text: String
    init(_ text: String) { self.text = text }
    /// What is wrong.
    public var description: String { text }
  }

  /// What is spoken there.
  public var service: Service
  /// A numeric address, or `localhost`, which is 127.0.0.1 and ::1.
  public var host: String
  /// The port; 0 takes any free one.
  public var port: UInt16
  /// Whether connections are encrypted (TLS 1.2 and 1.3); needs ``files``.
  public var isEncrypted: Bool
  /// What clients may prove who they are with; empty for nothing. Nil: nothing on this machine without TLS, else passwords.
  public var mechanisms: [SaslMechanism]?
  /// What Kafka's clients are told to connect to; nil tells each the address it has connected to.
  public var advertised: SocketAddress?
  /// Whether clients show a certificate. Nil: required where one is the only proof, requested where it is one of several, none
  /// otherwise.
  public var clientCertificates: TLSConfiguration.ClientCertificates?
  /// The certificate and the other files of TLS.
  public var files = TLSFiles()

  private static let schemes: [(name: String, service: Service, isEncrypted: Bool)] = [
    ("kafka", .kafka, false), ("kafka+tls", .kafka, true), ("amqp", .amqp, false), ("amqps", .amqp, true),
    ("http", .http, false), ("https", .http, true),
  ]

  /// The word for it in the ready line, and in a definition.
  package var scheme: String {
    ListenerDefinition.schemes.first { $0.service == service && $0.isEncrypted == isEncrypted }?.name
      ?? service.rawValue
  }

  /// The same with TLS.
  package var encryptedScheme: String {
    ListenerDefinition.schemes.first { $0.service == service && $0.isEncrypted }?.name ?? scheme
  }

  /// A listener with what cannot be left out.
  public init(
    _ service: Service, host: String = "127.0.0.1", port: UInt16 = 0, isEncrypted: Bool = false,
    mechanisms: [SaslMechanism]? = nil
  ) {
    self.service = service
    self.host = host
    self.port = port
    self.isEncrypted = isEncrypted
    self.mechanisms = mechanisms
  }

  /// Reads a definition: `SCHEME://HOST:PORT[?NAME=VALUE[&NAME=VALUE…]]`, as `millrace serve --listener` takes it.
  /// - Throws: ``Problem`` with the words that are wrong.
  public init(_ text: String) throws(Problem) {
    guard let mark = text.firstRange(of: "://") else {
      throw Problem("\"\(text)\" is no SCHEME://HOST:PORT")
    }
    let name = text[..<mark.lowerBound]
    guard let scheme = ListenerDefinition.schemes.first(where: { $0.name == name }) else {
      let known = ListenerDefinition.schemes.map(\.name).joined(separator: ", ")
      throw Problem("\"\(name)\" in \"\(text)\" is none of \(known)")
    }
    service = scheme.service
    isEncrypted = scheme.isEncrypted
    let rest = text[mark.upperBound...]
    let question = rest.firstIndex(of: "?") ?? rest.endIndex
    (host, port) = try ListenerDefinition.address(rest[..<question], of: text)
    guard question < rest.endIndex else { return }
    var seen: Set<Substring> = []
    for pair in rest[rest.index(after: question)...].split(separator: "&", omittingEmptySubsequences: false) {
      guard let equals = pair.firstIndex(of: "=") else { throw Problem("\"\(pair)\" in \"\(text)\" is no NAME=VALUE") }
      let name = pair[..<equals]
      guard seen.insert(name).inserted else { throw Problem("\"\(name)\" stands in \"\(text)\" more than once") }
      try set(name, String(pair[pair.index(after: equals)...]), of: text)
    }
  }

  private static func address(_ text: Substring, of whole: String) throws(Problem) -> (String, UInt16) {
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
      throw Problem("\"\(text)\" in \"\(whole)\" is no HOST:PORT")
    }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      throw Problem("an IPv6 address stands in brackets, not as \"\(text)\" in \"\(whole)\"")
    }
    guard host == "localhost" || SocketAddress(host: String(host), port: 0).isNumeric else {
      throw Problem("\"\(host)\" in \"\(whole)\" is no numeric address; a listener has one, or localhost")
    }
    return (String(host), port)
  }

  private mutating func set(_ name: Substring, _ value: String, of whole: String) throws(Problem) {
    guard !value.isEmpty else { throw Problem("\(name) in \"\(whole)\" has no value") }
    switch name {
    case "auth": mechanisms = try ListenerDefinition.mechanisms(value, of: whole)
    case "advertise":
      guard service == .kafka else { throw Problem("advertise in \"\(whole)\" is for Kafka's clients alone") }
      guard let address = SocketAddress(hostAndPort: value) else {
        throw Problem("advertise in \"\(whole)\" must be HOST:PORT, not \"\(value)\"")
      }
      advertised = address
    case "client-certificates":
      switch value {
      case "none": clientCertificates = TLSConfiguration.ClientCertificates.none
      case "requested": clientCertificates = .requested
      case "required": clientCertificates = .required
      default:
        throw Problem("client-certificates in \"\(whole)\" must be none, requested or required, not \"\(value)\"")
      }
    case "certificate": files.certificate = value
    case "key": files.key = value
    case "client-ca": files.clientAuthority = value
    case "crl": files.revocations = value
    default:
      throw Problem(
        "\"\(name)\" in \"\(whole)\" is none of auth, advertise, client-certificates, certificate, key, client-ca, crl")
    }
  }

  private static func mechanisms(_ value: String, of whole: String) throws(Problem) -> [SaslMechanism] {
    if value == "none" { return [] }
    var found: [SaslMechanism] = []
    for word in value.split(separator: ",", omittingEmptySubsequences: false) {
      switch word {
      case "scram": found += [.scramSHA256, .scramSHA512]
      case "scram-sha-256": found.append(.scramSHA256)
      case "scram-sha-512": found.append(.scramSHA512)
      case "plain": found.append(.plain)
      case "certificate": found.append(.external)
      case "oauth": found.append(.bearer)
      default:
        throw Problem(
          "auth in \"\(whole)\" is none, or a list of scram, scram-sha-256, scram-sha-512, plain, certificate, oauth; not "
            + "\"\(word)\"")
      }
    }
    return SaslMechanism.allCases.filter(found.contains)
  }
}
