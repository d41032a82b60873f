// Deduplication: the message ids of the last while, so that what is published twice is taken once.

import MillraceBase

/// Ids with the time they were seen at, oldest first; bounded in number and in time.
struct Deduplication {
  private var seen: [ByteKey: Int64] = [:]
  private var order = Deque<(key: ByteKey, time: Int64)>()

  var count: Int { seen.count }

  /// Whether `id` was seen within the window that ends at `now`.
  mutating func contains(_ id: Bytes, now: Int64, options: QueueOptions) -> Bool {
    trim(now: now, options: options)
    return seen[ByteKey(id)] != nil
  }

  /// Notes `id`. The oldest one is forgotten when there are too many.
  mutating func insert(_ id: Bytes, now: Int64, options: QueueOptions) {
    guard options.deduplicationCount > 0 else { return }
    // Of its own, so that a small id does not keep the memory of a large publication.
    let key = ByteKey(id.withBuffer { Bytes(copying: $0) })
    guard seen[key] == nil else { return }
    seen[key] = now
    order.append((key, now))
    trim(now: now, options: options)
  }

  /// Forgets `id`, as if it had not been seen.
  mutating func remove(_ id: Bytes) { seen[ByteKey(id)] = nil }

  private mutating func trim(now: Int64, options: QueueOptions) {
    let span = options.deduplicationTime.inMilliseconds
    while let first = order.first, order.count > options.deduplicationCount || now - first.time > span {
      order.removeFirst()
      // One that was forgotten and came again has a later time, and a later place in the order.
      if seen[first.key] == first.time { seen[first.key] = nil }
    }
  }
}
