// PlayedReactor: a reactor without sockets, whose turns and clock somebody drives by hand.

import MillraceBase
import MillraceIO

/// A reactor whose turns and clock are driven by hand, for what stands between a connection and its handler.
///
/// Safety: used on one thread only.
public final class PlayedReactor: Reactor, @unchecked Sendable {
  /// Most bytes of input that a connection holds.
  public var inputLimit = 101 << 20
  /// Moved by ``advance(_:)`` alone.
  public private(set) var now = MonotonicTime(nanoseconds: 0)
  private var endOfTurn: [() -> Void] = []
  private var timers: [MillraceIO.Timer] = []
  /// Sends at the end of each phase, as an epoll reactor does.
  public var sendUnsent: () -> Void = {}

  /// A reactor whose clock stands at 0.
  public init() {}

  /// Stands still.
  public var wallClock: Timestamp { Timestamp(milliseconds: 0) }
  /// The machine's.
  public var clocks: ClockReading { .now }
  /// Always: there is one thread.
  public var isCurrent: Bool { true }
  /// Nothing waits for the end of the turn.
  public var isIdle: Bool { endOfTurn.isEmpty }

  /// Nobody may call it.
  public func submit(_ job: @escaping @Sendable () -> Void) { preconditionFailure("nothing here is submitted") }
  /// Runs `job` at the end of the turn.
  public func atEndOfTurn(_ job: @escaping () -> Void) { endOfTurn.append(job) }
  /// Runs `job` when the clock has been moved on by so much.
  public func schedule(after delay: Duration, _ job: @escaping () -> Void) -> MillraceIO.Timer {
    let timer = MillraceIO.Timer(deadline: now + delay, job: job)
    timers.append(timer)
    return timer
  }
  /// Fails: there are no sockets.
  public func listen(_ address: SocketAddress, accept: @escaping (any Connection) -> any ConnectionHandler)
    throws(IOError) -> any Listener
  {
    throw IOError(.unsupported, operation: "listen", subject: "a played reactor", reason: "it has no sockets")
  }

  /// One turn, whose event is `body`.
  public func turn(_ body: () -> Void = {}) {
    body()
    sendUnsent()
    let due = endOfTurn
    endOfTurn = []
    for job in due { job() }
    sendUnsent()
  }

  /// Moves the clock on, and has a turn with what is due.
  public func advance(_ delay: Duration) {
    now = now + delay
    turn { for timer in timers where timer.deadline <= now { timer.fire() } }
  }
}
