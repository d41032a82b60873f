// QueueBroker+Direct: many messages at a time into one queue that is named, past the exchanges.

import MillraceBase
import MillraceDelivery
import MillraceModel
import MillraceRouting

/// A message for a queue that is named elsewhere. Bytes lie in memory of their own, and are kept as they are.
public struct DirectMessage: Sendable {
  /// What few messages have, in a place of its own.
  public final class Extra: Sendable {
    /// What the properties say.
    public let facts: MessageFacts
    /// Time on the wall clock before which it is not delivered; nil for none.
    public let notBefore: Timestamp?

    /// Facts and a time.
    public init(_ facts: MessageFacts, notBefore: Timestamp?) {
      self.facts = facts
      self.notBefore = notBefore
    }
  }

  /// The body.
  public var body: Bytes
  /// Properties and headers.
  public var properties: Bytes
  /// What is to be known of it beside `isPersistent`; nil when the properties say nothing else.
  public var extra: Extra?
  /// It is to survive a restart.
  public var isPersistent: Bool

  /// A message.
  public init(body: Bytes, properties: Bytes, isPersistent: Bool, extra: Extra? = nil) {
    self.body = body
    self.properties = properties
    self.isPersistent = isPersistent
    self.extra = extra
  }

  /// The message as it is published through an exchange.
  public func publication(to queue: Bytes, in virtualHost: String, format: any MessageFormat) -> Publication {
    var facts = extra?.facts ?? MessageFacts()
    facts.isPersistent = isPersistent
    var publication = Publication(
      virtualHost: virtualHost, exchange: Bytes(), routingKey: queue, format: format, properties: properties,
      body: body, facts: facts)
    publication.notBefore = extra?.notBefore
    publication.isDetached = true
    return publication
  }
}

extension QueueBroker {
  /// Publishes into a queue that memory alone keeps, and that neither refuses nor recognises messages.
  ///
  /// They are in the queue on return.
  /// - Throws: 404 when there is no such queue; 541 when the broker is closed.
  /// - Complexity: O(messages), without a look-up for each.
  public func publish(
    _ messages: ArraySlice<DirectMessage>, to queue: String, in virtualHost: String, format: any MessageFormat
  ) throws(RoutingError) {
    guard isOpen, broker.isOpen else { throw RoutingError(.internalError, "the broker is closed") }
    let hosted = try usable(queue, in: virtualHost, by: nil)
    let options = hosted.queue.options
    precondition(
      !hosted.isDurable && options.overflow == .dropHead && options.deduplicationCount == 0,
      "queue '\(queue)' has to be asked for each message")
    let times = (now: now, exact: exactNow)
    var made: [Message] = []
    made.reserveCapacity(messages.count)
    for message in messages {
      let lane = options.lane(forPriority: message.extra?.facts.priority ?? 0)
      made.append(
        hosted.memory.change(lane) { memory in
          let kept = direct(message, for: hosted, lane: lane, at: memory.end, format, times)
          memory.append(kept)
          return kept
        })
    }
    hosted.meter.arrived(made.count, receivedAt: times.exact, now: times.exact)
    hosted.queue.published(contentsOf: made)
    touched(hosted)
  }

  private func direct(
    _ message: DirectMessage, for hosted: HostedQueue, lane: UInt8, at offset: Offset, _ format: any MessageFormat,
    _ times: (now: Timestamp, exact: MonotonicTime)
  ) -> Message {
    var (notBefore, expiration) = (Timestamp.none, Timestamp.none)
    var group: Bytes?
    if let extra = message.extra {
      if let wall = extra.notBefore { notBefore = due(atWall: wall) }
      if let life = extra.facts.timeToLive {
        expiration = Timestamp(milliseconds: max(times.now, notBefore).milliseconds.addingClamped(max(life, 0)))
      }
      group = hosted.arguments.groupHeader.flatMap { format.header($0, message.properties) }?.detached
    }
    return Message(
      offset: offset, priority: lane, timestamp: times.now, routingKey: hosted.name, properties: message.properties,
      body: message.body, size: message.body.count, expiration: expiration, notBefore: notBefore, groupKey: group,
      isDurable: message.isPersistent, format: format.code, arrivedAt: times.exact)
  }
}
