// Authentication: whether clients are who they say, for all protocols: credentials found, passwords checked away from the reactor.
//
// Checking a password takes milliseconds of hashing, on purpose. So it is done on an executor of its own, one after the
// other; so many wait and no more, and few of one address, so that a flood of attempts costs the others little. A password
// that was right is remembered (as a keyed hash) for a while, so that a client that comes back costs no hashing. Who fails
// hears of it late, and an address that fails often later still.

import MillraceBase
import MillraceIO
import MillraceSecurity

/// The broker's users as protocols ask for them. Belongs to the broker's reactor.
public final class Authentication {
  /// How many attempts ended how, since the start.
  public struct Counts: Equatable, Sendable {
    /// Clients that are who they say.
    public var accepted = 0
    /// Clients that were refused.
    public var refused = 0
    /// Passwords that were not even checked, because too many others were.
    public var turnedAway = 0
  }

  /// What attempts are told apart by.
  public struct Attempt: Hashable, Sendable {
    /// `kafka`, `amqp` or `http`.
    public var protocolName: String
    /// How the client wanted to prove who it is.
    public var mechanism: SaslMechanism
    /// Whether it did.
    public var isAccepted: Bool

    /// A kind of attempt.
    public init(protocolName: String, mechanism: SaslMechanism, isAccepted: Bool) {
      self.protocolName = protocolName
      self.mechanism = mechanism
      self.isAccepted = isAccepted
    }
  }

  /// Somebody whose password is being checked.
  private struct Waiter {
    var user: String
    var host: String
    var completion: (AuthenticationError?) -> Void
  }

  /// Attempts so far.
  public private(set) var counts = Counts()
  /// The same by protocol and mechanism, each with its successes and failures. Of HTTP, whose every request is an attempt, successes count once a
  /// minute for each user and address.
  public private(set) var attempts: [Attempt: UInt64] = [:]
  private let broker: () -> Broker
  private let reactor: any Reactor
  private let executor: any BlockingExecutor
  private var serverKey: Secret?
  private var checks = PasswordChecks<Waiter>()
  private var waitingOfHost: [String: Int] = [:]
  private var throttle = AuthenticationThrottle()
  private var derivations: [Int: (Result<[ScramCredential], AuthenticationError>) -> Void] = [:]
  private var lastDerivation = 0
  private var verifier: BearerTokenVerifier?
  private var tokens = VerifiedTokens()

  /// Checks of passwords that may wait for one address, so that its attempts alone do not keep others out.
  static let mostWaitingOfHost = 8

  init(reactor: any Reactor, executor: any BlockingExecutor, broker: @escaping () -> Broker) {
    self.reactor = reactor
    self.executor = executor
    self.broker = broker
  }

  /// An exchange that begins.
  public func scram(_ mechanism: ScramMechanism) -> ScramServer {
    ScramServer(mechanism: mechanism, standInKey: key())
  }

  private func key() -> Secret {
    let key = serverKey ?? broker().makeServerKey()
    serverKey = key
    return key
  }

  /// What is stored of a user's password for this mechanism.
  public func credential(of user: String, _ mechanism: ScramMechanism) -> ScramCredential? {
    broker().user(user)?.credentials[mechanism]
  }

  /// Checks a password; `completion` follows on the reactor, at once when the password was right lately.
  /// - Parameter host: the client's address, of which only few checks wait at a time.
  public func check(
    _ given: PlainCredentials, from host: String, _ completion: @escaping (AuthenticationError?) -> Void
  ) {
    let credentials = broker().user(given.user)?.credentials ?? [:]
    // Of a user who does not exist, or has no password, as much is hashed as of one who has.
    let stored = credentials[.sha256] ?? credentials[.sha512]
    let credential = stored ?? ScramCredential.standIn(for: given.user, mechanism: .sha256, key: key())
    guard waitingOfHost[host, default: 0] < Authentication.mostWaitingOfHost else { return turnAway(completion) }
    let waiter = Waiter(user: given.user, host: host, completion: completion)
    let answer = checks.ask(given, credential, isKnown: stored != nil, waiter, at: reactor.now)
    switch answer {
    case .verified: return completion(nil)
    case .busy: return turnAway(completion)
    case .waiting: break
    case .check(let id): start(id)
    }
    waitingOfHost[host, default: 0] += 1
  }

  private func turnAway(_ completion: @escaping (AuthenticationError?) -> Void) {
    counts.turnedAway += 1
    completion(AuthenticationError(.invalidCredentials, "too many passwords wait to be checked"))
  }

  private func start(_ id: Int) {
    guard let (password, credential) = checks.work(id) else { preconditionFailure("check \(id) is not there") }
    let bound = ReactorBound(self, on: reactor)
    executor.submit { [reactor] in
      let isRight = credential.verify(password: password)
      reactor.submit { bound.take().ended(id, isRight) }
    }
  }

  private func ended(_ id: Int, _ isRight: Bool) {
    let (waiters, isVerified) = checks.end(id, isRight: isRight, at: reactor.now)
    for waiter in waiters {
      let left = (waitingOfHost[waiter.host] ?? 1) - 1
      waitingOfHost[waiter.host] = left == 0 ? nil : left
      waiter.completion(
        isVerified ? nil : AuthenticationError(.invalidCredentials, "wrong user or password: \(waiter.user)"))
    }
  }

  // MARK: New passwords

  /// New passwords that may wait to be hashed.
  static let mostDerivations = 100

  /// Salts and hashes a new password for every mechanism, beside the reactor; `completion` follows on it, with
  /// `.unacceptableCredential` for a password that is not stored, and when too many wait.
  public func derive(
    _ password: Secret, _ completion: @escaping (Result<[ScramCredential], AuthenticationError>) -> Void
  ) {
    do throws(AuthenticationError) {
      try ScramCredential.check(password)
      guard derivations.count < Authentication.mostDerivations else {
        throw AuthenticationError(
          .unacceptableCredential, "\(Authentication.mostDerivations) new passwords wait to be hashed: try again later")
      }
    } catch {
      return completion(.failure(error))
    }
    lastDerivation += 1
    let id = lastDerivation
    derivations[id] = completion
    let bound = ReactorBound(self, on: reactor)
    executor.submit { [reactor] in
      let result: Result<[ScramCredential], AuthenticationError>
      do throws(AuthenticationError) {
        var made: [ScramCredential] = []
        for mechanism in ScramMechanism.allCases {
          made.append(try ScramCredential(password: password, mechanism: mechanism))
        }
        result = .success(made)
      } catch {
        result = .failure(error)
      }
      reactor.submit { bound.take().derivations.removeValue(forKey: id)?(result) }
    }
  }

  // MARK: Tokens

  /// The time that tokens are compared with.
  var wallClock: Timestamp { reactor.wallClock }

  /// Takes keys for tokens into use, in place of those before: who logs in from the call on shows a token of theirs. Sessions that
  /// are open last as long as their tokens.
  public func use(_ keys: JSONWebKeys) {
    verifier = BearerTokenVerifier(keys: keys, rules: broker().settings.bearerRules)
    tokens = VerifiedTokens()
  }

  /// An exchange of OAUTHBEARER that begins.
  /// - Throws: `.unknownKey` when there are no keys.
  func bearer() throws(AuthenticationError) -> BearerServer { BearerServer(try keys()) }

  private func keys() throws(AuthenticationError) -> BearerTokenVerifier {
    guard let verifier else { throw AuthenticationError(.unknownKey, "there are no keys to verify tokens with") }
    return verifier
  }

  /// Who the token says that its bearer is. One that was good lately costs a hash of it.
  /// - Throws: as ``BearerTokenVerifier/verify(_:at:)``; `.unknownKey` when there are no keys.
  public func verify(_ token: Secret) throws(AuthenticationError) -> BearerIdentity {
    if let identity = tokens.identity(of: token, at: wallClock) { return identity }
    let identity = try keys().verify(token.copy, at: wallClock)
    tokens.insert(token, identity, at: wallClock)
    return identity
  }

  // MARK: Ends

  /// How late a client hears that it is refused: the setting's time, and longer for an address that failed often.
  public func delay(ofFailureFrom address: SocketAddress) -> Duration {
    max(
      broker().settings.failedAuthenticationDelay,
      throttle.failed(address: address.host, user: nil, at: reactor.now))
  }

  /// Counts an attempt that is over, and tells the log of a refusal.
  /// - Parameter principal: who it is, or nil when that was not found out.
  public func ended(
    _ mechanism: SaslMechanism, _ protocolName: StaticString, as principal: Principal? = nil,
    from address: SocketAddress, _ error: AuthenticationError?
  ) {
    broker().audit.loggedIn(principal, from: ClientSession.host(address.host), mechanism, "\(protocolName)", error)
    attempts[
      Attempt(protocolName: "\(protocolName)", mechanism: mechanism, isAccepted: error == nil), default: 0] += 1
    guard let error else {
      counts.accepted += 1
      return
    }
    counts.refused += 1
    broker().logger.logRarely(
      .warning, "security", "login refused", error.description,
      ["peer": address.description, "mechanism": mechanism.rawValue, "protocol": "\(protocolName)"],
      key: address.host, now: reactor.now)
  }

  /// Whom a client's certificate stands for, by `ssl.principal.mapping.rules`.
  /// - Throws: `.unmappedCertificate`
  public func principal(of certificate: Certificate) throws(AuthenticationError) -> Principal {
    try broker().settings.principalMapping.principal(of: certificate.subject)
  }
}
