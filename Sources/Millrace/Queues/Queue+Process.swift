// Queue+Process: several tasks work off a queue with one function.
//
//   queue ──prefetch──▶ inbox ──one each──▶ `concurrency` tasks: body, then acknowledge, or return when it throws
//
// 1. A task takes a message only when it is done with the one before, and the queue delivers no more than the prefetch: a
//    slow body pushes back on the queue.
// 2. No acknowledgement waits for the disk; the end waits for all of them.
// 3. Closing the queue and cancellation take no message from a running body: it ends, and its message is settled.

import MillraceBase
import MillraceDelivery

extension Queue {
  /// Works off the queue in up to `concurrency` tasks at once, until the queue is closed or the task cancelled.
  ///
  /// When `body` returns, the message is acknowledged; when it throws, it is returned as ``QueueDelivery/nack(after:)`` does,
  /// and delivered again after the queue's ``Queue/Options/retry``, up to its delivery limit. A body may also settle the
  /// message itself. Acknowledgements become durable in the background, and all of them before the call returns: after a crash
  /// the last ones may come again.
  ///
  /// ``close()`` lets running bodies end and makes the call return. Cancellation cancels the bodies; of one that throws
  /// then the message goes back without counting as failed.
  /// - Parameters:
  ///   - concurrency: tasks that run `body`, at least 1.
  ///   - prefetch: messages held ready and worked on, at least `concurrency`; nil for twice that.
  ///   - body: gets one message; runs in child tasks.
  /// - Throws: `.cancelled`; `.unknownQueue` when the queue was deleted; `.storage`, `.closed`.
  public func process(
    concurrency: Int = 8, prefetch: Int? = nil,
    _ body: @escaping @Sendable (QueueDelivery) async throws -> Void
  ) async throws(MillraceError) {
    precondition(
      concurrency >= 1 && prefetch ?? concurrency >= concurrency,
      "\(concurrency) tasks with a prefetch of \(prefetch ?? concurrency)")
    let subscription = try await QueueSubscription.open(self, prefetch: prefetch ?? 2 * concurrency)
    let outcome = await withTaskGroup(of: MillraceError?.self) { group in
      for _ in 0..<concurrency { group.addTask { await subscription.work(body) } }
      var failure: MillraceError?
      for await result in group { failure = failure ?? result }
      return failure
    }
    subscription.link.stop(returning: [])
    try await subscription.link.settled()
    if let outcome { throw outcome }
    if Task.isCancelled { throw MillraceError(.cancelled, "cancelled while working off queue \(name)") }
  }
}

extension QueueSubscription {
  /// One task: message after message.
  /// - Returns: why it ended, when that was a failure.
  fileprivate func work(_ body: @Sendable (QueueDelivery) async throws -> Void) async -> MillraceError? {
    let id = inbox.newID()
    var taken: [Delivery] = []
    while true {
      if Task.isCancelled {
        inbox.passOn()
        return nil
      }
      taken.removeAll(keepingCapacity: true)
      guard inbox.take(into: &taken, limit: 1), let raw = taken.first else {
        do throws(MillraceError) {
          if try inbox.isFinished() { return nil }
        } catch {
          return error
        }
        await inbox.sleep(id)
        continue
      }
      let mark = SettledMark()
      do {
        try await body(QueueDelivery(raw, self, mark))
        if mark.set() { link.acknowledge(raw.position) }
      } catch {
        guard mark.set() else { continue }
        // Not the message's fault.
        let isFailure = !Task.isCancelled
        link.settle([raw.position], .requeue(isFailure: isFailure, after: isFailure ? nil : .zero))
      }
    }
  }
}
