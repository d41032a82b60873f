// HTTPAuthorization: what the field `Authorization` says: a name and a password (RFC 7617), or a token (RFC 6750).

import MillraceBase
import MillraceSecurity

/// What a client shows of who it is.
enum HTTPAuthorization {
  /// `Basic`.
  case basic(user: String, Secret)
  /// `Bearer`.
  case bearer(Secret)
  /// Another scheme, or what cannot be read.
  case unreadable

  init(_ field: String) {
    let parts = field.split(separator: " ", maxSplits: 1)
    if parts.count == 2, parts[0].lowercased() == "bearer" {
      let token = parts[1].utf8.drop { $0 == 0x20 }
      // What is no token is told apart by whoever verifies it.
      self = token.isEmpty ? .unreadable : .bearer(Secret(token))
    } else if let (user, password) = BasicCredentials.read(field) {
      self = .basic(user: user, password)
    } else {
      self = .unreadable
    }
  }
}
