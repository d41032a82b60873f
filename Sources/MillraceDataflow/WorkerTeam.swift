// WorkerTeam: the threads of a job of several workers, and the barrier between the phases of their work.

import MillraceBase
import Synchronization

/// Threads that do one piece of work after the other, each its share. The caller's thread does share 0.
///
/// A piece of work takes as long as it takes a thread to fall asleep and to be woken a few times, so that both sides look for the next
/// one for some microseconds before they sleep.
final class WorkerTeam: Sendable {
  let count: Int
  private let board: WorkBoard
  private let threads: [WorkerThread]

  /// Starts `count` − 1 threads.
  init(count: Int) {
    self.count = count
    let board = WorkBoard()
    self.board = board
    threads = (1..<count).map { share in WorkerThread { board.serve(share) } }
  }

  deinit {
    board.close()
    for thread in threads { thread.join() }
  }

  /// Calls `body` with each share, each on its thread, and returns when all have returned. What was written before is seen by
  /// all, and what they write is seen afterwards. One thread at a time may call.
  func run(_ body: @escaping @Sendable (Int) -> Void) {
    board.post(body, to: count - 1)
    body(0)
    board.waitForAll()
  }
}

/// Where a team's work is posted, and where it is told that a share was done.
///
/// Safety: `@unchecked Sendable` because `body` is written while nobody works, before the number that announces it.
private final class WorkBoard: @unchecked Sendable {
  /// How often one looks before it sleeps: some tens of microseconds.
  private static var looks: Int { 2000 }
  private static var closed: UInt64 { 1 << 63 }

  /// Number of the work that was posted last; the highest bit says that no more comes.
  private let number = Atomic<UInt64>(0)
  private let left = Atomic<Int>(0)
  private var body: (@Sendable (Int) -> Void)?
  private let posted = ThreadSignal()
  private let done = ThreadSignal()

  func post(_ body: @escaping @Sendable (Int) -> Void, to count: Int) {
    self.body = body
    left.store(count, ordering: .relaxed)
    announce(number.load(ordering: .relaxed) + 1)
  }

  /// Ends all ``serve(_:)``.
  func close() { announce(WorkBoard.closed) }

  private func announce(_ next: UInt64) {
    posted.locked {
      number.store(next, ordering: .releasing)
      posted.signal()
    }
  }

  /// Returns when every thread has done its share.
  func waitForAll() {
    wait(done) { left.load(ordering: .acquiring) == 0 }
    body = nil
  }

  /// Does `share` of whatever is posted, until no more comes.
  func serve(_ share: Int) {
    var seen: UInt64 = 0
    while true {
      wait(posted) { number.load(ordering: .acquiring) != seen }
      seen = number.load(ordering: .acquiring)
      if seen == WorkBoard.closed { return }
      body?(share)
      if left.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { done.locked { done.signal() } }
    }
  }

  /// Looks for a while, and then sleeps, until `isDone`; who makes it so signals afterwards.
  private func wait(_ signal: ThreadSignal, _ isDone: () -> Bool) {
    for _ in 0..<WorkBoard.looks {
      if isDone() { return }
      SystemClock.pause()
    }
    signal.locked { while !isDone() { signal.wait() } }
  }
}
