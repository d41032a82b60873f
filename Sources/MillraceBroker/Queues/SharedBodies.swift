// SharedBodies: large bodies that were read from the log, so that queues which have the same one hold it in memory once.
//
// A message that is published to many queues is one body in memory. After a start each of them reads its own copy, if only
// of the message at its head, and a thousand copies of 16 MiB are more than there is.

import Glibc
import MillraceBase
import MillraceDelivery

struct SharedBodies {
  /// Bodies below this are not looked for: queues hold few bytes of such ones.
  static let smallestSize = 256 << 10

  /// What is cheap to compare; the bytes are compared then.
  private struct Key: Hashable {
    let count: Int
    let ends: [UInt64]

    init(_ body: Bytes) {
      count = body.count
      // Bodies of one kind mostly differ at their beginning or end, or by their length.
      ends = body.withBuffer { buffer in
        [0, 8, 16, 24, buffer.count / 2, buffer.count - 8].map {
          buffer.loadUnaligned(fromByteOffset: $0, as: UInt64.self)
        }
      }
    }
  }

  /// A body that was read; nobody keeps it for the sake of this.
  private struct Body {
    weak var owner: AnyObject?
    let start: UnsafeRawPointer
  }

  private var bodies: [Key: [Body]] = [:]
  /// Most bodies of one key that are compared.
  private static let mostCompared = 4
  /// When so many are known, those that are gone are forgotten.
  private var cleanedCount = 64

  /// The message with a body in memory that another one has already, if there is one with the same bytes.
  /// - Complexity: O(bytes of a large body).
  mutating func sharing(_ message: Message) -> Message {
    guard message.body.count >= SharedBodies.smallestSize, let owner = message.body.owner else { return message }
    let key = Key(message.body)
    var known = bodies[key, default: []].filter { $0.owner != nil }
    for one in known {
      guard let there = one.owner else { continue }
      // Safety: the owner, held here, keeps the bytes alive.
      let body = Bytes(owner: there, start: one.start, count: message.body.count)
      if body.isSameMemory(message.body) || isEqual(body, message.body) { return message.with(body) }
    }
    if bodies.count >= cleanedCount {
      bodies = bodies.filter { $0.value.contains { $0.owner != nil } }
      cleanedCount = max(64, 2 * bodies.count)
    }
    if known.count >= SharedBodies.mostCompared { known.removeFirst() }
    known.append(Body(owner: owner, start: message.body.start))
    bodies[key] = known
    return message
  }

  private func isEqual(_ one: Bytes, _ other: Bytes) -> Bool {
    defer { extendLifetime((one, other)) }
    return memcmp(one.start, other.start, one.count) == 0
  }
}

extension Message {
  /// The same with its body in other memory, and the rest in its own, so that nothing of what it was read into is kept.
  fileprivate func with(_ body: Bytes) -> Message {
    Message(
      offset: offset, priority: priority, timestamp: timestamp, exchange: exchange, routingKey: routingKey,
      properties: properties.detached, body: body, size: size, expiration: expiration, notBefore: notBefore,
      groupKey: groupKey?.detached, deduplicationID: deduplicationID?.detached, isDurable: isDurable, format: format,
      arrivedAt: arrivedAt)
  }
}
