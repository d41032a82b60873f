// ExchangeRoutes: exchanges and bindings.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceRouting
import MillraceSecurity

enum ExchangeRoutes {
  static let exchangeName = HTTPParameter("exchange", .name, "The exchange.")
  static func needs(_ operation: AccessOperation) -> HTTPAccess {
    .needs([HTTPRequirement(operation, .exchange, .inVirtualHost("exchange"))])
  }
  static let exchange = HTTPSchema.object([
    .required("name", .string, "Empty for the default exchange."), .required("vhost", .string),
    .required("type", .string), .required("durable", .boolean), .required("autoDelete", .boolean),
    .required("internal", .boolean), .required("arguments", .map(.anything)),
  ])
  static let binding = HTTPSchema.object([
    .required("source", .string), .required("destination", .string),
    .required("kind", .words(["queue", "exchange", "topic"]), "What the destination is."), .required("key", .string),
    .required("arguments", .map(.anything)),
  ])
  private static let newBinding = HTTPSchema.object([
    .required("destination", .name), .required("kind", .words(["queue", "exchange", "topic"])),
    .optional("key", .text(0...255)), .optional("arguments", .map(.anything)),
  ])

  static let all: [HTTPRoute] = [
    HTTPRoute(
      .get, "/api/v1/exchanges", "Exchanges", "Lists exchanges in the order of their names.",
      .filtered(.describe, .exchange), query: [QueueRoutes.vhost],
      response: .json(.object([.required("exchanges", .array(exchange))])), handler: list),
    HTTPRoute(
      .put, "/api/v1/exchanges/{exchange}", "Exchanges",
      "Declares an exchange; nothing changes when it is there already and the same.", needs(.create),
      path: [exchangeName], query: [QueueRoutes.vhost],
      request: .json(
        .object([
          .required("type", .words(ExchangeType.allCases.map(\.rawValue))),
          .optional("durable", .boolean, "Default true."), .optional("autoDelete", .boolean),
          .optional("internal", .boolean), .optional("arguments", .map(.anything)),
        ])), status: .created, response: .json(exchange), handler: declare),
    HTTPRoute(
      .delete, "/api/v1/exchanges/{exchange}", "Exchanges", "Deletes an exchange with its bindings.", needs(.delete),
      path: [exchangeName],
      query: [QueueRoutes.vhost, HTTPParameter("ifUnused", .boolean, "Only when nothing is bound to it.")],
      status: .noContent, response: .nothing, handler: delete),
    HTTPRoute(
      .post, "/api/v1/exchanges/{exchange}/messages", "Exchanges",
      "Publishes messages to an exchange; the answer comes when they are durable where they go.", needs(.write),
      path: [exchangeName],
      query: [QueueRoutes.vhost, HTTPParameter("key", .text(0...255), "Routing key of messages that name none.")],
      request: .jsonOrBytes(
        .object([
          .required(
            "messages",
            .list(.object([.optional("routingKey", .text(0...255))] + QueueRoutes.newMessage), 1...1000))
        ])), largestBody: QueueRoutes.largestMessage, status: .created,
      response: .json(.object([.required("outcomes", .array(.words(PublicationRun.outcomes)))])), use: .producerBytes,
      handler: publish),
    HTTPRoute(
      .get, "/api/v1/exchanges/{exchange}/bindings", "Exchanges", "Lists the bindings from an exchange.",
      needs(.describe), path: [exchangeName], query: [QueueRoutes.vhost],
      response: .json(.object([.required("bindings", .array(binding))])), handler: bindings),
    HTTPRoute(
      .post, "/api/v1/exchanges/{exchange}/bindings", "Exchanges",
      "Binds a queue, an exchange or a topic to an exchange.", needs(.alter), path: [exchangeName],
      query: [QueueRoutes.vhost], request: .json(newBinding), status: .created, response: .json(binding), handler: bind),
    HTTPRoute(
      .post, "/api/v1/exchanges/{exchange}/bindings/remove", "Exchanges", "Takes a binding away.", needs(.alter),
      path: [exchangeName], query: [QueueRoutes.vhost], request: .json(newBinding), status: .noContent,
      response: .nothing, handler: unbind),
  ]

  static func write(_ exchange: Exchange, _ host: String, to json: inout JSONWriter) {
    json.object { json in
      json.name("name")
      json.string(exchange.name)
      json.name("vhost")
      json.string(host)
      json.name("type")
      json.string(exchange.type.rawValue)
      json.name("durable")
      json.bool(exchange.isDurable)
      json.name("autoDelete")
      json.bool(exchange.isAutoDelete)
      json.name("internal")
      json.bool(exchange.isInternal)
      json.name("arguments")
      exchange.arguments.write(to: &json)
    }
  }

  static func write(_ binding: Binding, to json: inout JSONWriter) {
    json.object { json in
      json.name("source")
      json.string(binding.source)
      json.name("destination")
      json.string(binding.destination.name)
      json.name("kind")
      json.string(binding.destination.kind)
      json.name("key")
      json.string(binding.key.text)
      json.name("arguments")
      binding.arguments.write(to: &json)
    }
  }

  static func all(_ call: HTTPCall) throws(HTTPProblem) -> [Exchange] {
    try QueueRoutes.routing { () throws(RoutingError) in
      try call.broker.queues.exchanges(in: call.virtualHost, after: nil, limit: .max)
    }
  }

  static func list(_ call: HTTPCall) throws(HTTPProblem) {
    let host = call.virtualHost
    let exchanges = try all(call).filter {
      call.allows(.describe, .exchange, ResourceName.inVirtualHost(host, $0.name))
    }
    call.answerObject { json in
      json.name("exchanges")
      json.array { json in for exchange in exchanges { write(exchange, host, to: &json) } }
    }
  }

  static func declare(_ call: HTTPCall) throws(HTTPProblem) {
    let body = try call.json()
    func flag(_ name: String, _ standard: Bool) -> Bool {
      if case .bool(let value)? = body?[name] { value } else { standard }
    }
    let exchange = try QueueRoutes.routing { () throws(RoutingError) in
      try Exchange(
        name: call.path("exchange"), type: body?["type"]?.string ?? "direct", isDurable: flag("durable", true),
        isAutoDelete: flag("autoDelete", false), isInternal: flag("internal", false),
        arguments: RoutingTable(body?["arguments"]))
    }
    call.broker.queues.declareExchange(exchange, in: call.virtualHost) { error in
      if let error { return call.fail(HTTPProblem(error)) }
      call.answer(.created) { write(exchange, call.virtualHost, to: &$0) }
    }
  }

  private static func exists(_ call: HTTPCall) throws(HTTPProblem) {
    try QueueRoutes.routing { () throws(RoutingError) in
      try call.broker.queues.checkExchange(call.path("exchange"), in: call.virtualHost)
    }
  }

  static func delete(_ call: HTTPCall) throws(HTTPProblem) {
    try exists(call)
    call.broker.queues.deleteExchange(
      call.path("exchange"), ifUnused: call.flag("ifUnused"), in: call.virtualHost
    ) { error in if let error { call.fail(HTTPProblem(error)) } else { call.answerNothing() } }
  }

  static func publish(_ call: HTTPCall) throws(HTTPProblem) {
    try exists(call)
    try PublicationRun.publish(call, exchange: call.path("exchange"), routingKey: call.query("key") ?? "")
  }

  static func bindings(_ call: HTTPCall) throws(HTTPProblem) {
    try exists(call)
    let name = call.path("exchange")
    let all = try bindings(call.broker, in: call.virtualHost).filter { $0.source == name }
    call.answerObject { json in
      json.name("bindings")
      json.array { json in for one in all { write(one, to: &json) } }
    }
  }

  static func bindings(_ broker: Broker, in host: String) throws(HTTPProblem) -> [Binding] {
    try QueueRoutes.routing { () throws(RoutingError) in
      try broker.queues.bindings(in: host, from: nil, limit: .max).bindings
    }
  }

  static func destination(_ kind: String?, _ name: String) -> Destination {
    switch kind {
    case "exchange": .exchange(name)
    case "topic": .topic(name)
    default: .queue(name)
    }
  }

  private static func binding(_ call: HTTPCall) throws(HTTPProblem) -> Binding {
    let body = try call.json()
    return Binding(
      source: call.path("exchange"),
      destination: destination(body?["kind"]?.string, body?["destination"]?.string ?? ""),
      key: body?["key"]?.string ?? "", arguments: RoutingTable(body?["arguments"]))
  }

  /// Who binds writes into what is bound.
  static func checkDestination(_ binding: Binding, _ call: HTTPCall) throws(HTTPProblem) {
    let name = ResourceName.inVirtualHost(call.virtualHost, binding.destination.name)
    switch binding.destination {
    case .queue: try call.require(.write, .queue, name)
    case .exchange: try call.require(.write, .exchange, name)
    case .topic(let topic): try call.require(.write, .topic, topic)
    }
  }

  static func bind(_ call: HTTPCall) throws(HTTPProblem) {
    let binding = try binding(call)
    try checkDestination(binding, call)
    call.broker.queues.bind(binding, in: call.virtualHost, owner: nil, by: call.client) { error in
      if let error { return call.fail(HTTPProblem(error)) }
      call.answer(.created) { write(binding, to: &$0) }
    }
  }

  static func unbind(_ call: HTTPCall) throws(HTTPProblem) {
    let binding = try binding(call)
    try checkDestination(binding, call)
    call.broker.queues.unbind(binding, in: call.virtualHost, owner: nil, by: call.client) { error in
      if let error { call.fail(HTTPProblem(error)) } else { call.answerNothing() }
    }
  }
}
