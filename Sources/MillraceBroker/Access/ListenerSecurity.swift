// ListenerSecurity: what a listener asks of its clients before it serves them.

import MillraceIO
import MillraceSecurity

/// What a listener asks of its clients.
public struct ListenerSecurity: Sendable {
  /// How clients may prove who they are; none means that they need not, and are ``Principal/anonymous``.
  ///
  /// With `.external` a client's certificate is enough.
  public var mechanisms: [SaslMechanism]
  /// How connections are encrypted; nil when they are not.
  public var tls: TLSContext?

  /// A listener that asks for nothing: for this machine alone.
  public static let open = ListenerSecurity(mechanisms: [])

  /// A listener with these mechanisms.
  public init(mechanisms: [SaslMechanism], tls: TLSContext? = nil) {
    self.mechanisms = mechanisms
    self.tls = tls
  }

  /// Whether clients have to prove who they are.
  public var asksForIdentity: Bool { !mechanisms.isEmpty }
}
