// CreditPool: the deliveries that several consumers, perhaps of several queues, may have in flight together.

/// A limit on unsettled deliveries that consumers share: a channel's prefetch.
///
/// A queue that could not deliver because the pool was exhausted leaves its id here. After settlements the host takes the
/// ids and calls `next` on those queues, in the order in which they came; whoever comes first gets the credit.
/// Belongs to one thread, that of its queues.
public final class CreditPool {
  /// Most unsettled deliveries; 0 for no limit. May be changed at any time; below `used`, nothing is delivered until
  /// enough has been settled.
  public var limit: Int
  /// Unsettled deliveries.
  public private(set) var used = 0
  private var waiting: [Int] = []

  /// A pool of `limit` deliveries, 0 for no limit.
  public init(limit: Int) { self.limit = limit }

  /// Whether one more may go out.
  public var isOpen: Bool { limit == 0 || used < limit }

  func take() { used += 1 }

  func give() {
    precondition(used > 0, "a credit pool gets back more than it gave")
    used -= 1
  }

  func wait(_ queue: Int) {
    if !waiting.contains(queue) { waiting.append(queue) }
  }

  /// The queues that waited, when there is credit again; each is named once and must be pumped. Else none.
  public func takeWaiting() -> [Int] {
    guard isOpen, !waiting.isEmpty else { return [] }
    defer { waiting = [] }
    return waiting
  }
}
