// TLSError: what was wrong with a file of certificates, a setting, a handshake or a peer, in words for its reader.

import COpenSSL
import MillraceBase

/// A failure of TLS, or of the files that it is made of.
public struct TLSError: Error, Equatable, CustomStringConvertible {
  /// The kinds that callers tell apart.
  public enum Code: Sendable, Equatable {
    /// A file is missing, unreadable or too large.
    case fileUnreadable
    /// A file holds no certificate, or one that is not one.
    case badCertificate
    /// A file holds no private key, or one that is encrypted or not supported.
    case badKey
    /// The private key is another one than the certificate's.
    case keyMismatch
    /// A file of certificate authorities holds none.
    case badAuthority
    /// A revocation list is none.
    case badRevocationList
    /// The parts do not go together, or OpenSSL refuses them.
    case badSettings
    /// The two ends did not come to terms.
    case handshake
    /// The peer's certificate is not trusted, expired, revoked or another host's.
    case peerNotTrusted
    /// The connection below failed, or ended too early.
    case connection
  }

  /// The kind.
  public let code: Code
  /// The file, or the peer.
  public let subject: String
  /// What is wrong.
  public let reason: String

  /// An error with its parts.
  public init(_ code: Code, _ subject: String, _ reason: String) {
    self.code = code
    self.subject = subject
    self.reason = reason
  }

  /// The file or peer, and what is wrong.
  public var description: String { "\(subject): \(reason)" }

  /// The same about a connection, as its handler hears of it.
  var asIOError: IOError { IOError(.failed, operation: "TLS with", subject: subject, reason: reason) }
}

/// OpenSSL's state that belongs to no object.
enum OpenSSL {
  /// Made ready on first use, so that a program that speaks no TLS never pays for it.
  ///
  /// The system's `openssl.cnf` is not read: what is allowed here does not depend on the machine. Nothing is torn down at
  /// exit, because reactors may still run then.
  static let isReady: Bool =
    OPENSSL_init_ssl(UInt64(OPENSSL_INIT_NO_LOAD_CONFIG) | UInt64(OPENSSL_INIT_NO_ATEXIT), nil) == 1

  /// Empties this thread's queue of errors.
  /// - Returns: the reasons in it, first cause first; nil when there was none.
  @discardableResult
  static func drainErrors() -> String? {
    var reasons: [String] = []
    while true {
      var data: UnsafePointer<CChar>?
      var flags: Int32 = 0
      let code = ERR_get_error_all(nil, nil, nil, &data, &flags)
      if code == 0 { break }
      var text = ERR_reason_error_string(code).map { String(cString: $0) } ?? "error \(code)"
      if let data, flags & ERR_TXT_STRING != 0, data.pointee != 0 { text += " (\(String(cString: data)))" }
      if reasons.count < 3, !reasons.contains(text) { reasons.append(text) }
    }
    return reasons.isEmpty ? nil : reasons.joined(separator: "; ")
  }
}
