// HTTPConnection: one client: requests in, one after the other, and answers out.
//
//   waiting ─head─▶ identifying ─▶ receiving ─body is there─▶ serving ─answered─▶ waiting
//      │                │              │                          │
//      └────────────────┴──────────────┴──────an error, told──────┴───not kept alive───▶ over
//
// While a request is being identified or served nothing more is taken: requests that came behind it wait in the input, and
// answers leave in order. What belongs to time and back-pressure: HTTPConnection+Flow.swift.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceIO
import MillraceSecurity

/// One client's connection.
final class HTTPConnection: ConnectionHandler, RequestHolder, AdmittedConnection {
  enum State { case waiting, identifying, receiving, serving, over }

  let server: HTTPServer
  let authenticator: any HTTPAuthenticator
  let connection: any Connection
  let number: UInt64
  /// Where it is counted among all connections.
  var place: ConnectionCensus.Place?
  private(set) var state = State.waiting
  private var reader = HTTPRequestReader()
  private var writer = HTTPResponseWriter()
  /// The request under way.
  private(set) var call: HTTPCall?
  private var received: [UInt8] = []
  private var largestBody = 0
  private var isReceiving = false

  // Back-pressure; see HTTPConnection+Flow.swift.
  var isReading = true
  var isYielding = false
  var isStarved = false
  var isRecounting = false
  var countedUnsent = 0
  /// Bytes of the body that the server's budget counts.
  private(set) var heldBytes = 0
  private var takenAtOnce = 0
  private var takenAt = MonotonicTime(nanoseconds: 0)
  private(set) var isPeerFinished = false
  private(set) var isInputEnded = false

  /// Of the thread, while something is done for the client that is charged; see HTTPConnection+RequestTime.swift.
  var timedSince: Duration?

  // Time; see HTTPConnection+Flow.swift.
  /// When the client began to have a head to send: at the start, and with the first byte of another.
  var headSince: MonotonicTime?
  /// When nothing was under way any more.
  var idleSince: MonotonicTime
  /// When the body had moved on for some bytes, and how long it was then.
  var progress: (since: MonotonicTime, bytes: Int)
  var movedAt: MonotonicTime
  var unsentBefore = 0

  /// Requests taken in one go before others have their turn.
  private static let mostAtOnce = 100

  init(
    server: HTTPServer, authenticator: any HTTPAuthenticator, connection: any Connection, number: UInt64
  ) {
    self.server = server
    self.authenticator = authenticator
    self.connection = connection
    self.number = number
    let now = server.broker.reactor.now
    headSince = now
    idleSince = now
    progress = (now, 0)
    movedAt = now
  }

  var reactor: any Reactor { server.broker.reactor }
  var isOver: Bool { state == .over }
  var unsentBytes: Int { connection.pendingWriteBytes }
  /// Nothing is taken from the input now.
  var isBusy: Bool { state == .identifying || state == .serving }

  // MARK: Input

  func connectionReceived(_ input: inout InputBuffer) { measured { receive(&input) } }

  private func receive(_ input: inout InputBuffer) {
    if takenAt != reactor.now {
      takenAt = reactor.now
      takenAtOnce = 0
    }
    isReceiving = true
    let unread = input.unread
    var at = 0
    var needsMore = false
    while !isOver, !isBusy, isReading, !isYielding, !needsMore {
      do throws(HTTPError) {
        switch try reader.next(unread, at: &at) {
        case .needsMore: needsMore = true
        case .head(let head): begin(head)
        case .body(let piece): take(piece)
        case .end: if call?.head.body != HTTPBodyKind.none || call?.head.method == .options { serve() }
        }
      } catch {
        refuse(error)
      }
    }
    isReceiving = false
    if at > 0 { _ = input.take(min(at, input.count)) }
    if state == .waiting {
      // A client that has only connected is told nothing when its time is over.
      hasPartOfHead = input.count > 0
      if input.count > 0 {
        if headSince == nil { headSince = reactor.now }
      } else if !isFirst {
        headSince = nil
      }
    }
    throttle()
    closeWhenDone()
  }

  /// Something of a head has come.
  private(set) var hasPartOfHead = false
  /// No request has come yet.
  private var isFirst: Bool { takenRequests == 0 }
  private(set) var takenRequests: UInt64 = 0

  private func begin(_ head: HTTPRequestHead) {
    let call = HTTPCall(head, self)
    self.call = call
    takenRequests += 1
    takenAtOnce += 1
    headSince = nil
    received = []
    progress = (reactor.now, 0)
    if takenAtOnce >= HTTPConnection.mostAtOnce { yield() }
    do throws(HTTPProblem) {
      if head.method == .options {
        largestBody = 0
        state = .receiving
        return
      }
      let (route, parameters) = try server.find(head)
      (call.route, call.parameters) = (route, parameters)
      if route.access == .everybody {
        try admit(call, route)
        return
      }
    } catch {
      return reject(error)
    }
    state = .identifying
    authenticator.authenticate(
      HTTPCredentials(authorization: head["authorization"], connection: connection)
    ) { [self] identity in
      measured { identified(call, identity) }
      if !isReceiving { throttle() }
    }
  }

  private func identified(_ call: HTTPCall, _ identity: HTTPIdentity) {
    guard state == .identifying, self.call === call, let route = call.route else { return }
    state = .receiving
    do throws(HTTPProblem) {
      switch identity {
      case .refused(let challenges, let reason):
        var problem = HTTPProblem(.unauthorized, "unauthorized", reason, at: "header Authorization")
        problem.fields = challenges.map { ("WWW-Authenticate", $0) }
        throw problem
      case .known(let principal, let isProven, let expires):
        if let place { server.broker.admission.recognize(place) }
        call.principal = principal
        call.expires = expires
        call.isProven = isProven
        try admit(call, route)
      }
    } catch {
      reject(error)
    }
  }

  /// Decides before the body is read.
  private func admit(_ call: HTTPCall, _ route: HTTPRoute) throws(HTTPProblem) {
    state = .receiving
    try server.checkSite(call)
    try call.checkAccess(route)
    try call.checkUse(route)
    call.isTimed = route.isTimed
    try server.checkParameters(call, route)
    switch route.request {
    case nil: largestBody = 0
    case .json?: largestBody = HTTPRoute.largestJSON
    case .jsonOrBytes?: largestBody = call.isJSON ? HTTPRoute.largestJSON : route.largestBody(server)
    default: largestBody = route.largestBody(server)
    }
    if call.head.body == .none {
      if route.request != nil, !route.isBodyOptional {
        throw HTTPProblem(.badRequest, "missing-body", "the request needs a body", at: "/")
      }
    } else if case .json? = route.request, let type = call.head["content-type"], !HTTPCall.isJSON(type) {
      // Tools that call JSON a form are no better than forms that other sites make a browser send.
      throw HTTPProblem(
        .unsupportedMediaType, "unsupported-media-type", "the body must be application/json, not \(type)",
        at: "header Content-Type")
    }
    if case .length(let length) = call.head.body, length > largestBody { throw tooLarge(route) }
    if call.head.expectsContinue { connection.write([HTTPResponseWriter.continues]) }
    // What is behind the head may never come: who was identified later is served now.
    if call.head.body == .none { serve() }
  }

  private func tooLarge(_ route: HTTPRoute?) -> HTTPProblem {
    HTTPProblem(
      .contentTooLarge, "too-large",
      largestBody == 0
        ? "this request takes no body" : "the body of this request may have \(largestBody) bytes at most", at: "/")
  }

  private func take(_ piece: Bytes) {
    guard state == .receiving else { return }
    guard received.count + piece.count <= largestBody else { return reject(tooLarge(call?.route)) }
    piece.withBuffer { received.append(contentsOf: $0) }
    hold(received.count - heldBytes)
    if received.count - progress.bytes >= HTTPConnection.leastProgress { progress = (reactor.now, received.count) }
  }

  private func serve() {
    guard let call, state == .receiving else { return }
    state = .serving
    call.body = Bytes(received)
    received = []
    if call.route?.use == .producerBytes { call.charge(call.body.count) }
    if call.head.method == .options { return server.answerOptions(call) }
    guard let route = call.route else { preconditionFailure("a request without a route") }
    do throws(HTTPProblem) {
      try route.handler(call)
    } catch {
      call.fail(error)
    }
  }

  /// Answers why a request is not served. What its body would be is not read: the connection ends with the answer then.
  private func reject(_ problem: HTTPProblem) {
    guard let call else { return }
    let hasBody = call.head.body != .none
    state = hasBody ? .serving : .receiving
    call.route = hasBody ? call.route : nil
    if hasBody {
      closesBehindAnswer = true
      call.fail(problem)
    } else {
      // The end of the request, which follows at once, must not begin another.
      call.fail(problem)
    }
  }

  private var closesBehindAnswer = false

  /// Bytes that are no request.
  func refuse(_ error: HTTPError) {
    server.logger.logRarely(
      .info, "http", "connection closed", error.description,
      ["peer": connection.remoteAddress.description, "connection": "\(number)"], key: error.reason, now: reactor.now)
    // In the middle of an answer nothing more can be said.
    guard call == nil || state == .receiving else { return end() }
    server.figures.malformed += 1
    let body = HTTPProblem(error.status, "malformed-request", error.reason).json
    connection.write([
      writer.head(
        error.status, [("Content-Type", "application/problem+json")] + HTTPServer.securityFields,
        body: .length(body.count), minorVersion: 1, keepsAlive: false, now: reactor.wallClock), body,
    ])
    finish()
  }

  // MARK: Answers

  func writeHead(
    _ status: HTTPStatus, _ fields: [(name: StaticString, value: String)], _ body: HTTPResponseBody, _ call: HTTPCall
  ) {
    if !call.head.keepsAlive || server.isClosing { closesBehindAnswer = true }
    // The end of the connection ends the body where there are no chunks.
    if body == .streamed, call.head.minorVersion == 0 { closesBehindAnswer = true }
    connection.write([
      writer.head(
        status, fields + HTTPServer.securityFields, body: body, minorVersion: call.head.minorVersion,
        keepsAlive: !closesBehindAnswer, now: reactor.wallClock)
    ])
  }

  func write(_ pieces: [Bytes]) {
    guard !isOver, !pieces.isEmpty else { return }
    connection.write(pieces)
    recountAtEndOfTurn()
  }

  func answered(_ call: HTTPCall) {
    guard self.call === call, !isOver else { return }
    server.count(call)
    chargeTime()
    call.release()
    self.call = nil
    hold(-heldBytes)
    idleSince = reactor.now
    movedAt = reactor.now
    if closesBehindAnswer { return finish() }
    state = .waiting
    if !isReceiving { throttle() }
    closeWhenDone()
  }

  private func hold(_ bytes: Int) {
    guard bytes != 0 else { return }
    heldBytes += bytes
    server.gate.change(by: bytes)
  }

  // MARK: Ends

  /// Lets others have their turn. The rest of the input is offered in the next one.
  private func yield() {
    isYielding = true
    takenAtOnce = 0
    reactor.atEndOfTurn { [self] in
      isYielding = false
      throttle()
    }
  }

  func connectionPeerFinished() {
    isPeerFinished = true
    movedAt = reactor.now
    call?.onPeerFinished?()
  }

  func connectionInputEnded() -> Bool {
    isInputEnded = true
    return !isBusy
  }

  /// The client sends no more and has its answers.
  private func closeWhenDone() {
    if isInputEnded, !isBusy, !isOver { finish() }
  }

  func connectionDrained() {
    movedAt = reactor.now
    throttle()
    call?.onDrained?()
  }

  func connectionClosed(_ error: IOError?) {
    state = .over
    let gone = call
    call = nil
    gone?.gone()
    gone?.release()
    received = []
    hold(-heldBytes)
    server.answers.change(by: -countedUnsent)
    countedUnsent = 0
    server.closed(self)
  }

  /// Closes once what is written has been sent.
  func finish() {
    guard !isOver else { return }
    state = .over
    connection.closeAfterWriting()
  }

  /// Others need its place, and its client has not said who it is.
  func giveWay() {
    place = nil
    end()
  }

  /// Closes at once.
  func end() {
    guard !isOver else { return }
    state = .over
    connection.close()
  }

  /// The server goes: what is under way is answered, if it does not wait for something.
  func shutDown() {
    guard call != nil else { return finish() }
    closesBehindAnswer = true
    call?.onPeerFinished?()
  }
}
