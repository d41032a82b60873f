// ManagementRoutes+Users: RabbitMQ's routes of users and permissions, over the users and rules of this server.
//
// A permission is the rules that VirtualHostPermission makes of it. What RabbitMQ keeps of a password (SHA-256, salted, once) is not taken:
// SCRAM needs more than that, and it is no protection for a password in a file that is stolen. See docs/decisions/0038.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceSecurity

extension ManagementRoutes {
  private static let permissionBody = HTTPSchema.open([
    .required("configure", .string, "A regular expression that means names or beginnings of names."),
    .required("write", .string, "The same."), .required("read", .string, "The same."),
  ])
  private static let userBody = HTTPSchema.open([
    .optional("password", .string), .optional("password_hash", .string, "Empty, for no password; others are refused."),
    .optional("tags", .anything, "Words with commas between them, or an array of words."),
  ])

  static let users: [HTTPRoute] = [
    route(.get, "/api/users", "Users, without passwords.", UserRoutes.reads, response: list) { (call) in
      call.streamList(nil, call.broker.users) { write($0.name, $0.user, to: &$1) }
    },
    route(.get, "/api/users/{user}", "A user.", UserRoutes.reads, response: object) { (call) throws(HTTPProblem) in
      let user = try find(call)
      call.answer { write(call.path("user"), user, to: &$0) }
    },
    route(
      .put, "/api/users/{user}", "Makes a user, or sets password and tags of one.", UserRoutes.writes,
      request: .json(userBody), status: .created, response: .nothing, handler: putUser),
    route(
      .delete, "/api/users/{user}", "Deletes a user and the user's permissions.", UserRoutes.writes,
      status: .noContent, response: .nothing
    ) { (call) throws(HTTPProblem) in
      _ = try find(call)
      let (name, rules) = (call.path("user"), call.broker.rules())
      let gone = call.broker.queues.virtualHosts.flatMap {
        VirtualHostPermission.replaced(in: rules, of: Principal(name), in: $0)
      }
      UserRoutes.remove(name, rules: gone, call)
    },
    route(
      .get, "/api/users/{user}/permissions", "A user's permissions.", UserRoutes.reads, response: list
    ) { (call) throws(HTTPProblem) in
      _ = try find(call)
      permissions(call, only: Principal(call.path("user")))
    },
    route(
      .get, "/api/users/{user}/topic-permissions", "None: there are no permissions on routing keys.", UserRoutes.reads,
      response: list
    ) { (call) throws(HTTPProblem) in
      _ = try find(call)
      call.answer { json in json.array { _ in } }
    },
    route(.get, "/api/permissions", "All permissions.", UserRoutes.reads, response: list) { (call) in
      permissions(call)
    },
    route(
      .get, "/api/vhosts/{vhost}/permissions", "Permissions in a virtual host.", UserRoutes.reads, response: list
    ) { (call) throws(HTTPProblem) in
      try checkHost(call)
      permissions(call, in: call.virtualHost)
    },
    route(
      .get, "/api/permissions/{vhost}/{user}", "A user's permission in a virtual host.", UserRoutes.reads,
      response: object
    ) { (call) throws(HTTPProblem) in
      let permission = try findPermission(call)
      call.answer { write(permission, to: &$0) }
    },
    route(
      .put, "/api/permissions/{vhost}/{user}",
      "Sets what a user may do in a virtual host, as rules; replaces those that allowed the user something there.",
      UserRoutes.writes, request: .json(permissionBody), status: .created, response: .nothing
    ) { (call) throws(HTTPProblem) in
      try checkHost(call)
      guard let body = try call.json() else { return }
      let permission = try permission(body, of: call.path("user"), in: call.virtualHost, at: "")
      set(permission, call.broker) { problem in
        if let problem { call.fail(problem) } else { call.answerNothing(.created) }
      }
    },
    route(
      .delete, "/api/permissions/{vhost}/{user}", "Takes a user's permission in a virtual host away.",
      UserRoutes.writes, status: .noContent, response: .nothing
    ) { (call) throws(HTTPProblem) in
      let permission = try findPermission(call)
      let gone = VirtualHostPermission.replaced(
        in: call.broker.rules(), of: permission.user, in: permission.virtualHost)
      call.broker.changeRules(adding: [], removing: gone) { error in call.answer(error) { call.answerNothing() } }
    },
    route(
      .get, "/api/topic-permissions", "None: there are no permissions on routing keys.", UserRoutes.reads,
      response: list
    ) { (call) in call.answer { json in json.array { _ in } } },
  ]

  // MARK: Users

  private static func find(_ call: HTTPCall) throws(HTTPProblem) -> User {
    let name = call.path("user")
    guard let user = call.broker.user(name) else {
      throw HTTPProblem(.notFound, "unknown-user", "there is no user \(name)", at: "path user")
    }
    return user
  }

  static func write(_ name: String, _ user: User, to json: inout JSONWriter) {
    json.object { json in
      json.name("name")
      json.string(name)
      json.name("tags")
      json.array { json in for tag in user.tags { json.string(tag) } }
    }
  }

  /// Tags as RabbitMQ's tools send them.
  static func tags(_ value: JSONValue?, at place: String) throws(HTTPProblem) -> [String]? {
    switch value {
    case nil, .null?: return nil
    case .string(let text)?:
      return text.split(separator: ",").map { $0.trimmingBlanks }.filter { !$0.isEmpty }
    case let value?:
      if let list = value.array, list.allSatisfy({ $0.string != nil }) { return list.compactMap(\.string) }
      throw HTTPProblem(.badRequest, "invalid-value", "words with commas, or an array of words", at: place)
    }
  }

  /// As with RabbitMQ, a user for whom no password is given has none.
  private static func putUser(_ call: HTTPCall) throws(HTTPProblem) {
    let body = try call.json()
    if let hash = body?["password_hash"]?.string, !hash.isEmpty {
      throw HTTPProblem(
        .badRequest, "unacceptable-password",
        "a password_hash cannot be taken: it is a hash that SCRAM cannot use, and that guesses are cheap to try against; give the "
          + "password, or SCRAM credentials to /api/v1/users", at: "/password_hash")
    }
    let password = body?["password"]?.string.flatMap { $0.isEmpty ? nil : JSONValue.string($0) } ?? .null
    UserRoutes.set(
      call.path("user"), tags: try tags(body?["tags"], at: "/tags") ?? [], password: password, credentials: [],
      call.broker
    ) { problem in
      if let problem { call.fail(problem) } else { call.answerNothing(.created) }
    }
  }

  // MARK: Permissions

  private static func permissions(_ call: HTTPCall, only user: Principal? = nil, in host: String? = nil) {
    let found = VirtualHostPermission.all(
      in: call.broker.rules(), only: user, virtualHosts: host.map { [$0] } ?? call.broker.queues.virtualHosts)
    call.streamList(nil, found) { write($0, to: &$1) }
  }

  private static func findPermission(_ call: HTTPCall) throws(HTTPProblem) -> VirtualHostPermission {
    try checkHost(call)
    let user = call.path("user")
    let found = VirtualHostPermission.all(
      in: call.broker.rules(), only: Principal(user), virtualHosts: [call.virtualHost])
    guard let permission = found.first else {
      throw HTTPProblem(
        .notFound, "unknown-permission", "\(user) has no permission in \(call.virtualHost)", at: "path user")
    }
    return permission
  }

  static func write(_ permission: VirtualHostPermission, to json: inout JSONWriter) {
    json.object { json in
      for (name, text) in [
        ("user", permission.user.name), ("vhost", permission.virtualHost),
        ("configure", permission.configure.expression), ("write", permission.write.expression),
        ("read", permission.read.expression),
      ] {
        json.name(name)
        json.string(text)
      }
    }
  }

  /// A permission that a body says.
  /// - Throws: 400 with what in an expression no rule can say.
  static func permission(
    _ body: JSONValue, of user: String, in host: String, at place: String
  ) throws(HTTPProblem) -> VirtualHostPermission {
    guard PrincipalName.isValid(user) else {
      throw HTTPProblem(.badRequest, "invalid-value", "a user's name is expected", at: "\(place)/user")
    }
    func pattern(_ name: String) throws(HTTPProblem) -> PermissionPattern {
      do throws(PermissionPattern.Refusal) {
        return try PermissionPattern(body[name]?.string ?? "")
      } catch {
        throw HTTPProblem(.badRequest, "no-such-permission", "\(name): \(error.reason)", at: "\(place)/\(name)")
      }
    }
    return VirtualHostPermission(
      Principal(user), in: host, configure: try pattern("configure"), write: try pattern("write"),
      read: try pattern("read"))
  }

  static func set(
    _ permission: VirtualHostPermission, _ broker: Broker, _ done: @escaping (HTTPProblem?) -> Void
  ) {
    let wanted = permission.rules
    do throws(BrokerError) {
      for rule in wanted { try broker.checkRule(rule) }
    } catch {
      return done(HTTPProblem(error))
    }
    let gone = VirtualHostPermission.replaced(
      in: broker.rules(), of: permission.user, in: permission.virtualHost
    ).filter { !wanted.contains($0) }
    broker.changeRules(adding: wanted, removing: gone) { done($0.map { HTTPProblem($0) }) }
  }
}
