// MemoryLane: the messages of a lane that no log keeps.

import MillraceDelivery
import MillraceModel

/// What a log is to a durable queue: messages by offset, until they are done with.
///
/// A queue's rules hold only a window of messages, and none of those that wait for a time or for their key.
/// - Complexity: O(1) amortised for each message.
struct MemoryLane {
  private var slots: [Message?] = []
  /// Slots before it are empty.
  private var head = 0
  /// Offset of the first slot.
  private var base: Offset = 0
  /// Messages that are there.
  private(set) var count = 0
  /// Bytes that they take, overhead included.
  private(set) var bytes = 0

  /// What a message takes beside its content: its object, its place here and in the queue, strings and allocations.
  static let overhead = 400

  /// The first offset that has a message; ``end`` when there is none.
  var start: Offset { base + Offset(head) }
  /// The offset that the next message gets.
  var end: Offset { base + Offset(slots.count) }

  private static func size(of message: Message) -> Int { message.body.count + message.properties.count + overhead }

  /// Keeps a message, whose offset must be ``end``.
  mutating func append(_ message: Message) {
    precondition(message.offset == end, "message \(message.offset) is kept behind \(end)")
    slots.append(message)
    count += 1
    bytes += MemoryLane.size(of: message)
  }

  /// These are done with.
  mutating func remove(_ range: Range<Offset>) {
    let low = max(range.lowerBound, base + Offset(head))
    for offset in low..<max(low, min(range.upperBound, end)) {
      let index = Int(offset - base)
      guard let message = slots[index] else { continue }
      count -= 1
      bytes -= MemoryLane.size(of: message)
      slots[index] = nil
    }
    while head < slots.count, slots[head] == nil { head += 1 }
    guard head > 1024, head > slots.count / 2 else { return }
    slots.removeFirst(head)
    base += Offset(head)
    head = 0
  }

  /// The first offset with so many messages, or with messages of so many bytes, before it.
  func offset(behind messages: Int, bytes: Int) -> Offset {
    var (messages, bytes, index) = (messages, bytes, head)
    while messages > 0, bytes > 0, index < slots.count {
      if let message = slots[index] {
        messages -= 1
        bytes -= MemoryLane.size(of: message)
      }
      index += 1
    }
    return base + Offset(index)
  }

  /// Takes out what lies from `offset` on, as a lane of its own. O(messages).
  mutating func split(at offset: Offset) -> MemoryLane {
    let index = Int(offset - base)
    var rest = MemoryLane()
    rest.base = offset
    rest.slots = Array(slots[index...])
    slots.removeLast(slots.count - index)
    for message in rest.slots {
      guard let message else { continue }
      rest.count += 1
      rest.bytes += MemoryLane.size(of: message)
    }
    count -= rest.count
    bytes -= rest.bytes
    while rest.head < rest.slots.count, rest.slots[rest.head] == nil { rest.head += 1 }
    return rest
  }

  /// The messages from `offset` on, up to `limit` offsets further.
  func messages(from offset: Offset, limit: Int) -> [Message] {
    let low = max(offset, base + Offset(head))
    let high = min(end, offset + Offset(limit))
    return (low..<max(low, high)).compactMap { slots[Int($0 - base)] }
  }
}
