// ManagementRoutes: the routes of RabbitMQ's management API that rabbitmqadmin and Celery's Flower use.
//
// They answer as RabbitMQ 4 does, as far as the tools look: lists are whole, `columns` and `sort` are passed over, errors have
// `error` and `reason` beside what this server's errors have. Source: RabbitMQ, "HTTP API Reference"; rabbitmqadmin 3.10.

import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceHTTPProtocol
import MillraceRouting
import MillraceSecurity

enum ManagementRoutes {
  /// The version of RabbitMQ whose behaviour tools are told to expect.
  static let rabbitVersion = "4.3.0"

  static let object = HTTPContent.json(.open([]))
  static let list = HTTPContent.json(.array(.open([])))
  static let describeCluster = HTTPAccess.needs([HTTPRequirement(.describe, .cluster, .cluster)])
  static func onQueue(_ operation: AccessOperation) -> HTTPAccess {
    .needs([HTTPRequirement(operation, .queue, .inVirtualHost("queue"))])
  }
  static func onExchange(_ operation: AccessOperation) -> HTTPAccess {
    .needs([HTTPRequirement(operation, .exchange, .inVirtualHost("exchange"))])
  }

  static let all: [HTTPRoute] = server + vhosts + queues + exchanges + bindings + users

  static func route(
    _ method: HTTPMethod, _ template: String, _ summary: String, _ access: HTTPAccess, path: [HTTPParameter] = [],
    request: HTTPContent? = nil, isBodyOptional: Bool = false, status: HTTPStatus = .ok, response: HTTPContent,
    use: ClientQuotas.Limit? = nil,
    handler: @escaping @Sendable (HTTPCall) throws(HTTPProblem) -> Void
  ) -> HTTPRoute {
    HTTPRoute(
      method, template, "RabbitMQ management", summary, access, path: path, takesMoreQuery: true, request: request,
      isBodyOptional: isBodyOptional, status: status, response: response, use: use, handler: handler)
  }

  // MARK: The server

  private static let checks = [
    "alarms", "local-alarms", "virtual-hosts", "node-is-quorum-critical", "node-is-mirror-sync-critical",
    "ready-to-serve-clients",
  ]
  private static let server: [HTTPRoute] = [
    route(
      .get, "/api/overview", "The server, and sums over its objects and messages.", describeCluster, response: object,
      handler: overview),
    route(.get, "/api/whoami", "Who asks.", .filtered(.describe, .cluster), response: object, handler: whoami),
    route(.get, "/api/nodes", "The one node.", describeCluster, response: list) { (call) in
      call.answer { json in json.array { json in node(call, to: &json) } }
    },
    route(.get, "/api/nodes/{node}", "The one node.", describeCluster, response: object) { (call) throws(HTTPProblem) in
      guard call.path("node") == ManagementJSON.node else {
        throw HTTPProblem(.notFound, "not-found", "there is no node \(call.path("node"))", at: "path node")
      }
      call.answer { node(call, to: &$0) }
    },
    route(.get, "/api/connections", "Open connections of AMQP.", describeCluster, response: list, handler: connections),
    route(.get, "/api/channels", "Open channels of AMQP.", describeCluster, response: list, handler: channels),
    route(.get, "/api/consumers", "Consumers of queues.", .filtered(.describe, .queue), response: list) { (call) in
      consumers(call, in: nil)
    },
    route(
      .get, "/api/consumers/{vhost}", "Consumers of a virtual host's queues.", .filtered(.describe, .queue),
      response: list
    ) {
      (call) throws(HTTPProblem) in
      try checkHost(call)
      consumers(call, in: call.virtualHost)
    },
    route(
      .get, "/api/health/checks/{check}", "Whether the server is ready.", describeCluster,
      path: [HTTPParameter("check", .words(checks), "Which check; all look at the same.")], response: object,
      handler: check),
    route(
      .get, "/api/aliveness-test/{vhost}", "Whether the server is ready and the virtual host there.", describeCluster,
      response: object
    ) { (call) throws(HTTPProblem) in
      try checkHost(call)
      try check(call)
    },
    route(
      .get, "/api/definitions", "Everything that is declared.", DefinitionRoutes.reads, response: object,
      handler: DefinitionRoutes.export),
    route(
      .get, "/api/definitions/{vhost}", "What is declared in a virtual host.", DefinitionRoutes.reads, response: object
    ) { (call) throws(HTTPProblem) in
      try checkHost(call)
      var json = JSONWriter()
      try Definitions.write(call.broker, only: call.virtualHost, to: &json)
      call.answer(.ok, "application/json", Bytes(json.bytes))
    },
    route(
      .post, "/api/definitions", "Makes what a document says.", DefinitionRoutes.writes,
      request: .json(Definitions.schema), status: .created, response: .nothing
    ) { (call) throws(HTTPProblem) in try takeDefinitions(call, host: "/") },
    route(
      .post, "/api/definitions/{vhost}", "Makes what a document says, in a virtual host.", DefinitionRoutes.writes,
      request: .json(Definitions.schema), status: .created, response: .nothing
    ) { (call) throws(HTTPProblem) in
      try checkHost(call)
      try takeDefinitions(call, host: call.virtualHost)
    },
  ]

  static func checkHost(_ call: HTTPCall) throws(HTTPProblem) {
    guard call.broker.queues.hasVirtualHost(call.virtualHost) else {
      throw HTTPProblem(.notFound, "unknown-vhost", "vhost '\(call.virtualHost)' not found", at: "path vhost")
    }
  }

  private static func takeDefinitions(_ call: HTTPCall, host: String) throws(HTTPProblem) {
    guard let document = try call.json() else { return }
    DefinitionsImport(call, document, host: host).run { result in
      switch result {
      case .success: call.answerNothing(.created)
      case .failure(let problem): call.fail(problem)
      }
    }
  }

  static func overview(_ call: HTTPCall) throws(HTTPProblem) {
    let queues: QueueBroker = call.broker.queues
    var sum: (ready: Int, unacknowledged: Int, consumers: Int) = (0, 0, 0)
    var counts: (arrived: UInt64, delivered: UInt64, acknowledged: UInt64) = (0, 0, 0)
    for queue in queues.meteredQueues {
      let metrics = queue.metrics
      sum.ready += metrics.ready
      sum.unacknowledged += metrics.unacknowledged
      sum.consumers += metrics.consumers
      counts.arrived += metrics.counts.arrived
      counts.delivered += metrics.counts.delivered
      counts.acknowledged += metrics.counts.acknowledged
    }
    var exchanges = 0
    for host in queues.virtualHosts {
      exchanges += try QueueRoutes.routing { () throws(RoutingError) in
        try queues.exchanges(in: host, after: nil, limit: .max).count
      }
    }
    let clients = call.server.managedClients()
    func numbers(_ json: inout JSONWriter, _ pairs: [(String, UInt64)]) {
      json.object { json in
        for (name, value) in pairs {
          json.name(name)
          json.number(value)
        }
      }
    }
    call.answerObject { json in
      for (name, text) in [
        ("management_version", rabbitVersion), ("rabbitmq_version", rabbitVersion), ("product_name", "Millrace"),
        ("cluster_name", call.broker.clusterID), ("node", ManagementJSON.node), ("rates_mode", "none"),
      ] {
        json.name(name)
        json.string(text)
      }
      json.name("object_totals")
      numbers(
        &json,
        [
          ("connections", UInt64(clients.count)), ("channels", UInt64(clients.reduce(0) { $0 + $1.channels.count })),
          ("consumers", UInt64(sum.consumers)), ("exchanges", UInt64(exchanges)), ("queues", UInt64(queues.queueCount)),
        ])
      json.name("queue_totals")
      numbers(
        &json,
        [
          ("messages", UInt64(sum.ready + sum.unacknowledged)), ("messages_ready", UInt64(sum.ready)),
          ("messages_unacknowledged", UInt64(sum.unacknowledged)),
        ])
      json.name("message_stats")
      numbers(
        &json, [("publish", counts.arrived), ("deliver_get", counts.delivered), ("ack", counts.acknowledged)])
      json.name("listeners")
      json.array { _ in }
      json.name("contexts")
      json.array { _ in }
    }
  }

  static func whoami(_ call: HTTPCall) {
    call.answerObject { json in
      json.name("name")
      json.string(call.principal.name)
      json.name("tags")
      json.array { json in
        var tags = call.broker.user(call.principal.name)?.tags ?? []
        // What the tag gives in RabbitMQ may have come by a rule, or be everybody's.
        let tag = "administrator"
        if !tags.contains(tag), call.allows(.alter, .cluster, ResourceName.cluster) { tags.append(tag) }
        for tag in tags { json.string(tag) }
      }
    }
  }

  private static func node(_ call: HTTPCall, to json: inout JSONWriter) {
    let metrics = call.broker.metrics
    json.object { json in
      json.name("name")
      json.string(ManagementJSON.node)
      json.name("type")
      json.string("disc")
      json.name("running")
      json.bool(call.broker.isOpen)
      json.name("uptime")
      json.number(call.broker.uptime.inMilliseconds)
      json.name("mem_used")
      json.number(ProcessMemory.resident)
      json.name("mem_alarm")
      json.bool(call.broker.queues.pressure != nil && !metrics.isSpaceLow)
      json.name("disk_free")
      json.number(metrics.availableBytes)
      json.name("disk_free_alarm")
      json.bool(metrics.isSpaceLow)
      if let open = ProcessFigures.openDescriptors {
        json.name("fd_used")
        json.number(open)
      }
      if let most = ProcessFigures.mostDescriptors {
        json.name("fd_total")
        json.number(most)
      }
      json.name("partitions")
      json.array { _ in }
    }
  }

  static func check(_ call: HTTPCall) throws(HTTPProblem) {
    let reasons = call.server.readiness
    guard reasons.isEmpty else {
      return call.answerObject(.unavailable) { json in
        json.name("status")
        json.string("failed")
        json.name("reason")
        json.string(reasons.joined(separator: "; "))
      }
    }
    call.answerObject { json in
      json.name("status")
      json.string("ok")
    }
  }

  static func connections(_ call: HTTPCall) {
    let clients = call.server.managedClients()
    call.answer { json in
      json.array { json in
        for client in clients {
          json.object { json in
            for (name, text) in [
              ("name", client.name), ("user", client.user), ("vhost", client.virtualHost), ("protocol", "AMQP 0-9-1"),
              ("state", "running"), ("type", "network"), ("node", ManagementJSON.node), ("peer_host", client.peerHost),
            ] {
              json.name(name)
              json.string(text)
            }
            json.name("peer_port")
            json.number(client.peerPort)
            json.name("channels")
            json.number(client.channels.count)
          }
        }
      }
    }
  }

  static func channels(_ call: HTTPCall) {
    let clients = call.server.managedClients()
    call.answer { json in
      json.array { json in
        for client in clients {
          for channel in client.channels {
            json.object { json in
              for (name, text) in [
                ("name", "\(client.name) (\(channel.number))"), ("user", client.user), ("vhost", client.virtualHost),
                ("state", "running"), ("node", ManagementJSON.node),
              ] {
                json.name(name)
                json.string(text)
              }
              for (name, number) in [
                ("number", channel.number), ("consumer_count", channel.consumers),
                ("messages_unacknowledged", channel.unacknowledged),
              ] {
                json.name(name)
                json.number(number)
              }
            }
          }
        }
      }
    }
  }

  private static func consumers(_ call: HTTPCall, in host: String?) {
    call.answer { json in
      json.array { json in
        for one in call.broker.queues.consumerSummaries
        where (host == nil || one.virtualHost == host)
          && call.allows(.describe, .queue, ResourceName.inVirtualHost(one.virtualHost, one.queue))
        {
          json.object { json in
            json.name("consumer_tag")
            json.string(one.tag)
            json.name("ack_required")
            json.bool(!one.isNoAck)
            json.name("queue")
            json.object { json in
              json.name("name")
              json.string(one.queue)
              json.name("vhost")
              json.string(one.virtualHost)
            }
          }
        }
      }
    }
  }

  // MARK: Virtual hosts

  private static let vhosts: [HTTPRoute] = [
    route(.get, "/api/vhosts", "Virtual hosts.", .filtered(.describe, .virtualHost), response: list) { (call) in
      let hosts = call.broker.queues.virtualHosts.filter { call.allows(.describe, .virtualHost, $0) }
      call.answer { json in json.array { json in for host in hosts { write(host, to: &json) } } }
    },
    route(
      .get, "/api/vhosts/{vhost}", "A virtual host.", .needs([HTTPRequirement(.describe, .virtualHost, .virtualHost)]),
      response: object
    ) { (call) throws(HTTPProblem) in
      try checkHost(call)
      call.answer { write(call.virtualHost, to: &$0) }
    },
    route(
      .put, "/api/vhosts/{vhost}", "Makes a virtual host.",
      .needs([HTTPRequirement(.create, .virtualHost, .virtualHost)]), request: object, isBodyOptional: true,
      status: .created, response: .nothing
    ) { (call) throws(HTTPProblem) in
      _ = try call.json()
      call.broker.queues.createVirtualHost(call.virtualHost) { done($0, .created, call) }
    },
    route(
      .delete, "/api/vhosts/{vhost}", "Deletes a virtual host with everything in it.",
      .needs([HTTPRequirement(.delete, .virtualHost, .virtualHost)]), status: .noContent, response: .nothing
    ) { (call) throws(HTTPProblem) in
      try checkHost(call)
      call.broker.queues.deleteVirtualHost(call.virtualHost) { done($0, .noContent, call) }
    },
  ]

  private static func write(_ host: String, to json: inout JSONWriter) {
    json.object { json in
      json.name("name")
      json.string(host)
      json.name("tracing")
      json.bool(false)
    }
  }

  static func done(_ error: RoutingError?, _ status: HTTPStatus, _ call: HTTPCall) {
    if let error { call.fail(HTTPProblem(error)) } else { call.answerNothing(status) }
  }

  /// A flag of a body, as JSON has it or as the word that rabbitmqadmin sends.
  static func flag(_ body: JSONValue?, _ name: String, _ standard: Bool) throws(HTTPProblem) -> Bool {
    switch body?[name] {
    case nil, .null?: return standard
    case .bool(let value)?: return value
    case .string("true")?: return true
    case .string("false")?: return false
    default: throw HTTPProblem(.badRequest, "invalid-value", "true or false is expected", at: "/\(name)")
    }
  }

  static func number(_ body: JSONValue?, _ name: String, _ range: ClosedRange<Int64>) throws(HTTPProblem) -> Int64? {
    switch body?[name] {
    case nil, .null?: return nil
    case .integer(let value)? where range.contains(value): return value
    case .string(let text)? where Int64(text).map({ range.contains($0) }) ?? false: return Int64(text)
    default: throw HTTPProblem(.badRequest, "invalid-value", "\(HTTPSchema.word(range)) is expected", at: "/\(name)")
    }
  }

  static func arguments(_ body: JSONValue?) throws(HTTPProblem) -> RoutingTable {
    switch body?["arguments"] {
    // An empty table is an empty list to some clients.
    case nil, .null?, .array([])?: return .empty
    case .object?: return RoutingTable(body?["arguments"])
    default: throw HTTPProblem(.badRequest, "invalid-value", "an object is expected", at: "/arguments")
    }
  }
}
