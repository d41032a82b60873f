// InProcessQueue: a bounded first-in, first-out queue between the threads and tasks of one process.
//
// One lock-free ring (Ring.swift) holds the messages; two wait lists (WaitList.swift) hold those who sleep because it is
// empty or full. Every operation first tries the ring; only when that fails does it enter a list, look once more, and sleep.
// Nobody who sleeps means no lock and no system call for the other side.
//
// 1. Whoever was accepted first is received first; messages of one producer keep their order.
// 2. After each success the caller looks for sleepers of the other side and wakes one. It also wakes one of its own side
//    when there is more to do for it: slots may be published out of order, so that one wake-up can stand for two messages.
// 3. A sleeper is woken to try again and may be overtaken; messages keep their order, waiters need not.
// 4. A message is either accepted (and will be received or drained, or freed with the queue) or its sender gets an error.

import MillraceBase
import Synchronization

/// A bounded queue with many producers and many consumers, each a thread or a task.
///
/// Sending waits while the queue is full, receiving while it is empty. In synchronous code `send` and `receive` block the
/// calling thread; in asynchronous code the functions of the same names suspend the task, and can be cancelled. The `try`
/// variants never wait and work everywhere. A queue is also an `AsyncSequence` of its messages.
///
/// Safety: immutable parts only, each of them safe to share.
public final class InProcessQueue<Element: Sendable>: @unchecked Sendable {
  @usableFromInline let ring: Ring<Element>
  @usableFromInline let senders = WaitList()
  @usableFromInline let receivers = WaitList()
  /// Measures the time that tasks wait; threads use the system's monotonic clock.
  let clock: any Clock<Duration>

  /// An empty queue.
  /// - Parameters:
  ///   - capacity: most messages held at any time, at least 1. Memory for all of them is taken at once.
  ///   - clock: measures `within:` for tasks; tests hand in one of their own.
  public init(capacity: Int, clock: any Clock<Duration> = ContinuousClock()) {
    precondition(capacity >= 1 && capacity <= 1 << 40, "a queue with room for \(capacity) messages")
    ring = Ring(capacity: capacity)
    self.clock = clock
  }

  /// Most messages held at any time.
  public var capacity: Int { Int(ring.capacity) }
  /// Messages held now; others may send and receive meanwhile.
  public var count: Int { ring.count }
  /// Whether ``close()`` was called.
  public var isClosed: Bool { ring.isClosed }
  /// Whether the queue is closed and its last message was received.
  public var isFinished: Bool { ring.isFinished }

  /// Ends the queue: nothing is accepted any more, who waits to send gets `.closed`, and receivers get what is there and
  /// then nil. Closing twice is harmless.
  public func close() {
    ring.close()
    senders.wakeAll()
    receivers.wakeAll()
  }

  /// Takes out all messages that were accepted before the call and that nobody else receives. Does not wait for more.
  ///
  /// After ``close()`` nothing is left behind.
  public func drain() -> [Element] {
    var out: [Element] = []
    let end = ring.end
    // A message that was accepted and not yet published is a few instructions away, or its thread is off the processor.
    while ring.start < end {
      if ring.pop(into: &out, maximum: Int(end - ring.start)) > 0 {
        wakeAfterReceiving()
      } else {
        Waiting.yieldThread()
      }
    }
    if ring.isFinished { receivers.wakeAll() }
    return out
  }

  /// Sends without waiting.
  /// - Returns: false when the queue is full.
  /// - Throws: `.closed`.
  @inlinable
  public func trySend(_ element: Element) throws(QueueError) -> Bool {
    switch ring.push(element) {
    case .accepted:
      wakeAfterSending()
      return true
    case .full: return false
    case .closed: throw QueueError(.closed)
    }
  }

  /// Sends as many of `elements`, from the first on, as there is room for, without waiting.
  /// - Returns: how many were accepted.
  /// - Throws: `.closed`, with the number that were accepted before.
  @inlinable
  public func trySend(contentsOf elements: some Collection<Element>) throws(QueueError) -> Int {
    let all = ContiguousArray(elements)
    var sent = 0
    while sent < all.count {
      switch offer(all, &sent) {
      case .accepted: continue
      case .full: return sent
      case .closed: throw QueueError(.closed, accepted: sent)
      }
    }
    return sent
  }

  /// Receives without waiting.
  /// - Returns: nil when there is no message.
  @inlinable
  public func tryReceive() -> Element? {
    guard let element = ring.pop() else { return nil }
    wakeAfterReceiving()
    return element
  }

  /// Receives at most `maximum` messages without waiting; none when there are none.
  @inlinable
  public func tryReceiveBatch(maximum: Int) -> [Element] {
    precondition(maximum >= 1, "a batch of at most \(maximum) messages")
    var out: [Element] = []
    _ = fill(&out, maximum)
    return out
  }

  /// Offers the rest of `all` from `sent` on and counts what was accepted; one run at a time.
  @inlinable
  func offer(_ all: ContiguousArray<Element>, _ sent: inout Int) -> Offer {
    var accepted = 0
    let answer = all.withUnsafeBufferPointer { ring.push(UnsafeBufferPointer(rebasing: $0[sent...]), count: &accepted) }
    if accepted > 0 {
      sent += accepted
      wakeAfterSending()
    }
    return answer
  }

  /// Takes messages until `out` holds `maximum` or none is there.
  /// - Returns: whether any came.
  @inlinable
  func fill(_ out: inout [Element], _ maximum: Int) -> Bool {
    let before = out.count
    while out.count < maximum, ring.pop(into: &out, maximum: maximum - out.count) > 0 { wakeAfterReceiving() }
    return out.count > before
  }

  @inlinable
  @inline(__always)
  func wakeAfterSending() {
    // Between publishing and looking for sleepers, as the wait list demands.
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    if receivers.count.load(ordering: .relaxed) > 0 { receivers.wakeOne() }
    if senders.count.load(ordering: .relaxed) > 0 && ring.isWritable { senders.wakeOne() }
  }

  @inlinable
  @inline(__always)
  func wakeAfterReceiving() {
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    if senders.count.load(ordering: .relaxed) > 0 { senders.wakeOne() }
    if receivers.count.load(ordering: .relaxed) > 0 && ring.isReadable { wakeReceivers() }
  }

  /// For a receiver that was woken and takes nothing.
  func passOnWakeUp() {
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    if receivers.count.load(ordering: .relaxed) > 0 && ring.isReadable { wakeReceivers() }
  }

  /// One for the next message, all for the end.
  @usableFromInline
  func wakeReceivers() {
    if ring.isFinished { receivers.wakeAll() } else { receivers.wakeOne() }
  }
}
