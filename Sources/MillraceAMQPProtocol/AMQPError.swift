// AMQPError: an error that is answered with channel.close or connection.close.

/// What a peer did wrong, as the closing method says it.
///
/// Everything that this target throws ends the connection, except where the code is a soft one.
public struct AMQPError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Decides whether the channel or the connection ends.
  public let code: ReplyCode
  /// What was wrong, in words, with the values; without the code's name.
  public let reason: String
  /// The method at fault, or ``MethodID/none``.
  public var method: MethodID

  /// An error. `method` may be set later, by who knows it.
  public init(_ code: ReplyCode, _ reason: String, _ method: MethodID = .none) {
    self.code = code
    self.reason = reason
    self.method = method
  }

  /// The code's name and the reason, as RabbitMQ writes it: `NOT_FOUND - no queue 'x' in vhost '/'`. At most 255 bytes:
  /// a longer one is cut between characters and ends with three dots.
  public var replyText: String { AMQPError.shortened("\(code.name) - \(reason)") }

  /// `text`, cut to what a short string holds.
  static func shortened(_ text: String) -> String {
    guard text.utf8.count > ShortString.limit else { return text }
    var cut = text.utf8.index(text.utf8.startIndex, offsetBy: ShortString.limit - 3)
    while cut.samePosition(in: text.unicodeScalars) == nil { cut = text.utf8.index(before: cut) }
    return String(text.unicodeScalars[..<cut]) + "..."
  }

  /// The reply text, uncut, with the number.
  public var description: String { "\(code) - \(reason)" }
}

extension ConnectionClose {
  /// Says that the connection ends because of `error`.
  public init(_ error: AMQPError) {
    self.init(
      replyCode: error.code.rawValue, replyText: error.replyText, classID: error.method.classID,
      methodID: error.method.methodID)
  }
}

extension ChannelClose {
  /// Says that the channel ends because of `error`.
  public init(_ error: AMQPError) {
    self.init(
      replyCode: error.code.rawValue, replyText: error.replyText, classID: error.method.classID,
      methodID: error.method.methodID)
  }
}
