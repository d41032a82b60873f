// BrokerAuthenticator: users of the broker and its rules, as HTTP's requests ask for them.
//
// On a listener that asks for nothing everybody is nobody in particular, also `guest` with the password `guest`, which RabbitMQ's
// tools always say. On one that asks, a certificate (EXTERNAL), a name and a password (Basic, as PLAIN elsewhere), or a token
// (Bearer, as OAUTHBEARER elsewhere) prove who it is. What somebody may do follows from the rules in either case.

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

  private struct Login: Hashable {
    var client: Client
    var mechanism: SaslMechanism
  }

  private let broker: Broker
  private let security: ListenerSecurity
  /// Answers that were given to a client are kept with its session; a connection has none of its own, because each request says
  /// anew who it is.
  private var sessions: [Client: ClientSession] = [:]
  /// Who was told to the audit, and when.
  private var told: [Login: MonotonicTime] = [:]
  /// Who is remembered to have been told.
  var toldCount: Int { told.count }
  private static let mostSessions = 1000
  /// Each request is a login; who comes again and again is told so often and no oftener.
  static let toldInterval = Duration.seconds(60)

  /// For a listener with this security.
  public init(broker: Broker, security: ListenerSecurity) {
    self.broker = broker
    self.security = security
  }

  /// How clients may prove who they are, in the form of `WWW-Authenticate`.
  /// - Parameter error: what was wrong with a token.
  private func challenges(_ error: AuthenticationError? = nil) -> [String] {
    var found: [String] = []
    if !security.asksForIdentity || security.mechanisms.contains(.plain) {
      found.append("Basic realm=\"millrace\", charset=\"UTF-8\"")
    }
    if security.mechanisms.contains(.bearer) {
      let what = error.map { $0.code == .insufficientScope ? "insufficient_scope" : "invalid_token" }
      found.append("Bearer realm=\"millrace\"" + (what.map { ", error=\"\($0)\"" } ?? ""))
    }
    return found
  }

  /// Finds out who sends a request; a password that was not right lately is checked beside the reactor, and a refusal comes late.
  public func authenticate(_ credentials: HTTPCredentials, completion: @escaping (HTTPIdentity) -> Void) {
    let connection = credentials.connection
    let given = credentials.authorization.map { HTTPAuthorization($0) }
    guard security.asksForIdentity else {
      switch given {
      case nil: return completion(.known(.anonymous, isProven: false))
      case .basic(let user, let password)? where user == "guest" && password == Secret("guest"):
        return completion(.known(.anonymous, isProven: false))
      case .basic(let user, let password)?: return check(user, password, connection, completion)
      case .bearer?, .unreadable?: return refuse(.malformed, "Authorization is not Basic", connection, completion)
      }
    }
    if security.mechanisms.contains(.external), let certificate = connection.security?.peerCertificate {
      do throws(AuthenticationError) {
        let principal = try broker.authentication.principal(of: certificate)
        return accept(principal, .external, nil, connection, completion)
      } catch {
        return refuse(error, .external, connection, completion)
      }
    }
    switch given {
    case .basic(let user, let password)? where security.mechanisms.contains(.plain):
      check(user, password, connection, completion)
    case .bearer(let token)? where security.mechanisms.contains(.bearer): verify(token, connection, completion)
    case _ where security.mechanisms == [.external]:
      refuse(.unmappedCertificate, "the client has shown no certificate", connection, completion)
    // Nobody has tried anything yet: browsers and tools ask once without, to hear how they may prove themselves.
    case nil:
      completion(.refused(challenges: challenges(), reason: "who sends this has to say who it is"))
    case .basic?, .bearer?:
      refuse(.unsupportedMechanism, "Authorization of a scheme that is not offered", connection, completion)
    case .unreadable?: refuse(.malformed, "Authorization that cannot be read", connection, completion)
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
      accept(Principal(user), .plain, nil, connection, completion)
    }
  }

  private func verify(_ token: Secret, _ connection: any Connection, _ completion: @escaping (HTTPIdentity) -> Void) {
    do throws(AuthenticationError) {
      let identity = try broker.authentication.verify(token)
      accept(identity.principal, .bearer, identity.expires, connection, completion)
    } catch {
      refuse(error, .bearer, connection, completion)
    }
  }

  private func accept(
    _ principal: Principal, _ mechanism: SaslMechanism, _ expires: Timestamp?, _ connection: any Connection,
    _ completion: (HTTPIdentity) -> Void
  ) {
    let login = Login(client: Client(principal: principal, host: connection.remoteAddress.host), mechanism: mechanism)
    let now = broker.reactor.now
    if told[login].map({ now - $0 >= BrokerAuthenticator.toldInterval }) ?? true {
      if told.count >= BrokerAuthenticator.mostSessions {
        told = told.filter { now - $0.value < BrokerAuthenticator.toldInterval }
        // Whoever is forgotten is told once more; the audit has a bound of its own.
        if told.count >= BrokerAuthenticator.mostSessions { told.removeAll(keepingCapacity: true) }
      }
      told[login] = now
      broker.authentication.ended(mechanism, "http", as: principal, from: connection.remoteAddress, nil)
    }
    completion(.known(principal, isProven: true, expires: expires))
  }

  private func refuse(
    _ code: AuthenticationError.Code, _ reason: String, _ connection: any Connection,
    _ completion: @escaping (HTTPIdentity) -> Void
  ) {
    let mechanism: SaslMechanism =
      security.mechanisms.contains(.plain) || !security.asksForIdentity ? .plain : security.mechanisms[0]
    refuse(AuthenticationError(code, reason), mechanism, connection, completion)
  }

  private func refuse(
    _ error: AuthenticationError, _ mechanism: SaslMechanism, _ connection: any Connection,
    _ completion: @escaping (HTTPIdentity) -> Void
  ) {
    broker.authentication.ended(mechanism, "http", from: connection.remoteAddress, error)
    let challenges = challenges(mechanism == .bearer ? error : nil)
    broker.reactor.schedule(after: broker.authentication.delay(ofFailureFrom: connection.remoteAddress)) {
      completion(.refused(challenges: challenges, reason: error.publicText))
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
