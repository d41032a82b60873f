// HTTPServer: HTTP/1.1 on a listener: accepts connections, and decides what every request must pass.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceIO

/// What was served and what was not, since the start.
struct HTTPFigures {
  /// Answers by the first digit of the status.
  var answers = [UInt64](repeating: 0, count: 6)
  /// From a request's head to its answer, streams aside.
  var latency = Histogram()
  /// Connections that sent what is no request.
  var malformed: UInt64 = 0
  /// Connections that were closed because a client was too slow.
  var timedOut: UInt64 = 0
}

/// Serves the HTTP API, metrics and health for one broker, on the broker's reactor.
public final class HTTPServer {
  /// The broker behind it.
  public let broker: Broker
  let logger: Logger
  /// Who is who and may do what.
  private lazy var open: any HTTPAuthenticator = BrokerAuthenticator(broker: broker, security: .open)
  /// Names besides `localhost` and addresses under which clients that prove nothing may call this server.
  public var advertisedNames: Set<String> = []
  /// Open connections of each protocol, for the metrics.
  public var connectionCounts: () -> [(protocolName: String, count: Int)] = { [] }
  /// Requests that other protocols have answered since the start, and how many of them they refused, for the metrics.
  public var requestCounts: () -> [(protocolName: String, served: UInt64, refused: UInt64)] = { [] }
  /// Bytes of requests that other protocols hold, and of answers that are unsent, for the metrics.
  public var heldMemory: () -> [(protocolName: String, requests: Int, answers: Int)] = { [] }
  /// Handshakes of each listener with TLS since the start, for the metrics.
  public var handshakes: () -> [(listener: String, accepted: Int, failed: Int)] = { [] }
  /// Open connections of AMQP, for the management routes.
  public var managedClients: () -> [ManagedClient] = { [] }
  /// Ends the newest run of a job, which has been stopped; hosts of jobs set it.
  public var stopsJob: ((_ job: String) -> Void)?
  var figures = HTTPFigures()
  /// Labels of the queues' metrics as of the last look, with what they were made for.
  var queueLabels: (version: UInt64, limit: Int, labels: MetricsLabelList)?
  /// Of the reactor's thread, for the quota of it.
  var processorTime: () -> Duration = { ProcessorTime.thread }
  /// What connections have unsent.
  var answers = AnswerBudget(size: 64 << 20)
  /// Requests that wait for records or events.
  private(set) var waiting = 0
  /// Messages that were taken from queues and are not settled.
  private(set) lazy var taken: TakenDeliveries = TakenDeliveries(self)
  private(set) var isClosing = false
  private(set) lazy var availability: Availability = Availability(now: broker.reactor.now)
  /// The next record without a key goes to the next partition.
  var keylessRecords = 0
  private(set) lazy var gate: RequestGate = RequestGate(
    size: broker.settings.requestMemory, reactor: broker.reactor,
    connections: { [unowned self] in Array(connections.values) },
    spent: { [unowned self] in
      logger.logRarely(
        .warning, "http", "bodies being received hold all the memory they may", "clients with large ones have to wait",
        ["queued.max.request.bytes": "\(gate.budget.size)", "connections": "\(connections.count)"],
        now: broker.reactor.now)
    })
  private var isSweeping = false
  private var listeners: [any Listener] = []
  private(set) var connections: [ObjectIdentifier: HTTPConnection] = [:]
  private var nextConnection: UInt64 = 1
  static let router = HTTPRouter(HTTPRouteTable.all)

  /// Time between two looks at all connections.
  static let sweepInterval = Duration.seconds(2)
  /// Most requests that wait for records or events at once.
  public static let mostWaiting = 1000

  /// What every response says to browsers: nothing of it is a page, nothing of it is for other sites, nothing is kept.
  static let securityFields: [(name: StaticString, value: String)] = [
    ("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"), ("Referrer-Policy", "no-referrer"),
  ]

  /// A server that listens nowhere yet.
  public init(broker: Broker, logger: Logger) {
    self.broker = broker
    self.logger = logger
  }

  /// Listens on one more address.
  /// - Parameter security: what clients must prove; nothing unless told.
  /// - Returns: the address with the port that was bound.
  public func listen(
    _ address: SocketAddress, security: ListenerSecurity = .open
  ) throws(IOError) -> SocketAddress {
    let authenticator = BrokerAuthenticator(broker: broker, security: security)
    let asks = security.asksForIdentity
    let listener = try broker.reactor.listen(address, tls: security.tls, logger: logger) { [unowned self] in
      self.accept($0, authenticator, isStranger: asks)
    }
    listeners.append(listener)
    if listeners.count == 1 { watchAvailability() }
    return listener.address
  }

  /// Takes a connection that somebody else has accepted.
  /// - Parameters:
  ///   - authenticator: whom it believes; nil for a listener that asks for nothing.
  ///   - isStranger: its client has to say who it is.
  public func accept(
    _ connection: any Connection, _ authenticator: (any HTTPAuthenticator)? = nil, isStranger: Bool = false
  ) -> any ConnectionHandler {
    let handler = HTTPConnection(
      server: self, authenticator: authenticator ?? open, connection: connection, number: nextConnection)
    nextConnection += 1
    switch broker.admission.admit(handler, "http", from: connection.remoteAddress, isStranger: isStranger) {
    case .admitted(let place): handler.place = place
    case .refused:
      handler.end()
      return handler
    }
    connections[ObjectIdentifier(handler)] = handler
    sweepLater()
    return handler
  }

  func closed(_ connection: HTTPConnection) {
    guard connections.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return }
    if let place = connection.place { broker.admission.leave(place) }
    connection.place = nil
    gate.closed(connection, open: connections.count)
  }

  /// Open connections.
  public var connectionCount: Int { connections.count }
  /// Bytes of bodies that are held.
  public var heldBytes: Int { gate.budget.held }

  /// Says that the server is about to go: it is not ready any more, and keeps no connection alive.
  public func prepareToClose() { isClosing = true }

  /// Stops accepting; connections stay, so that answers under way still leave.
  public func stopAccepting() {
    isClosing = true
    for listener in listeners { listener.close() }
    listeners = []
    for connection in connections.values.sorted(by: { $0.number < $1.number }) { connection.shutDown() }
  }

  /// Closes all connections once what they were answered has been sent, and gives back what was taken from queues.
  public func close() {
    stopAccepting()
    for connection in connections.values.sorted(by: { $0.number < $1.number }) { connection.finish() }
  }

  /// Gives back what was taken from queues; to be called while the broker is open.
  public func giveBackDeliveries() { taken.closeAll() }

  private func sweepLater() {
    guard !isSweeping, !connections.isEmpty else { return }
    isSweeping = true
    broker.reactor.schedule(after: HTTPServer.sweepInterval) { [weak self] in
      guard let self else { return }
      isSweeping = false
      for connection in connections.values.sorted(by: { $0.number < $1.number }) { connection.sweep() }
      sweepLater()
    }
  }

  func observeAvailability() { availability.observe(isReady: readiness.isEmpty, now: broker.reactor.now) }

  private func watchAvailability() {
    observeAvailability()
    broker.reactor.schedule(after: .seconds(1)) { [weak self] in
      guard let self, !isClosing else { return }
      watchAvailability()
    }
  }

  // MARK: Waiting

  /// Takes a place among the requests that wait.
  /// - Throws: 503 when all are taken.
  func beginWaiting() throws(HTTPProblem) {
    guard waiting < HTTPServer.mostWaiting else {
      var problem = HTTPProblem(
        .unavailable, "too-many-waiting", "\(HTTPServer.mostWaiting) requests wait already for records and events")
      problem.fields = [("Retry-After", "1")]
      throw problem
    }
    waiting += 1
  }

  /// Gives the place back.
  func endWaiting() { waiting -= 1 }

  // MARK: What every request must pass

  /// The route of a request, and what its path names.
  /// - Throws: 404, 405.
  func find(_ head: HTTPRequestHead) throws(HTTPProblem) -> (HTTPRoute, [String]) {
    var segments = head.target.segments
    // Tools of RabbitMQ end their paths with a slash or without one.
    if segments.count > 2, segments[0] == "api", segments[1] != "v1", segments.last == "" { segments.removeLast() }
    switch HTTPServer.router.find(head.method, segments) {
    case .route(let route, let parameters): return (route, parameters)
    case .otherMethods(let methods):
      var problem = HTTPProblem(
        .methodNotAllowed, "method-not-allowed", "\(head.method.rawValue) is not for \(head.target.path)")
      problem.fields = [("Allow", methods.map(\.rawValue).joined(separator: ", "))]
      throw problem
    case .none:
      throw HTTPProblem(.notFound, "no-such-path", "there is nothing at \(head.target.path)")
    }
  }

  /// Refuses what a page of another site makes a browser send, and, of those who have proven nothing, requests that call this
  /// server by a name that is not its own: such a name may have been made to lead here (DNS rebinding).
  /// - Throws: 403, 421.
  func checkSite(_ call: HTTPCall) throws(HTTPProblem) {
    if !call.isProven, let host = call.head.host, !HTTPHost.isOwn(host, advertisedNames) {
      throw HTTPProblem(
        .misdirected, "unknown-host",
        "the host \(host) is neither an address nor localhost nor a name that this server is advertised under",
        at: "header Host")
    }
    guard !call.head.method.isSafe else { return }
    if let site = call.head["sec-fetch-site"], site != "same-origin", site != "none" {
      throw HTTPProblem(.forbidden, "cross-site", "a page of another site sent this", at: "header Sec-Fetch-Site")
    }
    guard call.head.count("origin") > 0 else { return }
    guard let origin = call.head["origin"], let host = call.head.host, HTTPHost.isSame(origin: origin, host: host)
    else {
      throw HTTPProblem(.forbidden, "cross-site", "a page of another site sent this", at: "header Origin")
    }
  }

  /// Checks the parameters of path and query.
  /// - Throws: 400.
  func checkParameters(_ call: HTTPCall, _ route: HTTPRoute) throws(HTTPProblem) {
    for (name, text) in zip(route.pathNames, call.parameters) {
      let schema = route.path.first { $0.name == name }?.schema ?? .name
      _ = try schema.read(text, at: "path \(name)")
    }
    var seen: Set<String> = []
    for parameter in call.head.target.query {
      guard let known = route.query.first(where: { $0.name == parameter.name }) else {
        if route.takesMoreQuery { continue }
        let names = route.query.map(\.name).joined(separator: ", ")
        throw HTTPProblem(
          .badRequest, "unknown-parameter",
          names.isEmpty ? "this request takes no parameters" : "the parameters here are \(names)",
          at: "query \(parameter.name)")
      }
      _ = try known.schema.read(parameter.value, at: "query \(parameter.name)")
      guard seen.insert(parameter.name).inserted else {
        throw HTTPProblem(
          .badRequest, "repeated-parameter", "the parameter stands there twice", at: "query \(parameter.name)")
      }
    }
  }

  /// Says what methods there are, and nothing that would let other sites in.
  func answerOptions(_ call: HTTPCall) {
    if call.head.target.isServer { return call.answerNothing() }
    var methods = HTTPMethod.allCases
    switch HTTPServer.router.find(.options, call.head.target.segments) {
    case .none:
      return call.fail(HTTPProblem(.notFound, "no-such-path", "there is nothing at \(call.head.target.path)"))
    case .otherMethods(let known): methods = known
    case .route: break
    }
    call.answer(.ok, "text/plain", Bytes(), fields: [("Allow", methods.map(\.rawValue).joined(separator: ", "))])
  }

  // MARK: Counting

  func count(_ call: HTTPCall) {
    guard let status = call.status else { return }
    figures.answers[min(5, max(0, status.code / 100))] += 1
    if !call.isStreaming { figures.latency.record(broker.reactor.now - call.started) }
    logger.log(
      .debug, "http", "served",
      [
        "method": call.head.method.rawValue, "path": call.head.target.path, "status": "\(status.code)",
        "user": call.principal.name, "connection": "\(call.connection.number)",
      ])
  }

  /// Says in the log why something failed that is not the client's fault.
  func note(_ problem: HTTPProblem, _ call: HTTPCall) {
    guard problem.status.code >= 500 else { return }
    logger.logRarely(
      .warning, "http", "request failed", problem.detail,
      ["method": call.head.method.rawValue, "path": call.head.target.path, "status": "\(problem.status.code)"],
      key: problem.kind, now: broker.reactor.now)
  }
}
