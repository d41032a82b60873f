// OpenAPIDocument: the route table as an OpenAPI 3.1 document.

import MillraceBase
import MillraceHTTPProtocol

enum OpenAPIDocument {
  /// The document; made once.
  static let bytes = Bytes(made)

  private static var made: [UInt8] {
    var json = JSONWriter()
    json.object { json in
      json.name("openapi")
      json.string("3.1.0")
      json.name("info")
      json.object { json in
        json.name("title")
        json.string("Millrace")
        json.name("version")
        json.string("1")
        json.name("description")
        json.string(
          "Topics, records, queues and groups of a Millrace server over HTTP. Below /api, without a version, are the routes "
            + "of RabbitMQ's management API that its tools use.")
      }
      json.name("paths")
      json.object { json in
        var templates: [String] = []
        var byTemplate: [String: [HTTPRoute]] = [:]
        for route in HTTPRouteTable.all {
          if byTemplate[route.template] == nil { templates.append(route.template) }
          byTemplate[route.template, default: []].append(route)
        }
        for template in templates {
          json.name(template)
          json.object { json in
            for route in byTemplate[template] ?? [] { write(route, to: &json) }
          }
        }
      }
      json.name("components")
      json.object { json in
        json.name("schemas")
        json.object { json in
          json.name("Problem")
          HTTPProblem.schema.write(to: &json)
        }
        json.name("responses")
        json.object { json in
          json.name("Problem")
          json.object { json in
            json.name("description")
            json.string("Why it was not done (RFC 9457).")
            json.name("content")
            json.object { json in
              json.name("application/problem+json")
              json.object { json in
                json.name("schema")
                json.object { json in
                  json.name("$ref")
                  json.string("#/components/schemas/Problem")
                }
              }
            }
          }
        }
        json.name("securitySchemes")
        json.object { json in
          json.name("basic")
          json.object { json in
            json.name("type")
            json.string("http")
            json.name("scheme")
            json.string("basic")
          }
        }
      }
    }
    return json.bytes
  }

  private static func write(_ route: HTTPRoute, to json: inout JSONWriter) {
    json.name(route.method.rawValue.lowercased())
    json.object { json in
      json.name("operationId")
      json.string(route.operationID)
      json.name("tags")
      json.array { json in json.string(route.group) }
      json.name("summary")
      json.string(route.summary)
      if !route.pathNames.isEmpty || !route.query.isEmpty {
        json.name("parameters")
        json.array { json in
          for name in route.pathNames {
            let known = route.path.first { $0.name == name }
            write(HTTPParameter(name, known?.schema ?? .name, known?.text ?? ""), "path", to: &json)
          }
          for parameter in route.query { write(parameter, "query", to: &json) }
        }
      }
      if let request = route.request {
        json.name("requestBody")
        json.object { json in
          json.name("required")
          json.bool(!route.isBodyOptional)
          json.name("content")
          write(request, to: &json)
        }
      }
      if route.access != .everybody {
        json.name("security")
        json.array { json in
          json.object { _ in }
          json.object { json in
            json.name("basic")
            json.array { _ in }
          }
        }
      }
      json.name("responses")
      json.object { json in
        json.name("\(route.status.code)")
        json.object { json in
          json.name("description")
          json.string("Done.")
          if case .nothing = route.response { return }
          json.name("content")
          write(route.response, to: &json)
        }
        if route.template == "/health/ready" {
          json.name("503")
          json.object { json in
            json.name("description")
            json.string("Not ready.")
            json.name("content")
            write(route.response, to: &json)
          }
        }
        json.name("default")
        json.object { json in
          json.name("$ref")
          json.string("#/components/responses/Problem")
        }
      }
    }
  }

  private static func write(_ parameter: HTTPParameter, _ place: String, to json: inout JSONWriter) {
    json.object { json in
      json.name("name")
      json.string(parameter.name)
      json.name("in")
      json.string(place)
      if place == "path" {
        json.name("required")
        json.bool(true)
      }
      if !parameter.text.isEmpty {
        json.name("description")
        json.string(parameter.text)
      }
      json.name("schema")
      parameter.schema.write(to: &json)
    }
  }

  private static func write(_ content: HTTPContent, to json: inout JSONWriter) {
    json.object { json in
      func part(_ type: String, _ schema: HTTPSchema?) {
        json.name(type)
        json.object { json in
          guard let schema else { return }
          json.name("schema")
          schema.write(to: &json)
        }
      }
      switch content {
      case .json(let schema): part("application/json", schema)
      case .jsonOrBytes(let schema):
        part("application/json", schema)
        part("application/octet-stream", nil)
      case .bytes: part("application/octet-stream", nil)
      case .text: part("text/plain", .string)
      case .events: part("text/event-stream", .string)
      case .nothing: break
      }
    }
  }
}

extension HTTPRoute {
  /// A name for the operation: the method and the words of the path.
  var operationID: String {
    let words = template.split { !$0.isLetter && !$0.isNumber && $0 != "_" }.map(String.init)
    return ([method.rawValue.lowercased()] + words).joined(separator: "_")
  }
}
