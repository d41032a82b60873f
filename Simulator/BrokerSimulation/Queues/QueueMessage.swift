// QueueMessage: bodies of messages that say who sent them, and prove that they are intact.

import MillraceBase

/// A message's name: its publisher, and its number with it, which grows.
struct MessageName: Hashable, Comparable, CustomStringConvertible {
  let publisher: Int
  let number: Int

  var description: String { "\(publisher):\(number)" }

  static func < (left: MessageName, right: MessageName) -> Bool {
    (left.publisher, left.number) < (right.publisher, right.number)
  }
}

/// Makes and reads bodies: `publisher:number:hops|` and filler that follows from all of these.
enum QueueMessage {
  private static func filler(_ name: MessageName, _ hops: Int, _ index: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: name.number &* 31 &+ name.publisher &* 7 &+ hops &+ index &* 13)
  }

  /// A body of about `size` bytes.
  static func body(_ name: MessageName, hops: Int = 0, size: Int) -> Bytes {
    let head = "\(name):\(hops)|"
    return Bytes(Array(head.utf8) + (0..<size).map { filler(name, hops, $0) })
  }

  /// What a body says; nil when it is not as it was sent.
  static func read(_ body: Bytes) -> (name: MessageName, hops: Int)? {
    body.withBuffer { buffer in
      guard let bar = buffer.firstIndex(of: UInt8(ascii: "|")) else { return nil }
      let numbers = buffer[..<bar].split(separator: UInt8(ascii: ":")).map { Int(String(decoding: $0, as: UTF8.self)) }
      guard numbers.count == 3, let publisher = numbers[0], let number = numbers[1], let hops = numbers[2] else {
        return nil
      }
      let name = MessageName(publisher: publisher, number: number)
      for (index, byte) in buffer[(bar + 1)...].enumerated() where byte != filler(name, hops, index) { return nil }
      return (name, hops)
    }
  }
}
