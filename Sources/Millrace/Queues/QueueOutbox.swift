// QueueOutbox: publications of one queue on their way from tasks to the broker's thread, many at a time.
//
// A publication is put into a list under a lock. The first one submits a job that takes the list; what comes until that
// runs goes along. So a busy broker gets large batches with one hop each, and an idle one gets a message at once.
//
// Invariants:
// 1. While `waiting` is not empty a job is submitted, or runs, that comes to it (`isSubmitted`).
// 2. `held` and `heldBytes` count what was accepted and is not in the queue yet, durably if the queue is durable. Beyond
//    the limits, and while the broker is short of memory or disk, senders wait; one message always goes. They are woken
//    when half of the room is free, so that a sender that is faster than the broker sleeps seldom.
// 3. A publication with an answer gets one; what goes wrong with one without is kept for the next flush.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceRouting
import Synchronization

/// The way of messages into one queue.
final class QueueOutbox: Sendable {
  /// Accepted and not in the queue yet.
  static let messageLimit = 16_384
  static let byteLimit = 16 << 20

  /// Messages, and who waits for some of them, by rising index.
  struct Run: Sendable {
    var messages: [DirectMessage] = []
    var answers: [(index: Int, answer: Answer<Void>)] = []

    mutating func removeAll() {
      messages.removeAll(keepingCapacity: messages.capacity <= 2 * QueueOutbox.messageLimit)
      answers.removeAll(keepingCapacity: true)
    }
  }

  private struct State {
    var waiting = Run()
    var isSubmitted = false
    var held = 0
    var heldBytes = 0
    /// The broker wants publishers to wait.
    var isPressed = false
    /// Nothing is accepted any more.
    var end: MillraceError?
    /// The first failure that no answer told.
    var failure: MillraceError?
    var senders = SleeperList()
    /// Of all messages so far, accepted ones and those with an outcome, which come in the same order.
    var accepted = 0
    var ended = 0
    /// Who waits for an outcome of the first so many, by rising number.
    var flushing = Deque<(target: Int, continuation: CheckedContinuation<Void, Never>)>()

    var hasRoom: Bool {
      !isPressed && (held == 0 || held < QueueOutbox.messageLimit && heldBytes < QueueOutbox.byteLimit)
    }

    mutating func takeSenders() -> [CheckedContinuation<Void, Never>] {
      guard senders.count > 0, hasRoom,
        held <= QueueOutbox.messageLimit / 2 && heldBytes <= QueueOutbox.byteLimit / 2
      else { return [] }
      return senders.removeAll()
    }
  }

  let address: QueueAddress
  private let parts: BrokerParts
  private let state = Mutex(State())

  init(_ address: QueueAddress, _ parts: BrokerParts) {
    self.address = address
    self.parts = parts
  }

  // MARK: Tasks

  /// Accepts a message, and suspends while there is no room.
  /// - Throws: `.cancelled` when the task was cancelled meanwhile, `.closed`, `.unknownQueue`; the message was not accepted.
  func put(_ message: DirectMessage, _ end: ReactorBound<QueuePublications>) async throws(MillraceError) {
    while try !offer(message, end) { try await sleep() }
  }

  /// Accepts a message as ``put(_:_:)`` does, and suspends until the queue has it.
  func publish(_ message: DirectMessage, _ end: ReactorBound<QueuePublications>) async throws(MillraceError) {
    try await room()
    let result = await withCheckedContinuation { continuation in
      let answer = Answer<Void>(continuation)
      do throws(MillraceError) {
        // Others may have taken the room meanwhile: a few more than the limit do no harm.
        _ = try offer(message, end, answer)
      } catch {
        answer.give(.failure(error))
      }
    }
    try result.get()
  }

  /// Suspends while there is no room.
  func room() async throws(MillraceError) {
    while !(try hasRoom()) { try await sleep() }
  }

  private func hasRoom() throws(MillraceError) -> Bool {
    try state.withLock { state throws(MillraceError) in
      if let end = state.end { throw end }
      return state.hasRoom
    }
  }

  /// Accepts a message; one with an answer always.
  /// - Returns: false when there is no room.
  func offer(
    _ message: DirectMessage, _ end: ReactorBound<QueuePublications>, _ answer: Answer<Void>? = nil
  ) throws(MillraceError) -> Bool {
    let size = message.sizeUnderWay
    let (isAccepted, isFirst) = try state.withLock { state throws(MillraceError) in
      if let end = state.end { throw end }
      guard answer != nil || state.hasRoom else { return (false, false) }
      state.accepted += 1
      state.held += 1
      state.heldBytes += size
      if let answer { state.waiting.answers.append((state.waiting.messages.count, answer)) }
      state.waiting.messages.append(message)
      defer { state.isSubmitted = true }
      return (true, !state.isSubmitted)
    }
    if isFirst { submit(end) }
    return isAccepted
  }

  private func submit(_ end: ReactorBound<QueuePublications>) {
    parts.reactor.submit { [self] in
      if end.take().publish() { submit(end) }
    }
  }

  private func sleep() async throws(MillraceError) {
    if Task.isCancelled { throw .cancelledWhileWaiting }
    let id = state.withLock { $0.senders.newID() }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isReady = state.withLock { state in
          if state.end != nil || state.hasRoom || Task.isCancelled { return true }
          state.senders.add(id, continuation)
          return false
        }
        if isReady { continuation.resume() }
      }
    } onCancel: {
      state.withLock { $0.senders.remove(id) }?.resume()
    }
  }

  /// Suspends until the queue has all that was accepted before the call.
  /// - Throws: the first failure of a message without an answer, once.
  func flush() async throws(MillraceError) {
    await arrive()
    let failure = state.withLock { state in
      defer { state.failure = nil }
      return state.failure
    }
    if let failure { throw failure }
  }

  /// Suspends until all that was accepted before the call has its outcome: what is asked of the queue then comes behind it.
  func arrive() async {
    if state.withLock({ $0.held == 0 }) { return }
    await withCheckedContinuation { continuation in
      let isDone = state.withLock { state in
        if state.held == 0 { return true }
        state.flushing.append((state.accepted, continuation))
        return false
      }
      if isDone { continuation.resume() }
    }
  }

  /// Refuses what comes from now on.
  func close(_ error: MillraceError) {
    let senders = state.withLock { state in
      if state.end == nil { state.end = error }
      return state.senders.removeAll()
    }
    for sender in senders { sender.resume() }
  }

  /// Nothing that was accepted will be heard of any more.
  func abandon(_ error: MillraceError) {
    close(error)
    let (run, flushing) = state.withLock { state in
      defer {
        state.waiting = Run()
        state.flushing = Deque()
      }
      if state.held > 0, state.failure == nil { state.failure = error }
      state.held = 0
      state.heldBytes = 0
      return (state.waiting, state.flushing)
    }
    for (_, answer) in run.answers { answer.give(.failure(error)) }
    for index in 0..<flushing.count { flushing[index].continuation.resume() }
  }

  // MARK: The broker's thread

  /// Exchanges `run`, which is done with, for what waits.
  /// - Returns: false when nothing does; then whoever comes next submits a job.
  func take(_ run: inout Run) -> Bool {
    run.removeAll()
    return state.withLock { state in
      state.isSubmitted = !state.waiting.messages.isEmpty
      if state.isSubmitted { swap(&run, &state.waiting) }
      return state.isSubmitted
    }
  }

  /// These messages are in the queue, or never will be.
  func ended(_ count: Int, bytes: Int, failure: MillraceError? = nil) {
    let woken = state.withLock { state in
      state.ended += count
      state.held = max(0, state.held - count)
      state.heldBytes = max(0, state.heldBytes - bytes)
      if let failure, state.failure == nil { state.failure = failure }
      var woken = state.takeSenders()
      while let first = state.flushing.first, first.target <= state.ended {
        woken.append(state.flushing.removeFirst().continuation)
      }
      return woken
    }
    for continuation in woken { continuation.resume() }
  }

  /// The broker wants publishers to wait, or no longer.
  func press(_ isPressed: Bool) {
    let senders = state.withLock { state -> [CheckedContinuation<Void, Never>] in
      state.isPressed = isPressed
      return state.takeSenders()
    }
    for sender in senders { sender.resume() }
  }
}
