// ListenerSecurity: what a listener asks of its clients before it serves them.

import MillraceSecurity

/// The ways in which a client proves who it is, by their names in SASL.
public enum SASLMechanism: String, CaseIterable, Sendable {
  case plain = "PLAIN"
  case scramSHA256 = "SCRAM-SHA-256"
  case scramSHA512 = "SCRAM-SHA-512"
  case oauthBearer = "OAUTHBEARER"
  case external = "EXTERNAL"
}

/// What a listener asks of its clients.
public struct ListenerSecurity: Sendable {
  /// How clients may prove who they are; none means that they need not, and are ``Principal/anonymous``.
  public var mechanisms: [SASLMechanism]

  /// A listener that asks for nothing: for this machine alone.
  public static let open = ListenerSecurity(mechanisms: [])

  /// A listener with these mechanisms.
  public init(mechanisms: [SASLMechanism]) {
    self.mechanisms = mechanisms
  }

  /// Whether clients have to prove who they are.
  public var asksForIdentity: Bool { !mechanisms.isEmpty }
}
