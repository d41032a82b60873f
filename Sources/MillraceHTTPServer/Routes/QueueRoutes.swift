// QueueRoutes: queues declared, described, filled, emptied and deleted.

import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceHTTPProtocol
import MillraceIO
import MillraceQueueing
import MillraceRouting
import MillraceSecurity

enum QueueRoutes {
  static let vhost = HTTPParameter("vhost", .name, "The virtual host (default `/`).")
  static let queueName = HTTPParameter("queue", .name, "The queue.")
  static func needs(_ operation: AccessOperation) -> HTTPAccess {
    .needs([HTTPRequirement(operation, .queue, .inVirtualHost("queue"))])
  }

  static let queue = HTTPSchema.object([
    .required("name", .string), .required("vhost", .string), .required("type", .string),
    .required("durable", .boolean), .required("exclusive", .boolean), .required("autoDelete", .boolean),
    .required("arguments", .map(.anything)), .required("ready", .count, "Messages that are not with consumers."),
    .required("readyBytes", .count), .required("unacknowledged", .count), .required("delayed", .count),
    .required("consumers", .count),
  ])
  static let message = HTTPSchema.object([
    .required("token", .nullable(.string), "By which it is settled; null when it is settled already."),
    .required("position", .string), .required("exchange", .string), .required("routingKey", .string),
    .required("redelivered", .boolean), .required("failures", .count, "Deliveries of it that failed."),
    .required("timestamp", .number64, "When it came into the queue, in milliseconds since 1970."),
    .required("properties", .open([])), .optional("body", .string),
    .optional("bodyBase64", .string, "The body in base 64, when it is not UTF-8."),
  ])
  static let newMessage: [HTTPMember] = [
    .optional("body", .anything, "A string as it is; other JSON as its text."),
    .optional("bodyBase64", .string, "The body in base 64, instead of `body`."),
    .optional("properties", PropertyNames.schema),
    .optional("delayMilliseconds", .integer(0...31_536_000_000), "Time to wait before it is delivered."),
  ]
  static let largestMessage: @Sendable (HTTPServer) -> Int = { $0.broker.settings.largestAMQPMessage }

  static let all: [HTTPRoute] = [
    HTTPRoute(
      .get, "/api/v1/queues", "Queues", "Lists queues in the order of their names.", .filtered(.describe, .queue),
      query: [
        vhost, HTTPParameter("after", .text(0...255), "Only names behind this one."),
        HTTPParameter("limit", .integer(1...10_000), "Most queues (default 1000)."),
      ],
      response: .json(
        .object([
          .required("queues", .array(queue)), .required("next", .nullable(.string), "Where to go on (`after`)."),
        ])), handler: list),
    HTTPRoute(
      .get, "/api/v1/queues/{queue}", "Queues", "Describes a queue.", needs(.describe), path: [queueName],
      query: [vhost], response: .json(queue), handler: show),
    HTTPRoute(
      .get, "/api/v1/queues/{queue}/figures", "Queues",
      "What is measured of a queue: lengths, rates, waiting, and the queueing model beside them.", needs(.describe),
      path: [queueName], query: [vhost], response: .json(.open([])), handler: figures),
    HTTPRoute(
      .put, "/api/v1/queues/{queue}", "Queues",
      "Declares a queue; nothing changes when it is there already and the same.",
      .needs([HTTPRequirement(.create, .queue, .inVirtualHost("queue"))]), path: [queueName], query: [vhost],
      request: .json(
        .object([
          .optional("durable", .boolean, "Default true."), .optional("autoDelete", .boolean),
          .optional("arguments", .map(.anything), "`x-queue-type`, `x-message-ttl` and their like."),
        ])), isBodyOptional: true, status: .created, response: .json(queue), handler: declare),
    HTTPRoute(
      .delete, "/api/v1/queues/{queue}", "Queues", "Deletes a queue with its messages.", needs(.delete),
      path: [queueName],
      query: [
        vhost, HTTPParameter("ifEmpty", .boolean, "Only when it has no messages."),
        HTTPParameter("ifUnused", .boolean, "Only when it has no consumers."),
      ], response: .json(.object([.required("messages", .count, "Messages that were in it.")])), handler: delete),
    HTTPRoute(
      .delete, "/api/v1/queues/{queue}/messages", "Queues", "Purges a queue: its ready messages are deleted.",
      needs(.delete), path: [queueName], query: [vhost],
      response: .json(.object([.required("messages", .count, "Messages that were deleted.")])), handler: purge),
    HTTPRoute(
      .post, "/api/v1/queues/{queue}/messages", "Queues",
      "Puts messages into a queue; the answer comes when they are durable. As JSON any number, or one message whose body is "
        + "the request's.", needs(.write), path: [queueName], query: [vhost],
      request: .jsonOrBytes(.object([.required("messages", .list(.object(newMessage), 1...1000))])),
      largestBody: largestMessage, status: .created,
      response: .json(
        .object([.required("outcomes", .array(.words(PublicationRun.outcomes)), "What became of each message.")])),
      use: .producerBytes, handler: publish),
    HTTPRoute(
      .post, "/api/v1/queues/{queue}/get", "Queues",
      "Takes messages. Each has a token, by which it is settled within the time; else it goes back.", needs(.read),
      path: [queueName], query: [vhost],
      request: .json(
        .object([
          .optional("limit", .integer(1...1000), "Most messages (default 1)."),
          .optional("settle", .words(["later", "now"]), "`now`: they are gone with the answer (default `later`)."),
          .optional("timeoutMilliseconds", .integer(1000...3_600_000), "Time to settle them (default 60000)."),
        ])), isBodyOptional: true,
      response: .json(
        .object([
          .required("messages", .array(message)), .required("ready", .count, "Messages that are left."),
        ])), use: .consumerBytes, handler: get),
    HTTPRoute(
      .post, "/api/v1/queues/{queue}/deliveries/{token}", "Queues",
      "Settles a message that was taken: it is done (`ack`), goes back (`requeue`), failed and goes back (`retry`), or is "
        + "discarded, to the dead-letter exchange if there is one (`discard`).",
      needs(.read), path: [queueName, HTTPParameter("token", .text(1...64), "The message's token.")], query: [vhost],
      request: .json(
        .object([.required("settle", .words(["ack", "requeue", "retry", "discard"]))])), status: .noContent,
      response: .nothing, handler: settle),
  ]

  static func write(_ queue: QueueDescription, to json: inout JSONWriter) {
    json.object { json in
      json.name("name")
      json.string(queue.declaration.name)
      json.name("vhost")
      json.string(queue.declaration.virtualHost)
      json.name("type")
      json.string(queue.arguments.type.rawValue)
      json.name("durable")
      json.bool(queue.isDurable)
      json.name("exclusive")
      json.bool(queue.declaration.isExclusive)
      json.name("autoDelete")
      json.bool(queue.declaration.isAutoDelete)
      json.name("arguments")
      queue.declaration.arguments.write(to: &json)
      json.name("ready")
      json.number(queue.length)
      json.name("readyBytes")
      json.number(queue.lengthBytes)
      json.name("unacknowledged")
      json.number(queue.inFlight)
      json.name("delayed")
      json.number(queue.delayed)
      json.name("consumers")
      json.number(queue.consumers)
    }
  }

  /// Calls what may refuse in the terms of queues.
  static func routing<Value>(_ body: () throws(RoutingError) -> Value) throws(HTTPProblem) -> Value {
    do throws(RoutingError) { return try body() } catch { throw HTTPProblem(error) }
  }

  static func described(_ call: HTTPCall) throws(HTTPProblem) -> QueueDescription {
    try routing { () throws(RoutingError) in
      try call.broker.queues.describe(call.path("queue"), in: call.virtualHost, owner: nil)
    }
  }

  static func list(_ call: HTTPCall) throws(HTTPProblem) {
    let limit = Int(call.number("limit") ?? 1000)
    let host = call.virtualHost
    let page = try routing { () throws(RoutingError) in
      try call.broker.queues.list(in: host, after: call.query("after"), limit: limit + 1)
    }
    call.answerObject { json in
      json.name("queues")
      json.array { json in
        for queue in page.prefix(limit)
        where call.allows(.describe, .queue, ResourceName.inVirtualHost(host, queue.declaration.name)) {
          write(queue, to: &json)
        }
      }
      json.name("next")
      if page.count > limit, let last = page.prefix(limit).last {
        json.string(last.declaration.name)
      } else {
        json.null()
      }
    }
  }

  static func show(_ call: HTTPCall) throws(HTTPProblem) {
    let queue = try described(call)
    call.answer { write(queue, to: &$0) }
  }

  static func figures(_ call: HTTPCall) throws(HTTPProblem) {
    let figures = try routing { () throws(RoutingError) in
      try call.broker.queues.figures(of: call.path("queue"), in: call.virtualHost, owner: nil)
    }
    call.answerObject { figures.writeMembers(to: &$0) }
  }

  static func declare(_ call: HTTPCall) throws(HTTPProblem) {
    let body = try call.json()
    func flag(_ name: String, _ standard: Bool) -> Bool {
      if case .bool(let value)? = body?[name] { value } else { standard }
    }
    let (name, host) = (call.path("queue"), call.virtualHost)
    let declaration = QueueDeclaration(
      name: name, virtualHost: host, isDurable: flag("durable", true), isAutoDelete: flag("autoDelete", false),
      arguments: RoutingTable(body?["arguments"]))
    call.broker.queues.declare(declaration, in: host, owner: nil) { result in
      do throws(RoutingError) {
        _ = try result.get()
        let queue = try call.broker.queues.describe(name, in: host, owner: nil)
        call.answer(.created) { write(queue, to: &$0) }
      } catch {
        call.fail(HTTPProblem(error))
      }
    }
  }

  private static func counted(_ call: HTTPCall) -> (Result<Int, RoutingError>) -> Void {
    { result in
      switch result {
      case .success(let count):
        call.answerObject { json in
          json.name("messages")
          json.number(count)
        }
      case .failure(let error): call.fail(HTTPProblem(error))
      }
    }
  }

  static func delete(_ call: HTTPCall) throws(HTTPProblem) {
    _ = try described(call)
    call.broker.queues.delete(
      call.path("queue"), in: call.virtualHost, ifUnused: call.flag("ifUnused"), ifEmpty: call.flag("ifEmpty"),
      owner: nil, completion: counted(call))
  }

  static func purge(_ call: HTTPCall) throws(HTTPProblem) {
    call.broker.queues.purge(call.path("queue"), in: call.virtualHost, owner: nil, completion: counted(call))
  }

  // MARK: Messages

  static func publish(_ call: HTTPCall) throws(HTTPProblem) {
    _ = try described(call)
    try PublicationRun.publish(call, exchange: "", routingKey: call.path("queue"))
  }

  static func get(_ call: HTTPCall) throws(HTTPProblem) {
    let body = try call.json()
    let isNow = body?["settle"]?.string == "now"
    let time = Duration.milliseconds(body?["timeoutMilliseconds"]?.integer ?? 60_000)
    try call.server.taken.take(
      call.path("queue"), in: call.virtualHost, limit: Int(body?["limit"]?.integer ?? 1), bytes: 1 << 20,
      time: isNow ? nil : time
    ) { result in
      switch result {
      case .failure(let problem): call.fail(problem)
      case .success(let taken):
        call.answerObject { json in
          json.name("messages")
          json.array { json in for one in taken.messages { write(one.delivery, one.token, to: &json) } }
          json.name("ready")
          json.number(taken.left)
        }
      }
    }
  }

  private static func write(_ delivery: Delivery, _ token: String?, to json: inout JSONWriter) {
    let message = delivery.message
    json.object { json in
      json.name("token")
      if let token { json.string(token) } else { json.null() }
      json.name("position")
      json.string(delivery.position.description)
      json.name("exchange")
      json.string(message.exchange)
      json.name("routingKey")
      json.string(message.routingKey)
      json.name("redelivered")
      json.bool(delivery.isRedelivered)
      json.name("failures")
      json.number(delivery.deliveryCount)
      json.name("timestamp")
      json.number(message.timestamp.milliseconds)
      json.name("properties")
      PropertyNames.own.write(message.properties, to: &json)
      if let text = message.body.withBuffer({ String(validating: $0, as: UTF8.self) }) {
        json.name("body")
        json.string(text)
      } else {
        json.name("bodyBase64")
        json.string(message.body.withBuffer { Base64.encode($0) })
      }
    }
  }

  static func settle(_ call: HTTPCall) throws(HTTPProblem) {
    let settlement: Settlement =
      switch try call.json()?["settle"]?.string {
      case "requeue": .requeue(isFailure: false)
      case "retry": .requeue(isFailure: true)
      case "discard": .discard
      default: .acknowledge
      }
    try call.server.taken.settle(call.path("token"), of: call.path("queue"), in: call.virtualHost, settlement) {
      error in
      if let error { call.fail(HTTPProblem(error)) } else { call.answerNothing() }
    }
  }
}
