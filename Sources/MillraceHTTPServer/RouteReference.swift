// RouteReference: the route table as a page for people: docs/reference/http.md.

import MillraceHTTPProtocol

/// Makes the page.
public enum RouteReference {
  /// The page in Markdown.
  public static var page: String {
    var out = """
      # HTTP API

      Made from the route table (`Sources/MillraceHTTPServer/HTTPRouteTable.swift`);
      `MILLRACE_WRITE_DOCS=1 swift test --filter httpReferenceAgrees` writes this page. The same as OpenAPI 3.1:
      `GET /api/v1/openapi.json`. How to use it: [guides/http.md](../guides/http.md).

      *Needs* is what must be allowed for the request. Refusals are `application/problem+json` (RFC 9457).

      """
    var group = ""
    for route in HTTPRouteTable.all {
      if route.group != group {
        group = route.group
        out += "\n## \(group)\n"
      }
      out += "\n### `\(route.method.rawValue) \(route.template)`\n\n\(route.summary)\n\n"
      out += "- Needs: \(words(route.access))\n"
      let path = route.path.filter { parameter in route.pathNames.contains(parameter.name) }
      for (place, parameters) in [("Path", path), ("Query", route.query)] {
        for one in parameters { out += "- \(place) `\(one.name)` (\(one.schema.words)): \(one.text)\n" }
      }
      if let request = route.request {
        out += "- Takes: \(words(request))\(route.isBodyOptional ? ", or nothing" : "")\n"
      }
      out += "- Answers: \(route.status.code)\(answer(route.response))\n"
    }
    return out
  }

  private static func words(_ access: HTTPAccess) -> String {
    switch access {
    case .everybody: "nothing, not even credentials"
    case .filtered(let operation, let kind): "`\(operation.word)` on each \(kind.word) that is shown"
    case .needs(let all):
      all.map { one in
        let name =
          switch one.resource {
          case .cluster: "the cluster"
          case .path(let name): "\(one.kind.word) `{\(name)}`"
          case .inVirtualHost(let name): "\(one.kind.word) `{vhost}/{\(name)}`"
          case .virtualHost: "vhost `{vhost}`"
          }
        return "`\(one.operation.word)` on \(name)"
      }.joined(separator: ", ")
    }
  }

  private static func words(_ content: HTTPContent) -> String {
    switch content {
    case .json(let schema): "JSON, \(schema.words)"
    case .jsonOrBytes(let schema): "JSON, \(schema.words); with any other content type, bytes"
    case .bytes: "bytes"
    case .text: "text"
    case .events: "server-sent events"
    case .nothing: "nothing"
    }
  }

  private static func answer(_ content: HTTPContent) -> String {
    if case .nothing = content { return "" }
    return " with \(words(content))"
  }
}
