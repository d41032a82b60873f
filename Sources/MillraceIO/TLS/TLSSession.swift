// TLSSession: one OpenSSL session over memory: bytes in, bytes out, no sockets and no waiting.

import COpenSSL
import MillraceBase

/// One end of a TLS connection. Belongs to one thread at a time.
final class TLSSession {
  enum Side { case server, client }

  /// How far reading or the handshake got.
  enum Outcome: Equatable {
    /// All that was asked for.
    case done
    /// The input is used up.
    case needsInput
    /// The peer said that it sends no more.
    case ended
    /// The session is over; what OpenSSL says of it. The alert for the peer, if any, is in the output.
    case failed(String)
  }

  let pipe = TLSPipe()
  // Safety: freed in `end`, which is the last that uses it.
  private var ssl: OpaquePointer?
  /// Keeps what callbacks of the context refer to.
  private let context: OpenSSLContext
  private var records = 0
  /// Records under one key. AES-GCM keeps its margin up to 2^24.5 of them. Source: RFC 8446, 5.5.
  var recordsBetweenKeys = 1 << 23

  init(_ side: Side, _ context: OpenSSLContext) {
    self.context = context
    guard let ssl = SSL_new(context.pointer) else {
      preconditionFailure("out of memory: no TLS session: \(OpenSSL.drainErrors() ?? "")")
    }
    let bio = pipe.makeBIO()
    SSL_set_bio(ssl, bio, bio)
    if side == .server { SSL_set_accept_state(ssl) } else { SSL_set_connect_state(ssl) }
    self.ssl = ssl
  }

  deinit { end() }

  /// Frees the session's memory; everything is `failed` afterwards.
  func end() {
    if let ssl { SSL_free(ssl) }
    ssl = nil
    pipe.withdraw()
  }

  /// Goes on with the handshake.
  func handshake() -> Outcome {
    guard let ssl else { return .failed("the session is over") }
    ERR_clear_error()
    let result = SSL_do_handshake(ssl)
    return result == 1 ? .done : outcome(ssl, result)
  }

  /// Decrypts into `room` until it is full or something else happens.
  func read(into room: UnsafeMutableRawBufferPointer) -> (count: Int, outcome: Outcome) {
    guard let ssl, let base = room.baseAddress else { return (0, .failed("the session is over")) }
    var filled = 0
    ERR_clear_error()
    // The buffer for a record is kept while there are some, and given back when OpenSSL next finds none.
    _ = SSL_ctrl(ssl, SSL_CTRL_CLEAR_MODE, Int(SSL_MODE_RELEASE_BUFFERS), nil)
    while filled < room.count {
      if pipe.inputCount == 0 { _ = SSL_ctrl(ssl, SSL_CTRL_MODE, Int(SSL_MODE_RELEASE_BUFFERS), nil) }
      var got = 0
      let result = SSL_read_ex(ssl, base + filled, room.count - filled, &got)
      if result != 1 { return (filled, outcome(ssl, result)) }
      filled += got
    }
    return (filled, .done)
  }

  /// Encrypts all of `bytes`, as records of 16 KiB and a rest.
  func write(_ bytes: UnsafeRawBufferPointer) -> Outcome {
    guard let ssl else { return .failed("the session is over") }
    ERR_clear_error()
    records += (bytes.count + TLSRules.recordBytes - 1) / TLSRules.recordBytes
    if records >= recordsBetweenKeys {
      records = 0
      if SSL_version(ssl) == TLS1_3_VERSION { _ = SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) }
    }
    var taken = 0
    let result = SSL_write_ex(ssl, bytes.baseAddress, bytes.count, &taken)
    if result == 1 && taken == bytes.count { return .done }
    return outcome(ssl, result)
  }

  /// Puts the word that nothing more follows into the output.
  func sayEnd() {
    guard let ssl else { return }
    ERR_clear_error()
    _ = SSL_shutdown(ssl)
    OpenSSL.drainErrors()
  }

  /// What was agreed on; after the handshake.
  var security: ConnectionSecurity? { ssl.map { ConnectionSecurity($0) } }

  /// For what a client must set before its handshake.
  func withSSL<Result>(_ body: (OpaquePointer) -> Result) -> Result? { ssl.map(body) }

  private func outcome(_ ssl: OpaquePointer, _ result: Int32) -> Outcome {
    switch SSL_get_error(ssl, result) {
    case SSL_ERROR_WANT_READ: return .needsInput
    case SSL_ERROR_ZERO_RETURN: return .ended
    default:
      var reason = OpenSSL.drainErrors() ?? "OpenSSL gives no reason"
      let verdict = SSL_get_verify_result(ssl)
      if verdict != Int(X509_V_OK), let words = X509_verify_cert_error_string(verdict) {
        reason += ": \(String(cString: words))"
      }
      return .failed(reason)
    }
  }
}
