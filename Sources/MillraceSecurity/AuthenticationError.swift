// AuthenticationError: why somebody was not let in: a code for the program, words for the log, and what the client may know.

/// A refusal of a client that wants to say who it is, or of a credential that somebody wants to store.
public struct AuthenticationError: Error, Equatable, CustomStringConvertible {
  /// The kinds that callers, metrics and the audit tell apart.
  public enum Code: String, CaseIterable, Sendable {
    /// No such user, or another password. Which of the two is in no text.
    case invalidCredentials
    /// The message cannot be read, or is longer than allowed.
    case malformed
    /// A message that has no place in the exchange.
    case outOfOrder
    /// A mechanism that is not offered.
    case unsupportedMechanism
    /// Channel binding, which no mechanism here has.
    case unsupportedChannelBinding
    /// A mandatory extension, or Kafka's delegation tokens.
    case unsupportedExtension
    /// The client wants to act as somebody else.
    case foreignAuthorization
    /// The server did not prove that it knows the credential; from ``ScramClient`` alone.
    case unprovenServer
    /// A certificate's subject that no rule makes a principal of.
    case unmappedCertificate
    /// A token whose time is over.
    case expired
    /// A token whose time has not come.
    case notYetValid
    /// A token by nobody that is trusted, or for somebody else, or without what it needs.
    case untrustedToken
    /// A token of another issuer than those expected.
    case wrongIssuer
    /// A token for another audience.
    case wrongAudience
    /// A token whose key is not among those known.
    case unknownKey
    /// A token with an algorithm that is refused.
    case unsupportedAlgorithm
    /// A token whose signature is wrong.
    case invalidSignature
    /// A token without a scope that is required.
    case insufficientScope
    /// A password or a credential that is not accepted for storing.
    case unacceptableCredential
  }

  /// The kind.
  public let code: Code
  /// What happened, with values but never a secret, for the log and the audit. Not for the client: it may tell whether a user
  /// exists. Text of the client's in it was read as UTF-8 without control characters.
  public let reason: String

  /// A refusal with its reason for the log.
  public init(_ code: Code, _ reason: String) {
    self.code = code
    self.reason = reason
  }

  /// What the client may be told.
  public var publicText: String {
    switch code {
    case .invalidCredentials: "Authentication failed: invalid credentials"
    case .malformed: "Authentication failed: malformed message"
    case .outOfOrder: "Authentication failed: unexpected message"
    case .unsupportedMechanism: "Authentication failed: unsupported mechanism"
    case .unsupportedChannelBinding: "Authentication failed: channel binding is not supported"
    case .unsupportedExtension: "Authentication failed: unsupported extension"
    case .foreignAuthorization: "Authentication failed: the authorization id differs from the user name"
    case .unprovenServer: "Authentication failed: the server did not prove that it knows the credential"
    case .unmappedCertificate: "Authentication failed: no principal for this certificate"
    case .expired, .notYetValid, .untrustedToken, .wrongIssuer, .wrongAudience, .unknownKey, .unsupportedAlgorithm,
      .invalidSignature:
      "Authentication failed: invalid token"
    case .insufficientScope: "Authentication failed: insufficient scope"
    // Told to administrators, who gave the credential: they may know why.
    case .unacceptableCredential: "Unacceptable credential: \(reason)"
    }
  }

  /// Code and reason, for the log.
  public var description: String { "\(code.rawValue): \(reason)" }
}

/// A setting of security that cannot be used: rules, a key file. For the administrator, with values.
public struct SecuritySettingError: Error, Equatable, CustomStringConvertible {
  /// What is wrong, in words.
  public let description: String

  /// A setting that cannot be used, in words.
  public init(_ description: String) { self.description = description }
}
