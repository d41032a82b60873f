// PlainMechanism: a user's name and password as they are (RFC 4616).
//
// Bytes: authorization id | 0 | user | 0 | password, all UTF-8 without zero bytes; the authorization id may be empty.

import MillraceBase

/// A user's name and password, as a client gives them.
public struct PlainCredentials: Sendable, Equatable {
  /// The name, one that a user can have.
  public let user: String
  /// The password.
  public let password: Secret

  /// What a client gives, by PLAIN or in another way (AMQPLAIN, HTTP's Basic).
  /// - Throws: `.malformed` for a name or a password that is empty, longer than 255 and 1024 bytes, or a password that is not UTF-8;
  ///   `.invalidCredentials` for a name that no user can have.
  public init(user: String, password: Secret) throws(AuthenticationError) {
    guard (1...ScramCredential.longestPassword).contains(password.count),
      (1...UserName.longest).contains(user.utf8.count)
    else {
      throw AuthenticationError(
        .malformed, "a user name of \(user.utf8.count) bytes and a password of \(password.count)")
    }
    guard password.withBytes({ String(validating: $0, as: UTF8.self) != nil }) else {
      throw AuthenticationError(.malformed, "a password that is not UTF-8")
    }
    guard UserName.isValid(user) else {
      throw AuthenticationError(.invalidCredentials, "a user name that no user can have")
    }
    self.user = user
    self.password = password
  }
}

/// PLAIN. Belongs inside TLS.
public enum PlainMechanism {
  /// Longest message, in bytes: two names and a password with two separators.
  public static let longestMessage = 2 * UserName.longest + ScramCredential.longestPassword + 2

  /// What a client says.
  /// - Throws: `.malformed` for anything but three parts; what ``PlainCredentials/init(user:password:)`` throws; `.foreignAuthorization` for an
  ///   authorization id other than the user's name.
  public static func read(_ message: Bytes) throws(AuthenticationError) -> PlainCredentials {
    guard message.count <= longestMessage else {
      throw AuthenticationError(.malformed, "PLAIN: \(message.count) bytes; \(longestMessage) are allowed")
    }
    let parts = message.withBuffer { $0.split(separator: 0, omittingEmptySubsequences: false).map { Array($0) } }
    guard parts.count == 3 else { throw AuthenticationError(.malformed, "PLAIN: \(parts.count) parts instead of 3") }
    guard let authorization = String(validating: parts[0], as: UTF8.self),
      let user = String(validating: parts[1], as: UTF8.self)
    else { throw AuthenticationError(.malformed, "PLAIN: not UTF-8") }
    let credentials = try PlainCredentials(user: user, password: Secret(parts[2]))
    guard authorization.isEmpty || authorization == user else {
      throw AuthenticationError(.foreignAuthorization, "PLAIN: \(user) wants to act as somebody else")
    }
    return credentials
  }

  /// What a client sends.
  public static func message(user: String, password: Secret) -> Bytes {
    Bytes([0] + Array(user.utf8) + [0] + password.copy)
  }
}
