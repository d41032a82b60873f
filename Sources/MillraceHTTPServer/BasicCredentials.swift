// BasicCredentials: a user's name and password in the field `Authorization` (RFC 7617).

import MillraceBase
import MillraceSecurity

/// Reads `Basic …`.
public enum BasicCredentials {
  /// The user and the password; nil when the field says something else, or cannot be read.
  public static func read(_ authorization: String) -> (user: String, password: Secret)? {
    let parts = authorization.split(separator: " ", maxSplits: 1)
    guard parts.count == 2, parts[0].lowercased() == "basic", let decoded = Base64.decode(String(parts[1])) else {
      return nil
    }
    return decoded.withBuffer { bytes in
      guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")),
        let user = String(validating: bytes[..<colon], as: UTF8.self)
      else { return nil }
      return (user, Secret(bytes[(colon + 1)...]))
    }
  }
}
