// ReplyCode: AMQP's reply codes with RabbitMQ's names, and whether one ends the channel or the connection.

/// Why a channel or connection is closed, or a content returned. Source: AMQP 0-9-1 specification, "Constants".
public enum ReplyCode: UInt16, CaseIterable, Sendable, CustomStringConvertible {
  /// Nothing went wrong; what a peer says that closes without an error.
  case replySuccess = 200
  /// The content is too large at the moment.
  case contentTooLarge = 311
  /// No queue takes a mandatory message: only in `basic.return`.
  case noRoute = 312
  /// No consumer takes an immediate message: only in `basic.return`.
  case noConsumers = 313
  /// An operator closed the connection, or the server shuts down.
  case connectionForced = 320
  /// A virtual host that does not exist.
  case invalidPath = 402
  /// Not allowed by permissions or credentials.
  case accessRefused = 403
  /// A queue, exchange or virtual host that does not exist.
  case notFound = 404
  /// Somebody else has it for himself.
  case resourceLocked = 405
  /// What was asked for does not fit the state of things, such as a second declaration with other arguments.
  case preconditionFailed = 406
  /// A frame that cannot be read.
  case frameError = 501
  /// A frame whose fields hold what they must not.
  case syntaxError = 502
  /// A method that makes no sense here.
  case commandInvalid = 503
  /// A channel that is not open, or is open already.
  case channelError = 504
  /// A frame of another kind than what must come next.
  case unexpectedFrame = 505
  /// The server lacks what it would take.
  case resourceError = 506
  /// Against the rules, whatever the state of things.
  case notAllowed = 530
  /// Not implemented.
  case notImplemented = 540
  /// The server's own fault.
  case internalError = 541

  /// The name as RabbitMQ begins reply texts with it, such as `NOT_FOUND`.
  public var name: String {
    switch self {
    case .replySuccess: "REPLY_SUCCESS"
    case .contentTooLarge: "CONTENT_TOO_LARGE"
    case .noRoute: "NO_ROUTE"
    case .noConsumers: "NO_CONSUMERS"
    case .connectionForced: "CONNECTION_FORCED"
    case .invalidPath: "INVALID_PATH"
    case .accessRefused: "ACCESS_REFUSED"
    case .notFound: "NOT_FOUND"
    case .resourceLocked: "RESOURCE_LOCKED"
    case .preconditionFailed: "PRECONDITION_FAILED"
    case .frameError: "FRAME_ERROR"
    case .syntaxError: "SYNTAX_ERROR"
    case .commandInvalid: "COMMAND_INVALID"
    case .channelError: "CHANNEL_ERROR"
    case .unexpectedFrame: "UNEXPECTED_FRAME"
    case .resourceError: "RESOURCE_ERROR"
    case .notAllowed: "NOT_ALLOWED"
    case .notImplemented: "NOT_IMPLEMENTED"
    case .internalError: "INTERNAL_ERROR"
    }
  }

  /// What it ends.
  public enum Severity: Sendable {
    /// No error.
    case none
    /// A soft error: the channel is closed, or a content returned.
    case channel
    /// A hard error: the connection is closed.
    case connection
  }

  /// What it ends: a soft error the channel, a hard one the connection.
  public var severity: Severity {
    switch self {
    case .replySuccess: .none
    case .contentTooLarge, .noRoute, .noConsumers, .accessRefused, .notFound, .resourceLocked, .preconditionFailed:
      .channel
    default: .connection
    }
  }

  /// Name and number.
  public var description: String { "\(rawValue) \(name)" }
}
