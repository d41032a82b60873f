// Unacknowledged: a channel's deliveries that the client has not settled, by delivery tag.

import MillraceBase
import MillraceBroker
import MillraceDelivery

/// A delivery that is not settled.
struct UnacknowledgedDelivery<Holder> {
  /// The channel's number of the delivery.
  let tag: UInt64
  /// Who got it: the queue's consumer.
  let holder: Holder
  /// Where the message lies in the queue.
  let position: Position
}

/// Deliveries in the order of their tags. Settling in that order is O(1), out of it O(log n), both amortised; memory follows
/// the deliveries that are there.
struct Unacknowledged<Holder> {
  typealias Delivery = UnacknowledgedDelivery<Holder>

  private struct Entry {
    let tag: UInt64
    let position: Position
    /// Nil once it was taken out.
    var holder: Holder?
  }

  private var entries = Deque<Entry>()
  /// Deliveries in it.
  private(set) var count = 0

  /// Adds a delivery with a tag above all before.
  mutating func append(_ delivery: Delivery) {
    entries.append(Entry(tag: delivery.tag, position: delivery.position, holder: delivery.holder))
    count += 1
  }

  private func index(_ tag: UInt64) -> Int? {
    guard let first = entries.first, tag >= first.tag else { return nil }
    // Without gaps, which come from deliveries that need no acknowledgement, it lies right here.
    var index = Int(clamping: tag - first.tag)
    if index >= entries.count || entries[index].tag != tag { index = entries.partitioningIndex { $0.tag < tag } }
    guard index < entries.count, entries[index].tag == tag, entries[index].holder != nil else { return nil }
    return index
  }

  /// Takes out the delivery with this tag, or, with `multiple`, it and all before it; tag 0 with `multiple` is all there
  /// are. Calls `body` with each, in order.
  /// - Returns: false when there is no such delivery, as RabbitMQ's `collect_acks`; nothing has changed then.
  mutating func take(_ tag: UInt64, multiple: Bool, _ body: (Delivery) -> Void) -> Bool {
    if tag == 0 && multiple {
      takeAll(body)
      return true
    }
    guard let index = index(tag) else { return false }
    if multiple {
      for _ in 0...index { takeFirst(body) }
    } else if let holder = entries[index].holder {
      count -= 1
      body(Delivery(tag: tag, holder: holder, position: entries[index].position))
      entries[index].holder = nil
    }
    while let first = entries.first, first.holder == nil { entries.removeFirst() }
    if entries.count > 2 * count + 64 { compact() }
    return true
  }

  private mutating func takeFirst(_ body: (Delivery) -> Void) {
    let entry = entries.removeFirst()
    guard let holder = entry.holder else { return }
    count -= 1
    body(Delivery(tag: entry.tag, holder: holder, position: entry.position))
  }

  /// Takes out all, in order.
  mutating func takeAll(_ body: (Delivery) -> Void) {
    while !entries.isEmpty { takeFirst(body) }
  }

  /// Puts back what was taken out, in any order.
  mutating func putBack(_ deliveries: [Delivery]) {
    guard !deliveries.isEmpty else { return }
    var all = deliveries
    takeAll { all.append($0) }
    for delivery in all.sorted(by: { $0.tag < $1.tag }) { append(delivery) }
  }

  /// Places kept, with those of deliveries that were taken out.
  var room: Int { entries.count }

  private mutating func compact() {
    var left = Deque<Entry>()
    while let entry = entries.popFirst() { if entry.holder != nil { left.append(entry) } }
    entries = left
  }
}
