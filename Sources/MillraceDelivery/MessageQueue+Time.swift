// MessageQueue+Time: what happens because time passes.

import MillraceBase
import MillraceModel

extension MessageQueue {
  /// Takes back what took too long, and brings what is due.
  @inline(__always)
  mutating func advance(_ now: Int64) {
    if let first = deadlines.first, first.time <= now { takeBack(now) }
    if let first = delays.first, first.time <= now { bringDue(now) }
  }

  private mutating func takeBack(_ now: Int64) {
    var late: [(Position, Int32)] = []
    while let first = deadlines.first, first.time <= now {
      deadlines.popFirst()
      guard let index = laneIndex(first.position.lane), let slot = lanes[index].slot(first.position.offset),
        slot.state == .inFlight, slot.deadline == first.time
      else { continue }
      late.append((first.position, slot.consumer))
    }
    for (position, consumer) in late {
      let id = consumers.id(consumer)
      if !timedOut.contains(id) { timedOut.append(id) }
      settle(
        position, .requeue(isFailure: options.timeoutsCount, until: Timestamp(milliseconds: 0)),
        now: Timestamp(milliseconds: now))
    }
  }

  private mutating func bringDue(_ now: Int64) {
    while let first = delays.first, first.time <= now {
      delays.popFirst()
      guard let index = laneIndex(first.position.lane), isDelayed(index, first) else { continue }
      let key = lanes[index].slot(first.position.offset)!.key
      delayed -= 1
      park(index, first.position.offset, as: .returned, key: key)
    }
  }

  /// Drops settled entries once they are most of the index.
  @inline(__always)
  mutating func cleanDeadlines() {
    guard deadlines.count > 64 + 2 * deadlineCount else { return }
    var kept = deadlines
    deadlines.removeAll()
    kept.keep { entry in
      guard let index = laneIndex(entry.position.lane), let slot = lanes[index].slot(entry.position.offset) else {
        return false
      }
      return slot.state == .inFlight && slot.deadline == entry.time
    }
    deadlines = kept
  }

  /// Lets expired messages at the heads go, and puts delayed ones there into the index.
  mutating func sweep(_ now: Int64) {
    for index in lanes.indices where lanes[index].undone > lanes[index].inFlight { _ = head(index, now) }
  }

  /// When the queue must be pumped again if nothing else happens; nil for never. Right after a pump.
  /// - Complexity: O(lanes).
  public mutating func nextDeadline() -> Timestamp? {
    var first = pumpAgain
    if let delay = delays.first { first = min(first, delay.time) }
    if deadlineCount > 0, let deadline = deadlines.first { first = min(first, deadline.time) }
    for index in lanes.indices {
      let head = lanes[index].returned.first ?? lanes[index].cursor
      guard let message = lanes[index].slot(head)?.message else { continue }
      let last = expiration(of: message)
      if last < .max { first = min(first, last + 1) }
    }
    if let expires = options.expires, consumers.count == 0 { first = min(first, deadline(lastUsed, expires)) }
    return first == .max ? nil : Timestamp(milliseconds: first)
  }

  /// Whether the queue was unused for so long that it is to be deleted.
  public func isExpired(now: Timestamp) -> Bool {
    guard let expires = options.expires, consumers.count == 0 else { return false }
    return now.milliseconds >= deadline(lastUsed, expires)
  }

  /// The queue was used: declared again, for example. Starts its time to expire anew.
  public mutating func touch(now: Timestamp) { lastUsed = max(lastUsed, now.milliseconds) }
}
