// GroupKeys: who holds a group key, and who waits for it.

import MillraceBase

/// The keys of a key-ordered queue. A key is held by one message from its first delivery until that is done, over
/// redeliveries and retry delays; those behind it wait in order.
struct GroupKeys {
  private struct Key {
    var bytes: ByteKey
    var waiting = Deque<Position>()
  }

  private var numbers: [ByteKey: Int32] = [:]
  private var keys: [Key?] = []
  private var free: [Int32] = []

  /// The number of a key that somebody holds.
  func number(_ bytes: Bytes) -> Int32? { numbers[ByteKey(bytes)] }

  /// Keys that somebody holds.
  var count: Int { numbers.count }

  /// Gives a number to a key that nobody holds. Whoever has that number in its slot, and does not wait, is the holder.
  mutating func claim(_ bytes: Bytes) -> Int32 {
    // Of its own: the key outlives the message's content.
    let key = ByteKey(bytes.withBuffer { Bytes(copying: $0) })
    let number: Int32
    if let reused = free.popLast() {
      number = reused
      keys[Int(number)] = Key(bytes: key)
    } else {
      number = Int32(keys.count)
      keys.append(Key(bytes: key))
    }
    numbers[key] = number
    return number
  }

  mutating func wait(_ number: Int32, _ position: Position) { keys[Int(number)]?.waiting.append(position) }

  /// The holder is done: the first of the waiting holds the key now. The caller sees whether it still waits, and calls
  /// again if it does not. Nil: nobody waits, and the key is forgotten.
  mutating func pass(_ number: Int32) -> Position? {
    if let next = keys[Int(number)]?.waiting.popFirst() { return next }
    if let key = keys[Int(number)] { numbers[key.bytes] = nil }
    keys[Int(number)] = nil
    free.append(number)
    return nil
  }
}
