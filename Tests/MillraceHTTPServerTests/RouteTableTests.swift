// RouteTableTests: what the table promises, and the pages made of it.

import Foundation
import MillraceHTTPProtocol
import Testing

@testable import MillraceHTTPServer

@Test("docs/reference/http.md is what the route table says")
func httpReferenceAgrees() throws {
  let page = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "docs/reference/http.md")
  if ProcessInfo.processInfo.environment["MILLRACE_WRITE_DOCS"] != nil {
    try RouteReference.page.write(to: page, atomically: true, encoding: .utf8)
  } else {
    #expect(try String(contentsOf: page, encoding: .utf8) == RouteReference.page)
  }
}

@Test("every route is told apart, says what it is, and is found by its own path")
func everyRoute() throws {
  let router = HTTPRouter(HTTPRouteTable.all)
  var operations: Set<String> = []
  for route in HTTPRouteTable.all {
    #expect(route.summary.hasSuffix("."), "\(route.template)")
    #expect(operations.insert(route.operationID).inserted, "\(route.operationID)")
    let names = Set(route.pathNames)
    #expect(
      names.count == route.pathNames.count && route.path.allSatisfy { names.contains($0.name) }, "\(route.template)")
    if case .needs(let requirements) = route.access {
      for one in requirements {
        switch one.resource {
        case .path(let name), .inVirtualHost(let name): #expect(names.contains(name), "\(route.template)")
        case .cluster: #expect(one.kind == .cluster)
        case .virtualHost: #expect(one.kind == .virtualHost)
        }
      }
    }
    // Nothing but reading goes without permission.
    if case .filtered = route.access { #expect(route.method == .get, "\(route.template)") }
    if route.access == .everybody { #expect(route.template.hasPrefix("/health/")) }
    let segments = route.template.dropFirst().split(separator: "/").map { $0.hasPrefix("{") ? "x%" : String($0) }
    guard case .route(let found, let parameters) = router.find(route.method, segments) else {
      Issue.record("\(route.method) \(route.template) is not found")
      continue
    }
    #expect(found.template == route.template && parameters.count == names.count)
  }
}

@Test("the OpenAPI document is JSON with every route, and each parameter of a path")
func openAPI() throws {
  let document = try #require(
    try JSONSerialization.jsonObject(with: Data(OpenAPIDocument.bytes.array)) as? [String: Any])
  let paths = try #require(document["paths"] as? [String: [String: [String: Any]]])
  #expect(paths.reduce(0) { $0 + $1.value.count } == HTTPRouteTable.all.count)
  for route in HTTPRouteTable.all {
    let operation = try #require(paths[route.template]?[route.method.rawValue.lowercased()])
    let parameters = operation["parameters"] as? [[String: Any]] ?? []
    let named = parameters.filter { $0["in"] as? String == "path" }.compactMap { $0["name"] as? String }
    #expect(named == route.pathNames, "\(route.template)")
    #expect((operation["responses"] as? [String: Any])?["\(route.status.code)"] != nil)
  }
}
