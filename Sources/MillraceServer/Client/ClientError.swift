// ClientError: why a request to a server has no result.

import MillraceKafkaProtocol

/// A request that failed.
struct ClientError: Error, Equatable, CustomStringConvertible {
  enum Code: Equatable, Sendable {
    /// Nobody answers at the address.
    case unreachable
    /// The connection ended, or no answer came in time; whether the server acted on the request is unknown.
    case lost
    /// The answer is none that this program understands.
    case malformed
    /// The server said no.
    case refused(KafkaErrorCode)
    /// The server said no to something about queues, with AMQP's reply code.
    case denied(UInt16)
    /// The caller was asked to stop.
    case interrupted
  }

  let code: Code
  /// In words, with the values.
  let description: String

  init(_ code: Code, _ description: String) {
    self.code = code
    self.description = description
  }

  /// A refusal of `what`, with the server's own words where it has some.
  static func refused(_ code: KafkaErrorCode, _ what: String, _ message: String? = nil) -> ClientError {
    let words = message.flatMap { $0.isEmpty ? nil : $0 } ?? "\(code)"
    return ClientError(.refused(code), "\(what): \(words)")
  }
}

extension CommandFailure {
  /// A failed request as the command's failure.
  init(_ error: ClientError) {
    self.init(.failed, error.description)
  }

  /// Runs `body`, turning a failed request into the command's failure.
  static func wrapping<Value>(_ body: () throws(ClientError) -> Value) throws(CommandFailure) -> Value {
    do throws(ClientError) {
      return try body()
    } catch {
      throw CommandFailure(error)
    }
  }
}
