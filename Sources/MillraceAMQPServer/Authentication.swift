// Authentication: what a client says of who it is, and whether it may come in.

import MillraceAMQPProtocol
import MillraceBase
import MillraceIO

/// A user's name and password, as a client gives them.
struct AMQPCredentials: Equatable, Sendable {
  /// The user's name.
  var user: String
  /// The password.
  var password: String
}

/// The ways of saying who one is.
enum AuthenticationMechanism: String, CaseIterable {
  case plain = "PLAIN"
  case amqplain = "AMQPLAIN"

  /// What `connection.start` offers.
  static let offered = allCases.map(\.rawValue).joined(separator: " ")

  /// What a response says; nil when it cannot be read.
  func credentials(_ response: Bytes) -> AMQPCredentials? {
    switch self {
    case .plain:
      // authorization id, NUL, user, NUL, password (RFC 4616); whom to act as is nobody's choice here, as in RabbitMQ.
      let parts = response.withBuffer { $0.split(separator: 0, omittingEmptySubsequences: false) }
      guard parts.count == 3, let user = String(validating: parts[1], as: UTF8.self),
        let password = String(validating: parts[2], as: UTF8.self)
      else { return nil }
      return AMQPCredentials(user: user, password: password)
    case .amqplain:
      // A table without its length.
      let table: AMQPFieldTable
      do throws(DecodingError) { table = try AMQPFieldTable(encoded: response) } catch { return nil }
      guard let user = table["LOGIN"]?.text, let password = table["PASSWORD"]?.text else { return nil }
      return AMQPCredentials(user: user, password: password)
    }
  }
}

extension AMQPServer {
  /// Who may come in: the user `guest` with the password `guest`, from this machine, as with a RabbitMQ that was just
  /// installed.
  static func isKnown(_ credentials: AMQPCredentials, from address: SocketAddress) -> Bool {
    credentials == AMQPCredentials(user: "guest", password: "guest") && isLoopback(address.host)
  }

  /// Whether an address is of this machine alone.
  static func isLoopback(_ host: String) -> Bool {
    host == "::1" || host.hasPrefix("127.") || host.hasPrefix("::ffff:127.")
  }
}
