// HTTPIdentity: who sends a request, and what they may do: the seam to users and rules.

import MillraceBase
import MillraceIO
import MillraceSecurity

/// What a request says of who sends it.
public struct HTTPCredentials {
  /// The field `Authorization`, as it came.
  public var authorization: String?
  /// The connection: the peer's address, and what its encryption knows of the peer.
  public var connection: any Connection

  /// Credentials.
  public init(authorization: String?, connection: any Connection) {
    self.authorization = authorization
    self.connection = connection
  }
}

/// What credentials are worth.
public enum HTTPIdentity: Equatable, Sendable {
  /// A user. Who has not proven to be that user is believed because of where the request comes from; then the request must
  /// also name this server by an address or a name of its own, so that no web page can have a browser send it. What is answered
  /// ends when the proof does, if that ends by itself.
  case known(Principal, isProven: Bool, expires: Timestamp? = nil)
  /// Nobody: 401, with what to prove oneself by (`WWW-Authenticate`), and why, in words for the client.
  case refused(challenges: [String], reason: String)
}

/// Decides who is who and who may do what. Everything is called on the reactor.
public protocol HTTPAuthenticator: AnyObject {
  /// Finds out who sends a request. Nothing more is read from the connection until the answer is there.
  /// - Parameter completion: to be called once, on the reactor, at once or later.
  func authenticate(_ credentials: HTTPCredentials, completion: @escaping (HTTPIdentity) -> Void)

  /// Whether `principal`, coming from `address`, may do `operation` with a resource.
  /// - Complexity: asked for every entry of a list, so it should need no more than a look-up.
  func authorize(
    _ principal: Principal, _ operation: AccessOperation, _ kind: ResourceKind, _ name: String,
    from address: SocketAddress
  ) -> Bool

  /// The same for something that is about to be done: whoever keeps an audit is told.
  func decide(
    _ principal: Principal, _ operation: AccessOperation, _ kind: ResourceKind, _ name: String,
    from address: SocketAddress
  ) -> Bool
}

extension HTTPAuthenticator {
  /// The same as `authorize`, for those who tell nobody.
  public func decide(
    _ principal: Principal, _ operation: AccessOperation, _ kind: ResourceKind, _ name: String,
    from address: SocketAddress
  ) -> Bool {
    authorize(principal, operation, kind, name, from: address)
  }
}
