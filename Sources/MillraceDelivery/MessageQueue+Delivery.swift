// MessageQueue+Delivery: which message is next, and who gets it.

import MillraceBase
import MillraceModel

extension MessageQueue {
  /// What a lane has to give.
  enum Head {
    case message(Offset, Message)
    /// Nothing that could be delivered now.
    case none
    /// There is something, but it must be loaded first. Lower lanes wait for it.
    case unloaded
  }

  /// The lane's next deliverable message. What stands before it and is expired, not due or blocked by its key is put where
  /// it belongs.
  @inline(__always)
  mutating func head(_ index: Int, _ now: Int64) -> Head {
    while true {
      let offset: Offset
      let slot: Slot
      if let first = lanes[index].returned.first {
        guard let waiting = lanes[index].slot(first), waiting.state == .returned else {
          lanes[index].returned.popFirst()
          continue
        }
        (offset, slot) = (first, waiting)
        if slot.message == nil { return .unloaded }
      } else {
        lanes[index].advanceCursor()
        offset = lanes[index].cursor
        guard let ready = lanes[index].slot(offset) else {
          return offset < lanes[index].end && lanes[index].undone > lanes[index].inFlight && isUnloaded(index)
            ? .unloaded : .none
        }
        slot = ready
      }
      guard let message = slot.message else { preconditionFailure("message \(offset) at the cursor has no content") }
      if !isPlain(index, slot, message), !sort(index, offset, slot, message, now) {
        // Still where it was: too many wait for their keys already.
        if slot.state == .ready, lanes[index].slot(offset)?.state == .ready { return .none }
        continue
      }
      return .message(offset, message)
    }
  }

  /// Whether anything behind the window is not known to be done.
  private func isUnloaded(_ index: Int) -> Bool {
    guard let first = lanes[index].known.ranges.first, first.lowerBound <= lanes[index].loadedEnd else { return true }
    return first.upperBound < lanes[index].end
  }

  /// Whether there is nothing that could stand in the way of the message.
  @inline(__always)
  private func isPlain(_ index: Int, _ slot: Slot, _ message: Message) -> Bool {
    message.expiration.milliseconds < 0 && message.notBefore.milliseconds < 0 && options.messageTTL == nil
      && !options.isKeyOrdered && lanes[index].delays.isEmpty
  }

  /// Whether the message may be delivered. If not, it has been moved, unless too many are blocked already.
  private mutating func sort(_ index: Int, _ offset: Offset, _ slot: Slot, _ message: Message, _ now: Int64) -> Bool {
    if now > expiration(of: message) {
      discard(index, offset, .expired)
      return false
    }
    let retry = lanes[index].delays[offset]
    let due = retry ?? message.notBefore.milliseconds
    var key = slot.key
    if options.isKeyOrdered, key < 0, let bytes = message.groupKey, retry != nil || due <= now {
      let position = Position(lane: lanes[index].number, offset: offset)
      if let held = keys.number(bytes) {
        guard slot.state == .returned || blocked < options.lookAhead else { return false }
        keys.wait(held, position)
        park(index, offset, as: .blocked, key: held)
        blocked += 1
        return false
      }
      // A retried message keeps its key while it waits, as before the restart. Others claim it when they are delivered.
      if retry != nil, due > now { key = keys.claim(bytes) }
    }
    if due > now {
      delay(index, offset, until: due, key: key)
      return false
    }
    return true
  }

  /// Takes the message out of the heap of returned ones, if it is at its top, and moves it to `state`.
  mutating func park(_ index: Int, _ offset: Offset, as state: Slot.State, due: Int64 = .max, key: Int32) {
    if lanes[index].returned.first == offset { lanes[index].returned.popFirst() }
    lanes[index].park(offset, as: state, due: due, key: key, room: options.windowBytes)
  }

  /// Puts the message into the index by time.
  mutating func delay(_ index: Int, _ offset: Offset, until due: Int64, key: Int32) {
    park(index, offset, as: .delayed, due: due, key: key)
    delays.push(TimeEntry(time: due, position: Position(lane: lanes[index].number, offset: offset)))
    delayed += 1
  }

  /// Last ms at which the message may be delivered.
  func expiration(of message: Message) -> Int64 {
    let own = message.expiration.milliseconds
    var last = own < 0 ? Int64.max : own
    if let ttl = options.messageTTL {
      let start = max(message.timestamp.milliseconds, message.notBefore.milliseconds)
      let (sum, overflow) = start.addingReportingOverflow(ttl.inMilliseconds)
      if !overflow { last = min(last, sum) }
    }
    return last
  }

  // MARK: pushing

  /// Delivers up to `limit` messages to whose turn it is, and keeps the queue in order: what expired or grew too long leaves,
  /// what is due comes.
  ///
  /// Expired messages leave when they reach the head of their lane. The length is held after the deliveries, so that
  /// what goes out at once never counts.
  /// - Returns: how many deliveries were appended to `deliveries`; fewer than `limit` when no more are possible
  ///   before ``nextDeadline()``, a settlement, a publication or the answer to a load.
  @discardableResult
  public mutating func next(now: Timestamp, limit: Int, into deliveries: inout [Delivery]) -> Int {
    let now = now.milliseconds
    advance(now)
    consumers.unparkWaiting(queue: id)
    var count = 0
    while count < limit, let consumer = consumers.next(queue: id, isSingle: options.singleActiveConsumer),
      let (index, offset, message) = nextMessage(now)
    {
      deliveries.append(deliver(index, offset, message, to: consumer, now))
      consumers.rotate(consumer)
      count += 1
    }
    if count < limit { sweep(now) }
    // What was dropped may have held a key that others wait for.
    pumpAgain = shorten() && options.isKeyOrdered ? now : .max
    return count
  }

  /// ``next(now:limit:into:)`` as an array.
  public mutating func next(now: Timestamp, limit: Int = 1000) -> [Delivery] {
    var deliveries: [Delivery] = []
    next(now: now, limit: limit, into: &deliveries)
    return deliveries
  }

  /// Up to `limit` messages for one consumer that asks: `basic.get`. Its credit and pool do not matter, whose turn it is
  /// neither.
  /// - Returns: the deliveries; none also when the next message must be loaded first (``takeLoads()`` says so then).
  public mutating func take(by consumer: ConsumerID, limit: Int = 1, now: Timestamp) -> [Delivery] {
    guard let consumer = consumers.index(consumer) else { return [] }
    let now = now.milliseconds
    lastUsed = now
    advance(now)
    var deliveries: [Delivery] = []
    while deliveries.count < limit, let (index, offset, message) = nextMessage(now) {
      deliveries.append(deliver(index, offset, message, to: consumer, now))
    }
    return deliveries
  }

  /// Whether the answer to a load may bring what ``take(by:limit:now:)`` did not find. Right after it.
  /// - Complexity: O(lanes)
  public mutating func isAwaitingLoad() -> Bool {
    for index in lanes.indices where lanes[index].undone > lanes[index].inFlight {
      if lanes[index].isLoading || lanes[index].isFetching { return true }
      if let first = lanes[index].returned.first {
        if let slot = lanes[index].slot(first), slot.state == .returned, slot.message == nil { return true }
      } else if lanes[index].cursor >= lanes[index].loadedEnd, lanes[index].loadedEnd < lanes[index].end,
        isUnloaded(index)
      {
        return true
      }
    }
    return false
  }

  @inline(__always)
  private mutating func nextMessage(_ now: Int64) -> (Int, Offset, Message)? {
    for index in lanes.indices where lanes[index].undone > lanes[index].inFlight {
      switch head(index, now) {
      case .message(let offset, let message): return (index, offset, message)
      case .unloaded: return nil
      case .none: continue
      }
    }
    return nil
  }

  @inline(__always)
  private mutating func deliver(
    _ index: Int, _ offset: Offset, _ message: Message, to consumer: Int32, _ now: Int64
  ) -> Delivery {
    if lanes[index].returned.first == offset { lanes[index].returned.popFirst() }
    let position = Position(lane: lanes[index].number, offset: offset)
    let slot = lanes[index].facts(offset)!
    let count = lanes[index].counts.isEmpty ? 0 : lanes[index].counts[offset] ?? 0
    let delivery = Delivery(
      consumer: consumers.id(consumer), position: position, message: message, deliveryCount: count,
      isRedelivered: slot.isRedelivery || count > 0)
    if consumers[consumer].options.isNoAck {
      finish(index, offset)
      return delivery
    }
    var key = slot.key
    if options.isKeyOrdered, key < 0, let bytes = message.groupKey { key = keys.claim(bytes) }
    var deadline = Int64.max
    if let timeout = consumers[consumer].options.timeout ?? options.consumerTimeout {
      deadline = self.deadline(now, timeout)
      deadlines.push(TimeEntry(time: deadline, position: position))
      deadlineCount += 1
    }
    lanes[index].deliver(offset, to: consumer, deadline: deadline, key: key, room: options.windowBytes)
    consumers.took(consumer)
    return delivery
  }

  func deadline(_ now: Int64, _ timeout: Duration) -> Int64 {
    let (sum, overflow) = now.addingReportingOverflow(max(timeout.inMilliseconds, 0))
    return overflow ? .max - 1 : min(sum, .max - 1)
  }

  // MARK: limits

  /// Drops from the head while the queue is too long: the one that would be delivered next, the oldest of the
  /// highest lane that has something. What must be
  /// loaded first is dropped once it is.
  /// - Returns: whether anything was dropped.
  private mutating func shorten() -> Bool {
    guard options.maximumLength != nil || options.maximumBytes != nil else { return false }
    var hasDropped = false
    while isTooLong, let (index, offset) = oldest() {
      discard(index, offset, .maxlen)
      hasDropped = true
    }
    return hasDropped
  }

  var isTooLong: Bool {
    guard options.overflow == .dropHead else { return false }
    return options.maximumLength.map { length > $0 } ?? false
      || options.maximumBytes.map { lengthBytes > Int64($0) } ?? false
  }

  private mutating func oldest() -> (Int, Offset)? {
    for index in lanes.indices where lanes[index].undone > lanes[index].inFlight {
      while let first = lanes[index].returned.first {
        if lanes[index].slot(first)?.state == .returned { return (index, first) }
        lanes[index].returned.popFirst()
      }
      lanes[index].advanceCursor()
      if lanes[index].cursor < lanes[index].loadedEnd { return (index, lanes[index].cursor) }
      if lanes[index].loadedEnd < lanes[index].end, isUnloaded(index) { return nil }
    }
    // Only delayed and blocked ones are left: the one that is due first.
    while let first = delays.first {
      if let index = laneIndex(first.position.lane), isDelayed(index, first) { return (index, first.position.offset) }
      delays.popFirst()
    }
    guard blocked > 0 else { return nil }
    for index in lanes.indices {
      var first: Offset?
      lanes[index].forEachSlot { offset, slot in
        if first == nil, slot.state == .blocked { first = offset }
      }
      if let first { return (index, first) }
    }
    return nil
  }

  mutating func isDelayed(_ index: Int, _ entry: TimeEntry) -> Bool {
    guard let slot = lanes[index].slot(entry.position.offset) else { return false }
    return slot.state == .delayed && slot.deadline == entry.time
  }
}
