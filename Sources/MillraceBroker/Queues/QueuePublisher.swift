// QueuePublisher: who publishes and hears what became of it.

import MillraceBase
import MillraceDelivery
import MillraceRouting

/// A channel's publications and their confirms. Belongs to the broker's reactor.
public final class QueuePublisher {
  /// The queue that the latest publication went to, and to none else, through the default exchange.
  /// An object, so that one count goes up and down with a message and not one for each part.
  final class Latest {
    let hosted: HostedQueue
    let routingKey: Bytes
    let routingKeyText: String
    let formatCode: UInt8

    init(hosted: HostedQueue, routingKey: Bytes, routingKeyText: String, formatCode: UInt8) {
      self.hosted = hosted
      self.routingKey = routingKey
      self.routingKeyText = routingKeyText
      self.formatCode = formatCode
    }
  }

  // Strong, because an unowned one would be counted up and down with every message. The broker keeps no publisher for longer
  // than a turn and a flush.
  let queues: QueueBroker
  private let onSettled: (_ tags: [UInt64], _ isAccepted: Bool) -> Void
  /// To be told at the end of the turn: publications that memory keeps, and those that were refused.
  var accepted: [UInt64] = []
  var refused: [UInt64] = []
  private var isListed = false
  private var latest: Latest?

  /// - Parameter onSettled: gets publications that are durable, or in memory when no durable queue took them; or refused.
  ///   Never called inside ``publish(_:tag:)``.
  public init(_ queues: QueueBroker, onSettled: @escaping (_ tags: [UInt64], _ isAccepted: Bool) -> Void) {
    self.queues = queues
    self.onSettled = onSettled
  }

  /// Publishes a message.
  /// - Parameter tag: given to `onSettled`; 0 when nobody wants to know.
  /// - Returns: the number of queues that it goes to. When it is 0 nothing is told.
  /// - Throws: 403, 404, 530 as ``Routing/route(to:in:key:extraKeys:allowsInternal:headers:property:random:into:)``;
  ///   506 when it cannot be kept whole.
  public func publish(_ publication: Publication, tag: UInt64) throws(RoutingError) -> Int {
    let count = try queues.publish(publication, tag == 0 ? nil : (self, tag))
    if count == 1, publication.exchange.isEmpty, publication.facts.extraKeys.isEmpty { remember(publication) }
    return count
  }

  private func remember(_ publication: Publication) {
    if let latest, latest.routingKey == publication.routingKey, !latest.hosted.isDeleted { return }
    let key = publication.routingKey.text
    guard let hosted = queues.find(key, in: publication.virtualHost), hosted.isPlain else { return }
    latest = Latest(
      hosted: hosted, routingKey: publication.routingKey.detached, routingKeyText: key,
      formatCode: publication.format.code)
  }

  /// Forgets where the latest publication went, because the next one may not go there any more: it is to be published with
  /// ``publish(_:tag:)``.
  public func forgetLatest() { latest = nil }

  // MARK: the same queue again

  /// Whether a publication with these names, parts of two runs of bytes, goes where the latest one went, which then takes
  /// ``publish(properties:body:isPersistent:priority:tag:)``. Format and virtual host are a publisher's own, and do not change.
  /// - Complexity: O(bytes of the names), without a look-up.
  public func goes(exchange: Bytes, _ exchangeRange: Range<Int>, key: Bytes, _ keyRange: Range<Int>) -> Bool {
    guard let latest, exchangeRange.isEmpty, latest.routingKey.count == keyRange.count else { return false }
    guard !latest.hosted.isDeleted, queues.isOpen, queues.broker.isOpen else {
      self.latest = nil
      return false
    }
    return key.withBuffer { key in
      latest.routingKey.withBuffer { $0.elementsEqual(key[keyRange]) }
    }
  }

  /// Whether that queue is kept in memory alone: what is published to it is settled on return.
  public var isInMemory: Bool { latest.map { !$0.hosted.isDurable } ?? false }

  /// Publishes to where the latest publication went. What is small is copied.
  /// - Parameter tag: as for ``publish(_:tag:)``.
  /// - Returns: false when it has to be published with ``publish(_:tag:)``; nothing has happened then.
  public func publish(properties: Bytes, body: Bytes, isPersistent: Bool, priority: UInt8, tag: UInt64) -> Bool {
    guard let latest else { return false }
    return queues.publish(
      properties: properties, body: body, isPersistent: isPersistent, priority: priority, to: latest,
      tag == 0 ? nil : (self, tag))
  }

  func settle(_ tag: UInt64, _ isAccepted: Bool) { settle(tag...tag, isAccepted) }

  func settle(_ tags: ClosedRange<UInt64>, _ isAccepted: Bool) {
    if isAccepted { accepted += tags } else { refused += tags }
    if isListed { return }
    isListed = true
    queues.tellAtEndOfTurn(self)
  }

  func tell() {
    isListed = false
    let (accepted, refused) = (self.accepted, self.refused)
    self.accepted = []
    self.refused = []
    if !accepted.isEmpty { onSettled(accepted, true) }
    if !refused.isEmpty { onSettled(refused, false) }
  }
}
