// ListenerDefinition+Rules: what follows of a listener's definition, and what is wrong with one: the same for the library and `serve`.

import MillraceIO
import MillraceSecurity

/// What is wrong with a listener's definition as a whole.
package struct ListenerFlaw: Equatable, Sendable {
  /// What mends it. Whoever tells a person of it knows the words for that.
  package enum Remedy: Equatable, Sendable {
    /// A numeric address, or `localhost`.
    case numericHost
    /// A certificate and its key.
    case certificate
    /// The authorities of clients' certificates.
    case clientAuthority
    /// TLS.
    case encryption
    /// Mechanisms that the protocol knows.
    case otherMechanisms
    /// Clients asked for certificates.
    case clientCertificates
    /// An address for Kafka's clients.
    case advertised
    /// The keys of whoever signs tokens.
    case tokenKeys
    /// Encryption and authentication, or the word of whoever starts it.
    case closing
  }

  /// What is wrong, beginning with the listener's URL.
  package let statement: String
  package let remedy: Remedy
}

extension ListenerDefinition {
  /// The numeric addresses to listen on.
  package var addresses: [String] { host == "localhost" ? ["127.0.0.1", "::1"] : [host] }

  /// Scheme, address and port.
  package var url: String { "\(scheme)://\(SocketAddress(host: host, port: port))" }

  /// Whether only this machine can connect.
  package var isLoopback: Bool {
    addresses.allSatisfy { $0 == "::1" || $0.hasPrefix("127.") || $0.hasPrefix("::ffff:127.") }
  }

  /// Whether others can connect without encryption, or without saying who they are.
  package var isInsecure: Bool { !isLoopback && (!isEncrypted || effectiveMechanisms.isEmpty) }

  /// What clients must prove when nothing was said: nothing on this machine without encryption; else passwords.
  private var usualMechanisms: [SaslMechanism] {
    if isLoopback && !isEncrypted { return [] }
    switch service {
    case .kafka: return isEncrypted ? [.plain, .scramSHA256, .scramSHA512] : [.scramSHA256, .scramSHA512]
    case .amqp, .http: return [.plain]
    }
  }

  /// What clients must prove.
  package var effectiveMechanisms: [SaslMechanism] { mechanisms ?? usualMechanisms }

  /// Whether clients are asked for certificates.
  package var effectiveClientCertificates: TLSConfiguration.ClientCertificates {
    if let clientCertificates { return clientCertificates }
    guard effectiveMechanisms.contains(.external) else { return .none }
    return effectiveMechanisms == [.external] ? .required : .requested
  }

  /// How it speaks TLS.
  /// - Parameter common: files in place of those that it does not name.
  package func tlsConfiguration(_ common: TLSFiles) -> TLSConfiguration {
    let files = files.completed(by: common)
    let certificates = effectiveClientCertificates
    return TLSConfiguration(
      certificateFile: files.certificate ?? "", keyFile: files.key ?? "",
      clientAuthorityFile: certificates == .none ? nil : files.clientAuthority, clientCertificates: certificates,
      revocationFile: certificates == .none ? nil : files.revocations,
      applicationProtocols: service == .http ? ["http/1.1"] : [])
  }

  /// What is wrong with it as a whole; nil when nothing is.
  /// - Parameters:
  ///   - allowsInsecure: whether others may connect without encryption or proof.
  ///   - common: files in place of those that it does not name.
  ///   - tokenKeys: the file with the keys of whoever signs tokens.
  package func flaw(allowsInsecure: Bool, files common: TLSFiles, tokenKeys: String?) -> ListenerFlaw? {
    func flaw(_ statement: String, _ remedy: ListenerFlaw.Remedy) -> ListenerFlaw {
      ListenerFlaw(statement: "\(url) \(statement)", remedy: remedy)
    }
    guard addresses.allSatisfy({ SocketAddress(host: $0, port: port).isNumeric }) else {
      return flaw("has neither a numeric address nor localhost", .numericHost)
    }
    if let advertised {
      guard service == .kafka else {
        return flaw("advertises an address, which only Kafka's clients ask for", .advertised)
      }
      guard advertised.port != 0, !advertised.host.isEmpty else {
        return flaw("advertises an address without a host or a port", .advertised)
      }
    }
    let files = files.completed(by: common)
    let mechanisms = effectiveMechanisms
    if isEncrypted {
      guard files.certificate != nil, files.key != nil else {
        return flaw("needs a certificate and its key", .certificate)
      }
      if effectiveClientCertificates != .none, files.clientAuthority == nil {
        return flaw("asks clients for certificates, and needs authorities to judge them by", .clientAuthority)
      }
    } else {
      if mechanisms.contains(.external) { return flaw("cannot see certificates without TLS", .encryption) }
      if self.files != TLSFiles() || clientCertificates != nil {
        return flaw("has files of TLS, but none of it", .encryption)
      }
    }
    if service != .kafka, mechanisms.contains(where: { $0.scram != nil }) {
      return flaw("cannot take SCRAM, which only Kafka's clients know", .otherMechanisms)
    }
    if mechanisms.contains(.external), effectiveClientCertificates == .none {
      return flaw("lets certificates prove who clients are, and asks for none", .clientCertificates)
    }
    if mechanisms.contains(.bearer), tokenKeys == nil {
      return flaw("takes tokens, and needs the keys of whoever signs them", .tokenKeys)
    }
    guard isInsecure, !allowsInsecure else { return nil }
    let lacks = [isEncrypted ? nil : "encryption", mechanisms.isEmpty ? "authentication" : nil].compactMap { $0 }
    return flaw("is open to other machines without \(lacks.joined(separator: " and "))", .closing)
  }
}
