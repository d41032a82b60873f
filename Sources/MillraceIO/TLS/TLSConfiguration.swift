// TLSConfiguration: the files and choices that a server's side of TLS is made of.

/// How a server's listeners speak TLS.
public struct TLSConfiguration: Sendable, Equatable {
  /// Whether clients show a certificate.
  public enum ClientCertificates: Sendable, Equatable {
    /// They are not asked.
    case none
    /// They are asked, and may have none; one that is shown must be valid.
    case requested
    /// Without a valid one there is no connection.
    case required
  }

  /// The lowest version that is spoken.
  public enum Version: Sendable, Equatable {
    case tls12
    case tls13
  }

  /// PEM: the server's certificate, then those between it and its authority, in order.
  public var certificateFile: String
  /// PEM: the private key of the first certificate, not encrypted.
  public var keyFile: String
  /// PEM: the authorities, each an anchor by itself, that clients' certificates must come from.
  public var clientAuthorityFile: String?
  /// Whether clients show a certificate. Other than `.none` needs ``clientAuthorityFile``.
  public var clientCertificates: ClientCertificates
  /// PEM: lists of revoked client certificates. A client's certificate is then refused unless there is a current list of its
  /// authority; authorities between are held against their lists where there are some.
  public var revocationFile: String?
  /// The lowest version.
  public var minimumVersion: Version
  /// Names of application protocols (ALPN), the preferred one first; none are negotiated when it is empty. A client that
  /// offers only others is refused.
  public var applicationProtocols: [String]

  /// TLS 1.2 and 1.3 with a certificate and its key.
  public init(
    certificateFile: String, keyFile: String, clientAuthorityFile: String? = nil,
    clientCertificates: ClientCertificates = .none, revocationFile: String? = nil, minimumVersion: Version = .tls12,
    applicationProtocols: [String] = []
  ) {
    self.certificateFile = certificateFile
    self.keyFile = keyFile
    self.clientAuthorityFile = clientAuthorityFile
    self.clientCertificates = clientCertificates
    self.revocationFile = revocationFile
    self.minimumVersion = minimumVersion
    self.applicationProtocols = applicationProtocols
  }
}

/// What an OpenSSL context of either side is set to.
enum TLSRules {
  /// TLS 1.2: forward secrecy and authenticated encryption only.
  static let suites12 = [
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
  ].joined(separator: ":")
  static let suites13 = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
  static let groups = "X25519:P-256:P-384"
  /// RSA and Diffie-Hellman of 2,048 bits or more, no SHA-1. Source: OpenSSL, SSL_CTX_set_security_level.
  static let securityLevel: Int32 = 2
  /// Most bytes of a file of certificates, keys or lists.
  static let fileLimit = 16 << 20
  /// Plain bytes in one record. Source: RFC 8446, 5.1.
  static let recordBytes = 16 * 1024
  /// More than what a record is larger than its plain bytes, in any version and suite.
  static let recordOverhead = 64
}
