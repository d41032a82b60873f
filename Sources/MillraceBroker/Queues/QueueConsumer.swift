// QueueConsumer: one consumer's hold on a queue: a base for queues with rules of their own and for topics that are read.

import MillraceBase
import MillraceDelivery
import MillraceModel

/// A consumer of one queue, from its registration until it is closed. Belongs to the broker's reactor.
public class QueueConsumer {
  /// Why the broker ended a consumer.
  public enum EndReason: Sendable {
    /// The queue was deleted.
    case queueDeleted
    /// A delivery was not settled in time, and was taken back.
    case timedOut
  }

  /// The queue's name.
  public let queue: String
  /// The queue's virtual host.
  public let virtualHost: String
  /// What kind of queue it is.
  public let queueType: QueueType
  /// The protocol server's name for it.
  public var tag = ""
  /// Time in which it has to settle a delivery; nil for none.
  public var timeout: Duration? { ownTimeout }
  let ownTimeout: Duration?
  let pool: CreditPool?
  let isPassive: Bool
  weak var sink: (any DeliverySink)?
  unowned let queues: QueueBroker
  var isClosed = false

  init(
    of queue: String, in virtualHost: String, type: QueueType, options: ConsumerOptions, sink: any DeliverySink,
    queues: QueueBroker
  ) {
    self.queue = queue
    self.virtualHost = virtualHost
    queueType = type
    pool = options.pool
    isPassive = options.isPassive
    ownTimeout = options.timeout
    self.sink = sink
    self.queues = queues
  }

  /// Settles a delivery. Takes effect at once, and is durable with the end of the turn's commit.
  /// - Returns: false when it is not in flight with this consumer, or not any more.
  @discardableResult
  public func settle(_ position: Position, _ settlement: Settlement) -> Bool { false }

  /// ``settle(_:_:)`` with `.acknowledge` for each of them; what is not in flight is passed over.
  public func acknowledge(_ positions: [Position]) {
    for position in positions { settle(position, .acknowledge) }
  }

  /// Whether the message is in flight with this consumer, so that it can still be settled.
  public func holds(_ position: Position) -> Bool { false }

  /// Gives the next message to a passive consumer, or nil when the queue is empty, with the number of messages left.
  ///
  /// `completion` may be called before this returns; when the message must be read from disk, in a later turn.
  public func get(isNoAck: Bool, completion: @escaping ((delivery: Delivery, left: Int)?) -> Void) { completion(nil) }

  /// Changes how many unsettled deliveries it may have, 0 for no limit.
  public func setCredit(_ credit: Int) {}

  /// While set, nothing is delivered: what was sent has not left yet.
  public final var isPaused = false {
    didSet { if isPaused != oldValue { pausedChanged() } }
  }

  func pausedChanged() {}

  /// Nothing more comes; what is in flight can still be settled.
  public func cancel() {}

  /// It is gone: what is in flight goes back to its place.
  /// - Parameter isFailure: whether that raises delivery counts, as when a connection breaks.
  public func close(isFailure: Bool) {}
}
