// ServerAddress: where a server is to be found: a host by name or number and a port.

import MillraceBase
import MillraceIO

/// `HOST:PORT` as a person gives it.
struct ServerAddress: Equatable, Sendable, CustomStringConvertible {
  let host: String
  let port: UInt16

  /// Where a server listens when nothing else is said.
  static let standard = ServerAddress(host: "localhost", port: 9092)

  init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  /// Reads `HOST:PORT`, with brackets around IPv6; nil when it is none.
  init?(_ text: String) {
    guard let address = SocketAddress(hostAndPort: text) else { return nil }
    self.init(host: address.host, port: address.port)
  }

  var description: String { SocketAddress(host: host, port: port).description }

  /// The numeric addresses to try, in order.
  ///
  /// The program is linked statically, so the system's resolver is out of reach: names come from the hosts file.
  /// - Parameter hosts: the text of the hosts file.
  func candidates(hosts: String) -> [SocketAddress] {
    if host == "localhost" { return ["127.0.0.1", "::1"].map { SocketAddress(host: $0, port: port) } }
    // Once, since each line may be asked.
    let wanted = host.lowercased()
    var found: [String] = []
    for line in hosts.split(separator: "\n") {
      let words = line.prefix { $0 != "#" }.split { $0 == " " || $0 == "\t" }
      guard words.dropFirst().contains(where: { $0.lowercased() == wanted }) else { continue }
      found.append(String(words[0]))
    }
    return (found.isEmpty ? [host] : found).map { SocketAddress(host: $0, port: port) }
  }

  /// The text of the machine's hosts file; empty when there is none to read.
  static func machineHosts() -> String {
    do throws(IOError) {
      return try LinuxFileSystem().readAll("/etc/hosts", limit: 1 << 20).text
    } catch {
      return ""
    }
  }
}
