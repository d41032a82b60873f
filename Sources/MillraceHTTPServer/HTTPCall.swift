// HTTPCall: one request from its head to the end of its answer: what handlers read and how they answer.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceIO
import MillraceSecurity

/// A request that is being served. Belongs to the reactor. A handler answers it once, at once or later; when the client is gone
/// before, what it answers goes nowhere.
public final class HTTPCall {
  /// The head of the request.
  public let head: HTTPRequestHead
  let connection: HTTPConnection
  let started: MonotonicTime
  var route: HTTPRoute?
  var parameters: [String] = []
  /// Who asks.
  public internal(set) var principal = Principal.anonymous
  var isProven = false
  /// When the client's proof ends; nil when it does not end by itself.
  var expires: Timestamp?
  /// Its time on the reactor's thread is its user's.
  var isTimed = false
  /// The body, whole by the time a handler is called.
  public internal(set) var body = Bytes()
  private(set) var status: HTTPStatus?
  private(set) var isStreaming = false
  private(set) var isAnswered = false
  /// Called when the client is gone before it has been answered.
  var onGone: (() -> Void)?
  /// Called when the client sends no more, and may be gone: what waits should not wait any longer.
  var onPeerFinished: (() -> Void)?
  /// Called when a stream may go on.
  var onDrained: (() -> Void)?

  init(_ head: HTTPRequestHead, _ connection: HTTPConnection) {
    self.head = head
    self.connection = connection
    started = connection.reactor.now
  }

  var server: HTTPServer { connection.server }
  var broker: Broker { server.broker }
  var reactor: any Reactor { connection.reactor }
  /// Nobody waits for an answer any more.
  var isOver: Bool { isAnswered || connection.isOver }
  /// Streams wait when so much has not left yet.
  static let mostUnsent = 256 << 10

  // MARK: Reading

  /// What the path names so.
  func path(_ name: String) -> String {
    guard let names = route?.pathNames, let index = names.firstIndex(of: name), index < parameters.count else {
      preconditionFailure("\(route?.template ?? "no route") has no parameter \(name)")
    }
    return parameters[index]
  }

  /// A number that the path names so; checked against the route's description before.
  func pathNumber(_ name: String) -> Int64 { Int64(path(name)) ?? 0 }

  /// A parameter of the query; nil when it is not there.
  func query(_ name: String) -> String? { head.target.parameter(name) }

  /// A number of the query; checked against the route's description before.
  func number(_ name: String) -> Int64? { query(name).flatMap { Int64($0) } }

  /// A flag of the query; false when it is not there.
  func flag(_ name: String) -> Bool { query(name) == "true" }

  /// The virtual host: of the path, else of the query, else `/`.
  var virtualHost: String {
    if let route, route.pathNames.contains("vhost") { return path("vhost") }
    return query("vhost") ?? "/"
  }

  /// The body says that it is JSON.
  var isJSON: Bool { HTTPCall.isJSON(head["content-type"]) }

  static func isJSON(_ contentType: String?) -> Bool {
    guard let type = contentType?.split(separator: ";").first else { return false }
    let name = type.trimmingBlanks.lowercased()
    return name == "application/json" || name.hasSuffix("+json")
  }

  /// The body as JSON, of the shape that the route describes; nil without a body where that may be.
  func json() throws(HTTPProblem) -> JSONValue? {
    guard let route, let request = route.request else { return nil }
    if body.count == 0, route.isBodyOptional { return nil }
    let schema: HTTPSchema
    switch request {
    case .json(let shape), .jsonOrBytes(let shape): schema = shape
    case .bytes, .text, .events, .nothing: return nil
    }
    guard body.count <= HTTPRoute.largestJSON else {
      throw HTTPProblem(
        .contentTooLarge, "too-large", "JSON of \(body.count) bytes; \(HTTPRoute.largestJSON) at most are read")
    }
    let value: JSONValue
    do throws(DecodingError) {
      value = try body.withBuffer { (buffer) throws(DecodingError) in try JSONValue(buffer) }
    } catch {
      throw HTTPProblem(.badRequest, "invalid-json", error.description, at: "/")
    }
    try schema.check(value)
    return value
  }

  // MARK: Permission

  /// Who asks, and from where.
  var client: ClientIdentity { ClientIdentity(principal, from: connection.connection.remoteAddress.host) }

  /// Whether the client may do something.
  func allows(_ operation: AccessOperation, _ kind: ResourceKind, _ name: String) -> Bool {
    connection.authenticator.authorize(principal, operation, kind, name, from: connection.connection.remoteAddress)
  }

  /// - Throws: 403.
  func require(_ operation: AccessOperation, _ kind: ResourceKind, _ name: String) throws(HTTPProblem) {
    let isAllowed = connection.authenticator.decide(
      principal, operation, kind, name, from: connection.connection.remoteAddress)
    guard isAllowed else {
      throw HTTPProblem(
        .forbidden, "forbidden", "\(principal) may not \(operation.word) \(kind.word) \(name)")
    }
  }

  /// Checks what the route needs.
  func checkAccess(_ route: HTTPRoute) throws(HTTPProblem) {
    guard case .needs(let requirements) = route.access else { return }
    for one in requirements { try require(one.operation, one.kind, name(of: one.resource)) }
  }

  private func name(of resource: HTTPResource) -> String {
    switch resource {
    case .cluster: ResourceName.cluster
    case .path(let name): path(name)
    case .inVirtualHost(let name): ResourceName.inVirtualHost(virtualHost, path(name))
    case .virtualHost: virtualHost
    }
  }

  // MARK: Answering

  /// Answers with JSON.
  func answer(_ status: HTTPStatus = .ok, _ body: (inout JSONWriter) -> Void) {
    guard !isOver else { return }
    connection.measured {
      var json = JSONWriter()
      body(&json)
      answer(status, "application/json", Bytes(json.bytes))
    }
  }

  /// Answers with an object of JSON.
  func answerObject(_ status: HTTPStatus = .ok, _ body: (inout JSONWriter) -> Void) {
    answer(status) { json in json.object { json in body(&json) } }
  }

  /// Answers that it is done: 204.
  func answerNothing(_ status: HTTPStatus = .noContent) {
    guard !isOver else { return }
    finish(status, [], status == .noContent ? .none : .length(0), [])
  }

  /// Answers with bytes.
  func answer(
    _ status: HTTPStatus, _ contentType: String, _ body: Bytes, fields: [(name: StaticString, value: String)] = []
  ) {
    guard !isOver else { return }
    finish(status, [("Content-Type", contentType)] + fields, .length(body.count), body.count > 0 ? [body] : [])
  }

  /// Answers why not.
  func fail(_ problem: HTTPProblem) {
    guard !isOver else { return }
    if isStreaming { return connection.end() }
    server.note(problem, self)
    var status = problem.status
    let segments = head.target.segments
    let isManagement = segments.first == "api" && segments.count > 1 && segments[1] != "v1"
    // What cannot be done is a bad request to RabbitMQ's tools.
    if isManagement, status == .conflict { status = .badRequest }
    answer(
      status, "application/problem+json", problem.json(forManagement: isManagement), fields: problem.fields)
  }

  /// Answers that the broker has done it, or why not.
  func answer(_ error: BrokerError?, _ done: () -> Void) {
    if let error { fail(HTTPProblem(error)) } else { done() }
  }

  private func finish(
    _ status: HTTPStatus, _ fields: [(name: StaticString, value: String)], _ kind: HTTPResponseBody, _ body: [Bytes]
  ) {
    self.status = status
    isAnswered = true
    connection.writeHead(status, fields, kind, self)
    if head.method != .head {
      if route?.use == .consumerBytes { charge(body.reduce(0) { $0 + $1.count }) }
      connection.write(body)
    }
    connection.answered(self)
  }

  // MARK: Streams

  /// Begins an answer whose length is not known.
  func beginStream(_ status: HTTPStatus, _ contentType: String) {
    guard !isOver else { return }
    self.status = status
    isStreaming = true
    connection.writeHead(status, [("Content-Type", contentType)], .streamed, self)
    if head.method == .head { endStream() }
  }

  /// Sends a piece of it.
  func write(_ piece: Bytes) {
    guard !isOver, isStreaming else { return }
    if route?.use == .consumerBytes { charge(piece.count) }
    connection.write(HTTPResponseWriter.piece(piece, minorVersion: head.minorVersion))
  }

  /// Ends it.
  func endStream() {
    guard !isOver, isStreaming else { return }
    if head.method != .head { connection.write(HTTPResponseWriter.end(minorVersion: head.minorVersion)) }
    isAnswered = true
    connection.answered(self)
  }

  /// Whether a stream has to wait until the client has read; ``onDrained`` tells when it may go on.
  var mustWait: Bool { connection.unsentBytes >= HTTPCall.mostUnsent }

  /// Streams what `next` gives, piece by piece, a turn of the reactor for each, until it gives nil.
  func stream(_ contentType: String, _ next: @escaping () -> Bytes?) {
    beginStream(.ok, contentType)
    onDrained = { [unowned self] in pump(next) }
    pump(next)
  }

  private func pump(_ next: @escaping () -> Bytes?) {
    guard !isOver, !mustWait else { return }
    connection.measured { if let piece = next() { write(piece) } else { endStream() } }
    guard !isOver else { return }
    reactor.atEndOfTurn { [self] in
      // What did not leave by now waits for room, and onDrained follows.
      pump(next)
    }
  }

  /// The connection is gone, or its peer sends no more.
  func gone() {
    let body = onGone
    (onGone, onDrained, onPeerFinished) = (nil, nil, nil)
    body?()
  }

  /// Lets go of what a handler has left here.
  func release() {
    (onGone, onDrained, onPeerFinished) = (nil, nil, nil)
    body = Bytes()
  }
}

extension Substring {
  /// Without blanks at both ends.
  var trimmingBlanks: String {
    String(String(drop { $0 == " " || $0 == "\t" }.reversed()).drop { $0 == " " || $0 == "\t" }.reversed())
  }
}
