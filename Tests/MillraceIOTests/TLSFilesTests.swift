// TLSFilesTests: names as Kafka prints them, and files of certificates and keys that are of no use: which, and why.

import COpenSSL
import Foundation
import MillraceBase
import Testing

@testable import MillraceIO

/// The name that these hexadecimal digits encode.
private func name(_ digits: String) throws -> String {
  let characters = Array(digits)
  let bytes = try stride(from: 0, to: characters.count, by: 2).map {
    try #require(UInt8(String(characters[$0..<($0 + 2)]), radix: 16))
  }
  return try bytes.withUnsafeBufferPointer { buffer in
    var start = buffer.baseAddress
    let name = try #require(d2i_X509_NAME(nil, &start, buffer.count))
    defer { X509_NAME_free(name) }
    return DistinguishedName.text(name)
  }
}

@Test(
  "golden: distinguished names read as Java's X500Principal.getName has them (OpenJDK 17)",
  arguments: [
    (
      ##"CN=Jürgen \"x\" \#1\;\<\>,OU=a\+b\=c,O=Foo\, Inc.,L=München,ST=Bayern,C=DE"##,
      """
      3071310b3009060355040613024445310f300d06035504080c0642617965726e3111300f06035504070c084dc3bc6e6368656e\
      31123010060355040a0c09466f6f2c20496e632e310e300c060355040b0c05612b623d63311a301806035504030c11\
      4ac3bc7267656e202278222023313b3c3e
      """
    ),
    (
      #"CN=\ leading and trailing\ "#,
      "3021311f301d06035504030c16206c656164696e6720616e6420747261696c696e6720"
    ),
    (
      "CN=svc,DC=com,DC=example,UID=u1,2.5.4.5=#13023737,1.2.840.113549.1.9.1=#160b6140622e6578616d706c65",
      """
      3079311a301806092a864886f70d010901160b6140622e6578616d706c65310b3009060355040513023737\
      31123010060a0992268993f22c6401010c02753131173015060a0992268993f22c64011916076578616d706c65\
      31133011060a0992268993f22c6401191603636f6d310c300a06035504030c03737663
      """
    ),
    (
      "CN=three,CN=two+OU=One,O=Org",
      """
      3038310c300a060355040a0c034f72673118300a06035504030c0374776f300a060355040b0c034f6e65\
      310e300c06035504030c057468726565
      """
    ),
    (##"CN=\#hash"##, "3010310e300c06035504030c052368617368"),
    (
      #"CN=x\\y,2.5.4.4=#0c03537572,2.5.4.42=#0c05476976656e,2.5.4.12=#0c024472"#,
      """
      3039310b3009060355040c0c024472310e300c060355042a0c05476976656e310c300a06035504040c03537572\
      310c300a06035504030c03785c79
      """
    ),
    (
      "CN=tab\ttab,2.5.4.17=#0c053132333435,STREET=Main St 1",
      """
      30363112301006035504090c094d61696e2053742031310e300c06035504110c053132333435\
      3110300e06035504030c0774616209746162
      """
    ),
  ])
func goldenNames(_ expected: String, _ digits: String) throws {
  #expect(try name(digits) == expected)
}

@Test("every file that is of no use is named, with the reason")
func badFiles() throws {
  let files = try Certificates()
  let other = try Certificates()
  func refusal(_ change: (inout TLSConfiguration) throws -> Void) throws -> TLSError? {
    var configuration = files.configuration("server", .required)
    try change(&configuration)
    do throws(TLSError) {
      _ = try TLSContext(configuration)
      return nil
    } catch {
      return error
    }
  }
  #expect(try refusal { _ in } == nil)
  let missing = try refusal { $0.certificateFile = files.path("none.pem") }
  #expect(missing == TLSError(.fileUnreadable, files.path("none.pem"), "No such file or directory"))
  #expect(try refusal { $0.keyFile = files.path("none.key") }?.code == .fileUnreadable)
  #expect(try refusal { $0.clientAuthorityFile = files.path("none.pem") }?.code == .fileUnreadable)

  // A key where the certificate should be, and the other way round.
  let swapped = try refusal { $0.certificateFile = files.path("server.key") }
  #expect(swapped?.code == .badCertificate && swapped?.reason.contains("holds no certificate") == true)
  #expect(try refusal { $0.keyFile = files.path("server.pem") }?.reason.contains("holds no private key") == true)
  #expect(try refusal { $0.keyFile = other.path("server.key") }?.code == .keyMismatch)
  #expect(try refusal { $0.clientAuthorityFile = files.path("server.pem") }?.code == .badAuthority)
  #expect(try refusal { $0.revocationFile = files.path("ca.pem") }?.code == .badRevocationList)

  try files.write("empty.pem", [])
  #expect(try refusal { $0.clientAuthorityFile = files.path("empty.pem") }?.code == .badAuthority)
  let whole = try String(contentsOfFile: files.path("server.pem"), encoding: .utf8)
  // The second item is cut in its middle: none of the file is used.
  try files.write("cut.pem", Array((whole + whole.prefix(200) + whole.suffix(60)).utf8))
  let cut = try refusal { $0.certificateFile = files.path("cut.pem") }
  #expect(cut?.code == .badCertificate && cut?.reason.hasPrefix("item 2: ") == true)

  // Nobody is asked for a password.
  try files.write("locked.key", try encryptedKey(files.path("server.key")))
  #expect(try refusal { $0.keyFile = files.path("locked.key") }?.reason.contains("encrypted") == true)

  #expect(try refusal { $0.clientAuthorityFile = nil }?.code == .badSettings)
  #expect(try refusal { $0.clientCertificates = .none }?.code == .badSettings)
  #expect(try refusal { $0.applicationProtocols = [""] }?.code == .badSettings)
  #expect(ERR_peek_error() == 0, "OpenSSL's queue of errors is empty")
}

private func encryptedKey(_ path: String) throws -> [UInt8] {
  let key = try PEMFiles(files: LinuxFileSystem()).key(path)
  defer { EVP_PKEY_free(key) }
  let bio = BIO_new(BIO_s_mem())
  defer { BIO_free(bio) }
  let password = Array("secret".utf8)
  try #require(
    PEM_write_bio_PKCS8PrivateKey(bio, key, EVP_aes_128_cbc(), "secret", Int32(password.count), nil, nil) == 1)
  var start: UnsafeMutableRawPointer?
  let count = BIO_ctrl(bio, BIO_CTRL_INFO, 0, &start)
  return Array(UnsafeRawBufferPointer(start: start, count: count))
}

@Test("a key that everybody may read is warned of")
func readableKey() throws {
  let files = try Certificates()
  #expect(try TLSContext(files.configuration()).warnings(at: .now).isEmpty)
  try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: files.path("server.key"))
  let warnings = try TLSContext(files.configuration()).warnings(at: .now)
  #expect(warnings.map(\.subject) == [files.path("server.key")])
}

@Test("a client that is to show a certificate without its key, or the other way round, is told so")
func clientFiles() throws {
  let files = try Certificates()
  try withReactor { reactor in
    let address = reactor.serve(try TLSContext(files.configuration())) { _, _ in }
    for (certificate, key) in [("alice.pem", nil), (nil, "alice.key")] as [(String?, String?)] {
      var configuration = files.client()
      configuration.certificateFile = certificate.map { files.path($0) }
      configuration.keyFile = key.map { files.path($0) }
      let error = #expect(throws: TLSError.self) { try TLSClient(address, configuration) }
      #expect(error?.code == .badSettings)
    }
  }
}
