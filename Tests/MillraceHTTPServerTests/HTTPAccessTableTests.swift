// HTTPAccessTableTests: every route against what the table says that it needs: refused without, told to the audit, nothing changed.

import Foundation
import MillraceBroker
import MillraceHTTPProtocol
import MillraceSecurity
import Testing

@testable import MillraceHTTPServer

extension HTTPRoute {
  fileprivate var label: String { "\(method.rawValue) \(template)" }

  /// The path with `t` for each of its parameters, and 0 where a number is wanted.
  fileprivate var example: String {
    template.split(separator: "/", omittingEmptySubsequences: false).map { part in
      guard part.hasPrefix("{") else { return String(part) }
      return part.contains("partition") ? "0" : part.contains("vhost") ? "%2F" : "t"
    }.joined(separator: "/")
  }

  /// Everything that must be allowed, with the names of the example.
  fileprivate var rules: [AccessRule] {
    guard case .needs(let requirements) = access else { return [] }
    return requirements.map { one in
      let name =
        switch one.resource {
        case .cluster: ResourceName.cluster
        case .path: "t"
        case .inVirtualHost: ResourceName.inVirtualHost("/", "t")
        case .virtualHost: "/"
        }
      return AccessRule(ResourcePattern(one.kind, name), .anonymous, one.operation)
    }
  }
}

private func route(_ label: String) throws -> HTTPRoute {
  try #require(HTTPRouteTable.all.first { $0.label == label })
}

private func world() throws -> HTTPWorld {
  let world = try HTTPWorld()
  try world.topic("t")
  world.broker.access.isExposed = true
  return world
}

@Test(
  "a request without what its route needs is refused, and the audit is told", arguments: HTTPRouteTable.all.map(\.label)
)
func everyRouteIsRefused(_ label: String) throws {
  let route = try route(label)
  guard !route.rules.isEmpty else { return }
  let world = try world()
  var denials: [AccessControl.Decision] = []
  world.broker.access.onDecision = { denials.append($0) }
  // Before anything of the body is looked at.
  let answer = world.connect().ask(route.method.rawValue, route.example, route.request == nil ? nil : "{}")
  #expect(answer?.status == 403, "\(String(describing: answer))")
  #expect(denials.contains { !$0.isAllowed && $0.principal == .anonymous })
  #expect(world.broker.topic("t") != nil && world.broker.rules().isEmpty)
}

@Test("with what its route needs, and no more, a request is not refused", arguments: HTTPRouteTable.all.map(\.label))
func everyRouteIsServed(_ label: String) throws {
  let route = try route(label)
  // What waits for events answers with its first one alone.
  if case .events = route.response { return }
  let world = try world()
  var rules = route.rules
  // Where a binding ends is asked for by the handler, which knows whether that is a queue, an exchange or a topic.
  if route.template.contains("{destination}") {
    rules.append(AccessRule(ResourcePattern(.topic, "t"), .anonymous, .write))
  }
  var isDone = rules.isEmpty
  if !isDone { world.broker.changeRules(adding: rules) { _ in isDone = true } }
  #expect(world.world.run(until: { isDone }))
  let answer = world.connect().ask(route.method.rawValue, route.example, route.request == nil ? nil : "{}")
  // What the example asks for may not be there, or make no sense, or be what nobody may do; but it is not for want of a rule.
  let isDenied = answer?.status == 401 || (answer?.json["type"] as? String)?.hasSuffix("forbidden") == true
  #expect(answer != nil && !isDenied, "\(answer?.body ?? "")")
}

@Test("a list holds what may be described, and nothing else")
func listsAreFiltered() throws {
  let world = try world()
  let before = world.connect().ask("GET", "/api/v1/topics")
  #expect(before?.status == 200 && (before?.json["topics"] as? [Any])?.isEmpty == true)
  var isDone = false
  world.broker.changeRules(adding: [AccessRule(.init(.topic, "t"), .anonymous, .describe)]) { _ in isDone = true }
  #expect(world.world.run(until: { isDone }))
  #expect((world.connect().ask("GET", "/api/v1/topics")?.json["topics"] as? [Any])?.count == 1)
}

@Test("only health is for everybody")
func openRoutes() {
  let open = HTTPRouteTable.all.filter { $0.access == .everybody }.map(\.template).sorted()
  #expect(open == ["/health/live", "/health/ready"])
}
