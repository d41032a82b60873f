// Authentication: what a client says of who it is, and whether it may come in.
//
// A listener that asks for nothing takes `guest` with the password `guest` for nobody in particular, as clients say that
// unless told otherwise; anybody else has to be a user. A listener that asks takes users alone, certificates, or tokens: those come
// as the password of PLAIN or AMQPLAIN, behind any name, as with RabbitMQ. `connection.update-secret` brings the next token, and
// without it the connection ends when the token does.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceSecurity

/// A user's name and password, as a client gives them.
struct AMQPCredentials: Equatable, Sendable {
  /// The user's name.
  var user: String
  /// The password.
  var password: Secret

  /// What clients say unless told otherwise.
  static let guest = AMQPCredentials(user: "guest", password: Secret("guest"))
}

/// The ways of saying who one is.
enum AuthenticationMechanism: String, CaseIterable {
  case plain = "PLAIN"
  case amqplain = "AMQPLAIN"
  case external = "EXTERNAL"

  /// What `connection.start` offers on a listener, in order.
  static func offered(by security: ListenerSecurity) -> [AuthenticationMechanism] {
    allCases.filter { mechanism in
      guard security.asksForIdentity else { return mechanism != .external }
      return security.mechanisms.contains(mechanism.sasl)
        || mechanism != .external && security.mechanisms.contains(.bearer)
    }
  }

  /// Under which name attempts are counted.
  var sasl: SaslMechanism { self == .external ? .external : .plain }

  /// What a response says; nil when it cannot be read, and for a mechanism without passwords.
  func credentials(_ response: Bytes) -> AMQPCredentials? {
    switch self {
    case .plain:
      // authorization id, NUL, user, NUL, password (RFC 4616); whom to act as is nobody's choice here, as in RabbitMQ.
      let parts = response.withBuffer { $0.split(separator: 0, omittingEmptySubsequences: false).map { Array($0) } }
      guard parts.count == 3, let user = String(validating: parts[1], as: UTF8.self),
        String(validating: parts[2], as: UTF8.self) != nil
      else { return nil }
      return AMQPCredentials(user: user, password: Secret(parts[2]))
    case .amqplain:
      // A table without its length.
      let table: AMQPFieldTable
      do throws(DecodingError) { table = try AMQPFieldTable(encoded: response) } catch { return nil }
      guard let user = table["LOGIN"]?.text, let password = table["PASSWORD"]?.text else { return nil }
      return AMQPCredentials(user: user, password: Secret(password))
    case .external: return nil
    }
  }
}

extension AMQPConnection {
  /// Takes what the client says of who it is; the connection goes on, or ends, once that is known.
  func authenticate(_ fields: ConnectionStartOk) throws(AMQPError) {
    capabilities = ClientCapabilities(fields.clientProperties)
    clientID = fields.clientProperties["connection_name"]?.text ?? ""
    guard let mechanism = AuthenticationMechanism(rawValue: fields.mechanism),
      AuthenticationMechanism.offered(by: security).contains(mechanism)
    else {
      throw AMQPError(.commandInvalid, "unknown authentication mechanism '\(fields.mechanism)'")
    }
    state = .authenticating
    do throws(AuthenticationError) {
      if mechanism == .external {
        guard let certificate = connection.security?.peerCertificate else {
          throw AuthenticationError(.unmappedCertificate, "the client has shown no certificate")
        }
        let principal = try broker.authentication.principal(of: certificate)
        return accept(AuthenticatedClient(principal, isStored: false), principal.name, .external)
      }
      guard let given = mechanism.credentials(fields.response) else {
        throw AuthenticationError(.malformed, "\(mechanism.rawValue) of \(fields.response.count) bytes")
      }
      if !security.asksForIdentity, given == .guest, broker.user(given.user) == nil {
        return accept(AuthenticatedClient(.anonymous, isStored: false), given.user, .plain)
      }
      if security.mechanisms.contains(.bearer),
        BearerTokenVerifier.isToken(given.password) || !security.mechanisms.contains(.plain)
      {
        return takeToken(given.password, mechanism)
      }
      let credentials = try PlainCredentials(user: given.user, password: given.password)
      broker.authentication.check(credentials, from: connection.remoteAddress.host) { [self] error in
        guard state == .authenticating else { return }
        if let error { return refuse(mechanism, error) }
        accept(AuthenticatedClient(Principal(given.user), isStored: true), given.user, .plain)
      }
    } catch {
      refuse(mechanism, error)
    }
  }

  private func takeToken(_ token: Secret, _ mechanism: AuthenticationMechanism) {
    do throws(AuthenticationError) {
      let identity = try broker.authentication.verify(token)
      accept(AuthenticatedClient(identity), identity.principal.name, .bearer)
    } catch {
      refuse(mechanism, error, by: .bearer)
    }
  }

  private func accept(_ client: AuthenticatedClient, _ name: String, _ mechanism: SaslMechanism) {
    if client.principal != .anonymous {
      broker.authentication.ended(mechanism, "amqp", as: client.principal, from: connection.remoteAddress, nil)
    }
    session = ClientSession(broker.access, client, from: connection.remoteAddress.host)
    if let place { broker.admission.recognize(place) }
    user = name
    endSession(at: client.expires)
    tune()
  }

  /// Ends the connection when the token that it stands on does.
  private func endSession(at expires: Timestamp?) {
    tokenTimer?.cancel()
    tokenTimer = nil
    guard let expires else { return }
    let left = Duration.milliseconds(max(0, expires.milliseconds - reactor.wallClock.milliseconds))
    tokenTimer = reactor.schedule(after: left) { [self] in
      // The clock may have been set back meanwhile.
      guard reactor.wallClock >= expires else { return endSession(at: expires) }
      tokenTimer = nil
      fail(AMQPError(.connectionForced, "the token has expired, and connection.update-secret has brought no other"))
    }
  }

  /// Takes the next token of a client that showed one; for others there is no secret that ends.
  /// - Throws: 403 for a token that is refused, or is somebody else's.
  func takeSecret(_ fields: ConnectionUpdateSecret) throws(AMQPError) {
    if tokenTimer != nil {
      do throws(AuthenticationError) {
        let identity = try broker.authentication.verify(fields.newSecret.withBuffer { Secret($0) })
        guard identity.principal == session.principal else {
          throw AuthenticationError(.foreignAuthorization, "\(session.principal.name) brings a token of somebody else")
        }
        broker.authentication.ended(
          .bearer, "amqp", as: identity.principal, from: connection.remoteAddress, nil)
        endSession(at: identity.expires)
      } catch {
        broker.authentication.ended(.bearer, "amqp", from: connection.remoteAddress, error)
        throw AMQPError(.accessRefused, "the new secret was refused: \(error.publicText)")
      }
    }
    write(ConnectionUpdateSecretOk(), channel: 0)
  }

  /// Says no, late.
  private func refuse(
    _ mechanism: AuthenticationMechanism, _ error: AuthenticationError, by sasl: SaslMechanism? = nil
  ) {
    broker.authentication.ended(sasl ?? mechanism.sasl, "amqp", from: connection.remoteAddress, error)
    reactor.schedule(after: broker.authentication.delay(ofFailureFrom: connection.remoteAddress)) { [self] in
      guard state == .authenticating else { return }
      guard capabilities.authenticationFailureClose else { return finish() }
      fail(
        AMQPError(
          .accessRefused,
          "Login was refused using authentication mechanism \(mechanism.rawValue). For details see the broker logfile."
        ))
    }
  }
}
