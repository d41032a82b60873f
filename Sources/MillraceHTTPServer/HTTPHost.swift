// HTTPHost: whether the field `Host` names this server, and whether the field `Origin` names the same.

/// Looks at hosts with optional ports.
enum HTTPHost {
  /// `localhost`, a name below it, an address of any kind, or one of `names`.
  static func isOwn(_ host: String, _ names: Set<String>) -> Bool {
    let name = withoutPort(host).lowercased()
    if name == "localhost" || name.hasSuffix(".localhost") || names.contains(name) { return true }
    if name.hasPrefix("["), name.hasSuffix("]") {
      return name.dropFirst().dropLast().utf8.allSatisfy { byte in
        byte == UInt8(ascii: ":") || byte == UInt8(ascii: ".") || (0x30...0x39).contains(byte)
          || (0x61...0x66).contains(byte)
      }
    }
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts.allSatisfy { part in UInt8(part) != nil && !part.hasPrefix("+") }
  }

  /// Whether an origin, `scheme://host:port`, is this very host and port.
  static func isSame(origin: String, host: String) -> Bool {
    for (scheme, port) in [("http://", ":80"), ("https://", ":443")] where origin.hasPrefix(scheme) {
      let own = origin.dropFirst(scheme.count).lowercased()
      return withPort(own, port) == withPort(host.lowercased(), port)
    }
    return false
  }

  private static func withPort(_ host: String, _ standard: String) -> String {
    withoutPort(host) == host ? host + standard : host
  }

  private static func withoutPort(_ host: String) -> String {
    if host.hasPrefix("[") {
      guard let end = host.firstIndex(of: "]") else { return host }
      return String(host[...end])
    }
    guard let colon = host.lastIndex(of: ":") else { return host }
    return String(host[..<colon])
  }
}
