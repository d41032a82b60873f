// InProcessQueue for tasks: calls that suspend, never block a thread, and can be cancelled without losing a message.

import MillraceBase
import Synchronization

extension InProcessQueue {
  /// Sends, suspending the task while the queue is full.
  /// - Throws: `.closed`; `.cancelled` when the task was cancelled while it waited: then the message was not sent.
  public func send(_ element: Element) async throws(QueueError) {
    if try trySend(element) { return }
    try await sendSlowly(element, Patience(senders))
  }

  /// Sends, suspending the task for at most `limit` while the queue is full.
  /// - Throws: `.closed`, `.timedOut`, `.cancelled`; in each case the message was not sent.
  public func send(_ element: Element, within limit: Duration) async throws(QueueError) {
    if try trySend(element) { return }
    let patience = Patience(senders, limit, clock)
    defer { patience.end() }
    try await sendSlowly(element, patience)
  }

  /// Sends all of `elements` in order, suspending the task while the queue is full.
  ///
  /// Runs of them are accepted together; other producers' messages may come between two runs.
  /// - Throws: `.closed` or `.cancelled`, with the number that were accepted before.
  public func send(contentsOf elements: some Collection<Element>) async throws(QueueError) {
    let all = ContiguousArray(elements)
    var sent = 0
    let patience = Patience(senders)
    while sent < all.count {
      switch offer(all, &sent) {
      case .accepted: continue
      case .full:
        if Task.isCancelled { throw QueueError(.cancelled, accepted: sent) }
        await patience.wait { ring.isWritable }
      case .closed: throw QueueError(.closed, accepted: sent)
      }
    }
  }

  /// Receives, suspending the task while the queue is empty.
  /// - Returns: nil when the queue is closed and has no more messages.
  /// - Throws: `.cancelled` when the task was cancelled while it waited: then no message was taken.
  public func receive() async throws(QueueError) -> Element? {
    if let element = tryReceive() { return element }
    return try await receiveSlowly(Patience(receivers))
  }

  /// Receives, suspending the task for at most `limit` while the queue is empty.
  /// - Returns: nil when the queue is closed and has no more messages.
  /// - Throws: `.timedOut`, `.cancelled`; in each case no message was taken.
  public func receive(within limit: Duration) async throws(QueueError) -> Element? {
    if let element = tryReceive() { return element }
    let patience = Patience(receivers, limit, clock)
    defer { patience.end() }
    return try await receiveSlowly(patience)
  }

  /// Receives what is there, at most `maximum` messages, suspending the task until there is one.
  /// - Returns: at least one message; nil when the queue is closed and has no more.
  /// - Throws: `.cancelled` when the task was cancelled while it waited: then no message was taken.
  public func receiveBatch(maximum: Int) async throws(QueueError) -> [Element]? {
    precondition(maximum >= 1, "a batch of at most \(maximum) messages")
    var out: [Element] = []
    let patience = Patience(receivers)
    while !fill(&out, maximum) {
      if endIfFinished() { return nil }
      if Task.isCancelled { throw QueueError(.cancelled) }
      await patience.wait { ring.isReadable }
    }
    return out
  }

  /// Receives `maximum` messages, or as many as came when `limit` has passed, whichever is first.
  /// - Returns: fewer than `maximum` when the time passed (maybe none), the queue was closed or the task was cancelled; nil
  ///   when the queue is closed and has no more messages.
  /// - Throws: `.cancelled` when the task was cancelled while it waited and no message had come yet.
  public func receiveBatch(maximum: Int, within limit: Duration) async throws(QueueError) -> [Element]? {
    precondition(maximum >= 1, "a batch of at most \(maximum) messages")
    var out: [Element] = []
    _ = fill(&out, maximum)
    if out.count == maximum { return out }
    let patience = Patience(receivers, limit, clock)
    defer { patience.end() }
    while true {
      _ = fill(&out, maximum)
      if out.count == maximum { return out }
      if endIfFinished() { return out.isEmpty ? nil : out }
      if Task.isCancelled {
        if out.isEmpty { throw QueueError(.cancelled) }
        return out
      }
      if patience.isExhausted { return out }
      await patience.wait { ring.isReadable }
    }
  }

  /// Waits until a message is there or the queue is finished, and takes nothing.
  func waitUntilReadable() async throws(QueueError) {
    let patience = Patience(receivers)
    while !ring.isReadable {
      if Task.isCancelled { throw QueueError(.cancelled) }
      await patience.wait { ring.isReadable }
    }
  }

  private func sendSlowly(_ element: Element, _ patience: Patience) async throws(QueueError) {
    while true {
      if try trySend(element) { return }
      if Task.isCancelled { throw QueueError(.cancelled) }
      if patience.isExhausted { throw QueueError(.timedOut) }
      await patience.wait { ring.isWritable }
    }
  }

  private func receiveSlowly(_ patience: Patience) async throws(QueueError) -> Element? {
    while true {
      if let element = tryReceive() { return element }
      if endIfFinished() { return nil }
      if Task.isCancelled { throw QueueError(.cancelled) }
      if patience.isExhausted { throw QueueError(.timedOut) }
      await patience.wait { ring.isReadable }
    }
  }
}

/// The waiting of one asynchronous call, with its time-out if it has one.
private struct Patience {
  private let list: WaitList
  private let waiter = Waiter()
  private let timer: Task<Void, Never>?

  init(_ list: WaitList) {
    self.list = list
    timer = nil
  }

  init(_ list: WaitList, _ limit: Duration, _ clock: any Clock<Duration>) {
    self.list = list
    guard limit > .zero else {
      timer = nil
      list.interrupt(waiter)
      return
    }
    let waiter = waiter
    timer = Task {
      do { try await clock.sleep(for: limit) } catch {
        // Cancelled: the call has its answer.
        return
      }
      list.interrupt(waiter)
    }
  }

  /// Whether the time has passed.
  var isExhausted: Bool { list.isInterrupted(waiter) }

  func wait(unless ready: () -> Bool) async { await list.wait(waiter, unless: ready) }

  func end() { timer?.cancel() }
}

extension InProcessQueue: AsyncSequence {
  /// Receives one message after the other; several iterators share the messages among them.
  public struct AsyncIterator: AsyncIteratorProtocol {
    private let queue: InProcessQueue

    init(_ queue: InProcessQueue) { self.queue = queue }

    /// The next message; nil when the queue is closed and empty, or when the task was cancelled.
    public func next() async -> Element? {
      do throws(QueueError) { return try await queue.receive() } catch {
        // Only cancellation gets here, and a cancelled loop ends, as those over the standard library's streams do.
        return nil
      }
    }
  }

  /// An iterator over what nobody else receives.
  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(self) }
}
