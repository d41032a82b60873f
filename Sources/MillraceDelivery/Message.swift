// Message: what a queue holds: what the engine must know of it, and the rest as opaque bytes.

import MillraceBase
import MillraceModel

/// Where a message lies: the lane, which is its priority, and the offset in the lane's log.
public struct Position: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// The lane, 0 to 255; a higher one is served first.
  public var lane: UInt8
  /// Offset in the lane's log.
  public var offset: Offset

  /// The place `offset` of `lane`.
  @inlinable public init(lane: UInt8 = 0, offset: Offset) {
    self.lane = lane
    self.offset = offset
  }

  /// By lane, then by offset.
  @inlinable public static func < (left: Position, right: Position) -> Bool {
    (left.lane, left.offset) < (right.lane, right.offset)
  }

  /// `lane:offset`.
  public var description: String { "\(lane):\(offset)" }
}

/// One message. Immutable as soon as it is shared, so that any number of queues, consumers and threads may share it.
public final class Message: Sendable {
  // Safety: what can be written is written by ``move(_:to:arrivedAt:late:)`` only, while nobody else has the message.

  /// Offset in its lane's log.
  @exclusivity(unchecked) nonisolated(unsafe) public private(set) var offset: Offset
  /// The lane it was appended to; see ``QueueOptions/lane(forPriority:)``.
  public let priority: UInt8
  /// Whether it is to survive a restart. The engine passes it on and does nothing with it.
  public let isDurable: Bool
  /// Bytes it counts for in limits: at least its body.
  public let size: Int
  /// When it entered the queue; a queue's message TTL counts from here.
  @exclusivity(unchecked) nonisolated(unsafe) public private(set) var timestamp: Timestamp
  /// When consumers could have it: on the clock that `timestamp` is of, in nanoseconds; of a message that was read from
  /// the log, the timestamp. The engine passes it on.
  @exclusivity(unchecked) nonisolated(unsafe) public private(set) var arrivedAt: MonotonicTime
  /// Time after which it is no longer delivered, ``Timestamp/none`` for never.
  @exclusivity(unchecked) nonisolated(unsafe) public private(set) var expiration: Timestamp
  /// Time before which it is not delivered, ``Timestamp/none`` for at once.
  public let notBefore: Timestamp
  /// Exchange it was published to.
  public let exchange: String
  /// Routing key it was published with.
  public let routingKey: String
  /// Of the messages with the same key at most one is in flight, when the queue is key-ordered; nil for none.
  public let groupKey: Bytes?
  /// What it is recognised by when it is published again; nil for none.
  public let deduplicationID: Bytes?
  /// How ``properties`` are encoded; 0 when they are not. The engine passes it on.
  public let format: UInt8
  /// Properties and headers in the form of whoever published; opaque.
  public let properties: Bytes
  /// The body; opaque.
  public let body: Bytes

  /// A message. `size` defaults to the bytes of body and properties.
  public init(
    offset: Offset, priority: UInt8 = 0, timestamp: Timestamp, exchange: String = "", routingKey: String = "",
    properties: Bytes = Bytes(), body: Bytes, size: Int? = nil, expiration: Timestamp = .none,
    notBefore: Timestamp = .none, groupKey: Bytes? = nil, deduplicationID: Bytes? = nil, isDurable: Bool = true,
    format: UInt8 = 0, arrivedAt: MonotonicTime? = nil
  ) {
    self.offset = offset
    self.priority = priority
    self.timestamp = timestamp
    let (nanoseconds, overflow) = timestamp.milliseconds.multipliedReportingOverflow(by: 1_000_000)
    self.arrivedAt = arrivedAt ?? MonotonicTime(nanoseconds: overflow ? 0 : nanoseconds)
    self.exchange = exchange
    self.routingKey = routingKey
    self.properties = properties
    self.body = body
    self.size = size ?? body.count + properties.count
    self.expiration = expiration
    self.notBefore = notBefore
    self.groupKey = groupKey
    self.deduplicationID = deduplicationID
    self.isDurable = isDurable
    self.format = format
  }
}

extension Message {
  /// Puts a message at the place that its log has given it; one that others have stays as it is, and `message` becomes
  /// another. Its time to live begins only there.
  /// - Parameter late: ms that have passed since it was made.
  public static func move(_ message: inout Message, to offset: Offset, arrivedAt: MonotonicTime, late: Int64) {
    if !isKnownUniquelyReferenced(&message) {
      message = Message(
        offset: offset, priority: message.priority, timestamp: message.timestamp, exchange: message.exchange,
        routingKey: message.routingKey, properties: message.properties, body: message.body, size: message.size,
        expiration: message.expiration, notBefore: message.notBefore, groupKey: message.groupKey,
        deduplicationID: message.deduplicationID, isDurable: message.isDurable, format: message.format)
    }
    message.offset = offset
    message.arrivedAt = arrivedAt
    message.timestamp = later(message.timestamp, late)
    message.expiration = later(message.expiration, late)
  }

  private static func later(_ time: Timestamp, _ late: Int64) -> Timestamp {
    guard time.milliseconds >= 0, late > 0 else { return time }
    let (sum, overflow) = time.milliseconds.addingReportingOverflow(late)
    return overflow ? time : Timestamp(milliseconds: sum)
  }
}

/// Bytes as a key of a dictionary.
struct ByteKey: Hashable {
  let bytes: Bytes

  init(_ bytes: Bytes) { self.bytes = bytes }

  static func == (left: ByteKey, right: ByteKey) -> Bool { left.bytes == right.bytes }

  // The dictionary's own hasher, seeded per process: clients choose these bytes and must not choose collisions.
  func hash(into hasher: inout Hasher) { bytes.withBuffer { hasher.combine(bytes: $0) } }
}
