// HTTPRouter: finds the route of a path, literal segments before parameters.

import MillraceHTTPProtocol

/// The routes as a tree of segments.
struct HTTPRouter: Sendable {
  private struct Node: Sendable {
    var literals: [String: Int] = [:]
    var parameter: Int?
    var routes: [HTTPMethod: HTTPRoute] = [:]
  }

  /// What was found.
  enum Match {
    case route(HTTPRoute, parameters: [String])
    /// The path is known, with these methods.
    case otherMethods([HTTPMethod])
    case none
  }

  private var nodes = [Node()]

  /// A tree of routes. Two of one method and path are a bug.
  init(_ routes: [HTTPRoute]) {
    for route in routes {
      var at = 0
      for segment in route.template.dropFirst().split(separator: "/", omittingEmptySubsequences: false) {
        let known = segment.hasPrefix("{") ? nodes[at].parameter : nodes[at].literals[String(segment)]
        if let known {
          at = known
          continue
        }
        nodes.append(Node())
        if segment.hasPrefix("{") {
          nodes[at].parameter = nodes.count - 1
        } else {
          nodes[at].literals[String(segment)] = nodes.count - 1
        }
        at = nodes.count - 1
      }
      precondition(nodes[at].routes[route.method] == nil, "two routes for \(route.method) \(route.template)")
      nodes[at].routes[route.method] = route
    }
  }

  /// The route for a request.
  /// - Complexity: O(segments), for each parameter that a literal could stand for as well twice that.
  func find(_ method: HTTPMethod, _ segments: [String]) -> Match {
    var parameters: [String] = []
    guard let node = find(segments[...], 0, &parameters) else { return .none }
    let routes = nodes[node].routes
    if let route = routes[method] ?? (method == .head ? routes[.get] : nil) {
      return .route(route, parameters: parameters)
    }
    var methods = Array(routes.keys)
    if routes[.get] != nil { methods.append(.head) }
    return .otherMethods((methods + [.options]).sorted { $0.rawValue < $1.rawValue })
  }

  private func find(_ segments: ArraySlice<String>, _ node: Int, _ parameters: inout [String]) -> Int? {
    guard let segment = segments.first else { return nodes[node].routes.isEmpty ? nil : node }
    if let next = nodes[node].literals[segment], let found = find(segments.dropFirst(), next, &parameters) {
      return found
    }
    guard let next = nodes[node].parameter else { return nil }
    parameters.append(segment)
    if let found = find(segments.dropFirst(), next, &parameters) { return found }
    parameters.removeLast()
    return nil
  }
}
