// TLSSupport: certificates in a temporary directory, and listeners and clients that use them.

import COpenSSL
import Foundation
import MillraceBase
import Testing

@testable import MillraceIO

/// An authority, a server's certificate for localhost, and a client's for `alice`, as files.
final class Certificates {
  let directory: TemporaryDirectory
  let authority: CertificateMaker

  init() throws {
    directory = try TemporaryDirectory()
    authority = try CertificateMaker(new: CertificatePlan(.authority, commonName: "Test authority", days: 10))
    try write("ca", authority.own)
    try write("server", try issue(.server, "localhost", hosts: ["localhost", "127.0.0.1", "::1"]))
    try write("alice", try issue(.client, "alice"))
  }

  func issue(
    _ purpose: CertificatePlan.Purpose, _ name: String, hosts: [String] = [], now: Timestamp = .now
  ) throws -> CertificateAndKey {
    try authority.issue(CertificatePlan(purpose, commonName: name, hosts: hosts, days: 10, now: now))
  }

  /// Writes `NAME.pem` and `NAME.key`.
  func write(_ name: String, _ pair: CertificateAndKey) throws {
    try Data(pair.certificate.array).write(to: URL(filePath: path("\(name).pem")))
    try write("\(name).key", pair.key.array)
  }

  func write(_ name: String, _ contents: [UInt8]) throws {
    try Data(contents).write(to: URL(filePath: path(name)))
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path(name))
  }

  func path(_ name: String) -> String { "\(directory.path)/\(name)" }

  func configuration(
    _ server: String = "server", _ clients: TLSConfiguration.ClientCertificates = .none, authority: String = "ca"
  ) -> TLSConfiguration {
    TLSConfiguration(
      certificateFile: path("\(server).pem"), keyFile: path("\(server).key"),
      clientAuthorityFile: clients == .none ? nil : path("\(authority).pem"), clientCertificates: clients)
  }

  /// A client that trusts the authority, and shows the certificate of `name` if there is one.
  func client(_ name: String? = nil, authority: String = "ca", serverName: String? = nil) -> TLSClientConfiguration {
    TLSClientConfiguration(
      trust: .authorities(file: path("\(authority).pem")), serverName: serverName,
      certificateFile: name.map { path("\($0).pem") }, keyFile: name.map { path("\($0).key") })
  }
}

extension EpollReactor {
  /// Listens with TLS on a free port of 127.0.0.1.
  func serve(
    _ context: TLSContext, logger: Logger = .silent,
    _ configure: @escaping @Sendable (any Connection, ClosureHandler) -> Void
  ) -> SocketAddress {
    call { [self] in
      do {
        return try listen(SocketAddress(host: "127.0.0.1", port: 0), tls: context, logger: logger) { connection in
          let handler = ClosureHandler()
          configure(connection, handler)
          return handler
        }.address
      } catch {
        preconditionFailure("listen: \(error)")
      }
    }
  }
}

extension TLSClient {
  /// Connects by TCP and TLS.
  convenience init(_ address: SocketAddress, _ configuration: TLSClientConfiguration) throws {
    try self.init(
      over: try BlockingSocket(connectingTo: address, timeout: .seconds(10)), configuration, timeout: .seconds(10))
  }

  func send(_ bytes: [UInt8]) throws { try send([Bytes(bytes)]) }

  /// At most `limit` bytes; empty at the end.
  func receive(_ limit: Int = 64 * 1024) throws -> [UInt8] {
    guard try waitReadable(.seconds(10)) else { throw TLSError(.connection, "test", "nothing came for 10 s") }
    return try [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
      count = try receive(into: UnsafeMutableRawBufferPointer(buffer))
    }
  }

  func receiveExactly(_ count: Int) throws -> [UInt8] {
    var out: [UInt8] = []
    while out.count < count {
      let more = try receive(count - out.count)
      if more.isEmpty { break }
      out += more
    }
    return out
  }
}

/// Bytes that differ from place to place.
func tlsPattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
  var random = SeededRandom(seed: seed)
  var out: [UInt8] = []
  out.reserveCapacity(count + 8)
  while out.count < count { withUnsafeBytes(of: random.next()) { out += $0 } }
  return Array(out.prefix(count))
}

/// A list of the authority's that revokes the certificates of these names, current for ten days from `now`.
func revocationList(_ files: Certificates, of names: [String], now: Timestamp = .now) throws -> [UInt8] {
  let reader = PEMFiles(files: LinuxFileSystem())
  let authority = try reader.certificates(files.path("ca.pem"), .badAuthority)[0]
  let key = try reader.key(files.path("ca.key"))
  defer { EVP_PKEY_free(key) }
  let list = X509_CRL_new()
  defer { X509_CRL_free(list) }
  let seconds = Int(now.milliseconds / 1000)
  let time = ASN1_TIME_set(nil, seconds)
  let end = ASN1_TIME_set(nil, seconds + 10 * 86_400)
  defer {
    ASN1_TIME_free(time)
    ASN1_TIME_free(end)
  }
  X509_CRL_set_version(list, 1)
  X509_CRL_set_issuer_name(list, X509_get_subject_name(authority.pointer))
  X509_CRL_set1_lastUpdate(list, time)
  X509_CRL_set1_nextUpdate(list, end)
  for name in names {
    let entry = X509_REVOKED_new()
    let certificate = try reader.certificates(files.path("\(name).pem"), .badCertificate)[0]
    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(certificate.pointer))
    X509_REVOKED_set_revocationDate(entry, time)
    X509_CRL_add0_revoked(list, entry)
  }
  try #require(X509_CRL_sign(list, key, EVP_sha256()) > 0)
  let bio = BIO_new(BIO_s_mem())
  defer { BIO_free(bio) }
  try #require(PEM_write_bio_X509_CRL(bio, list) == 1)
  var start: UnsafeMutableRawPointer?
  let count = BIO_ctrl(bio, BIO_CTRL_INFO, 0, &start)
  return Array(UnsafeRawBufferPointer(start: start, count: count))
}
