// InProcessQueue for threads: calls that block the calling thread while the queue is full or empty.

import Glibc
import MillraceBase

/// How long a thread looks before it sleeps.
@usableFromInline
enum Waiting {
  /// Looks without giving up the processor: the other side may be a few instructions away.
  static let looks = 64
  /// Looks that give up the processor in between. Falling asleep and being woken costs about 10 of these.
  static let yields = 20

  static func yieldThread() { sched_yield() }
}

extension InProcessQueue {
  /// Sends, blocking the thread while the queue is full.
  /// - Throws: `.closed`.
  @inlinable
  @available(*, noasync, message: "in asynchronous code use await")
  public func send(_ element: Element) throws(QueueError) {
    if try trySend(element) { return }
    try sendSlowly(element, until: nil)
  }

  /// Sends, blocking the thread for at most `limit` while the queue is full.
  /// - Throws: `.closed`, `.timedOut`.
  @available(*, noasync, message: "in asynchronous code use await")
  public func send(_ element: Element, within limit: Duration) throws(QueueError) {
    if try trySend(element) { return }
    try sendSlowly(element, until: MonotonicTime.now + limit)
  }

  /// Sends all of `elements` in order, blocking the thread while the queue is full.
  ///
  /// Runs of them are accepted together; other producers' messages may come between two runs.
  /// - Throws: `.closed`, with the number that were accepted before.
  @inlinable
  @available(*, noasync, message: "in asynchronous code use await")
  public func send(contentsOf elements: some Collection<Element>) throws(QueueError) {
    let all = ContiguousArray(elements)
    var sent = 0
    while sent < all.count {
      switch offer(all, &sent) {
      case .accepted: continue
      case .full: sleepToSend(until: nil)
      case .closed: throw QueueError(.closed, accepted: sent)
      }
    }
  }

  /// Receives, blocking the thread while the queue is empty.
  /// - Returns: nil when the queue is closed and has no more messages.
  @inlinable
  @available(*, noasync, message: "in asynchronous code use await")
  public func receive() -> Element? {
    tryReceive() ?? receiveSlowly()
  }

  /// Receives, blocking the thread for at most `limit` while the queue is empty.
  /// - Returns: nil when the queue is closed and has no more messages.
  /// - Throws: `.timedOut`.
  @available(*, noasync, message: "in asynchronous code use await")
  public func receive(within limit: Duration) throws(QueueError) -> Element? {
    if let element = tryReceive() { return element }
    let deadline = MonotonicTime.now + limit
    while true {
      if let element = tryReceive() { return element }
      if endIfFinished() { return nil }
      if MonotonicTime.now >= deadline { throw QueueError(.timedOut) }
      sleepToReceive(until: deadline)
    }
  }

  /// Receives what is there, at most `maximum` messages, blocking the thread until there is one.
  /// - Returns: at least one message; nil when the queue is closed and has no more.
  @inlinable
  @available(*, noasync, message: "in asynchronous code use await")
  public func receiveBatch(maximum: Int) -> [Element]? {
    precondition(maximum >= 1, "a batch of at most \(maximum) messages")
    var out: [Element] = []
    while !fill(&out, maximum) {
      if endIfFinished() { return nil }
      sleepToReceive(until: nil)
    }
    return out
  }

  /// Receives `maximum` messages, or as many as came when `limit` has passed, whichever is first.
  /// - Returns: fewer than `maximum` when the time passed (maybe none) or the queue was closed; nil when the queue is closed
  ///   and has no more messages.
  @available(*, noasync, message: "in asynchronous code use await")
  public func receiveBatch(maximum: Int, within limit: Duration) -> [Element]? {
    precondition(maximum >= 1, "a batch of at most \(maximum) messages")
    let deadline = MonotonicTime.now + limit
    var out: [Element] = []
    while true {
      _ = fill(&out, maximum)
      if out.count == maximum { return out }
      if endIfFinished() { return out.isEmpty ? nil : out }
      if MonotonicTime.now >= deadline { return out }
      sleepToReceive(until: deadline)
    }
  }

  @usableFromInline
  func sendSlowly(_ element: Element, until deadline: MonotonicTime?) throws(QueueError) {
    while true {
      if try trySend(element) { return }
      if let deadline, MonotonicTime.now >= deadline { throw QueueError(.timedOut) }
      sleepToSend(until: deadline)
    }
  }

  @usableFromInline
  func receiveSlowly() -> Element? {
    while true {
      if let element = tryReceive() { return element }
      if endIfFinished() { return nil }
      sleepToReceive(until: nil)
    }
  }

  /// Whether there will be no more messages; then all who wait for one learn it too.
  @usableFromInline
  func endIfFinished() -> Bool {
    guard ring.isFinished else { return false }
    if receivers.count.load(ordering: .sequentiallyConsistent) > 0 { receivers.wakeAll() }
    return true
  }

  @usableFromInline
  func sleepToSend(until deadline: MonotonicTime?) {
    if looked({ ring.isWritable }) { return }
    senders.wait(Waiter(), Parker(), until: deadline) { ring.isWritable }
  }

  @usableFromInline
  func sleepToReceive(until deadline: MonotonicTime?) {
    if looked({ ring.isReadable }) { return }
    receivers.wait(Waiter(), Parker(), until: deadline) { ring.isReadable }
  }

  /// Looks for a while before the caller sleeps.
  private func looked(_ ready: () -> Bool) -> Bool {
    for _ in 0..<Waiting.looks where ready() { return true }
    for _ in 0..<Waiting.yields {
      Waiting.yieldThread()
      if ready() { return true }
    }
    return false
  }
}
