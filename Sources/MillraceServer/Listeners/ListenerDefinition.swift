// ListenerDefinition: one `--listener`: protocol, address, encryption, and what clients must prove.
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

/// Where files of TLS are; nil where none was named.
struct TLSFiles: Equatable, Sendable {
  var certificate: String?
  var key: String?
  var clientAuthority: String?
  var revocations: String?

  /// These, and where there are none, those of `other`.
  func completed(by other: TLSFiles) -> TLSFiles {
    TLSFiles(
      certificate: certificate ?? other.certificate, key: key ?? other.key,
      clientAuthority: clientAuthority ?? other.clientAuthority, revocations: revocations ?? other.revocations)
  }
}

/// A listener as it was asked for.
public struct ListenerDefinition: Equatable, Sendable {
  /// What is spoken there.
  enum Service: String, CaseIterable, Sendable {
    case kafka
    case amqp
    case http
  }

  /// Why a text is no listener.
  struct Problem: Error, Equatable {
    var text: String
    init(_ text: String) { self.text = text }
  }

  var service: Service
  /// Numeric, or `localhost`.
  var host: String
  /// 0 takes any free one.
  var port: UInt16
  var isEncrypted: Bool
  /// What clients may prove who they are with; nil as ``usualMechanisms`` says, empty for nothing.
  var mechanisms: [SaslMechanism]?
  var advertised: SocketAddress?
  /// Nil: required where a certificate is the only proof, requested where it is one of several, none otherwise.
  var clientCertificates: TLSConfiguration.ClientCertificates?
  var files = TLSFiles()

  private static let schemes: [(name: String, service: Service, isEncrypted: Bool)] = [
    ("kafka", .kafka, false), ("kafka+tls", .kafka, true), ("amqp", .amqp, false), ("amqps", .amqp, true),
    ("http", .http, false), ("https", .http, true),
  ]

  /// The word for it in the ready line, and in a definition.
  var scheme: String {
    ListenerDefinition.schemes.first { $0.service == service && $0.isEncrypted == isEncrypted }?.name
      ?? service.rawValue
  }

  /// The same with TLS.
  private var encryptedScheme: String {
    ListenerDefinition.schemes.first { $0.service == service && $0.isEncrypted }?.name ?? scheme
  }

  init(_ service: Service, host: String, port: UInt16, isEncrypted: Bool = false, mechanisms: [SaslMechanism]? = nil) {
    self.service = service
    self.host = host
    self.port = port
    self.isEncrypted = isEncrypted
    self.mechanisms = mechanisms
  }

  /// Reads a definition.
  init(_ text: String) throws(Problem) {
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
      guard let address = ServerAddress(value) else {
        throw Problem("advertise in \"\(whole)\" must be HOST:PORT, not \"\(value)\"")
      }
      advertised = SocketAddress(host: address.host, port: address.port)
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

// What follows of a definition.
extension ListenerDefinition {
  /// The numeric addresses to listen on.
  var addresses: [String] { host == "localhost" ? ["127.0.0.1", "::1"] : [host] }

  /// Whether only this machine can connect.
  var isLoopback: Bool {
    addresses.allSatisfy { $0 == "::1" || $0.hasPrefix("127.") || $0.hasPrefix("::ffff:127.") }
  }

  /// What clients must prove when nothing was said: nothing on this machine without encryption; else passwords.
  private var usualMechanisms: [SaslMechanism] {
    if isLoopback && !isEncrypted { return [] }
    switch service {
    case .kafka: return isEncrypted ? [.plain, .scramSHA256, .scramSHA512] : [.scramSHA256, .scramSHA512]
    case .amqp, .http: return [.plain]
    }
  }

  /// What clients must prove.
  var effectiveMechanisms: [SaslMechanism] { mechanisms ?? usualMechanisms }

  /// Whether clients are asked for certificates.
  var effectiveClientCertificates: TLSConfiguration.ClientCertificates {
    if let clientCertificates { return clientCertificates }
    guard effectiveMechanisms.contains(.external) else { return .none }
    return effectiveMechanisms == [.external] ? .required : .requested
  }

  /// What is wrong with it as a whole; nil when nothing is.
  /// - Parameters:
  ///   - allowsInsecure: whether others may connect without encryption or proof.
  ///   - tokenKeys: the file with the keys of whoever signs tokens.
  func problem(allowsInsecure: Bool, files common: TLSFiles, tokenKeys: String? = nil) -> String? {
    let files = files.completed(by: common)
    let mechanisms = effectiveMechanisms
    let name = "\(scheme)://\(SocketAddress(host: host, port: port))"
    if isEncrypted {
      guard files.certificate != nil, files.key != nil else {
        return "\(name) needs a certificate and its key: --tls-certificate FILE --tls-key FILE; `millrace certs` makes "
          + "them for a test"
      }
      if effectiveClientCertificates != .none, files.clientAuthority == nil {
        return "\(name) asks clients for certificates, and needs --tls-client-ca FILE to judge them by"
      }
    } else {
      if mechanisms.contains(.external) {
        return "\(name) cannot see certificates without TLS: write \(encryptedScheme)://"
      }
      if self.files != TLSFiles() || clientCertificates != nil {
        return "\(name) has files of TLS, but none of it: write \(encryptedScheme)://"
      }
    }
    if service != .kafka, mechanisms.contains(where: { $0.scram != nil }) {
      return "\(name): only Kafka's clients know SCRAM: auth is plain, certificate, oauth, or several of them"
    }
    if mechanisms.contains(.external), effectiveClientCertificates == .none {
      return "\(name) lets certificates prove who clients are, and asks for none: client-certificates=requested"
    }
    if mechanisms.contains(.bearer), tokenKeys == nil {
      return "\(name) takes tokens, and needs the keys of whoever signs them: --set "
        + "sasl.oauthbearer.jwks.endpoint.url=FILE"
    }
    guard !isLoopback, !allowsInsecure else { return nil }
    if !isEncrypted || mechanisms.isEmpty {
      let lacks = [isEncrypted ? nil : "encryption", mechanisms.isEmpty ? "authentication" : nil].compactMap { $0 }
      return
        "\(name) is open to other machines without \(lacks.joined(separator: " and ")): listen with --listener "
        + "\(encryptedScheme)://\(SocketAddress(host: host, port: port))?auth="
        + "\(service == .kafka ? "scram" : "plain") --tls-certificate FILE --tls-key FILE, or say "
        + "--insecure-listener if everybody may read and write everything"
    }
    return nil
  }
}
