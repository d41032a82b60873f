// DeliveryTimes: when messages that were delivered and are not gone arrived, and since when they are where they are.
//
// An open-addressed table with linear probing; removal closes the gap, so there are no tombstones. At most 3/4 full.

import MillraceBase

/// Names a message within its queue.
public struct MessageKey: Hashable, Sendable {
  let value: UInt64

  /// The message at `offset` (0 to 2^56 − 1) of the lane's log.
  public init(lane: UInt8 = 0, offset: Int64) {
    value = UInt64(lane) << 56 | UInt64(bitPattern: offset) & (1 << 56 - 1)
  }
}

/// Times of messages behind a queue's cursor.
struct DeliveryTimes: Sendable {
  struct Entry: Sendable {
    enum State: UInt8 {
      case free
      case inFlight
      case returned
    }

    var key: UInt64 = 0
    var arrivedAt: Int64 = 0
    /// When it was delivered, or returned.
    var since: Int64 = 0
    var state = State.free
  }

  private var slots: [Entry] = []
  private(set) var count = 0

  private func home(_ key: UInt64) -> Int { Int(truncatingIfNeeded: Hashing.mix(key)) & (slots.count - 1) }

  /// Where the key is, or where it belongs.
  private func index(_ key: UInt64) -> Int {
    var index = home(key)
    while slots[index].state != .free, slots[index].key != key { index = (index + 1) & (slots.count - 1) }
    return index
  }

  subscript(_ key: MessageKey) -> Entry? {
    guard count > 0 else { return nil }
    let entry = slots[index(key.value)]
    return entry.state == .free ? nil : entry
  }

  /// The message goes to a consumer: since `since` it is in flight. When it arrived is kept if that is known already.
  /// - Returns: what was known of it before. O(1) amortised.
  mutating func deliver(_ key: MessageKey, arrivedAt: Int64, since: Int64) -> Entry? {
    if (count + 1) * 4 > slots.count * 3 { grow() }
    let index = index(key.value)
    if slots[index].state == .free {
      count += 1
      slots[index] = Entry(key: key.value, arrivedAt: arrivedAt, since: since, state: .inFlight)
      return nil
    }
    let before = slots[index]
    slots[index].since = since
    slots[index].state = .inFlight
    return before
  }

  /// O(1) amortised.
  mutating func set(_ key: MessageKey, arrivedAt: Int64, since: Int64, state: Entry.State) {
    if (count + 1) * 4 > slots.count * 3 { grow() }
    let index = index(key.value)
    if slots[index].state == .free { count += 1 }
    slots[index] = Entry(key: key.value, arrivedAt: arrivedAt, since: since, state: state)
  }

  private mutating func grow() {
    let old = slots
    slots = Array(repeating: Entry(), count: max(8, old.count * 2))
    for entry in old where entry.state != .free { slots[index(entry.key)] = entry }
  }

  @discardableResult
  mutating func remove(_ key: MessageKey) -> Entry? {
    guard count > 0 else { return nil }
    var gap = index(key.value)
    let entry = slots[gap]
    guard entry.state != .free else { return nil }
    count -= 1
    // What follows moves into the gap unless its home lies between.
    var next = gap
    while true {
      next = (next + 1) & (slots.count - 1)
      if slots[next].state == .free { break }
      let distance = (next - home(slots[next].key)) & (slots.count - 1)
      if distance >= (next - gap) & (slots.count - 1) {
        slots[gap] = slots[next]
        gap = next
      }
    }
    slots[gap].state = .free
    return entry
  }

  /// Forgets everything; keeps the memory only when it is little.
  mutating func removeAll() {
    count = 0
    if slots.count > 64 {
      slots = []
    } else {
      for index in slots.indices { slots[index].state = .free }
    }
  }

  /// Bytes on the heap.
  var heldBytes: Int { slots.isEmpty ? 0 : slots.capacity * MemoryLayout<Entry>.stride + 32 }
}
