// SocketAddress+Text: an address as a person writes it.

extension SocketAddress {
  /// Reads `HOST:PORT`, with brackets around IPv6; nil when it is none, or the port is 0. The host may be a name, which only whoever
  /// looks it up can connect to.
  public init?(hostAndPort text: String) {
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0 else {
      return nil
    }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      return nil
    }
    guard !host.isEmpty else { return nil }
    self.init(host: String(host), port: port)
  }
}
