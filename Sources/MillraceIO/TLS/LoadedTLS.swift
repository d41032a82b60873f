// LoadedTLS: the files of a TLSConfiguration as they were at one moment, as a context of OpenSSL's and what to say of them.

import COpenSSL
import Glibc
import MillraceBase

/// An OpenSSL context with what its callbacks refer to.
///
/// Safety: only its maker changes it, before anybody else has it; OpenSSL locks what it counts in it.
final class OpenSSLContext: @unchecked Sendable {
  let pointer: OpaquePointer
  /// ALPN's list: each name behind its length.
  fileprivate let protocols: [UInt8]

  /// A context with the rules that hold for both sides, but neither certificate nor trust.
  init(_ side: TLSSession.Side, minimum: TLSConfiguration.Version, protocols: [String]) throws(TLSError) {
    guard OpenSSL.isReady, let made = SSL_CTX_new(side == .server ? TLS_server_method() : TLS_client_method()) else {
      throw TLSError(.badSettings, "TLS", OpenSSL.drainErrors() ?? "no context")
    }
    pointer = made
    var wire: [UInt8] = []
    for name in protocols {
      guard (1...255).contains(name.utf8.count) else {
        SSL_CTX_free(made)
        throw TLSError(.badSettings, "TLS", "\"\(name)\" is no name of an application protocol: 1 to 255 bytes")
      }
      wire += [UInt8(name.utf8.count)] + Array(name.utf8)
    }
    self.protocols = wire
    // Nothing may throw before this line without freeing the context: from here on `deinit` does.
    try setRules(minimum)
    if side == .server {
      _ = SSL_CTX_set_num_tickets(made, 0)
      if !wire.isEmpty {
        SSL_CTX_set_alpn_select_cb(made, chooseProtocol, Unmanaged.passUnretained(self).toOpaque())
      }
    } else if !wire.isEmpty {
      // This one call of OpenSSL's answers 0 when it went well.
      try check(SSL_CTX_set_alpn_protos(made, wire, UInt32(wire.count)) == 0, "application protocols")
    }
  }

  deinit { SSL_CTX_free(pointer) }

  private func setRules(_ minimum: TLSConfiguration.Version) throws(TLSError) {
    _ = SSL_CTX_set_options(pointer, mr_ssl_options())
    SSL_CTX_set_security_level(pointer, TLSRules.securityLevel)
    let lowest = minimum == .tls12 ? TLS1_2_VERSION : TLS1_3_VERSION
    try check(SSL_CTX_ctrl(pointer, SSL_CTRL_SET_MIN_PROTO_VERSION, Int(lowest), nil) == 1, "versions")
    try check(SSL_CTX_set_cipher_list(pointer, TLSRules.suites12) == 1, "suites")
    try check(SSL_CTX_set_ciphersuites(pointer, TLSRules.suites13) == 1, "suites")
    var groups = Array(TLSRules.groups.utf8CString)
    let set = groups.withUnsafeMutableBytes { SSL_CTX_ctrl(pointer, SSL_CTRL_SET_GROUPS_LIST, 0, $0.baseAddress) }
    try check(set == 1, "groups")
    // An idle connection keeps no buffers, and never sends more of its chain than it was given.
    _ = SSL_CTX_ctrl(pointer, SSL_CTRL_MODE, Int(SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN), nil)
    _ = SSL_CTX_ctrl(pointer, SSL_CTRL_SET_SESS_CACHE_MODE, Int(SSL_SESS_CACHE_OFF), nil)
    let name = Array("millrace".utf8)
    try check(SSL_CTX_set_session_id_context(pointer, name, UInt32(name.count)) == 1, "session context")
  }

  private func check(_ isFine: Bool, _ what: String) throws(TLSError) {
    if !isFine { throw TLSError(.badSettings, "TLS", "\(what): \(OpenSSL.drainErrors() ?? "refused")") }
  }

  /// Shows a certificate, with those between it and its authority.
  func use(_ chain: [OwnedCertificate], from file: String, key: OpaquePointer, from keyFile: String) throws(TLSError) {
    ERR_clear_error()
    guard SSL_CTX_use_certificate(pointer, chain[0].pointer) == 1 else {
      throw TLSError(.badCertificate, file, OpenSSL.drainErrors() ?? "refused")
    }
    guard X509_check_private_key(chain[0].pointer, key) == 1 else {
      OpenSSL.drainErrors()
      throw TLSError(.keyMismatch, keyFile, "is not the key of the (first) certificate in \(file)")
    }
    guard SSL_CTX_use_PrivateKey(pointer, key) == 1 else {
      throw TLSError(.badKey, keyFile, OpenSSL.drainErrors() ?? "refused")
    }
    for (index, certificate) in chain.enumerated().dropFirst() {
      let added = SSL_CTX_ctrl(pointer, SSL_CTRL_CHAIN_CERT, 1, UnsafeMutableRawPointer(certificate.pointer))
      guard added == 1 else {
        throw TLSError(.badCertificate, file, "certificate \(index + 1): \(OpenSSL.drainErrors() ?? "refused")")
      }
    }
  }

  /// Trusts these authorities, each an anchor by itself, and nobody else.
  /// - Parameter lists: reads lists of revocations into the store; nil when there are none.
  func trust(
    _ authorities: [OwnedCertificate], lists: ((OpaquePointer) throws(TLSError) -> Void)? = nil
  ) throws(TLSError) {
    guard let store = X509_STORE_new() else { preconditionFailure("out of memory: no store of certificates") }
    defer { X509_STORE_free(store) }
    for authority in authorities { _ = X509_STORE_add_cert(store, authority.pointer) }
    var flags = UInt(X509_V_FLAG_PARTIAL_CHAIN)
    if let lists {
      try lists(store)
      flags |= UInt(X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL)
      X509_STORE_set_verify_cb(store, tolerateMissingLists)
    }
    _ = X509_STORE_set_flags(store, flags)
    OpenSSL.drainErrors()
    _ = SSL_CTX_ctrl(pointer, SSL_CTRL_SET_VERIFY_CERT_STORE, 1, UnsafeMutableRawPointer(store))
  }

  /// Trusts whom the system trusts. A program that brings its own OpenSSL looks where distributions keep their stores.
  func trustSystem() {
    ERR_clear_error()
    _ = SSL_CTX_set_default_verify_paths(pointer)
    if getenv("SSL_CERT_FILE") == nil && getenv("SSL_CERT_DIR") == nil {
      for path in OpenSSLContext.systemStores where access(path, R_OK) == 0 {
        _ = SSL_CTX_load_verify_file(pointer, path)
        break
      }
    }
    OpenSSL.drainErrors()
  }

  private static let systemStores = [
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
  ]

  /// The first of the server's protocols in the client's list; it points into that list.
  fileprivate func choose(_ offered: UnsafeBufferPointer<UInt8>) -> UnsafeBufferPointer<UInt8>? {
    var mine = protocols[...]
    while let length = mine.first {
      let name = mine.dropFirst().prefix(Int(length))
      var at = 0
      while at < offered.count {
        let end = min(offered.count, at + 1 + Int(offered[at]))
        let theirs = UnsafeBufferPointer(rebasing: offered[(at + 1)..<end])
        if theirs.elementsEqual(name) { return theirs }
        at = end
      }
      mine = mine.dropFirst(1 + Int(length))
    }
    return nil
  }
}

/// Chooses the first of the server's protocols that the client offers, and refuses one that offers others only.
/// Source: RFC 7301, 3.2.
private let chooseProtocol: SSL_CTX_alpn_select_cb_func = { _, out, outLength, offered, count, context in
  guard let out, let outLength, let offered, let context else { return SSL_TLSEXT_ERR_ALERT_FATAL }
  // Safety: the session that is asked keeps its context.
  let list = UnsafeBufferPointer(start: offered, count: Int(count))
  guard let name = Unmanaged<OpenSSLContext>.fromOpaque(context).takeUnretainedValue().choose(list) else {
    return SSL_TLSEXT_ERR_ALERT_FATAL
  }
  out.pointee = name.baseAddress
  outLength.pointee = UInt8(name.count)
  return SSL_TLSEXT_ERR_OK
}

/// A peer's own certificate needs a list of its authority's; the authorities themselves are checked where there is one.
private let tolerateMissingLists: X509_STORE_CTX_verify_cb = { isFine, context in
  if isFine == 1 { return 1 }
  guard X509_STORE_CTX_get_error(context) == X509_V_ERR_UNABLE_TO_GET_CRL, X509_STORE_CTX_get_error_depth(context) > 0
  else { return 0 }
  X509_STORE_CTX_set_error(context, X509_V_OK)
  return 1
}

/// A server's context and what there is to say of its files.
struct LoadedTLS: Sendable {
  let context: OpenSSLContext
  let certificate: Certificate
  private let certificateFile: String
  private var findings: [TLSError] = []
  /// When each list of revocations must have been replaced by the next.
  private var listsEnd: [Timestamp] = []
  private let revocationFile: String?

  init(_ configuration: TLSConfiguration, files: any FileSystem) throws(TLSError) {
    let reader = PEMFiles(files: files)
    certificateFile = configuration.certificateFile
    revocationFile = configuration.revocationFile
    context = try OpenSSLContext(
      .server, minimum: configuration.minimumVersion, protocols: configuration.applicationProtocols)
    let chain = try reader.certificates(configuration.certificateFile, .badCertificate)
    let key = try reader.key(configuration.keyFile)
    defer { EVP_PKEY_free(key) }
    try context.use(chain, from: configuration.certificateFile, key: key, from: configuration.keyFile)
    certificate = Certificate(chain[0].pointer)
    try trustClients(configuration, reader)
    if LoadedTLS.othersMayRead(configuration.keyFile) {
      findings.append(
        TLSError(.badKey, configuration.keyFile, "others than its owner and group may read this private key"))
    }
  }

  private mutating func trustClients(_ configuration: TLSConfiguration, _ reader: PEMFiles) throws(TLSError) {
    guard configuration.clientCertificates != .none else {
      for unused in [configuration.clientAuthorityFile, configuration.revocationFile].compactMap(\.self) {
        throw TLSError(.badSettings, unused, "is of no use unless client certificates are requested or required")
      }
      return
    }
    guard let file = configuration.clientAuthorityFile else {
      throw TLSError(.badSettings, "TLS", "client certificates need a file with the authorities that they come from")
    }
    let authorities = try reader.certificates(file, .badAuthority)
    for authority in authorities where X509_check_ca(authority.pointer) == 0 {
      let subject = Certificate(authority.pointer).subject
      throw TLSError(.badAuthority, file, "\(subject) is no certificate authority")
    }
    if let path = configuration.revocationFile {
      var ends: [Timestamp] = []
      try context.trust(authorities) { store throws(TLSError) in
        try reader.revocationLists(path) { list in
          _ = X509_STORE_add_crl(store, list)
          if let end = X509_CRL_get0_nextUpdate(list) { ends.append(Certificate.time(end)) }
        }
      }
      listsEnd = ends
    } else {
      try context.trust(authorities)
    }
    for authority in authorities { _ = SSL_CTX_add_client_CA(context.pointer, authority.pointer) }
    let must = configuration.clientCertificates == .required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0
    SSL_CTX_set_verify(context.pointer, SSL_VERIFY_PEER | must, nil)
  }

  func warnings(at now: Timestamp) -> [TLSError] {
    var out = findings
    if certificate.notAfter < now {
      out.append(TLSError(.badCertificate, certificateFile, "expired at \(Logger.iso8601(certificate.notAfter))"))
    }
    if certificate.notBefore > now {
      let time = Logger.iso8601(certificate.notBefore)
      out.append(TLSError(.badCertificate, certificateFile, "not valid before \(time)"))
    }
    if let revocationFile, let end = listsEnd.min(), end < now {
      out.append(
        TLSError(
          .badRevocationList, revocationFile,
          "out of date since \(Logger.iso8601(end)): clients of that authority are refused"))
    }
    return out
  }

  /// Whether the file's mode lets everybody read it. A group of its own is how services share a key.
  private static func othersMayRead(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IROTH != 0
  }
}
