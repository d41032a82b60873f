// BackgroundJobs: counts the jobs that change files away from the reactor, so that closing can wait for them.

import MillraceIO

/// Jobs under way on the background executor. Belongs to the log's reactor.
///
/// A job that still ran when the directory's lock is given up could write over what the next owner has written.
final class BackgroundJobs {
  private let reactor: any Reactor
  private let background: any BlockingExecutor
  private var running = 0
  private var waiting: [() -> Void] = []

  init(reactor: any Reactor, background: any BlockingExecutor) {
    self.reactor = reactor
    self.background = background
  }

  /// Runs `job` in the background and `completion` with its result on the reactor.
  func run<Result: Sendable>(_ job: @escaping @Sendable () -> Result, completion: @escaping (Result) -> Void) {
    running += 1
    let box = ReactorBound((self, completion), on: reactor)
    let reactor = reactor
    background.submit {
      let result = job()
      reactor.submit {
        let (jobs, completion) = box.take()
        completion(result)
        jobs.ended()
      }
    }
  }

  /// Calls `body` when no job is under way: at once if there is none.
  func whenIdle(_ body: @escaping () -> Void) {
    if running == 0 { body() } else { waiting.append(body) }
  }

  private func ended() {
    running -= 1
    guard running == 0 else { return }
    let told = waiting
    waiting = []
    for body in told { whenIdle(body) }
  }
}
