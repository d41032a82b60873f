// MessageQueue: one queue as a pure state machine over its logs: events in, deliveries, loads and changes out.
//
// The host owns the log, the clock and the connections. It tells the queue what was published, who consumes and what was
// settled, and after each event, or a batch of them, it pumps:
//
//   1. `next(now:limit:into:)`: deliveries to send, until it gives fewer than the limit
//   2. `takeLoads()`: parts of the log to read; the answers come back as `loaded(_:messages:through:now:)`, then pump again
//   3. `takeCommit()`: what to make durable in one commit
//   4. `nextDeadline()`: when to pump again without an event
//
// Confirmation: a change is applied when it is made, not when it is durable. Whoever was promised durability gets the
// answer after the commit: the host holds it (a transaction's commit-ok; AMQP's ack has none). Publications come in the
// other order: `published` is called when they may be seen, after their commit.
//
// Order: within a lane by offset, and what is returned, retried or due goes before what was never delivered. A higher
// lane goes first, always. Fairness between consumers: Consumers.swift. Keys: GroupKeys.swift. Memory: Lane.swift.

import MillraceBase
import MillraceModel

/// A message on its way to a consumer.
public struct Delivery: Sendable {
  /// Who gets it.
  public var consumer: ConsumerID
  /// How it is settled.
  public var position: Position
  /// What it is.
  public var message: Message
  /// Deliveries of it that failed before: 0 the first time.
  public var deliveryCount: Int32
  /// Whether it may have been delivered before, also before a restart.
  public var isRedelivered: Bool

  /// A delivery; for hosts that give messages out without a queue's rules, with ``ConsumerID/none``.
  public init(
    consumer: ConsumerID, position: Position, message: Message, deliveryCount: Int32, isRedelivered: Bool
  ) {
    self.consumer = consumer
    self.position = position
    self.message = message
    self.deliveryCount = deliveryCount
    self.isRedelivered = isRedelivered
  }
}

/// What is known of a lane's log when a queue starts.
public struct LaneBacklog: Sendable {
  /// Number of the lane.
  public var lane: UInt8
  /// The offset behind the last message.
  public var end: Offset
  /// Sum of the sizes of all messages from the lane's beginning, done ones included; 0 when it is not known, which
  /// disables `maximumBytes` for the backlog.
  public var bytes: Int64

  /// A lane that ends at `end`.
  public init(lane: UInt8 = 0, end: Offset, bytes: Int64 = 0) {
    self.lane = lane
    self.end = end
    self.bytes = bytes
  }
}

/// One queue. A value without I/O, clock or thread of its own; whoever owns it calls it from one place.
///
/// Times are the host's: any clock in ms that does not go back, the same for messages and calls.
/// Complexity: O(1) amortised for a FIFO queue's delivery and settlement; O(lanes) to find the lane, O(log n) for what is
/// returned, delayed or has a time-out. Memory follows the window, what is in flight, delayed, blocked or counted; never
/// the backlog.
public struct MessageQueue {
  /// By which pools name it.
  public let id: Int
  /// Changed by ``setOptions(_:)``.
  public private(set) var options: QueueOptions
  /// Highest first.
  var lanes: [Lane] = []
  /// Index in `lanes` by number, −1 for none.
  var laneIndexes = [Int16](repeating: -1, count: 256)
  var consumers = Consumers()
  var keys = GroupKeys()
  var deduplication = Deduplication()
  /// Delayed messages by the time they are due.
  var delays = Heap<TimeEntry>()
  /// Deliveries by the time they are taken back; also of some that were settled.
  var deadlines = Heap<TimeEntry>()
  /// Deliveries that have such a time.
  var deadlineCount = 0
  var delayed = 0
  var blocked = 0
  var changes: [QueueChange] = []
  var deadLetters: [DeadLetter] = []
  var timedOut: [ConsumerID] = []
  /// Admitted and not yet published.
  var reserved = 0
  var reservedBytes: Int64 = 0
  var lastUsed: Int64
  /// When the last pump left something to do, its time.
  var pumpAgain = Int64.max
  var random: SeededRandom

  /// A queue that goes on from `state`. `seed` decides jitter only.
  public init(
    id: Int, options: QueueOptions = QueueOptions(), state: QueueState = QueueState(), backlog: [LaneBacklog] = [],
    now: Timestamp, seed: UInt64 = 0
  ) {
    self.id = id
    self.options = options
    lastUsed = now.milliseconds
    random = SeededRandom(seed: seed)
    for lane in backlog {
      add(
        Lane(
          number: lane.lane, state: state.lanes[lane.lane] ?? QueueState.Lane(), end: lane.end, bytes: lane.bytes,
          window: options.windowMessages))
    }
    for (number, lane) in state.lanes where laneIndexes[Int(number)] < 0 {
      add(Lane(number: number, state: lane, end: lane.start, bytes: 0, window: options.windowMessages))
    }
  }

  private mutating func add(_ lane: Lane) {
    lanes.append(lane)
    lanes.sort { $0.number > $1.number }
    for index in lanes.indices { laneIndexes[Int(lanes[index].number)] = Int16(index) }
  }

  @inline(__always) func laneIndex(_ number: UInt8) -> Int? {
    let index = Int(laneIndexes[Int(number)])
    return index < 0 ? nil : index
  }

  private mutating func laneIndex(making number: UInt8) -> Int {
    if let index = laneIndex(number) { return index }
    add(Lane(number: number, state: QueueState.Lane(), end: 0, bytes: 0, window: options.windowMessages))
    return Int(laneIndexes[Int(number)])
  }

  /// Changes the options of a running queue. Limits that the queue exceeds now are enforced by the next pump.
  /// Key ordering cannot be changed while messages are in the queue: that needs a restart from its state.
  public mutating func setOptions(_ new: QueueOptions) {
    precondition(new.isKeyOrdered == options.isKeyOrdered, "key ordering of a running queue cannot change")
    let wasSingle = options.singleActiveConsumer
    options = new
    if wasSingle != new.singleActiveConsumer { consumers.setSingle(new.singleActiveConsumer) }
  }

  // MARK: figures

  /// Messages that are not in flight: ready, delayed and waiting for their key. This is what limits count.
  public var length: Int { lanes.reduce(0) { $0 + $1.undone - $1.inFlight } }
  /// Bytes of those.
  public var lengthBytes: Int64 { lanes.reduce(0) { $0 + $1.undoneBytes - $1.inFlightBytes } }
  /// Delivered and not settled.
  public var inFlightCount: Int { lanes.reduce(0) { $0 + $1.inFlight } }
  /// Of `length`: known to wait for a time.
  public var delayedCount: Int { delayed }
  /// Of `length`: known to wait for their key.
  public var blockedCount: Int { blocked }
  /// Consumers, without passive ones.
  public var consumerCount: Int { consumers.count }
  /// With single active consumer: the one that is served.
  public var activeConsumer: ConsumerID? { consumers.active.map { consumers.id($0) } }
  /// Bytes of message content that the queue holds.
  public var heldBytes: Int { lanes.reduce(0) { $0 + $1.readyBytes + $1.heldBytes } }
  /// Slots that the queue holds for messages, loaded or not.
  public var heldSlots: Int { lanes.reduce(0) { $0 + Int($1.loadedEnd - $1.base) + $1.stragglers.count } }
  /// Entries of the indexes by time.
  public var timeEntries: Int { delays.count + deadlines.count }

  // MARK: publishing

  /// What becomes of a publication.
  public enum Admission: Sendable, Hashable {
    /// Append it, then call ``published(_:now:)``, or ``withdrawn(size:deduplicationID:)`` when it was not appended.
    case accepted
    /// The queue is full: nack it.
    case rejected
    /// The queue is full: nack it, and dead-letter it with reason `maxlen`.
    case rejectedDeadLetter
    /// It was published before: confirm it, and do nothing.
    case duplicate
  }

  /// Decides over a publication before it is appended. What is accepted counts against the limits and is remembered as
  /// seen from here on. Needs to be asked only when the queue rejects or deduplicates.
  public mutating func admit(size: Int, deduplicationID: Bytes? = nil, now: Timestamp) -> Admission {
    let now = now.milliseconds
    if options.deduplicationCount > 0, let id = deduplicationID,
      deduplication.contains(id, now: now, options: options)
    {
      return .duplicate
    }
    if options.overflow != .dropHead {
      let isFull =
        options.maximumLength.map { length + reserved >= $0 } ?? false
        || options.maximumBytes.map { lengthBytes + reservedBytes + Int64(size) > Int64($0) } ?? false
      if isFull { return options.overflow == .rejectPublish ? .rejected : .rejectedDeadLetter }
      reserved += 1
      reservedBytes += Int64(size)
    }
    if let id = deduplicationID { deduplication.insert(id, now: now, options: options) }
    return .accepted
  }

  /// An admitted publication was not appended after all.
  public mutating func withdrawn(size: Int, deduplicationID: Bytes? = nil) {
    unreserve(1, Int64(size))
    if let id = deduplicationID { deduplication.remove(id) }
  }

  /// Notes an id that was published before a restart, so that it is not taken again.
  public mutating func remember(_ id: Bytes, at time: Timestamp) {
    deduplication.insert(id, now: time.milliseconds, options: options)
  }

  private mutating func unreserve(_ count: Int, _ bytes: Int64) {
    reserved = max(0, reserved - count)
    reservedBytes = reserved == 0 ? 0 : max(0, reservedBytes - bytes)
  }

  /// `message` is in the log of the lane `message.priority` and may be delivered.
  ///
  /// It is kept when the window reaches the log's end and has room, and loaded later otherwise. Offsets must ascend; what
  /// is left out between the lane's end and it is taken to hold no messages.
  /// - Parameter wasAdmitted: it was asked for with ``admit(size:deduplicationID:now:)``; dead letters are not.
  public mutating func published(_ message: Message, wasAdmitted: Bool = true) {
    let index = laneIndex(making: message.priority)
    precondition(
      message.offset >= lanes[index].end, "message \(message.offset) published behind the end \(lanes[index].end)")
    if message.offset > lanes[index].end { lanes[index].skip(to: message.offset) }
    lanes[index].extend(to: message.offset + 1, bytes: Int64(message.size))
    if !lanes[index].known.isEmpty { lanes[index].skipKnown() }
    if lanes[index].loadedEnd == message.offset, hasRoom(index) { lanes[index].admit(message) }
    if wasAdmitted, reserved > 0 { unreserve(1, Int64(message.size)) }
  }

  /// ``published(_:)`` for each of them.
  public mutating func published(contentsOf messages: [Message]) {
    for message in messages { published(message) }
  }

  /// The log of `lane` has grown to `end` by messages of `bytes` bytes in all that the host does not have at hand.
  public mutating func published(lane: UInt8, through end: Offset, bytes: Int64) {
    let index = laneIndex(making: lane)
    guard end > lanes[index].end else { return }
    let count = Int(end - lanes[index].end)
    lanes[index].extend(to: end, bytes: bytes)
    if reserved > 0 { unreserve(count, bytes) }
  }

  @inline(__always) private func hasRoom(_ index: Int) -> Bool {
    lanes[index].loaded < options.windowMessages && lanes[index].readyBytes < options.windowBytes
  }

  // MARK: loading

  /// What must be read from the log for the queue to go on. A load is named once; the host answers each.
  public mutating func takeLoads() -> [Load] {
    var loads: [Load] = []
    for index in lanes.indices where lanes[index].undone > lanes[index].inFlight {
      if !lanes[index].isFetching, let offset = lanes[index].returned.first, let slot = lanes[index].slot(offset),
        slot.state == .returned, slot.message == nil
      {
        lanes[index].isFetching = true
        loads.append(load(index, offset, 64, options.windowBytes / 4, .returned))
      }
      guard !lanes[index].isLoading, lanes[index].loadedEnd < lanes[index].end else { continue }
      lanes[index].advanceCursor()
      lanes[index].skipKnown()
      let left = lanes[index].end - lanes[index].loadedEnd
      // Without consumers the head alone, for its time to live; or what is to be dropped.
      let wanted = consumers.isEmpty && !isTooLong ? 1 : max(options.windowMessages, 1)
      let missing = wanted - lanes[index].loaded
      let bytes = options.windowBytes - lanes[index].readyBytes
      guard left > 0, missing > wanted / 2, 2 * bytes >= options.windowBytes else { continue }
      lanes[index].isLoading = true
      loads.append(load(index, lanes[index].loadedEnd, Int(min(Int64(missing), left)), bytes, .window))
    }
    return loads
  }

  private func load(_ index: Int, _ offset: Offset, _ count: Int, _ bytes: Int, _ kind: Load.Kind) -> Load {
    Load(lane: lanes[index].number, offset: offset, count: count, bytes: bytes, kind: kind)
  }

  /// The answer to a load.
  /// - Parameters:
  ///   - messages: those found, by ascending offset.
  ///   - end: how far was read: what lies below it, and in the load, and is not among the messages, is gone or unreadable
  ///     and counts as done. It may be below the load's end, because the read was long enough; never at its beginning.
  public mutating func loaded(_ load: Load, messages: [Message], through end: Offset) {
    guard let index = laneIndex(load.lane) else { return }
    precondition(end > load.offset, "a load from \(load.offset) was answered through \(end)")
    let end = min(end, lanes[index].end)
    switch load.kind {
    case .window: lanes[index].isLoading = false
    case .returned: lanes[index].isFetching = false
    }
    var at = load.offset
    for message in messages where message.offset >= at && message.offset < end {
      lose(index, at..<message.offset)
      lanes[index].skipKnown()
      if message.offset == lanes[index].loadedEnd {
        lanes[index].admit(message)
      } else if message.offset == load.offset || lanes[index].heldBytes < options.windowBytes {
        lanes[index].fill(message)
      }
      at = message.offset + 1
    }
    lose(index, at..<max(at, min(end, load.offset + Offset(load.count))))
  }

  /// These messages are not in the log any more. Those in flight stay until they are settled.
  private mutating func lose(_ index: Int, _ range: Range<Offset>) {
    guard !range.isEmpty else { return }
    for offset in range.lowerBound..<max(range.lowerBound, min(range.upperBound, lanes[index].loadedEnd)) {
      if let slot = lanes[index].slot(offset), slot.message == nil, slot.state == .returned { finish(index, offset) }
    }
    if range.lowerBound <= lanes[index].loadedEnd, range.upperBound > lanes[index].loadedEnd {
      lanes[index].lose(to: range.upperBound)
    }
  }

  // MARK: commits

  /// What is to be made durable in one commit, nil when nothing is. See the file's head for when it counts.
  public mutating func takeCommit() -> QueueCommit? {
    var commit = QueueCommit(changes: changes, deadLetters: deadLetters)
    for index in lanes.indices {
      if let done = lanes[index].takePending() { commit.changes.append(done) }
    }
    guard !commit.changes.isEmpty else { return nil }
    changes.removeAll(keepingCapacity: true)
    deadLetters = []
    return commit
  }

  /// Consumers whose deliveries were taken back because they took too long, since the last call.
  public mutating func takeTimedOut() -> [ConsumerID] {
    defer { timedOut = [] }
    return timedOut
  }
}
