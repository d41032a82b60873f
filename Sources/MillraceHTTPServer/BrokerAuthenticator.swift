// BrokerAuthenticator: users of the broker and its rules, as HTTP's requests ask for them.
//
// On a listener that asks for nothing everybody is nobody in particular, also `guest` with the password `guest`, which RabbitMQ's
// tools always say. On one that asks, a certificate (EXTERNAL), or a name and a password (Basic, as PLAIN elsewhere), prove who
// it is. What somebody may do follows from the rules in either case.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceSecurity

/// Identity and permission for the requests of one listener.
public final class BrokerAuthenticator: HTTPAuthenticator {
  private struct Client: Hashable {
    var principal: Principal
    var host: String
  }

  private let broker: Broker
  private let security: ListenerSecurity
  /// Answers that were given to a client are kept with its session; a connection has none of its own, because each request says
  /// anew who it is.
  private var sessions: [Client: ClientSession] = [:]
  private static let mostSessions = 1000
  private static let challenges = ["Basic realm=\"millrace\", charset=\"UTF-8\""]

  /// For a listener with this security.
  public init(broker: Broker, security: ListenerSecurity) {
    self.broker = broker
    self.security = security
  }

  /// Finds out who sends a request; a password that was not right lately is checked beside the reactor, and a refusal comes late.
  public func authenticate(_ credentials: HTTPCredentials, completion: @escaping (HTTPIdentity) -> Void) {
    let connection = credentials.connection
    let given = credentials.authorization.map { BasicCredentials.read($0) }
    guard security.asksForIdentity else {
      switch given {
      case nil: return completion(.known(.anonymous, isProven: false))
      case .some(.some(let (user, password))) where user == "guest" && password == Secret("guest"):
        return completion(.known(.anonymous, isProven: false))
      case .some(.some(let (user, password))): return check(user, password, connection, completion)
      case .some(.none): return refuse(.malformed, "Authorization is not Basic", connection, completion)
      }
    }
    if security.mechanisms.contains(.external), let certificate = connection.security?.peerCertificate {
      do throws(AuthenticationError) {
        return completion(.known(try broker.authentication.principal(of: certificate), isProven: true))
      } catch {
        return refuse(error, .external, connection, completion)
      }
    }
    guard security.mechanisms.contains(.plain) else {
      return refuse(.unmappedCertificate, "the client has shown no certificate", connection, completion)
    }
    switch given {
    // Nobody has tried anything yet: browsers and tools ask once without, to hear how they may prove themselves.
    case nil:
      completion(.refused(challenges: BrokerAuthenticator.challenges, reason: "who sends this has to say who it is"))
    case .some(.some(let (user, password))): check(user, password, connection, completion)
    case .some(.none): refuse(.malformed, "Authorization is not Basic", connection, completion)
    }
  }

  private func check(
    _ user: String, _ password: Secret, _ connection: any Connection, _ completion: @escaping (HTTPIdentity) -> Void
  ) {
    let credentials: PlainCredentials
    do throws(AuthenticationError) {
      credentials = try PlainCredentials(user: user, password: password)
    } catch {
      return refuse(error, .plain, connection, completion)
    }
    broker.authentication.check(credentials, from: connection.remoteAddress.host) { [self] error in
      if let error { return refuse(error, .plain, connection, completion) }
      completion(.known(Principal(user), isProven: true))
    }
  }

  private func refuse(
    _ code: AuthenticationError.Code, _ reason: String, _ connection: any Connection,
    _ completion: @escaping (HTTPIdentity) -> Void
  ) {
    refuse(AuthenticationError(code, reason), .plain, connection, completion)
  }

  private func refuse(
    _ error: AuthenticationError, _ mechanism: SaslMechanism, _ connection: any Connection,
    _ completion: @escaping (HTTPIdentity) -> Void
  ) {
    broker.authentication.ended(mechanism, "http", from: connection.remoteAddress, error)
    broker.reactor.schedule(after: broker.authentication.delay(ofFailureFrom: connection.remoteAddress)) {
      completion(.refused(challenges: BrokerAuthenticator.challenges, reason: error.publicText))
    }
  }

  /// Whether the rules allow it; nobody is told.
  public func authorize(
    _ principal: Principal, _ operation: AccessOperation, _ kind: ResourceKind, _ name: String,
    from address: SocketAddress
  ) -> Bool {
    session(principal, address).sees(operation, kind, name)
  }

  /// As ``authorize(_:_:_:_:from:)``, and the audit is told.
  public func decide(
    _ principal: Principal, _ operation: AccessOperation, _ kind: ResourceKind, _ name: String,
    from address: SocketAddress
  ) -> Bool {
    session(principal, address).allows(operation, kind, name)
  }

  private func session(_ principal: Principal, _ address: SocketAddress) -> ClientSession {
    let client = Client(principal: principal, host: address.host)
    if let session = sessions[client] { return session }
    if sessions.count >= BrokerAuthenticator.mostSessions { sessions.removeAll(keepingCapacity: true) }
    let session = ClientSession(broker.access, principal, from: address.host)
    sessions[client] = session
    return session
  }
}
