// Support: what the tests of routing share: a virtual host to play with, and a naive reading of topic patterns.

import MillraceBase

@testable import MillraceRouting

/// Routing with short ways to say things; everything happens in the virtual host `/`.
struct Playground {
  var routing = Routing()
  var random = SeededRandom(seed: 1)
  var result = RouteResult()

  mutating func declare(
    _ name: String, _ type: String, durable: Bool = true, autoDelete: Bool = false, isInternal: Bool = false,
    _ arguments: RoutingTable = .empty
  ) throws(RoutingError) {
    let exchange = try Exchange(
      name: name, type: type, isDurable: durable, isAutoDelete: autoDelete, isInternal: isInternal,
      arguments: arguments)
    if case .new = try routing.checkDeclare(exchange, in: "/") { routing.applyDeclare(exchange, in: "/") }
  }

  mutating func bind(
    _ source: String, _ destination: Destination, _ key: String = "", _ arguments: RoutingTable = .empty,
    queue state: Routing.DestinationState = .durable
  ) throws(RoutingError) {
    let binding = Binding(source: source, destination: destination, key: key, arguments: arguments)
    if case .new(let isDurable) = try routing.checkBind(binding, to: state, in: "/") {
      routing.applyBind(binding, isDurable: isDurable, in: "/")
    }
  }

  mutating func remove(_ cause: RoutingRemoval.Cause) {
    if let removal = routing.removal(of: cause, in: "/") { routing.apply(removal, in: "/") }
  }

  mutating func unbind(_ source: String, _ destination: Destination, _ key: String = "") {
    remove(.binding(Binding(source: source, destination: destination, key: key)))
  }

  /// The names of where a message goes, in order.
  mutating func route(
    _ exchange: String, _ key: String = "", extra: [String] = [], headers: @autoclosure () -> RoutingTable = .empty,
    property: (MessageProperty) -> Bytes? = { _ in nil }
  ) throws(RoutingError) -> [String] {
    try routing.route(
      to: Bytes(exchange), in: "/", key: Bytes(key), extraKeys: extra.map { Bytes($0) }, headers: { headers() },
      property: property, random: &random, into: &result)
    return result.destinations.map(\.name)
  }

  var names: [String] { routing.exchanges(in: "/").map(\.name).filter { !Exchange.isReserved($0) } }
}

/// What `body` is refused with, nil when it is not.
func refusal(_ body: () throws(RoutingError) -> Void) -> String? {
  do throws(RoutingError) { try body() } catch { return error.description }
  return nil
}

/// A topic pattern against a key, by the definition.
func naiveMatch(_ pattern: String, _ key: String) -> Bool {
  func words(_ text: String) -> [Substring] {
    text.isEmpty ? [] : text.split(separator: ".", omittingEmptySubsequences: false)
  }
  func fits(_ pattern: ArraySlice<Substring>, _ key: ArraySlice<Substring>) -> Bool {
    guard let first = pattern.first else { return key.isEmpty }
    if first == "#" { return fits(pattern.dropFirst(), key) || (!key.isEmpty && fits(pattern, key.dropFirst())) }
    guard let word = key.first else { return false }
    return (first == "*" || first == word) && fits(pattern.dropFirst(), key.dropFirst())
  }
  return fits(words(pattern)[...], words(key)[...])
}
