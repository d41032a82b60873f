// ProcessedMessages: maps a queue's messages in parallel and gives the results as a sequence, in order or as they come.
//
//   queue ──take, number──▶ `concurrency` workers ──finish──▶ results ──next()──▶ consumer
//                ▲                                                        │
//                └───────────────────────── permits ◀─────────────────────┘
//
// 1. A worker needs a permit before it takes a message, and the consumer gives it back when it gets the result. There are
//    2 × concurrency permits, so never more messages are between the queue and the consumer: a slow consumer, or a slow
//    first message in ordered mode, pushes back on the queue.
// 2. Taking and numbering is one step under a lock, so numbers follow the order of the queue without gaps, also when others
//    receive from the same queue.
// 3. Ordered mode holds a result back until all with lower numbers are out. The lowest number always has a worker.
// 4. The first failure is a result like any other; after it no worker takes a message. In ordered mode the results before
//    it still come; then the sequence throws it and ends.
// 5. Workers never refer to the iterator: when it goes (or its task is cancelled) it cancels them.

extension InProcessQueue {
  /// Maps messages with `transform` in up to `concurrency` tasks at once.
  ///
  /// Work starts when the result is iterated, and stops when the iteration ends, by `break`, error or cancellation; messages
  /// that were taken from the queue by then and whose results were not delivered are gone, at most 2 × `concurrency`.
  /// - Parameters:
  ///   - concurrency: tasks that run `transform`, at least 1.
  ///   - ordered: whether results keep the order of the messages; otherwise they come as they are ready.
  ///   - transform: what it throws ends the sequence, which throws it too.
  /// - Returns: the results; ends when the queue is closed and all its messages are processed.
  public func process<Output: Sendable>(
    concurrency: Int, ordered: Bool = true, _ transform: @escaping @Sendable (Element) async throws -> Output
  ) -> ProcessedMessages<Element, Output> {
    precondition(concurrency >= 1, "processing with \(concurrency) tasks")
    return ProcessedMessages(queue: self, concurrency: concurrency, ordered: ordered, transform: transform)
  }
}

/// The results of ``InProcessQueue/process(concurrency:ordered:_:)``. Each iteration has its own workers.
public struct ProcessedMessages<Input: Sendable, Output: Sendable>: AsyncSequence, Sendable {
  /// A result.
  public typealias Element = Output
  /// What `transform` threw, or `CancellationError`.
  public typealias Failure = any Error

  let queue: InProcessQueue<Input>
  let concurrency: Int
  let ordered: Bool
  let transform: @Sendable (Input) async throws -> Output

  /// Starts the workers.
  public func makeAsyncIterator() -> AsyncIterator {
    let work = Work(self)
    let (concurrency, transform) = (concurrency, transform)
    let workers = Task {
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<concurrency {
          group.addTask { await work.run(transform) }
        }
      }
      work.results.close()
    }
    return AsyncIterator(work: work, run: Run(workers))
  }

  /// Gives the results one by one. For one task at a time.
  public struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate let work: Work
    fileprivate let run: Run

    /// The next result; nil at the end, and after an error.
    /// - Throws: what `transform` threw; `CancellationError` when the calling task is cancelled.
    public mutating func next() async throws -> Output? {
      if run.hasEnded { return nil }
      let received: Result<Output, any Error>?
      do throws(QueueError) { received = try await work.results.receive() } catch {
        run.end()
        throw CancellationError()
      }
      switch received {
      case .success(let output):
        // There is always room: the permit was taken from here. Nobody closes the permits but a failure.
        work.permits.giveBack()
        return output
      case .failure(let error):
        run.end()
        throw error
      case nil:
        run.end()
        return nil
      }
    }
  }

  /// Cancels the workers when the iterator goes.
  ///
  /// Safety: `hasEnded` is touched only by the one task that iterates.
  fileprivate final class Run: @unchecked Sendable {
    private let workers: Task<Void, Never>
    private(set) var hasEnded = false

    init(_ workers: Task<Void, Never>) { self.workers = workers }

    deinit { workers.cancel() }

    func end() {
      hasEnded = true
      workers.cancel()
    }
  }

  /// What the workers of one iteration share.
  fileprivate final class Work: Sendable {
    private struct Order {
      /// Number of the next message to be taken.
      var next = 0
      /// Number of the next result to be given out, and those that wait for it.
      var nextOut = 0
      var held: [Int: Result<Output, any Error>] = [:]
      var hasFailed = false
    }

    private enum Taken {
      case message(Int, Input)
      case none
      case stop
    }

    let queue: InProcessQueue<Input>
    let ordered: Bool
    let permits: Permits
    let results: InProcessQueue<Result<Output, any Error>>
    private let order = Guarded(Order())

    init(_ sequence: ProcessedMessages) {
      queue = sequence.queue
      ordered = sequence.ordered
      permits = Permits(2 * sequence.concurrency)
      results = InProcessQueue<Result<Output, any Error>>(capacity: 2 * sequence.concurrency)
    }

    func run(_ transform: @Sendable (Input) async throws -> Output) async {
      do throws(QueueError) {
        while try await permits.take() {
          guard let (number, message) = try await takeMessage() else { return }
          let result: Result<Output, any Error>
          do { result = .success(try await transform(message)) } catch { result = .failure(error) }
          finish(number, result)
        }
      } catch {
        // Cancelled: the consumer is gone.
      }
    }

    private func takeMessage() async throws(QueueError) -> (Int, Input)? {
      while true {
        switch takeIfThere() {
        case .message(let number, let message): return (number, message)
        case .stop:
          // The wake-up that brought us here may have stood for a message: somebody else gets it.
          queue.passOnWakeUp()
          return nil
        case .none: try await queue.waitUntilReadable()
        }
      }
    }

    private func takeIfThere() -> Taken {
      // Cancelled workers leave what is there to others.
      if Task.isCancelled { return .stop }
      return order.withLock { order in
        if order.hasFailed { return .stop }
        guard let message = queue.tryReceive() else { return queue.endIfFinished() ? .stop : .none }
        defer { order.next += 1 }
        return .message(order.next, message)
      }
    }

    private func finish(_ number: Int, _ result: Result<Output, any Error>) {
      order.withLock { order in
        if case .failure = result {
          order.hasFailed = true
          permits.close()
        }
        guard ordered else {
          give(result)
          return
        }
        order.held[number] = result
        while let next = order.held.removeValue(forKey: order.nextOut) {
          order.nextOut += 1
          give(next)
        }
      }
    }

    private func give(_ result: Result<Output, any Error>) {
      let offer = results.ring.push(result)
      precondition(offer == .accepted, "\(results.count) results for \(results.capacity) permits: \(offer)")
      results.wakeAfterSending()
    }
  }
}

/// A bounded number of permits, handed out in the order of demand.
struct Permits: Sendable {
  private let queue: InProcessQueue<Bool>

  init(_ count: Int) {
    queue = InProcessQueue(capacity: count)
    for _ in 0..<count { giveBack() }
  }

  /// Waits for a permit; false when no more are given.
  func take() async throws(QueueError) -> Bool { try await queue.receive() ?? false }

  /// Returns a permit; after ``close()`` it is dropped.
  func giveBack() {
    let offer = queue.ring.push(true)
    precondition(offer != .full, "more permits given back than were taken")
    if offer == .accepted { queue.wakeAfterSending() }
  }

  /// Those left may still be taken; none comes back.
  func close() { queue.close() }
}
