// SaslMechanism: the ways in which a client can say who it is, under the names that SASL registers.

/// A mechanism.
public enum SaslMechanism: String, CaseIterable, Sendable {
  /// User and password as they are (RFC 4616).
  case plain = "PLAIN"
  /// A password that does not leave the client (RFC 5802, RFC 7677).
  case scramSHA256 = "SCRAM-SHA-256"
  /// The same with SHA-512.
  case scramSHA512 = "SCRAM-SHA-512"
  /// A token that somebody signed (RFC 7628).
  case bearer = "OAUTHBEARER"
  /// Who the certificate says (RFC 4422, appendix A).
  case external = "EXTERNAL"

  /// The SCRAM mechanism, if it is one.
  public var scram: ScramMechanism? {
    switch self {
    case .scramSHA256: .sha256
    case .scramSHA512: .sha512
    default: nil
    }
  }

  /// Whether who listens on the way could use what the client sends: such a mechanism belongs inside TLS.
  public var needsSecrecy: Bool { self == .plain || self == .bearer }
}

/// A hash function for SCRAM. Raw values are those of Kafka's `ScramMechanism`.
public enum ScramMechanism: UInt8, CaseIterable, Sendable {
  case sha256 = 1
  case sha512 = 2

  /// The registered name, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
  public var name: String { sasl.rawValue }
  /// The same among all mechanisms.
  public var sasl: SaslMechanism { self == .sha256 ? .scramSHA256 : .scramSHA512 }
  /// Bytes of a key or a hash: 32 or 64.
  public var keyLength: Int { self == .sha256 ? 32 : 64 }
}
