// DefinitionRoutes: everything that is declared, out of one server and into another.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceSecurity

enum DefinitionRoutes {
  static let reads = HTTPAccess.needs([
    HTTPRequirement(.describe, .cluster, .cluster), HTTPRequirement(.describeConfigs, .cluster, .cluster),
  ])
  static let writes = HTTPAccess.needs([
    HTTPRequirement(.create, .cluster, .cluster), HTTPRequirement(.alter, .cluster, .cluster),
    HTTPRequirement(.alterConfigs, .cluster, .cluster),
  ])

  static let all: [HTTPRoute] = [
    HTTPRoute(
      .get, "/api/v1/definitions", "Definitions",
      "All virtual hosts, exchanges, durable queues, bindings, topics, settings, users, permissions and rules, in RabbitMQ's shape of "
        + "definitions. No passwords, nor what is kept of them.",
      reads, response: .json(Definitions.schema), handler: export),
    HTTPRoute(
      .post, "/api/v1/definitions", "Definitions",
      "Makes what a document of definitions says; what is there and the same stays. Stops behind the first part in which "
        + "anything is refused.",
      writes, request: .json(Definitions.schema),
      response: .json(
        .object([
          .required("taken", .map(.count), "Entries by part."),
          .required(
            "skipped", .map(.count), "Entries that were passed over, by part: policies, parameters, topic permissions."
          ),
          .required(
            "withoutPassword", .array(.string),
            "Users who have no password now, because the document has a hash of RabbitMQ's that cannot be used."),
        ])), handler: take),
  ]

  static func export(_ call: HTTPCall) throws(HTTPProblem) {
    var json = JSONWriter()
    try Definitions.write(call.broker, to: &json)
    call.answer(.ok, "application/json", Bytes(json.bytes))
  }

  static func take(_ call: HTTPCall) throws(HTTPProblem) {
    guard let document = try call.json() else { return }
    DefinitionsImport(call, document, host: "/").run { result in
      switch result {
      case .failure(let problem): call.fail(problem)
      case .success(let outcome):
        call.answerObject { json in
          for (name, counts) in [("taken", outcome.counts), ("skipped", outcome.skipped)] {
            json.name(name)
            json.object { json in
              for (part, count) in counts {
                json.name(part)
                json.number(count)
              }
            }
          }
          json.name("withoutPassword")
          json.array { json in for name in outcome.withoutPassword { json.string(name) } }
        }
      }
    }
  }
}
