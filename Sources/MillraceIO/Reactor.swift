// Reactor: one thread's event loop, as the code above sees it; Linux and the simulator implement it.

import MillraceBase

/// An event loop that owns everything registered with it and runs plain synchronous code.
///
/// Only ``submit(_:)`` may be called from other threads. A turn is one round of the loop: the events that were ready,
/// then the jobs that were submitted, then the timers that are due, then the end-of-turn jobs.
public protocol Reactor: AnyObject, Sendable {
  /// The monotonic clock.
  var now: MonotonicTime { get }
  /// The wall clock, which may jump.
  var wallClock: Timestamp { get }
  /// Both clocks as they are at this moment; `now` may be as old as the turn.
  var clocks: ClockReading { get }
  /// Whether the caller runs on this reactor's thread.
  var isCurrent: Bool { get }

  /// Runs `job` on the reactor's thread, after what was submitted before. Any thread may call.
  func submit(_ job: @escaping @Sendable () -> Void)

  /// Runs `job` once at the end of the current turn (or of the next, when called outside one). Reactor thread only.
  func atEndOfTurn(_ job: @escaping () -> Void)

  /// Runs `job` after `delay`. Reactor thread only.
  @discardableResult
  func schedule(after delay: Duration, _ job: @escaping () -> Void) -> Timer

  /// Most unread bytes that a connection's handler may leave; a larger message ends the connection.
  var inputLimit: Int { get }

  /// The quickest way to write files that this reactor has; what must block does so on `executor`. Reactor thread only.
  func fileWriter(_ executor: any BlockingExecutor) -> any FileWriter

  /// Listens on `address`, which may be a socket in a directory: one that stands there is replaced, and only this user may
  /// connect. `accept` receives each new connection and returns who handles its input.
  /// - Returns: the listener, with the port that was bound.
  /// - Throws: `.addressInUse`, `.accessDenied` or `.failed`.
  func listen(_ address: SocketAddress, accept: @escaping (any Connection) -> any ConnectionHandler)
    throws(IOError) -> any Listener
}

extension Reactor {
  /// Threads alone.
  public func fileWriter(_ executor: any BlockingExecutor) -> any FileWriter {
    ThreadFileWriter(reactor: self, executor: executor)
  }

  /// 101 MiB, which lets Kafka's largest request (`socket.request.max.bytes`, 100 MiB) in.
  public var inputLimit: Int { 101 << 20 }
}

/// A scheduled job. Cancelling it makes the job never run; cancelling twice is harmless. Reactor thread only.
public final class Timer {
  /// When it is due.
  public let deadline: MonotonicTime
  /// The job, nil once run or cancelled.
  public private(set) var job: (() -> Void)?

  /// For reactors: a timer due at `deadline`.
  public init(deadline: MonotonicTime, job: @escaping () -> Void) {
    self.deadline = deadline
    self.job = job
  }

  /// Makes the job never run.
  public func cancel() { job = nil }

  /// For reactors: takes the job out and runs it.
  public func fire() {
    let held = job
    job = nil
    held?()
  }
}

/// Runs jobs that may block, away from reactors: threads on Linux, later turns in the simulator.
public protocol BlockingExecutor: AnyObject, Sendable {
  /// Runs `job` on some thread of the executor. Any thread may call. Jobs start in order, but may overlap.
  func submit(_ job: @escaping @Sendable () -> Void)
}

/// Lets a reactor-bound value travel inside a job that comes back to its own reactor.
///
/// Safety: `value` is only touched on the reactor that made the box, which `take(on:)` checks.
public struct ReactorBound<Value>: @unchecked Sendable {
  private let value: Value
  private let reactor: any Reactor

  /// Boxes `value`, which belongs to `reactor`.
  public init(_ value: Value, on reactor: any Reactor) {
    self.value = value
    self.reactor = reactor
  }

  /// The value again; traps on another thread than its reactor's.
  public func take() -> Value {
    precondition(reactor.isCurrent, "a value bound to a reactor was taken on another thread")
    return value
  }
}
