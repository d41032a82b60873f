// Routing+Route: publishing to an exchange.

import MillraceBase

extension Routing {
  /// Finds where a message goes.
  ///
  /// The default exchange leads to the queue that the key names, whether or not it exists: look each destination up. On
  /// return `result` holds the routes and nothing of what it held before. Only the owner may call this.
  /// - Parameters:
  ///   - exchange: name of the exchange that is published to; empty for the default exchange.
  ///   - virtualHost: the virtual host.
  ///   - key: the routing key; longer than 255 bytes only from callers that are no AMQP clients.
  ///   - extraKeys: the keys of the headers CC and BCC; direct and topic exchanges and the default exchange look at each.
  ///   - allowsInternal: whether the exchange may be internal, as for dead letters; clients may not.
  ///   - headers: the message's headers; called at most once, and only when a headers exchange, or a consistent-hash
  ///     exchange with `hash-header`, asks.
  ///   - property: a property's bytes; called only when a consistent-hash exchange with `hash-property` asks.
  ///   - random: what exchanges of type `x-random` choose with.
  ///   - result: where the routes are put.
  /// - Throws: 404 when there is no such exchange, 403 when it is internal, 530 when there is no such virtual host.
  /// - Complexity: direct, fanout: O(matches); topic: O(words × nodes that fit so far); headers, consistent hash:
  ///   O(bindings). Allocates nothing once its memory has grown, except text of a queue's name on the default exchange.
  public mutating func route(
    to exchange: Bytes, in virtualHost: String, key: Bytes, extraKeys: [Bytes] = [], allowsInternal: Bool = false,
    headers: () -> RoutingTable = { .empty }, property: (MessageProperty) -> Bytes? = { _ in nil },
    random: inout SeededRandom, into result: inout RouteResult
  ) throws(RoutingError) {
    result.routes.removeAll(keepingCapacity: true)
    let host = Int(hostNumbers.find(virtualHost))
    if host < 0 { throw .noVirtualHost(virtualHost) }
    try hosts[host]!.route(
      to: exchange, allowsInternal: allowsInternal, MessageView(key: key, extraKeys: extraKeys), headers: headers,
      property: property, random: &random, into: &result)
  }
}
