// MessageQueue+Contents: looking at what is there, removing all of it, and the durable state.

import MillraceBase
import MillraceModel

extension MessageQueue {
  /// A message that is in the queue, as ``browse(lane:from:limit:)`` shows it.
  public struct Entry: Sendable {
    /// Where it is.
    public var position: Position
    /// Its content, nil when it is not in memory; the host may read it from the log.
    public var message: Message?
    /// Deliveries of it that failed.
    public var deliveryCount: Int32
    /// Delivered and not settled.
    public var isInFlight: Bool
    /// Waits until then, as far as that is known: of a message that was not loaded yet its content says so.
    public var due: Timestamp?
  }

  /// Numbers of the lanes that exist, the highest first.
  public var laneNumbers: [UInt8] { lanes.map(\.number) }

  /// The messages of `lane` that are not done, by offset, from `from` on; nothing changes by it.
  ///
  /// Offsets behind the window are listed without content, and without knowing whether the log still has them.
  public func browse(lane: UInt8, from: Offset = 0, limit: Int) -> [Entry] {
    guard let index = laneIndex(lane), limit > 0 else { return [] }
    var entries: [Entry] = []
    func entry(_ offset: Offset, _ slot: Slot?) -> Entry {
      let isDelayed = slot?.state == .delayed
      let due = isDelayed ? slot?.deadline : slot == nil ? lanes[index].delays[offset] : nil
      return Entry(
        position: Position(lane: lane, offset: offset), message: slot?.message,
        deliveryCount: lanes[index].counts[offset] ?? 0, isInFlight: slot?.state == .inFlight,
        due: due.map { Timestamp(milliseconds: $0) })
    }
    lanes[index].walkSlots(while: { offset, slot in
      if offset >= from { entries.append(entry(offset, slot)) }
      return entries.count < limit
    })
    var offset = max(from, lanes[index].loadedEnd)
    var known = lanes[index].known.ranges[...]
    while entries.count < limit, offset < lanes[index].end {
      while let range = known.first, range.upperBound <= offset { known.removeFirst() }
      if let range = known.first, range.contains(offset) {
        offset = range.upperBound
      } else {
        entries.append(entry(offset, nil))
        offset += 1
      }
    }
    return entries
  }

  /// Removes everything that is not in flight: ready, delayed and blocked messages. Not dead-lettered.
  /// - Returns: how many messages that were.
  /// - Complexity: O(messages that have a slot).
  @discardableResult
  public mutating func purge() -> Int {
    var count = 0
    for index in lanes.indices {
      var offsets: [Offset] = []
      lanes[index].forEachSlot { offset, slot in
        if slot.state != .inFlight { offsets.append(offset) }
      }
      // A key whose holder goes passes to the next one, which may be among those that go.
      for offset in offsets where lanes[index].slot(offset) != nil {
        finish(index, offset)
        count += 1
      }
      lanes[index].returned.removeAll()
      count += lanes[index].finishUnloaded()
    }
    delays.removeAll()
    return count
  }

  /// Takes out one message that is not in flight. Not dead-lettered.
  /// - Parameter size: what it counts for; matters only when it was not loaded yet.
  /// - Returns: false when it is in flight, or done.
  public mutating func remove(_ position: Position, size: Int) -> Bool {
    guard let index = laneIndex(position.lane) else { return false }
    guard let slot = lanes[index].facts(position.offset) else {
      return lanes[index].finishUnloaded(position.offset, size: size)
    }
    guard slot.state != .inFlight else { return false }
    finish(index, position.offset)
    return true
  }

  /// Whether the message was delivered to `consumer` and is not settled.
  public mutating func isInFlight(_ position: Position, with consumer: ConsumerID) -> Bool {
    guard let index = laneIndex(position.lane), let slot = lanes[index].facts(position.offset) else { return false }
    return slot.state == .inFlight && consumers.id(slot.consumer) == consumer
  }

  /// Whether the queue would admit so many publications of `bytes` bytes in all.
  public func hasRoom(for count: Int, bytes: Int) -> Bool {
    guard options.overflow != .dropHead else { return true }
    return options.maximumLength.map { length + reserved + count <= $0 } ?? true
      && options.maximumBytes.map { lengthBytes + reservedBytes + Int64(bytes) <= Int64($0) } ?? true
  }

  /// The durable state with all changes so far, committed or not. It agrees with the journal once everything that
  /// ``takeCommit()`` gave is durable and the queue was not touched since. A host that applies each commit to a
  /// ``QueueState`` of its own gets the same.
  public func durableState() -> QueueState {
    var state = QueueState()
    for lane in lanes { state.lanes[lane.number] = lane.durableState }
    return state
  }
}

extension Lane {
  var durableState: QueueState.Lane {
    var live: [Offset] = []
    forEachSlot { offset, _ in live.append(offset) }
    var state = QueueState.Lane(start: live.first ?? loadedEnd)
    var at = state.start
    for offset in live {
      state.finish(at..<offset)
      at = offset + 1
    }
    if at < loadedEnd { state.finish(at..<loadedEnd) }
    for range in known.ranges {
      state.finish(max(range.lowerBound, min(loadedEnd, range.upperBound))..<range.upperBound)
    }
    state.doneBytes = doneBytes
    state.counts = counts
    state.delays = delays.mapValues { Timestamp(milliseconds: $0) }
    return state
  }
}
