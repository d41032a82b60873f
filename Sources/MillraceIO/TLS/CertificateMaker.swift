// CertificateMaker: a certificate authority for development and tests, and the certificates that it signs.

import COpenSSL
import MillraceBase

/// A certificate and its private key, as PEM.
public struct CertificateAndKey: Sendable {
  /// The certificate.
  public let certificate: Bytes
  /// The private key, PKCS #8, not encrypted.
  public let key: Bytes
}

/// What a new certificate is to say.
public struct CertificatePlan: Sendable {
  /// What a certificate is for.
  public enum Purpose: Sendable {
    /// To sign those of the other two kinds.
    case authority
    case server
    case client
  }

  /// What it is for.
  public var purpose: Purpose
  /// The subject's common name, 1 to 64 characters.
  public var commonName: String
  /// Hosts and addresses of a server.
  public var hosts: [String]
  /// How long it is valid, from an hour before `now`, for clocks that are late.
  public var days: Int
  /// When it is made.
  public var now: Timestamp

  /// A plan.
  public init(_ purpose: Purpose, commonName: String, hosts: [String] = [], days: Int, now: Timestamp = .now) {
    self.purpose = purpose
    self.commonName = commonName
    self.hosts = hosts
    self.days = days
    self.now = now
  }
}

/// An authority with its key: EC on P-256, SHA-256. For development: its key lies unprotected where it is used.
public struct CertificateMaker {
  private let certificate: OwnedCertificate
  private let key: OwnedKey

  /// The authority's own certificate and key.
  public let own: CertificateAndKey

  /// A new authority, which signs itself.
  /// - Throws: `.badSettings` when the plan cannot be carried out.
  public init(new plan: CertificatePlan) throws(TLSError) {
    key = try OwnedKey()
    certificate = try CertificateMaker.make(plan, for: key, issuer: nil, signedBy: key)
    own = CertificateAndKey(certificate: CertificateMaker.pem(certificate), key: key.pem)
  }

  /// The authority in two PEM files. Blocks.
  /// - Throws: errors that name the file.
  public init(certificateFile: String, keyFile: String, files: any FileSystem = LinuxFileSystem()) throws(TLSError) {
    let reader = PEMFiles(files: files)
    certificate = try reader.certificates(certificateFile, .badAuthority)[0]
    key = OwnedKey(owning: try reader.key(keyFile))
    guard X509_check_private_key(certificate.pointer, key.pointer) == 1 else {
      OpenSSL.drainErrors()
      throw TLSError(.keyMismatch, keyFile, "is not the key of the certificate in \(certificateFile)")
    }
    guard X509_check_ca(certificate.pointer) > 0 else {
      throw TLSError(.badAuthority, certificateFile, "is no certificate authority")
    }
    own = CertificateAndKey(certificate: CertificateMaker.pem(certificate), key: key.pem)
  }

  /// Makes a key, and signs a certificate for it.
  /// - Throws: `.badSettings` when the plan cannot be carried out.
  public func issue(_ plan: CertificatePlan) throws(TLSError) -> CertificateAndKey {
    let new = try OwnedKey()
    let made = try CertificateMaker.make(plan, for: new, issuer: certificate, signedBy: key)
    return CertificateAndKey(certificate: CertificateMaker.pem(made), key: new.pem)
  }

  /// What the certificates in a PEM file say, in order. Blocks.
  public static func describe(_ path: String, files: any FileSystem = LinuxFileSystem()) throws(TLSError)
    -> [Certificate]
  {
    try PEMFiles(files: files).certificates(path, .badCertificate).map { Certificate($0.pointer) }
  }

  private static func make(
    _ plan: CertificatePlan, for subject: OwnedKey, issuer: OwnedCertificate?, signedBy key: OwnedKey
  ) throws(TLSError) -> OwnedCertificate {
    guard let pointer = X509_new() else { preconditionFailure("out of memory: no certificate") }
    let made = OwnedCertificate(owning: pointer)
    guard (1...64).contains(plan.commonName.unicodeScalars.count), !plan.commonName.contains("\0") else {
      throw TLSError(.badSettings, "\"\(plan.commonName)\"", "a common name has 1 to 64 characters")
    }
    guard (1...36_500).contains(plan.days) else {
      throw TLSError(.badSettings, "\(plan.days) days", "a certificate is valid for 1 to 36500 days")
    }
    let begin = Int(plan.now.milliseconds / 1000) - 3600
    try check(X509_set_version(pointer, 2) == 1)
    try setSerial(pointer)
    try check(ASN1_TIME_set(X509_getm_notBefore(pointer), begin) != nil)
    try check(ASN1_TIME_set(X509_getm_notAfter(pointer), begin + 3600 + plan.days * 86_400) != nil)
    try check(X509_set_pubkey(pointer, subject.pointer) == 1)
    let name = Array(plan.commonName.utf8)
    try check(
      X509_NAME_add_entry_by_NID(
        X509_get_subject_name(pointer), NID_commonName, MBSTRING_UTF8, name, Int32(name.count), -1, 0) == 1)
    let authority = issuer?.pointer ?? pointer
    try check(X509_set_issuer_name(pointer, X509_get_subject_name(authority)) == 1)
    var context = X509V3_CTX()
    X509V3_set_ctx(&context, authority, pointer, nil, nil, 0)
    for (kind, value) in try extensions(plan) {
      guard let part = X509V3_EXT_conf_nid(nil, &context, kind, value) else {
        throw TLSError(.badSettings, value, OpenSSL.drainErrors() ?? "refused")
      }
      defer { X509_EXTENSION_free(part) }
      try check(X509_add_ext(pointer, part, -1) == 1)
    }
    try check(X509_sign(pointer, key.pointer, EVP_sha256()) > 0)
    return made
  }

  private static func extensions(_ plan: CertificatePlan) throws(TLSError) -> [(Int32, String)] {
    var out: [(Int32, String)] = []
    switch plan.purpose {
    case .authority:
      out.append((NID_basic_constraints, "critical,CA:TRUE,pathlen:0"))
      out.append((NID_key_usage, "critical,keyCertSign,cRLSign"))
    case .server, .client:
      out.append((NID_basic_constraints, "critical,CA:FALSE"))
      out.append((NID_key_usage, "critical,digitalSignature"))
      out.append((NID_ext_key_usage, plan.purpose == .server ? "serverAuth" : "clientAuth"))
    }
    out.append((NID_subject_key_identifier, "hash"))
    if plan.purpose != .authority { out.append((NID_authority_key_identifier, "keyid:always")) }
    var names: [String] = []
    for host in plan.hosts {
      if SocketAddress(host: host, port: 0).isNumeric {
        names.append("IP:\(host)")
      } else if isHostName(host) {
        names.append("DNS:\(host)")
      } else {
        throw TLSError(.badSettings, "\"\(host)\"", "is neither a host's name nor an IP address")
      }
    }
    if !names.isEmpty { out.append((NID_subject_alt_name, names.joined(separator: ","))) }
    return out
  }

  /// Labels of letters, digits, hyphens and underscores; the first may be `*`.
  static func isHostName(_ text: String) -> Bool {
    let labels = text.split(separator: ".", omittingEmptySubsequences: false)
    guard text.utf8.count <= 253, labels.first != "*" || labels.count > 1 else { return false }
    return labels.enumerated().allSatisfy { index, label in
      (1...63).contains(label.utf8.count)
        && (label == "*" && index == 0
          || label.utf8.allSatisfy {
            switch $0 {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"): true
            default: false
            }
          })
    }
  }

  /// 127 unpredictable bits. Source: CA/Browser Forum, Baseline Requirements, 7.1: 64 or more.
  private static func setSerial(_ certificate: OpaquePointer) throws(TLSError) {
    var bytes = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
    bytes[0] = bytes[0] & 0x7f | 0x40
    guard let number = BN_bin2bn(bytes, Int32(bytes.count), nil) else { return try check(false) }
    defer { BN_free(number) }
    try check(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != nil)
  }

  private static func check(_ isFine: Bool) throws(TLSError) {
    if !isFine { throw TLSError(.badSettings, "certificate", OpenSSL.drainErrors() ?? "refused") }
  }

  private static func pem(_ certificate: OwnedCertificate) -> Bytes {
    writePEM { PEM_write_bio_X509($0, certificate.pointer) }
  }
}

/// A private key that this object owns.
private final class OwnedKey {
  let pointer: OpaquePointer

  init(owning pointer: OpaquePointer) { self.pointer = pointer }

  /// A new one on P-256.
  convenience init() throws(TLSError) {
    guard OpenSSL.isReady, let made = mr_make_ec_key() else {
      throw TLSError(.badSettings, "key", OpenSSL.drainErrors() ?? "none was made")
    }
    self.init(owning: made)
  }

  deinit { EVP_PKEY_free(pointer) }

  var pem: Bytes { writePEM { PEM_write_bio_PrivateKey($0, pointer, nil, nil, 0, nil, nil) } }
}

/// What `body` writes into a BIO.
private func writePEM(_ body: (OpaquePointer) -> Int32) -> Bytes {
  guard let bio = BIO_new(BIO_s_mem()) else { preconditionFailure("out of memory: no BIO") }
  defer { BIO_free(bio) }
  precondition(body(bio) == 1, "PEM was not written: \(OpenSSL.drainErrors() ?? "")")
  var start: UnsafeMutableRawPointer?
  let count = BIO_ctrl(bio, BIO_CTRL_INFO, 0, &start)
  return Bytes(copying: UnsafeRawBufferPointer(start: start, count: count))
}
