// ConnectionSecurity: what a TLS connection agreed on, as the protocol servers see it.

import COpenSSL

/// How a connection is protected.
public struct ConnectionSecurity: Sendable, Equatable {
  /// `TLSv1.3` or `TLSv1.2`.
  public let version: String
  /// The suite, `TLS_AES_128_GCM_SHA256` for example, by its name in IANA's registry.
  public let cipherSuite: String
  /// The application protocol (ALPN), `http/1.1` for example; nil when none was negotiated.
  public let applicationProtocol: String?
  /// The peer's certificate, which was verified; nil when it has shown none.
  public let peerCertificate: Certificate?

  /// Of an `SSL` after its handshake.
  init(_ ssl: OpaquePointer) {
    version = SSL_get_version(ssl).map { String(cString: $0) } ?? ""
    let suite = SSL_get_current_cipher(ssl)
    cipherSuite = suite.flatMap { SSL_CIPHER_standard_name($0) }.map { String(cString: $0) } ?? ""
    var name: UnsafePointer<UInt8>?
    var length: UInt32 = 0
    SSL_get0_alpn_selected(ssl, &name, &length)
    applicationProtocol =
      length == 0 ? nil : String(decoding: UnsafeBufferPointer(start: name, count: Int(length)), as: UTF8.self)
    peerCertificate = SSL_get0_peer_certificate(ssl).map { Certificate($0) }
  }
}
