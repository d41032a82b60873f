// KafkaConnection+Authentication: who the client is: by its certificate, or by SASL in Kafka's requests.
//
//   unknown ── SaslHandshake ──▶ exchanging ── SaslAuthenticate, as often as the mechanism needs ──▶ known
//      └── certificate (listeners that take EXTERNAL) ─────────────────────────────────────────────▶ known
//
// Known clients may do the same once more, as whom they are, and have to before their time is over (KIP-368). Before a client is
// known, only ApiVersions and the two are answered, and requests are small. After SaslHandshake 0 the mechanism's messages come
// as frames of their own, without a header. A refusal is answered late, and then the connection is closed.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceKafkaProtocol
import MillraceSecurity

extension KafkaConnection {
  /// What goes on between handshake and the end of authentication.
  final class Proof {
    let sasl: SaslExchange
    /// Messages come without headers.
    let isRaw: Bool
    /// The client was refused, and told so in the mechanism's own words.
    var isRejected = false
    init(_ sasl: SaslExchange, isRaw: Bool) {
      self.sasl = sasl
      self.isRaw = isRaw
    }
  }

  /// Largest request of a client that is not known. Source: the posture of docs/internals/security.md.
  static let largestUnknownRequest = 64 << 10

  /// Largest request that is read now.
  var largestRequest: Int {
    session == nil
      ? min(KafkaConnection.largestUnknownRequest, broker.settings.largestRequest) : broker.settings.largestRequest
  }

  /// Called when the connection is there: who has to say who they are has so long for that, the handshake of TLS included.
  func beginAuthentication() {
    guard session == nil else { return }
    authenticationTimer = broker.reactor.schedule(after: broker.settings.authenticationTime) { [self] in
      guard session == nil else { return }
      refuse("it did not say who it is in time", key: connection.remoteAddress.host)
    }
  }

  /// Looks at the certificate once something was received, because then the handshake is over.
  func recognizeCertificate() {
    guard session == nil, !hasLookedAtCertificate else { return }
    hasLookedAtCertificate = true
    guard listener.security.mechanisms.contains(.external), let certificate = connection.security?.peerCertificate
    else { return }
    do throws(AuthenticationError) {
      let principal = try broker.authentication.principal(of: certificate)
      begin(AuthenticatedClient(principal, isStored: false), by: .external)
    } catch {
      broker.authentication.ended(.external, "kafka", from: connection.remoteAddress, error)
    }
  }

  private func begin(_ client: AuthenticatedClient, by mechanism: SaslMechanism) {
    authenticationTimer?.cancel()
    authenticationTimer = nil
    session = ClientSession(broker.access, client, from: connection.remoteAddress.host)
    if let place { broker.admission.recognize(place) }
    broker.authentication.ended(mechanism, "kafka", as: client.principal, from: connection.remoteAddress, nil)
    server.logger.log(
      .debug, "kafka", "authenticated",
      ["connection": "\(number)", "principal": client.principal.description, "mechanism": mechanism.rawValue])
  }

  /// Whether a request may be served now; if not, the connection is closed.
  func admits(_ api: APIKey?) -> Bool {
    switch api {
    case .apiVersions, .saslHandshake, .saslAuthenticate: return true
    default: break
    }
    guard session != nil else {
      refuse("a request before the client has said who it is", key: connection.remoteAddress.host)
      return false
    }
    if let sessionEnd, broker.reactor.now >= sessionEnd {
      refuse("its session is over, and it did not authenticate again", key: connection.remoteAddress.host)
      return false
    }
    return true
  }

  /// Mechanisms that can be asked for in Kafka's requests.
  private var offered: [SaslMechanism] { listener.security.mechanisms.filter { $0 != .external } }

  func handleSaslHandshake(_ request: SaslHandshakeRequest, _ context: RequestContext<SaslHandshakeResponse>) {
    func refuse(_ code: KafkaErrorCode, _ reason: String) {
      context.answer(SaslHandshakeResponse(errorCode: code, mechanisms: offered.map(\.rawValue)))
      end(reason)
    }
    guard !offered.isEmpty, proof == nil else {
      return refuse(.illegalSaslState, "a SASL handshake that has no place here")
    }
    guard let mechanism = SaslMechanism(rawValue: request.mechanism), offered.contains(mechanism) else {
      let error = AuthenticationError(.unsupportedMechanism, "it asks for a mechanism that is not offered")
      broker.authentication.ended(offered[0], "kafka", from: connection.remoteAddress, error)
      return refuse(.unsupportedSaslMechanism, error.reason)
    }
    guard session == nil || mechanism == sessionMechanism else {
      return refuse(.illegalSaslState, "it wants to authenticate again by another mechanism")
    }
    proof = Proof(
      SaslExchange(mechanism, broker.authentication, from: connection.remoteAddress.host),
      isRaw: context.version == 0)
    context.answer(SaslHandshakeResponse(mechanisms: offered.map(\.rawValue)))
  }

  func handleSaslAuthenticate(
    _ request: SaslAuthenticateRequest, _ context: RequestContext<SaslAuthenticateResponse>
  ) {
    guard let proof, !proof.isRaw else {
      context.answer(
        SaslAuthenticateResponse(errorCode: .illegalSaslState, errorMessage: "SaslHandshake comes before this"))
      return end("a message of SASL without a handshake")
    }
    step(proof, request.authBytes) { outcome in
      switch outcome {
      case .success(let (bytes, lifetime)):
        context.answer(
          SaslAuthenticateResponse(errorMessage: nil, authBytes: bytes, sessionLifetimeMilliseconds: lifetime))
      case .failure(let error):
        context.answer(
          SaslAuthenticateResponse(errorCode: .saslAuthenticationFailed, errorMessage: error.publicText))
      }
    }
  }

  /// A message of a mechanism without a header, after SaslHandshake 0.
  func takeRawMessage(_ frame: Bytes, _ proof: Proof, _ pending: PendingRequest) {
    let send = reserve(pending)
    step(proof, frame) { outcome in
      // A refusal has no form here but the end of the connection.
      guard case .success(let (bytes, _)) = outcome else { return send([]) }
      var writer = ByteWriter()
      writer.int32(Int32(bytes.count))
      writer.append(bytes)
      send(writer.finish())
    }
  }

  /// Takes one message; while it is worked on, nothing is read.
  private func step(
    _ proof: Proof, _ message: Bytes,
    _ answer: @escaping (Result<(Bytes, Int64), AuthenticationError>) -> Void
  ) {
    isAuthenticating = true
    throttle()
    proof.sasl.respond(message) { [self] step in
      isAuthenticating = false
      guard !isOver else { return answer(.failure(AuthenticationError(.outOfOrder, "the connection is closed"))) }
      switch step {
      case .challenge(let bytes):
        answer(.success((bytes, 0)))
        throttle()
      case .accepted(let client, let bytes):
        guard session == nil || session?.principal == client.principal else {
          return fail(
            proof, AuthenticationError(.foreignAuthorization, "it authenticates again as somebody else"), answer)
        }
        self.proof = nil
        sessionMechanism = proof.sasl.mechanism
        begin(client, by: proof.sasl.mechanism)
        answer(.success((bytes, limitSession(client))))
        throttle()
      case .rejected(let bytes, let error): reject(proof, error) { answer(.success((bytes, 0))) }
      case .refused(let error): fail(proof, error, answer)
      }
    }
  }

  /// Says no, late, and closes the connection. Nothing is read meanwhile.
  private func fail(
    _ proof: Proof, _ error: AuthenticationError,
    _ answer: @escaping (Result<(Bytes, Int64), AuthenticationError>) -> Void
  ) {
    reject(proof, error) { [self] in
      answer(.failure(error))
      if !isOver { finish() }
    }
  }

  /// Counts a refusal, once in an exchange, and has `answer` given late. Nothing is read meanwhile.
  private func reject(_ proof: Proof, _ error: AuthenticationError, _ answer: @escaping () -> Void) {
    guard !proof.isRejected else { return answer() }
    proof.isRejected = true
    broker.authentication.ended(proof.sasl.mechanism, "kafka", from: connection.remoteAddress, error)
    isAuthenticating = true
    throttle()
    broker.reactor.schedule(after: broker.authentication.delay(ofFailureFrom: connection.remoteAddress)) { [self] in
      isAuthenticating = false
      answer()
      if !isOver { throttle() }
    }
  }

  /// How long the client may go on without authenticating again, in milliseconds; 0 for as long as it likes.
  private func limitSession(_ client: AuthenticatedClient) -> Int64 {
    var limits: [Duration] = []
    if let longest = broker.settings.longestSession { limits.append(longest) }
    if let expires = client.expires {
      limits.append(.milliseconds(max(1, expires.milliseconds - broker.reactor.wallClock.milliseconds)))
    }
    guard let limit = limits.min() else {
      sessionEnd = nil
      return 0
    }
    sessionEnd = broker.reactor.now + limit
    return max(1, limit.inNanoseconds / 1_000_000)
  }

  /// Closes once what was answered has been sent.
  private func end(_ reason: String) {
    refuse(reason, key: connection.remoteAddress.host)
  }
}
