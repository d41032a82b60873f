// AMQPChannel+Access: what a channel's client may do; what each method needs stands in docs/reference/permissions.md.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceRouting

/// The exchanges that a channel was found to be allowed to publish to, for as long as that is sure to hold.
struct PublishRights {
  private var version: UInt64?
  private var exchanges: Set<ShortString> = []
  /// Exchanges that are remembered; more, and all are forgotten.
  private static let mostExchanges = 1000

  /// Whether nothing has changed since this was asked with ``renew(_:)`` last.
  func holds(_ session: ClientSession) -> Bool { version == session.version }

  /// Begins anew when rights have changed.
  /// - Returns: whether they have.
  mutating func renew(_ session: ClientSession) -> Bool {
    guard version != session.version else { return false }
    version = session.version
    exchanges.removeAll(keepingCapacity: true)
    return true
  }

  func contains(_ exchange: ShortString) -> Bool { exchanges.contains(exchange) }

  mutating func insert(_ exchange: ShortString) {
    if exchanges.count >= PublishRights.mostExchanges { exchanges.removeAll(keepingCapacity: true) }
    // Names lie in what was received with them.
    exchanges.insert(exchange.copied)
  }
}

extension AMQPChannel {
  /// The client's rights in the connection's virtual host.
  private var access: QueueAccess { QueueAccess(connection.session, queues, in: virtualHost) }

  /// - Throws: the channel error for what `body` throws.
  func permitted(_ body: (QueueAccess) throws(RoutingError) -> Void) throws(AMQPError) {
    do throws(RoutingError) {
      try body(access)
    } catch {
      throw AMQPError(error)
    }
  }

  /// Ends consumers of queues that the client may not read any more; what they have can still be settled.
  func recheckConsumers() {
    guard !connection.session.isUnrestricted else { return }
    for (tag, consumer) in consumers.sorted(by: { $0.key < $1.key }) {
      guard let held = consumer.queueConsumer, !access.seesQueue(.read, held.queue) else { continue }
      do throws(RoutingError) {
        // Once more for the audit.
        try access.requireQueue(.read, held.queue)
      } catch {
        consumers[tag] = nil
        held.cancel()
        if connection.capabilities.cancelNotify { write(BasicCancel(consumerTag: tag, noWait: true)) }
      }
    }
  }

  /// - Throws: 403 when the client may not publish to the exchange.
  func requirePublishing(to exchange: ShortString) throws(AMQPError) {
    let session = connection.session
    if publishRights.renew(session) { publisher?.forgetLatest() }
    if session.isUnrestricted || publishRights.contains(exchange) { return }
    try permitted { access throws(RoutingError) in try access.requireExchange(.write, exchange.text) }
    publishRights.insert(exchange)
  }
}
