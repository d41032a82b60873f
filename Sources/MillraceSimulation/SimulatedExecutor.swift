// SimulatedExecutor: blocking jobs as events at random later times.

import MillraceBase
import MillraceIO

/// Stands for a pool of threads: jobs start in order, as many at a time as there are threads, and take effect at the end
/// of a random time, so that jobs which overlap finish in any order.
///
/// Safety: as its world, used by one thread.
public final class SimulatedExecutor: BlockingExecutor, @unchecked Sendable {
  private let world: SimulatedWorld
  private let threads: Int
  private let delay: ClosedRange<Duration>
  /// One job in so many takes a hundred times as long; nil for none.
  public var slowOneIn: Int? = 50
  private var queue: [@Sendable () -> Void] = []
  private var running = 0
  private var isDead = false

  /// An executor of the current machine.
  public init(
    world: SimulatedWorld, threads: Int = 4, delay: ClosedRange<Duration> = .microseconds(20) ... .milliseconds(1)
  ) {
    precondition(threads > 0, "an executor with \(threads) threads")
    self.world = world
    self.threads = threads
    self.delay = delay
    world.register(self)
  }

  /// Runs `job` in an event of its own.
  public func submit(_ job: @escaping @Sendable () -> Void) {
    guard !isDead else { return }
    queue.append(job)
    startJobs()
  }

  /// Drops the jobs that wait, which may know who has this executor: the machine has ended.
  func discard() {
    isDead = true
    queue = []
  }

  private func startJobs() {
    while running < threads && !queue.isEmpty {
      running += 1
      let job = queue.removeFirst()
      var time = world.randomDelay(delay)
      if let slowOneIn, world.random.oneIn(slowOneIn) { time = time * 100 }
      world.scheduleOnMachine(after: time) { [self] in
        running -= 1
        job()
        startJobs()
      }
    }
  }
}
