// SocketAddress+System: between the numeric notation and the kernel's addresses.

import CMillraceSystem

extension SocketAddress {
  /// The kernel's form.
  /// - Throws: `.failed` when the host is no numeric address.
  func native(for operation: String) throws(IOError) -> mr_address {
    var out = mr_address()
    guard mr_parse_address(host, &out) == 0 else {
      throw IOError(.failed, operation: operation, subject: description, reason: "not a numeric IPv4 or IPv6 address")
    }
    out.port = port
    return out
  }

  init(_ native: mr_address) {
    var native = native
    let host = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { room in
      guard let base = room.baseAddress, native.family != 0, mr_format_address(&native, base, room.count) == 0 else {
        return "unknown"
      }
      return String(cString: base)
    }
    self.init(host: host, port: native.port)
  }
}

extension SocketAddress {
  /// Whether the host is an IPv4 or IPv6 address in its usual notation.
  public var isNumeric: Bool {
    var out = mr_address()
    return mr_parse_address(host, &out) == 0
  }
}
