// Certificate: what a certificate says, as plain values.

import COpenSSL
import Glibc
import MillraceBase

/// The contents of an X.509 certificate that matter here. Whether it is to be trusted is another question.
public struct Certificate: Sendable, Equatable {
  /// The subject's distinguished name as Kafka prints it: RFC 2253, `CN=alice,OU=shop,O=Example`.
  public let subject: String
  /// The issuer's, in the same form.
  public let issuer: String
  /// The subject's common name; the most specific one where there are several.
  public let commonName: String?
  /// Subject alternative names of hosts.
  public let dnsNames: [String]
  /// … of IPv4 and IPv6 addresses, in their usual notation.
  public let addresses: [String]
  /// … of any URI (a SPIFFE identity, for example).
  public let uris: [String]
  /// … of mailboxes.
  public let emails: [String]
  /// The serial number, in hexadecimal digits.
  public let serial: String
  /// Valid from.
  public let notBefore: Timestamp
  /// Valid until.
  public let notAfter: Timestamp
  /// SHA-256 of the certificate, in hexadecimal digits.
  public let fingerprint: String
  /// Whether it may sign other certificates.
  public let isAuthority: Bool

  /// Of an `X509`, which stays the caller's.
  init(_ x509: OpaquePointer) {
    let name = X509_get_subject_name(x509)
    subject = name.map(DistinguishedName.text) ?? ""
    issuer = X509_get_issuer_name(x509).map(DistinguishedName.text) ?? ""
    commonName = name.flatMap(DistinguishedName.commonName)
    let names = AlternativeNames(x509)
    dnsNames = names.dns
    addresses = names.addresses
    uris = names.uris
    emails = names.emails
    serial = Certificate.serial(x509)
    notBefore = Certificate.time(X509_get0_notBefore(x509))
    notAfter = Certificate.time(X509_get0_notAfter(x509))
    fingerprint = Certificate.fingerprint(x509)
    isAuthority = X509_check_ca(x509) > 0
    OpenSSL.drainErrors()
  }

  private static func serial(_ x509: OpaquePointer) -> String {
    guard let number = X509_get0_serialNumber(x509), let data = ASN1_STRING_get0_data(number) else { return "" }
    let sign = ASN1_STRING_type(number) == V_ASN1_NEG_INTEGER ? "-" : ""
    return sign + UnsafeBufferPointer(start: data, count: Int(ASN1_STRING_length(number))).hexadecimal
  }

  /// A time that cannot be read counts as long past.
  static func time(_ time: UnsafePointer<ASN1_TIME>?) -> Timestamp {
    var parts = tm()
    guard let time, ASN1_TIME_to_tm(time, &parts) == 1 else { return Timestamp(milliseconds: 0) }
    return Timestamp(milliseconds: Int64(timegm(&parts)) * 1000)
  }

  private static func fingerprint(_ x509: OpaquePointer) -> String {
    var digest = [UInt8](repeating: 0, count: 32)
    var count: UInt32 = 0
    guard X509_digest(x509, EVP_sha256(), &digest, &count) == 1 else { return "" }
    return digest.prefix(Int(count)).hexadecimal
  }
}

/// The subject alternative names of a certificate.
private struct AlternativeNames {
  var dns: [String] = []
  var addresses: [String] = []
  var uris: [String] = []
  var emails: [String] = []

  init(_ x509: OpaquePointer) {
    guard let found = X509_get_ext_d2i(x509, NID_subject_alt_name, nil, nil) else { return }
    let list = OpaquePointer(found)
    defer { GENERAL_NAMES_free(list) }
    for index in 0..<max(0, OPENSSL_sk_num(list)) {
      guard let item = OPENSSL_sk_value(list, index) else { continue }
      var type: Int32 = 0
      guard let value = GENERAL_NAME_get0_value(item.assumingMemoryBound(to: GENERAL_NAME.self), &type) else {
        continue
      }
      guard [GEN_DNS, GEN_URI, GEN_EMAIL, GEN_IPADD].contains(type) else { continue }
      let string = value.assumingMemoryBound(to: ASN1_STRING.self)
      guard let data = ASN1_STRING_get0_data(string) else { continue }
      let bytes = UnsafeBufferPointer(start: data, count: Int(ASN1_STRING_length(string)))
      switch type {
      case GEN_DNS: dns.append(String(decoding: bytes, as: UTF8.self))
      case GEN_URI: uris.append(String(decoding: bytes, as: UTF8.self))
      case GEN_EMAIL: emails.append(String(decoding: bytes, as: UTF8.self))
      default: if let address = AlternativeNames.address(bytes) { addresses.append(address) }
      }
    }
  }

  private static func address(_ bytes: UnsafeBufferPointer<UInt8>) -> String? {
    let family = bytes.count == 4 ? AF_INET : AF_INET6
    guard bytes.count == 4 || bytes.count == 16 else { return nil }
    var room = [CChar](repeating: 0, count: 64)
    guard let text = inet_ntop(family, bytes.baseAddress, &room, socklen_t(room.count)) else { return nil }
    return String(cString: text)
  }
}

/// An `X509` that this object owns. Safety: OpenSSL counts references atomically, and nothing here changes it.
final class OwnedCertificate: @unchecked Sendable {
  let pointer: OpaquePointer
  init(owning pointer: OpaquePointer) { self.pointer = pointer }
  deinit { X509_free(pointer) }
}
