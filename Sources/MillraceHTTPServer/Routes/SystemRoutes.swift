// SystemRoutes: health, metrics, the description of the API, and the server itself.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol

enum SystemRoutes {
  static let health = HTTPSchema.object([
    .required("status", .words(["live", "ready", "unready"]), "How things stand."),
    .required("reasons", .array(.string), "Why it is not ready, in words."),
  ])

  static let all: [HTTPRoute] = [
    HTTPRoute(
      .get, "/health/live", "Health", "The program runs and its main thread answers.", .everybody,
      response: .json(health), handler: live),
    HTTPRoute(
      .get, "/health/ready", "Health",
      "The server takes records and messages: 503 while it closes, after a failed flush, while the disk is nearly full, and "
        + "while the journal has no room.",
      .everybody, response: .json(health), handler: ready),
    HTTPRoute(
      .get, "/metrics", "Health", "All metrics in Prometheus' text format 0.0.4.",
      .needs([HTTPRequirement(.describe, .cluster, .cluster)]), takesMoreQuery: true, response: .text,
      isTimed: false, handler: metrics),
    HTTPRoute(
      .get, "/api/v1/openapi.json", "Server", "This API as an OpenAPI 3.1 document.", .filtered(.describe, .cluster),
      response: .json(.open([])), handler: openAPI),
    HTTPRoute(
      .get, "/api/v1/server", "Server", "Which server this is and since when it runs.",
      .needs([HTTPRequirement(.describe, .cluster, .cluster)]),
      response: .json(
        .object([
          .required("clusterId", .string), .required("leaderEpoch", .count, "The number of this start."),
          .required("uptimeSeconds", .number), .required("topics", .count), .required("dataDirectory", .string),
          .required("user", .string, "As whom the server knows the client."),
        ])), handler: server),
  ]

  static func live(_ call: HTTPCall) { write("live", [], .ok, call) }

  static func ready(_ call: HTTPCall) {
    let reasons = call.server.readiness
    write(reasons.isEmpty ? "ready" : "unready", reasons, reasons.isEmpty ? .ok : .unavailable, call)
  }

  private static func write(_ status: String, _ reasons: [String], _ code: HTTPStatus, _ call: HTTPCall) {
    call.answerObject(code) { json in
      json.name("status")
      json.string(status)
      json.name("reasons")
      json.array { json in for reason in reasons { json.string(reason) } }
    }
  }

  static func metrics(_ call: HTTPCall) {
    let pieces = MetricsText(call.server)
    call.stream("text/plain; version=0.0.4; charset=utf-8") { pieces.next() }
  }

  static func openAPI(_ call: HTTPCall) { call.answer(.ok, "application/json", OpenAPIDocument.bytes) }

  static func server(_ call: HTTPCall) {
    let broker = call.broker
    call.answerObject { json in
      json.name("clusterId")
      json.string(broker.clusterID)
      json.name("leaderEpoch")
      json.number(broker.leaderEpoch)
      json.name("uptimeSeconds")
      json.number(Double(broker.uptime.inMilliseconds) / 1000)
      json.name("topics")
      json.number(broker.topics.count)
      json.name("dataDirectory")
      json.string(broker.dataDirectory)
      json.name("user")
      json.string(call.principal.name)
    }
  }
}

extension HTTPServer {
  /// Why the server does not take records and messages now; empty when it does.
  var readiness: [String] {
    if isClosing { return ["the server is closing"] }
    guard broker.isOpen else { return ["the journal could not be made durable, or the broker is closed"] }
    var reasons: [String] = []
    if broker.isSpaceLow { reasons.append("the disk is nearly full: records are refused") }
    if let pressure = broker.queues.pressure { reasons.append("publishers have to wait: \(pressure)") }
    return reasons
  }
}
