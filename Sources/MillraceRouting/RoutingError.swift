// RoutingError: why a change or a route is refused, with the reply code and the text that RabbitMQ's clients know.

/// A refusal. The message is RabbitMQ's reply text without the code's name in front of it.
public struct RoutingError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The kind of refusal, by AMQP's reply code.
  public struct Code: Hashable, Sendable {
    /// AMQP 0-9-1's reply code.
    public let replyCode: UInt16
    /// Its name, as reply texts begin with it.
    public let name: String

    /// A code.
    public init(replyCode: UInt16, name: String) {
      self.replyCode = replyCode
      self.name = name
    }

    /// 403: a name that is reserved, an exchange that is internal or belongs to the broker.
    public static let accessRefused = Code(replyCode: 403, name: "ACCESS_REFUSED")
    /// 404: no such exchange or destination.
    public static let notFound = Code(replyCode: 404, name: "NOT_FOUND")
    /// 405: a queue that another connection has for itself.
    public static let resourceLocked = Code(replyCode: 405, name: "RESOURCE_LOCKED")
    /// 406: arguments that do not fit, or not to what is there; an exchange in use.
    public static let preconditionFailed = Code(replyCode: 406, name: "PRECONDITION_FAILED")
    /// 530: no such virtual host.
    public static let notAllowed = Code(replyCode: 530, name: "NOT_ALLOWED")
  }

  /// The kind.
  public let code: Code
  /// What is wrong, with the names and values.
  public let message: String

  /// A refusal.
  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  /// The reply text, as `NOT_FOUND - no exchange 'x' in vhost '/'`.
  public var description: String { "\(code.name) - \(message)" }

  static func noExchange(_ name: String, _ vhost: String) -> RoutingError {
    RoutingError(.notFound, "no exchange '\(name)' in vhost '\(vhost)'")
  }

  /// There is no such virtual host.
  public static func noVirtualHost(_ name: String) -> RoutingError {
    RoutingError(.notAllowed, "vhost '\(name)' not found")
  }

  static let defaultExchange = RoutingError(.accessRefused, "operation not permitted on the default exchange")
}
