// QueueBroker+Lists: queues, exchanges and bindings of a virtual host, page by page, for who administers them.

import MillraceDelivery
import MillraceRouting

/// Some of a virtual host's bindings.
public struct BindingPage {
  /// By exchange, then in the order in which they were made; those of the default exchange are not among them.
  public var bindings: [Binding] = []
  /// The exchange of the last one, and how many of its bindings were listed up to there; nil at the end.
  public var next: (exchange: String, count: Int)?
}

extension QueueBroker {
  /// Queues in the order of their names' bytes, exclusive ones included; topics, which are streams, are not among them.
  /// - Parameters:
  ///   - after: only names behind this one.
  ///   - limit: most queues, at least 1.
  /// - Throws: 530 without such a virtual host.
  /// - Complexity: O(queues · log limit).
  public func list(
    in virtualHost: String, after: String?, limit: Int
  ) throws(RoutingError) -> [QueueDescription] {
    guard hasVirtualHost(virtualHost) else { throw RoutingError.noVirtualHost(virtualHost) }
    // Only the smallest names are kept: to sort all of them for each page would take longer the more there are.
    var page: [HostedQueue] = []
    for hosted in queues.values where hosted.virtualHost.utf8.elementsEqual(virtualHost.utf8) {
      if let after, !QueueBroker.precedes(after, hosted.name) { continue }
      if page.count == limit, let last = page.last, !QueueBroker.precedes(hosted.name, last.name) { continue }
      var (low, high) = (0, page.count)
      while low < high {
        let middle = (low + high) / 2
        if QueueBroker.precedes(page[middle].name, hosted.name) { low = middle + 1 } else { high = middle }
      }
      page.insert(hosted, at: low)
      if page.count > limit { page.removeLast() }
    }
    return page.map { describe($0) }
  }

  func describe(_ hosted: HostedQueue) -> QueueDescription {
    QueueDescription(
      declaration: hosted.declaration, arguments: hosted.arguments, length: hosted.queue.length,
      lengthBytes: hosted.queue.lengthBytes, inFlight: hosted.queue.inFlightCount, delayed: hosted.queue.delayedCount,
      consumers: hosted.queue.consumerCount)
  }

  /// Exchanges in the order of their names' bytes, the default one first.
  /// - Parameters: as of ``list(in:after:limit:)``.
  /// - Throws: 530 without such a virtual host.
  /// - Complexity: O(exchanges · log exchanges).
  public func exchanges(in virtualHost: String, after: String?, limit: Int) throws(RoutingError) -> [Exchange] {
    guard hasVirtualHost(virtualHost) else { throw RoutingError.noVirtualHost(virtualHost) }
    let all = routing.exchanges(in: virtualHost)
    guard let after else { return Array(all.prefix(limit)) }
    return Array(all.drop { !QueueBroker.precedes(after, $0.name) }.prefix(limit))
  }

  /// Bindings from where `next` of the page before says; what is bound or unbound meanwhile may be missing, or come twice.
  /// - Throws: 530 without such a virtual host.
  /// - Complexity: O(exchanges · log exchanges + bindings of the exchanges that the page touches).
  public func bindings(
    in virtualHost: String, from: (exchange: String, count: Int)?, limit: Int
  ) throws(RoutingError) -> BindingPage {
    var page = BindingPage()
    var isFirst = true
    for exchange in try exchanges(in: virtualHost, after: nil, limit: .max) {
      if let from, QueueBroker.precedes(exchange.name, from.exchange) { continue }
      let skipped = isFirst && from?.exchange.utf8.elementsEqual(exchange.name.utf8) == true ? from?.count ?? 0 : 0
      isFirst = false
      let all = routing.bindings(from: exchange.name, in: virtualHost)
      let part = all.dropFirst(max(0, skipped)).prefix(limit - page.bindings.count)
      page.bindings += part
      if page.bindings.count == limit {
        page.next = (exchange.name, max(0, skipped) + part.count)
        break
      }
    }
    return page
  }

  private static func precedes(_ left: String, _ right: String) -> Bool {
    left.utf8.lexicographicallyPrecedes(right.utf8)
  }
}
