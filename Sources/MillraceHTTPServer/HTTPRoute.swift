// HTTPRoute: one thing that can be asked for: how it is called, what it needs, what it takes and gives, who does it.

import MillraceBroker
import MillraceHTTPProtocol
import MillraceSecurity

/// Which resource a route is about.
public enum HTTPResource: Equatable, Sendable {
  /// The server.
  case cluster
  /// What the path names so.
  case path(String)
  /// A queue or exchange that the path names so, in the virtual host of the path or the query.
  case inVirtualHost(String)
  /// The virtual host that the path names, or the query.
  case virtualHost
}

/// What must be allowed for a request.
public struct HTTPRequirement: Equatable, Sendable {
  /// What is done.
  public let operation: AccessOperation
  /// To what kind of resource.
  public let kind: ResourceKind
  /// To which.
  public let resource: HTTPResource

  /// A requirement.
  public init(_ operation: AccessOperation, _ kind: ResourceKind, _ resource: HTTPResource) {
    self.operation = operation
    self.kind = kind
    self.resource = resource
  }
}

/// Who may ask.
public enum HTTPAccess: Equatable, Sendable {
  /// Everybody, without saying who they are.
  case everybody
  /// Everybody who is known; what is shown are the resources that this may be done with.
  case filtered(AccessOperation, ResourceKind)
  /// Whoever may do all of this.
  case needs([HTTPRequirement])
}

/// What a body is.
public enum HTTPContent: Sendable {
  /// JSON.
  case json(HTTPSchema)
  /// JSON, or any other type as bytes.
  case jsonOrBytes(HTTPSchema)
  /// Bytes.
  case bytes
  /// Lines of text.
  case text
  /// Server-sent events.
  case events
  /// Nothing: 204.
  case nothing
}

/// A parameter of the path or the query.
public struct HTTPParameter: Sendable {
  /// Name.
  public let name: String
  /// Shape.
  public let schema: HTTPSchema
  /// What it means.
  public let text: String

  /// A parameter; those of the query may be left out.
  public init(_ name: String, _ schema: HTTPSchema, _ text: String) {
    self.name = name
    self.schema = schema
    self.text = text
  }
}

/// A route.
public struct HTTPRoute: Sendable {
  /// Method. What answers GET answers HEAD.
  public let method: HTTPMethod
  /// The path, with the names of parameters in braces.
  public let template: String
  /// Under which heading it stands.
  public let group: String
  /// What it does.
  public let summary: String
  /// Who may.
  public let access: HTTPAccess
  /// Parameters of the path, where they are not just names.
  public let path: [HTTPParameter]
  /// Parameters of the query.
  public let query: [HTTPParameter]
  /// Further parameters are passed over, because tools send them.
  public let takesMoreQuery: Bool
  /// What it takes; nil for no body.
  public let request: HTTPContent?
  /// Whether the body may be left out.
  public let isBodyOptional: Bool
  /// Most bytes of a body that is no JSON; JSON is bounded by ``HTTPRoute/largestJSON``.
  public let largestBody: @Sendable (HTTPServer) -> Int
  /// How it answers when all is well.
  public let status: HTTPStatus
  /// With what.
  public let response: HTTPContent
  /// Which quota its bytes count for: those of the body, or those of the answer.
  public let use: ClientQuotas.Limit?
  /// Whether its time counts for the quota of its user.
  public let isTimed: Bool
  let handler: @Sendable (HTTPCall) throws(HTTPProblem) -> Void

  /// Most bytes of JSON: it is read on the broker's own thread, and takes some 30 times its size in memory.
  public static let largestJSON = 1 << 20

  init(
    _ method: HTTPMethod, _ template: String, _ group: String, _ summary: String, _ access: HTTPAccess,
    path: [HTTPParameter] = [], query: [HTTPParameter] = [], takesMoreQuery: Bool = false,
    request: HTTPContent? = nil, isBodyOptional: Bool = false,
    largestBody: @escaping @Sendable (HTTPServer) -> Int = { _ in HTTPRoute.largestJSON },
    status: HTTPStatus = .ok, response: HTTPContent, use: ClientQuotas.Limit? = nil,
    isTimed: Bool = true, handler: @escaping @Sendable (HTTPCall) throws(HTTPProblem) -> Void
  ) {
    self.method = method
    self.template = template
    self.group = group
    self.summary = summary
    self.access = access
    self.path = path
    self.query = query
    self.takesMoreQuery = takesMoreQuery
    self.request = request
    self.isBodyOptional = isBodyOptional
    self.largestBody = largestBody
    self.status = status
    self.response = response
    self.use = use
    self.isTimed = isTimed && access != .everybody
    self.handler = handler
  }

  /// Names of the parameters of the path, in order.
  public var pathNames: [String] {
    template.split(separator: "/").filter { $0.hasPrefix("{") }.map { String($0.dropFirst().dropLast()) }
  }
}
