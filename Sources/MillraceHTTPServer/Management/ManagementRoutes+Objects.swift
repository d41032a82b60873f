// ManagementRoutes+Objects: queues, exchanges and bindings as RabbitMQ's tools ask for them.

import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceHTTPProtocol
import MillraceRouting
import MillraceSecurity

extension ManagementRoutes {
  // MARK: Queues

  static let queues: [HTTPRoute] = [
    route(.get, "/api/queues", "Queues of all virtual hosts.", .filtered(.describe, .queue), response: list) {
      (call) throws(HTTPProblem) in try listQueues(call, call.broker.queues.virtualHosts)
    },
    route(.get, "/api/queues/{vhost}", "Queues of a virtual host.", .filtered(.describe, .queue), response: list) {
      (call) throws(HTTPProblem) in try listQueues(call, [call.virtualHost])
    },
    route(.get, "/api/queues/{vhost}/{queue}", "A queue.", onQueue(.describe), response: object) {
      (call) throws(HTTPProblem) in
      let queue = try QueueRoutes.described(call)
      call.answer { ManagementJSON.write(queue, to: &$0) }
    },
    route(
      .put, "/api/queues/{vhost}/{queue}", "Declares a queue.", onQueue(.create), request: object, isBodyOptional: true,
      status: .created, response: .nothing, handler: declareQueue),
    route(
      .delete, "/api/queues/{vhost}/{queue}", "Deletes a queue.", onQueue(.delete), status: .noContent,
      response: .nothing
    ) { (call) throws(HTTPProblem) in
      _ = try QueueRoutes.described(call)
      call.broker.queues.delete(
        call.path("queue"), in: call.virtualHost, ifUnused: call.flag("if-unused"), ifEmpty: call.flag("if-empty"),
        owner: nil
      ) { counted($0, call) }
    },
    route(
      .delete, "/api/queues/{vhost}/{queue}/contents", "Purges a queue.", onQueue(.delete), status: .noContent,
      response: .nothing
    ) { (call) throws(HTTPProblem) in
      call.broker.queues.purge(call.path("queue"), in: call.virtualHost, owner: nil) { counted($0, call) }
    },
    route(
      .get, "/api/queues/{vhost}/{queue}/bindings", "Bindings to a queue.", onQueue(.describe), response: list
    ) { (call) throws(HTTPProblem) in
      let queue = try QueueRoutes.described(call)
      let name = queue.declaration.name
      let found = try ExchangeRoutes.bindings(call.broker, in: call.virtualHost).filter {
        $0.destination == .queue(name)
      }
      write([Binding(source: "", destination: .queue(name), key: name)] + found, call)
    },
    route(
      .post, "/api/queues/{vhost}/{queue}/get", "Takes messages, for good or to put them back.", onQueue(.read),
      request: object, response: list, use: .consumerBytes, handler: get),
  ]

  private static func counted(_ result: Result<Int, RoutingError>, _ call: HTTPCall) {
    switch result {
    case .success: call.answerNothing()
    case .failure(let error): call.fail(HTTPProblem(error))
    }
  }

  private static func listQueues(_ call: HTTPCall, _ hosts: [String]) throws(HTTPProblem) {
    var found: [QueueDescription] = []
    for host in hosts {
      found += try QueueRoutes.routing { () throws(RoutingError) in
        try call.broker.queues.list(in: host, after: nil, limit: .max)
      }.filter { call.allows(.describe, .queue, ResourceName.inVirtualHost(host, $0.declaration.name)) }
    }
    var next = 0
    call.stream("application/json") {
      guard next <= found.count else { return nil }
      let end = min(found.count, next + 500)
      var out: [UInt8] = next == 0 ? [UInt8(ascii: "[")] : []
      for index in next..<end {
        if index > 0 { out.append(UInt8(ascii: ",")) }
        var json = JSONWriter()
        ManagementJSON.write(found[index], to: &json)
        out += json.bytes
      }
      if end == found.count { out.append(UInt8(ascii: "]")) }
      next = end == found.count ? end + 1 : end
      return Bytes(out)
    }
  }

  private static func declareQueue(_ call: HTTPCall) throws(HTTPProblem) {
    let body = try call.json()
    let declaration = QueueDeclaration(
      name: call.path("queue"), virtualHost: call.virtualHost, isDurable: try flag(body, "durable", true),
      isAutoDelete: try flag(body, "auto_delete", false), arguments: try arguments(body))
    call.broker.queues.declare(declaration, in: call.virtualHost, owner: nil) { result in
      switch result {
      case .success: call.answerNothing(.created)
      case .failure(let error): call.fail(HTTPProblem(error))
      }
    }
  }

  private static func get(_ call: HTTPCall) throws(HTTPProblem) {
    let body = try call.json()
    let count = Int(try number(body, "count", 1...1000) ?? 1)
    let truncate = try number(body, "truncate", 0...Int64(1 << 30)).map { Int($0) }
    let isBase64 = body?["encoding"]?.string == "base64"
    // `requeue` is what it was called before RabbitMQ 3.7.
    let standard = try flag(body, "requeue", true) ? "ack_requeue_true" : "ack_requeue_false"
    let mode = body?["ackmode"]?.string ?? standard
    guard ["ack_requeue_true", "ack_requeue_false", "reject_requeue_true", "reject_requeue_false"].contains(mode) else {
      throw HTTPProblem(.badRequest, "invalid-value", "no such ackmode", at: "/ackmode")
    }
    let taken = call.server.taken
    try taken.take(
      call.path("queue"), in: call.virtualHost, limit: count, bytes: 4 << 20, time: .seconds(60)
    ) { result in
      switch result {
      case .failure(let problem): call.fail(problem)
      case .success(let found):
        let settlement: Settlement =
          switch mode {
          case "ack_requeue_false": .acknowledge
          case "reject_requeue_false": .discard
          default: .requeue(isFailure: false)
          }
        for one in found.messages {
          guard let token = one.token else { continue }
          do throws(HTTPProblem) {
            try taken.settle(token, of: call.path("queue"), in: call.virtualHost, settlement) { _ in }
          } catch { continue }
        }
        call.broker.queues.whenDurable { error in
          if let error { return call.fail(HTTPProblem(error)) }
          call.answer { json in
            json.array { json in
              for (index, one) in found.messages.enumerated() {
                ManagementJSON.write(
                  one.delivery, left: found.left + found.messages.count - 1 - index, asBase64: isBase64,
                  truncate: truncate, to: &json)
              }
            }
          }
        }
      }
    }
  }

  // MARK: Exchanges

  static let exchanges: [HTTPRoute] = [
    route(.get, "/api/exchanges", "Exchanges of all virtual hosts.", .filtered(.describe, .exchange), response: list) {
      (call) throws(HTTPProblem) in try listExchanges(call, call.broker.queues.virtualHosts)
    },
    route(
      .get, "/api/exchanges/{vhost}", "Exchanges of a virtual host.", .filtered(.describe, .exchange), response: list
    ) {
      (call) throws(HTTPProblem) in try listExchanges(call, [call.virtualHost])
    },
    route(.get, "/api/exchanges/{vhost}/{exchange}", "An exchange.", onExchange(.describe), response: object) {
      (call) throws(HTTPProblem) in
      let name = call.path("exchange")
      guard let exchange = try ExchangeRoutes.all(call).first(where: { $0.name == name }) else {
        throw HTTPProblem(.notFound, "not-found", "no exchange '\(name)' in vhost '\(call.virtualHost)'")
      }
      call.answer { ManagementJSON.write(exchange, call.virtualHost, to: &$0) }
    },
    route(
      .put, "/api/exchanges/{vhost}/{exchange}", "Declares an exchange.", onExchange(.create), request: object,
      isBodyOptional: true, status: .created, response: .nothing, handler: declareExchange),
    route(
      .delete, "/api/exchanges/{vhost}/{exchange}", "Deletes an exchange.", onExchange(.delete), status: .noContent,
      response: .nothing
    ) { (call) throws(HTTPProblem) in
      try QueueRoutes.routing { () throws(RoutingError) in
        try call.broker.queues.checkExchange(call.path("exchange"), in: call.virtualHost)
      }
      call.broker.queues.deleteExchange(
        call.path("exchange"), ifUnused: call.flag("if-unused"), in: call.virtualHost
      ) { done($0, .noContent, call) }
    },
    route(
      .get, "/api/exchanges/{vhost}/{exchange}/bindings/source", "Bindings from an exchange.", onExchange(.describe),
      response: list
    ) { (call) throws(HTTPProblem) in
      let name = call.path("exchange")
      write(try ExchangeRoutes.bindings(call.broker, in: call.virtualHost).filter { $0.source == name }, call)
    },
    route(
      .get, "/api/exchanges/{vhost}/{exchange}/bindings/destination", "Bindings to an exchange.",
      onExchange(.describe), response: list
    ) { (call) throws(HTTPProblem) in
      let name = call.path("exchange")
      write(
        try ExchangeRoutes.bindings(call.broker, in: call.virtualHost).filter { $0.destination == .exchange(name) },
        call)
    },
    route(
      .post, "/api/exchanges/{vhost}/{exchange}/publish",
      "Publishes a message; `amq.default` names the default exchange.", onExchange(.write), request: object,
      response: object, use: .producerBytes, handler: publish),
  ]

  private static func listExchanges(_ call: HTTPCall, _ hosts: [String]) throws(HTTPProblem) {
    var found: [(Exchange, String)] = []
    for host in hosts {
      found += try QueueRoutes.routing { () throws(RoutingError) in
        try call.broker.queues.exchanges(in: host, after: nil, limit: .max)
      }.filter { call.allows(.describe, .exchange, ResourceName.inVirtualHost(host, $0.name)) }.map { ($0, host) }
    }
    call.answer { json in
      json.array { json in for (exchange, host) in found { ManagementJSON.write(exchange, host, to: &json) } }
    }
  }

  private static func declareExchange(_ call: HTTPCall) throws(HTTPProblem) {
    let body = try call.json()
    let (isDurable, isAutoDelete) = (try flag(body, "durable", true), try flag(body, "auto_delete", false))
    let (isInternal, arguments) = (try flag(body, "internal", false), try arguments(body))
    let exchange = try QueueRoutes.routing { () throws(RoutingError) in
      try Exchange(
        name: call.path("exchange"), type: body?["type"]?.string ?? "direct", isDurable: isDurable,
        isAutoDelete: isAutoDelete, isInternal: isInternal, arguments: arguments)
    }
    call.broker.queues.declareExchange(exchange, in: call.virtualHost) { done($0, .created, call) }
  }

  private static func publish(_ call: HTTPCall) throws(HTTPProblem) {
    let body = try call.json()
    let broker = call.broker
    let named = call.path("exchange")
    let exchange = named == "amq.default" ? "" : named
    guard let payload = body?["payload"]?.string, let key = body?["routing_key"]?.string, key.utf8.count <= 255 else {
      throw HTTPProblem(.badRequest, "missing-member", "payload and routing_key must be strings", at: "/")
    }
    let isBase64 = body?["payload_encoding"]?.string == "base64"
    guard let content = isBase64 ? Base64.decode(payload) : Bytes(payload) else {
      throw HTTPProblem(.badRequest, "invalid-value", "this is no base 64", at: "/payload")
    }
    var properties = body?["properties"]
    // An empty table is an empty list to some clients.
    if properties == .array([]) { properties = nil }
    let format = try PublicationRun.format(broker)
    let encoded = try PropertyNames.rabbit.read(properties, at: "/properties", deliveryMode: nil)
    let (kept, facts) = try QueueRoutes.routing { () throws(RoutingError) in
      try broker.queues.checkPublish(to: exchange, in: call.virtualHost)
      return try format.published(encoded)
    }
    let run = PublicationRun(broker.queues) { result in
      switch result {
      case .failure(let error): call.fail(HTTPProblem(error))
      case .success(let outcomes):
        call.answerObject { json in
          json.name("routed")
          json.bool(outcomes == ["confirmed"])
        }
      }
    }
    _ = run.publish(
      Publication(
        virtualHost: call.virtualHost, exchange: Bytes(exchange), routingKey: Bytes(key), format: format,
        properties: kept, body: content, facts: facts))
    run.end()
  }

  // MARK: Bindings

  private static let kind = HTTPParameter("kind", .words(["q", "e", "t"]), "Of what: a queue, an exchange or a topic.")
  private static let onBinding = HTTPAccess.needs([
    HTTPRequirement(.describe, .exchange, .inVirtualHost("exchange"))
  ])
  private static let bindingPath = "/api/bindings/{vhost}/e/{exchange}/{kind}/{destination}"

  static let bindings: [HTTPRoute] = [
    route(.get, "/api/bindings", "Bindings of all virtual hosts.", .filtered(.describe, .exchange), response: list) {
      (call) throws(HTTPProblem) in try listBindings(call, call.broker.queues.virtualHosts)
    },
    route(.get, "/api/bindings/{vhost}", "Bindings of a virtual host.", .filtered(.describe, .exchange), response: list)
    {
      (call) throws(HTTPProblem) in try listBindings(call, [call.virtualHost])
    },
    route(.get, bindingPath, "Bindings between the two.", onBinding, path: [kind], response: list) {
      (call) throws(HTTPProblem) in write(try between(call), call)
    },
    route(
      .post, bindingPath, "Binds.", onExchange(.alter), path: [kind], request: object, isBodyOptional: true,
      status: .created, response: .nothing
    ) { (call) throws(HTTPProblem) in
      let body = try call.json()
      let key = body?["routing_key"]?.string ?? ""
      guard key.utf8.count <= 255 else {
        throw HTTPProblem(.badRequest, "invalid-value", "a key has 255 bytes at most", at: "/routing_key")
      }
      let binding = Binding(
        source: call.path("exchange"), destination: destination(call), key: key, arguments: try arguments(body))
      try ExchangeRoutes.checkDestination(binding, call)
      call.broker.queues.bind(binding, in: call.virtualHost, owner: nil, by: call.client) { done($0, .created, call) }
    },
    route(
      .delete, bindingPath + "/{properties}", "Takes a binding away, by its `properties_key`.", onExchange(.alter),
      path: [kind, HTTPParameter("properties", .text(1...512), "The binding's `properties_key`.")],
      status: .noContent, response: .nothing
    ) { (call) throws(HTTPProblem) in
      // Some clients send the key as the list shows it, others encode it once more.
      let wanted = call.path("properties")
      guard
        let binding = try between(call).first(where: {
          let key = ManagementJSON.propertiesKey($0)
          return key == wanted || key == HTTPTarget.encoded(wanted)
        })
      else {
        throw HTTPProblem(.notFound, "not-found", "there is no such binding", at: "path properties")
      }
      try ExchangeRoutes.checkDestination(binding, call)
      call.broker.queues.unbind(binding, in: call.virtualHost, owner: nil, by: call.client) {
        done($0, .noContent, call)
      }
    },
  ]

  private static func destination(_ call: HTTPCall) -> Destination {
    let name = call.path("destination")
    return switch call.path("kind") {
    case "e": .exchange(name)
    case "t": .topic(name)
    default: .queue(name)
    }
  }

  private static func between(_ call: HTTPCall) throws(HTTPProblem) -> [Binding] {
    let (source, destination) = (call.path("exchange"), destination(call))
    return try ExchangeRoutes.bindings(call.broker, in: call.virtualHost).filter {
      $0.source == source && $0.destination == destination
    }
  }

  /// Bindings of the default exchange, which every queue has, are listed here as RabbitMQ lists them.
  private static func listBindings(_ call: HTTPCall, _ hosts: [String]) throws(HTTPProblem) {
    var found: [(Binding, String)] = []
    for host in hosts {
      let queues = try QueueRoutes.routing { () throws(RoutingError) in
        try call.broker.queues.list(in: host, after: nil, limit: .max)
      }
      if call.allows(.describe, .exchange, ResourceName.inVirtualHost(host, "")) {
        found += queues.map {
          (Binding(source: "", destination: .queue($0.declaration.name), key: $0.declaration.name), host)
        }
      }
      found += try ExchangeRoutes.bindings(call.broker, in: host).filter {
        call.allows(.describe, .exchange, ResourceName.inVirtualHost(host, $0.source))
      }.map { ($0, host) }
    }
    call.answer { json in
      json.array { json in for (binding, host) in found { ManagementJSON.write(binding, host, to: &json) } }
    }
  }

  private static func write(_ bindings: [Binding], _ call: HTTPCall) {
    call.answer { json in
      json.array { json in for binding in bindings { ManagementJSON.write(binding, call.virtualHost, to: &json) } }
    }
  }
}
