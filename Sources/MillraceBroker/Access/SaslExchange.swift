// SaslExchange: one client's messages of one mechanism, until it is known who the client is, or that it is refused.

import MillraceBase
import MillraceIO
import MillraceSecurity

/// An exchange of SASL. Belongs to the broker's reactor; one message at a time.
public final class SaslExchange {
  /// What follows of a message.
  public enum Step: Sendable {
    /// The client has to answer this.
    case challenge(Bytes)
    /// The client is this user; the message is to be sent with that.
    case accepted(AuthenticatedClient, Bytes)
    /// The client is refused, and is sent this to tell it; whatever it says then is refused once more.
    case rejected(Bytes, AuthenticationError)
    /// The client is refused.
    case refused(AuthenticationError)
  }

  private enum State {
    case plain
    case scram(ScramServer)
    case bearer
    case rejected(BearerServer)
    case ended
  }

  /// The mechanism.
  public let mechanism: SaslMechanism
  private let authentication: Authentication
  private let host: String
  private var state: State

  /// An exchange that begins.
  /// - Parameters:
  ///   - mechanism: not EXTERNAL, in which the client says nothing: see ``Authentication/principal(of:)``.
  ///   - host: the client's address.
  public init(_ mechanism: SaslMechanism, _ authentication: Authentication, from host: String) {
    precondition(mechanism != .external, "an exchange of messages by EXTERNAL")
    self.mechanism = mechanism
    self.authentication = authentication
    self.host = host
    state =
      switch mechanism {
      case .plain: .plain
      case .scramSHA256: .scram(authentication.scram(.sha256))
      case .scramSHA512: .scram(authentication.scram(.sha512))
      case .bearer: .bearer
      case .external: .ended
      }
  }

  /// Takes a message; `completion` follows once, at once or later.
  public func respond(_ message: Bytes, _ completion: @escaping (Step) -> Void) {
    do throws(AuthenticationError) {
      switch state {
      case .plain:
        state = .ended
        checkPassword(try PlainMechanism.read(message), completion)
      case .scram(var server):
        state = .ended
        switch try server.respond(message) {
        case .findCredential(let user):
          let challenge = server.challenge(with: authentication.credential(of: user, server.mechanism))
          state = .scram(server)
          completion(.challenge(challenge))
        case .accepted(let user, let answer):
          completion(.accepted(AuthenticatedClient(Principal(user), isStored: true), answer))
        }
      case .bearer:
        state = .ended
        var server = try authentication.bearer()
        switch try server.respond(message, at: authentication.wallClock) {
        case .accepted(let identity, extensions: _): completion(.accepted(AuthenticatedClient(identity), Bytes()))
        case .refused(let answer, let error):
          state = .rejected(server)
          completion(.rejected(answer, error))
        }
      case .rejected(var server):
        state = .ended
        _ = try server.respond(message, at: authentication.wallClock)
      case .ended: throw AuthenticationError(.outOfOrder, "a message that has no place in the exchange")
      }
    } catch {
      completion(.refused(error))
    }
  }

  private func checkPassword(_ given: PlainCredentials, _ completion: @escaping (Step) -> Void) {
    authentication.check(given, from: host) { error in
      if let error { return completion(.refused(error)) }
      completion(.accepted(AuthenticatedClient(Principal(given.user), isStored: true), Bytes()))
    }
  }
}

/// A client that has proved who it is.
public struct AuthenticatedClient: Sendable, Equatable {
  /// Who it is.
  public var principal: Principal
  /// It is a user of the broker's own, and no longer welcome when that one is removed.
  public var isStored: Bool
  /// Until when that counts; nil when it does not end by itself.
  public var expires: Timestamp?

  /// A client.
  public init(_ principal: Principal, isStored: Bool, expires: Timestamp? = nil) {
    self.principal = principal
    self.isStored = isStored
    self.expires = expires
  }

  /// The bearer of a token.
  public init(_ identity: BearerIdentity) {
    self.init(identity.principal, isStored: false, expires: identity.expires)
  }
}
