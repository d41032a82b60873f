// QueuePublisher: who publishes and hears what became of it.

import MillraceRouting

/// A channel's publications and their confirms. Belongs to the broker's reactor.
public final class QueuePublisher {
  unowned let queues: QueueBroker
  private let onSettled: (_ tags: [UInt64], _ isAccepted: Bool) -> Void
  /// To be told at the end of the turn: publications that memory keeps, and those that were refused.
  var accepted: [UInt64] = []
  var refused: [UInt64] = []
  private var isListed = false

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
    try queues.publish(publication, tag == 0 ? nil : (self, tag))
  }

  func settle(_ tag: UInt64, _ isAccepted: Bool) {
    if isAccepted { accepted.append(tag) } else { refused.append(tag) }
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
