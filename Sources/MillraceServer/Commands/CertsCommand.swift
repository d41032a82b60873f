// CertsCommand: `millrace certs`: an authority for development, certificates that it signs, and what certificates say.

import MillraceBase
import MillraceIO

extension Command {
  /// `millrace certs`
  static let certs = Command(
    "certs", "makes certificates for development, and shows what certificates say",
    discussion: """
      The authority's key lies unprotected in the same directory: good enough for development and tests, not for a network that \
      others are on.
      """,
    subcommands: [.certsMake, .certsClient, .certsShow])

  private static let certsMake = Command(
    "make", "makes an authority unless there is one, and a server's certificate",
    discussion: """
      Writes ca.pem and ca.key, which are kept when they are there, and server.pem and server.key. Clients trust the server by ca.pem. \
      Keys, on the curve P-256, are for their owner alone (mode 0600). The authority is valid for ten years.
      """,
    options: [
      directoryOption,
      CommandOption(
        "--host", "HOST", count: .list,
        "What clients connect to (default \(defaultHosts.joined(separator: " ")))."),
      daysOption, forceOption,
    ]
  ) { (arguments) throws(CommandFailure) in
    let folder = CertificateFolder(arguments)
    let hosts = arguments.list("--host").isEmpty ? defaultHosts : arguments.list("--host")
    try folder.refuseExisting("server")
    let (authority, isNew) = try folder.authority(orMake: true)
    // The subject is only a label: clients look at the names beside it.
    let plan = CertificatePlan(
      .server, commonName: String(hosts[0].prefix(64)), hosts: hosts, days: days(arguments))
    let pair = try issue(authority, plan)
    if isNew { try folder.write("ca", authority.own) }
    try folder.write("server", pair)
    try OutputStream.standardOutput.print(
      (isNew ? "wrote \(folder.path("ca.pem")) and \(folder.path("ca.key")): an authority\n" : "")
        + "wrote \(folder.path("server.pem")) and \(folder.path("server.key")): a server's certificate for "
        + "\(hosts.joined(separator: " "))\n")
    return .done
  }

  private static let certsClient = Command(
    "client", "makes a client's certificate, signed by the authority of `certs make`",
    discussion: "Writes NAME.pem and NAME.key. The subject is CN=NAME.",
    operands: [Operand("NAME", "The client's name: letters, digits and . _ @ -, a letter or digit first.")],
    options: [directoryOption, daysOption, forceOption]
  ) { (arguments) throws(CommandFailure) in
    let folder = CertificateFolder(arguments)
    let name = arguments.operands[0]
    guard CertificateFolder.isFileName(name), !["ca", "server"].contains(name) else {
      throw CommandFailure(
        .usage, "NAME must be 1 to 64 letters, digits and . _ @ -, a letter or digit first, neither ca nor server")
    }
    try folder.refuseExisting(name)
    let (authority, _) = try folder.authority(orMake: false)
    try folder.write(name, try issue(authority, CertificatePlan(.client, commonName: name, days: days(arguments))))
    try OutputStream.standardOutput.print(
      "wrote \(folder.path("\(name).pem")) and \(folder.path("\(name).key")): a certificate of the client CN=\(name)\n")
    return .done
  }

  private static let certsShow = Command(
    "show", "shows what the certificates in a file say",
    operands: [Operand("FILE", "A PEM file with one certificate or more.")]
  ) { (arguments) throws(CommandFailure) in
    let certificates: [Certificate]
    do throws(TLSError) {
      certificates = try CertificateMaker.describe(arguments.operands[0])
    } catch {
      throw CommandFailure(.failed, error.description)
    }
    let now = Timestamp.now
    try OutputStream.standardOutput.print(
      certificates.map { CertificateText.lines($0, now: now) }.joined(separator: "\n"))
    return .done
  }

  private static let defaultHosts = ["localhost", "127.0.0.1", "::1"]
  private static let directoryOption = CommandOption(
    "--directory", "DIR", "Where the files are (default certs); made when it is missing.")
  private static let daysOption = CommandOption(
    "--days", "N", type: .integer(1...825), "How long the certificate is valid (default 365).")
  private static let forceOption = CommandOption(
    flag: "--force", "Replaces files of the same names, but no authority's.")

  private static func days(_ arguments: Arguments) -> Int { Int(arguments.integer("--days") ?? 365) }

  private static func issue(_ authority: CertificateMaker, _ plan: CertificatePlan) throws(CommandFailure)
    -> CertificateAndKey
  {
    do throws(TLSError) {
      return try authority.issue(plan)
    } catch {
      throw CommandFailure(error.code == .badSettings ? .usage : .failed, error.description)
    }
  }
}

/// The directory that the certificates are in.
private struct CertificateFolder {
  private let directory: String
  private let replaces: Bool
  private let disk = LinuxFileSystem()

  init(_ arguments: Arguments) {
    directory = arguments.text("--directory") ?? "certs"
    replaces = arguments.has("--force")
  }

  func path(_ name: String) -> String { "\(directory)/\(name)" }

  static func isFileName(_ name: String) -> Bool {
    func isPlain(_ byte: UInt8) -> Bool {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
      case UInt8(ascii: "0")...UInt8(ascii: "9"): true
      default: false
      }
    }
    guard (1...64).contains(name.utf8.count), let first = name.utf8.first, isPlain(first) else { return false }
    return name.utf8.allSatisfy { isPlain($0) || "._@-".utf8.contains($0) }
  }

  /// Before anything is made.
  func refuseExisting(_ name: String) throws(CommandFailure) {
    guard !replaces else { return }
    for file in ["\(name).pem", "\(name).key"] {
      if try exists(path(file)) {
        throw CommandFailure(.failed, "\(path(file)) is there already; --force replaces it")
      }
    }
  }

  /// The authority that is there, or a new one, which was not written yet.
  func authority(orMake: Bool) throws(CommandFailure) -> (CertificateMaker, isNew: Bool) {
    let isThere = try (exists(path("ca.pem")), exists(path("ca.key")))
    do throws(TLSError) {
      switch isThere {
      case (true, true):
        return (try CertificateMaker(certificateFile: path("ca.pem"), keyFile: path("ca.key"), files: disk), false)
      case (false, false) where orMake:
        let plan = CertificatePlan(.authority, commonName: "Millrace development authority", days: 3650)
        return (try CertificateMaker(new: plan), true)
      default: break
      }
    } catch {
      throw CommandFailure(.failed, error.description)
    }
    let missing = path(isThere.0 ? "ca.key" : "ca.pem")
    throw CommandFailure(.failed, "\(missing) is missing\(orMake ? "" : "; `millrace certs make` makes an authority")")
  }

  private func exists(_ path: String) throws(CommandFailure) -> Bool {
    do throws(IOError) { return try disk.exists(path) } catch { throw CommandFailure(.failed, error.description) }
  }

  /// Writes certificate and key, each whole or not at all.
  func write(_ name: String, _ pair: CertificateAndKey) throws(CommandFailure) {
    do throws(IOError) {
      try disk.createDirectories(directory)
      try write("\(name).key", pair.key, [.ownerOnly])
      try write("\(name).pem", pair.certificate, [])
      try disk.syncDirectory(directory)
    } catch {
      throw CommandFailure(.failed, error.description)
    }
  }

  private func write(_ name: String, _ contents: Bytes, _ options: OpenOptions) throws(IOError) {
    let temporary = path(name) + ".new"
    // One that was left by a process that died may have another mode.
    if try disk.exists(temporary) { try disk.remove(temporary) }
    let file = try disk.open(temporary, options.union([.write, .create, .exclusive]))
    do throws(IOError) {
      defer { file.close() }
      try contents.withBuffer { buffer throws(IOError) in try file.write(buffer, at: 0) }
      try file.flush()
    } catch {
      // The first failure is the one to tell of.
      do throws(IOError) { try disk.remove(temporary) } catch {}
      throw error
    }
    try disk.rename(temporary, to: path(name))
  }
}

/// A certificate as lines for people.
enum CertificateText {
  static func lines(_ certificate: Certificate, now: Timestamp) -> String {
    func time(_ time: Timestamp) -> String { Logger.iso8601(time).prefix(19) + "Z" }
    var rows = [("subject", certificate.subject), ("issuer", certificate.issuer)]
    let names =
      certificate.dnsNames + certificate.addresses + certificate.uris + certificate.emails
    if !names.isEmpty { rows.append(("names", names.joined(separator: " "))) }
    rows.append(("kind", certificate.isAuthority ? "authority" : "server or client"))
    let state =
      certificate.notAfter < now ? " (expired)" : certificate.notBefore > now ? " (not valid yet)" : ""
    rows.append(("valid", "\(time(certificate.notBefore)) to \(time(certificate.notAfter))\(state)"))
    rows.append(("serial", certificate.serial))
    rows.append(("sha-256", certificate.fingerprint))
    return rows.map { "\($0.0.padded(to: 9))\(printable($0.1))\n" }.joined()
  }

  /// Control characters written out, so that a name cannot play with the terminal.
  private static func printable(_ text: String) -> String {
    text.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? "\\u{\(String($0.value, radix: 16))}" : String($0) }
      .joined()
  }
}

extension String {
  fileprivate func padded(to width: Int) -> String { self + String(repeating: " ", count: max(1, width - count)) }
}
