// ConfigurationCheck: what can be seen to be wrong with a configuration from outside: files of TLS, keys of tokens, the data directory.

import Glibc
import Millrace
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceSecurity

/// Looks at the files that a configuration names. Nothing is opened for writing, and nothing is made.
struct ConfigurationCheck {
  private let configuration: ServerConfiguration
  private(set) var problems: [ConfigurationProblem] = []

  /// Looks. Blocks.
  init(_ configuration: ServerConfiguration) {
    self.configuration = configuration
    checkFile()
    checkTLS()
    checkTokenKeys()
    checkEncryptionKeys()
    if !configuration.directory.isEmpty { checkDirectory(configuration.directory) }
  }

  private mutating func complain(_ name: String, _ text: String, isWarning: Bool = false) {
    let place = configuration.settings.values(of: name).first?.place ?? ""
    problems.append(ConfigurationProblem(place: place, text: text, isWarning: isWarning))
  }

  /// Who may write to the configuration file decides where the server's data and keys are.
  private mutating func checkFile() {
    guard let file = configuration.file else { return }
    do throws(IOError) {
      guard try FileIdentity(file).permissions & 0o002 != 0 else { return }
      problems.append(
        ConfigurationProblem(place: file, text: "everybody may write to this file", isWarning: true))
    } catch {
      // That it cannot be read was said already.
      return
    }
  }

  private mutating func checkTLS() {
    var seen: Set<String> = []
    for definition in configuration.definitions where definition.isEncrypted {
      let files = definition.files.completed(by: configuration.tlsFiles)
      let asksClients = definition.effectiveClientCertificates != .none
      let named = [
        ("tls.certificate", files.certificate, definition.files.certificate),
        ("tls.key", files.key, definition.files.key),
        ("tls.client.ca", asksClients ? files.clientAuthority : nil, definition.files.clientAuthority),
        ("tls.crl", asksClients ? files.revocations : nil, definition.files.revocations),
      ]
      var isReadable = true
      for (name, path, own) in named {
        guard let path, !SystemProbe.mayAccess(path, R_OK) else { continue }
        isReadable = false
        guard seen.insert(path).inserted else { continue }
        complain(own == nil ? name : "listeners", "\(path) cannot be read: \(String(cString: strerror(errno)))")
      }
      guard isReadable, files.certificate != nil, files.key != nil else { continue }
      check(definition, named.contains { $0.2 != nil } ? "listeners" : "tls.certificate", &seen)
    }
  }

  private mutating func check(_ definition: ListenerDefinition, _ name: String, _ seen: inout Set<String>) {
    do throws(TLSError) {
      let context = try TLSContext(definition.tlsConfiguration(configuration.tlsFiles))
      for warning in context.warnings(at: .now) where seen.insert(warning.description).inserted {
        complain(name, warning.description, isWarning: true)
      }
    } catch {
      if seen.insert(error.description).inserted { complain(name, error.description) }
    }
  }

  private mutating func checkTokenKeys() {
    guard configuration.definitions.contains(where: { $0.effectiveMechanisms.contains(.bearer) }),
      let path = configuration.settings.tokenKeyFile
    else { return }
    do throws(SecuritySettingError) {
      let name = "sasl.oauthbearer.jwks.endpoint.url"
      for skipped in try TokenKeyFile(path).read().skipped {
        complain(name, "\(path): a key is not used: \(skipped)", isWarning: true)
      }
    } catch {
      complain("sasl.oauthbearer.jwks.endpoint.url", "\(error)")
    }
  }

  private mutating func checkEncryptionKeys() {
    guard let path = configuration.encryptionKeyFile else { return }
    do throws(KeyFileError) {
      _ = try KeyRing(file: path)
    } catch {
      complain("encryption.key", error.description)
    }
  }

  private mutating func checkDirectory(_ path: String) {
    do throws(IOError) {
      let files = LinuxFileSystem()
      var there = path
      while try !files.exists(there) {
        let above = files.parentDirectory(of: there)
        if above == there { break }
        there = above
      }
      let found = try FileIdentity(there)
      guard found.isDirectory else { return complain("data", "\(there) is no directory") }
      if !SystemProbe.mayAccess(there, R_OK | W_OK | X_OK) {
        let verb = there == path ? "read and write" : "make \(path) in"
        complain("data", "this user may not \(verb) \(there): \(String(cString: strerror(errno)))")
      }
      if there == path, found.permissions & 0o007 != 0 {
        complain(
          "data", "everybody on this machine may look into \(path): chmod o-rwx \(path)", isWarning: true)
      }
    } catch {
      complain("data", error.description)
    }
  }
}
