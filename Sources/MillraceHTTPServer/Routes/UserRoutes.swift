// UserRoutes: users with their passwords and tags, and rules of who may do what. No answer holds a password, or what is kept of one.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceSecurity

enum UserRoutes {
  static let reads = HTTPAccess.needs([HTTPRequirement(.describe, .cluster, .cluster)])
  static let writes = HTTPAccess.needs([HTTPRequirement(.alter, .cluster, .cluster)])
  private static let rules = HTTPContent.json(.object([.required("rules", .array(UserJSON.rule))]))
  private static let filter = [
    HTTPParameter("principal", .text(6...512), "Rules about this one, `User:NAME`."),
    HTTPParameter("resource", .words(ResourceKind.allCases.map(\.word)), "About resources of this kind."),
    HTTPParameter("name", .text(1...512), "About this name."),
    HTTPParameter(
      "match", .words(["literal", "prefix", "fitting"]),
      "How `name` is meant: as the rule's own, literal or prefix (default either), or as a resource's that the rule fits."
    ),
    HTTPParameter("operation", .words(AccessOperation.allCases.map(\.word)), "About this operation."),
    HTTPParameter("host", .text(1...64), "For this address, or `*`."),
    HTTPParameter("allow", .boolean, "Those that allow, or those that deny."),
  ]

  static let all: [HTTPRoute] = [
    HTTPRoute(
      .get, "/api/v1/users", "Users", "Lists users, without passwords.", reads,
      response: .json(.object([.required("users", .array(UserJSON.user))]))
    ) { (call) in call.streamList("users", call.broker.users) { UserJSON.write($0.name, $0.user, to: &$1) } },
    HTTPRoute(
      .get, "/api/v1/users/{user}", "Users", "Describes a user.", reads, response: .json(UserJSON.user), handler: show),
    HTTPRoute(
      .put, "/api/v1/users/{user}", "Users", "Makes a user, or changes one; what is not named stays.", writes,
      request: .json(.object(UserJSON.members)), isBodyOptional: true, response: .json(UserJSON.user), handler: put),
    HTTPRoute(
      .delete, "/api/v1/users/{user}", "Users",
      "Deletes a user: nobody logs in as that any more, and whoever has is allowed nothing.", writes,
      query: [HTTPParameter("rules", .boolean, "Deletes the rules about the user as well; otherwise they stay.")],
      status: .noContent, response: .nothing, handler: delete),
    HTTPRoute(
      .get, "/api/v1/rules", "Users", "Lists rules in order.", reads, query: filter, response: rules
    ) { (call) throws(HTTPProblem) in
      call.streamList("rules", call.broker.rules(try wanted(call))) { UserJSON.write($0, to: &$1) }
    },
    HTTPRoute(
      .post, "/api/v1/rules", "Users", "Adds rules, all or none; those that are there already stay.", writes,
      request: .json(.object([.required("rules", .list(UserJSON.rule, 1...1000))])), response: rules, handler: add),
    HTTPRoute(
      .delete, "/api/v1/rules", "Users", "Deletes all rules that the query means, which must say something.", writes,
      query: filter, response: rules, handler: remove),
  ]

  // MARK: Users

  private static func unknown(_ name: String) -> HTTPProblem {
    HTTPProblem(.notFound, "unknown-user", "there is no user \(name)", at: "path user")
  }

  static func show(_ call: HTTPCall) throws(HTTPProblem) {
    let name = call.path("user")
    guard let user = call.broker.user(name) else { throw unknown(name) }
    call.answer { UserJSON.write(name, user, to: &$0) }
  }

  static func put(_ call: HTTPCall) throws(HTTPProblem) {
    let body = try call.json()
    let name = call.path("user")
    let credentials = try UserJSON.credentials(body, at: "")
    guard credentials == nil || body?["password"] == nil else {
      throw HTTPProblem(.badRequest, "invalid-value", "a password and what is kept of one exclude each other", at: "/")
    }
    set(
      name, tags: body?["tags"]?.array?.compactMap(\.string) ?? call.broker.user(name)?.tags ?? [],
      password: body?["password"], credentials: credentials ?? [], call.broker
    ) { problem in
      if let problem { return call.fail(problem) }
      guard let user = call.broker.user(name) else { return call.fail(unknown(name)) }
      call.answer { UserJSON.write(name, user, to: &$0) }
    }
  }

  /// Makes or changes a user.
  /// - Parameter password: null takes the passwords away, nil leaves them, unless there are credentials.
  static func set(
    _ name: String, tags: [String], password: JSONValue?, credentials: [ScramCredential], _ broker: Broker,
    _ done: @escaping (HTTPProblem?) -> Void
  ) {
    func finish(_ credentials: [ScramCredential], isReplacing: Bool) {
      do throws(BrokerError) {
        try broker.setUser(name, tags: tags, credentials: credentials, isReplacing: isReplacing) { error in
          done(error.map { HTTPProblem($0) })
        }
      } catch {
        done(HTTPProblem(error))
      }
    }
    guard let text = password?.string else {
      return finish(credentials, isReplacing: password == .null || !credentials.isEmpty)
    }
    // Before anything is hashed.
    do throws(BrokerError) { try broker.checkNewUser(name) } catch { return done(HTTPProblem(error)) }
    broker.authentication.derive(Secret(text)) { result in
      switch result {
      case .success(let derived): finish(derived, isReplacing: true)
      case .failure(let error): done(HTTPProblem(.badRequest, "unacceptable-password", error.reason, at: "/password"))
      }
    }
  }

  static func delete(_ call: HTTPCall) throws(HTTPProblem) {
    let name = call.path("user")
    guard call.broker.user(name) != nil else { throw unknown(name) }
    var filter = AccessRuleFilter()
    filter.principal = Principal(name)
    remove(name, rules: call.flag("rules") ? call.broker.rules(filter) : [], call)
  }

  /// Rules go first: who comes under the name later must not have what was this one's.
  static func remove(_ name: String, rules: [AccessRule], _ call: HTTPCall) {
    call.broker.changeRules(adding: [], removing: rules) { error in
      call.answer(error) {
        call.broker.removeUser(name) { error in call.answer(error) { call.answerNothing() } }
      }
    }
  }

  // MARK: Rules

  private static func wanted(_ call: HTTPCall) throws(HTTPProblem) -> AccessRuleFilter {
    var filter = AccessRuleFilter()
    if let text = call.query("principal") {
      guard let principal = Principal(notation: text) else {
        throw HTTPProblem(.badRequest, "invalid-value", "User:NAME is expected", at: "query principal")
      }
      filter.principal = principal
    }
    filter.kind = call.query("resource").flatMap { ResourceKind(word: $0) }
    filter.operation = call.query("operation").flatMap { AccessOperation(word: $0) }
    filter.host = call.query("host")
    filter.isAllowed = call.query("allow").map { $0 == "true" }
    let name = call.query("name")
    switch (name, call.query("match")) {
    case (nil, nil): filter.name = .any
    case (_, "literal"?): filter.name = .literal(name)
    case (_, "prefix"?): filter.name = .prefix(name)
    case (let name?, "fitting"?): filter.name = .fitting(name)
    case (let name?, _): filter.name = .either(name)
    case (nil, _):
      throw HTTPProblem(.badRequest, "invalid-value", "fitting needs a name that is fitted", at: "query match")
    }
    return filter
  }

  static func add(_ call: HTTPCall) throws(HTTPProblem) {
    var rules: [AccessRule] = []
    for (index, one) in (try call.json()?["rules"]?.array ?? []).enumerated() {
      rules.append(try UserJSON.rule(one, at: "/rules/\(index)", call.broker))
    }
    call.broker.changeRules(adding: rules) { error in call.answer(error) { answer(rules, call) } }
  }

  static func remove(_ call: HTTPCall) throws(HTTPProblem) {
    let filter = try wanted(call)
    guard filter != AccessRuleFilter() else {
      throw HTTPProblem(.badRequest, "invalid-value", "the query must say which rules are meant", at: "query principal")
    }
    let rules = call.broker.rules(filter)
    call.broker.changeRules(adding: [], removing: rules) { error in call.answer(error) { answer(rules, call) } }
  }

  private static func answer(_ rules: [AccessRule], _ call: HTTPCall) {
    call.streamList("rules", rules) { UserJSON.write($0, to: &$1) }
  }
}
