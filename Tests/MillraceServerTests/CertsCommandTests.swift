// CertsCommandTests: `millrace certs`: what it writes, for whom it is readable, and what it refuses.

import Foundation
import MillraceBase
import MillraceIO
import Testing

@testable import MillraceServer

/// A directory for certificates that goes away.
private final class Folder {
  let path = FileManager.default.temporaryDirectory.appending(path: "millrace-certs-\(UUID().uuidString)").path
  deinit { _ = try? FileManager.default.removeItem(atPath: path) }

  /// Runs `certs` and returns what it failed with.
  func certs(_ words: String...) -> CommandFailure? {
    do {
      guard case .run(let body, let arguments) = try MillraceCommand.choose(["certs"] + words + ["--directory", path])
      else { return CommandFailure(.failed, "help") }
      #expect(try body(arguments) == .done)
      return nil
    } catch {
      return error
    }
  }

  func mode(_ name: String) throws -> Int {
    let attributes = try FileManager.default.attributesOfItem(atPath: "\(path)/\(name)")
    return try #require(attributes[.posixPermissions] as? Int)
  }

  func certificate(_ name: String) throws -> Certificate { try CertificateMaker.describe("\(path)/\(name)")[0] }
}

@Test("an authority, a server's and a client's certificate: names, time, and keys for their owner alone")
func certificatesAreMade() throws {
  let folder = Folder()
  #expect(folder.certs("make") == nil)
  #expect(folder.certs("client", "alice@shop") == nil)
  let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
  #expect(names == ["alice@shop.key", "alice@shop.pem", "ca.key", "ca.pem", "server.key", "server.pem"])
  for name in names where name.hasSuffix(".key") { #expect(try folder.mode(name) == 0o600, "\(name)") }
  let server = try folder.certificate("server.pem")
  #expect(server.dnsNames == ["localhost"] && server.addresses == ["127.0.0.1", "::1"] && !server.isAuthority)
  #expect(server.notAfter.milliseconds - server.notBefore.milliseconds == (365 * 24 + 1) * 3_600_000)
  let client = try folder.certificate("alice@shop.pem")
  #expect(client.subject == "CN=alice@shop" && client.commonName == "alice@shop")
  let authority = try folder.certificate("ca.pem")
  #expect(authority.isAuthority && client.issuer == authority.subject && server.issuer == authority.subject)
}

@Test("nothing is replaced without --force, and an authority never")
func nothingIsReplaced() throws {
  let folder = Folder()
  #expect(folder.certs("make", "--days", "3") == nil)
  let first = try folder.certificate("server.pem").fingerprint
  let authority = try folder.certificate("ca.pem").fingerprint
  let refused = folder.certs("make", "--host", "mill.example")
  #expect(refused?.exitCode == .failed && refused?.description.contains("--force") == true)
  #expect(try folder.certificate("server.pem").fingerprint == first)
  #expect(folder.certs("make", "--force", "--host", "mill.example", "192.0.2.7") == nil)
  let second = try folder.certificate("server.pem")
  #expect(second.fingerprint != first && second.dnsNames == ["mill.example"] && second.addresses == ["192.0.2.7"])
  #expect(try folder.certificate("ca.pem").fingerprint == authority)
  #expect(folder.certs("client", "bob") == nil)
  #expect(folder.certs("client", "bob") != nil)
}

@Test("names that are none, a missing authority, and an authority's key that is another's are refused with the file")
func certsRefuses() throws {
  let folder = Folder()
  #expect(folder.certs("client", "alice")?.description.contains("certs make") == true)
  for name in ["../x", ".x", "a b", "ca", "server", String(repeating: "a", count: 65)] {
    #expect(folder.certs("client", name)?.exitCode == .usage, "\(name)")
  }
  for host in ["a b", "-", "x,DNS:y", "*", "a..b"] where host != "-" {
    #expect(folder.certs("make", "--host", host)?.exitCode == .usage, "\(host)")
  }
  #expect(!FileManager.default.fileExists(atPath: folder.path))
  let other = Folder()
  #expect(folder.certs("make") == nil && other.certs("make") == nil)
  try FileManager.default.removeItem(atPath: "\(folder.path)/ca.key")
  #expect(folder.certs("client", "alice")?.description.contains("ca.key is missing") == true)
  try FileManager.default.copyItem(atPath: "\(other.path)/ca.key", toPath: "\(folder.path)/ca.key")
  let mismatch = try #require(folder.certs("client", "alice")?.description)
  #expect(mismatch.contains("\(folder.path)/ca.key: is not the key"))
  // A file where the directory should be.
  let file = FileManager.default.temporaryDirectory.appending(path: "millrace-certs-\(UUID().uuidString)")
  try Data().write(to: file)
  defer { _ = try? FileManager.default.removeItem(at: file) }
  guard case .run(let body, let arguments) = try MillraceCommand.choose(["certs", "make", "--directory", file.path])
  else { return }
  let failure = #expect(throws: CommandFailure.self) { try body(arguments) }
  #expect(failure?.description.contains(file.path) == true)
}

@Test("what a certificate says is shown, and whether its time is over")
func certificatesAreShown() throws {
  let folder = Folder()
  #expect(folder.certs("make") == nil)
  let server = try folder.certificate("server.pem")
  let text = CertificateText.lines(server, now: server.notBefore)
  #expect(text.contains("subject  CN=localhost\n") && text.contains("names    localhost 127.0.0.1 ::1\n"))
  #expect(text.contains("sha-256  \(server.fingerprint)\n") && text.contains("serial   \(server.serial)\n"))
  #expect(!text.contains("expired"))
  let later = Timestamp(milliseconds: server.notAfter.milliseconds + 1)
  #expect(CertificateText.lines(server, now: later).contains("(expired)"))
}
