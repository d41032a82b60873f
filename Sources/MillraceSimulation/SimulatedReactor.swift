// SimulatedReactor: a reactor whose turns are events of a SimulatedWorld.

import MillraceBase
import MillraceIO

/// One of the simulated machine's reactors. Several take turns at random in the world's one thread.
///
/// Safety: as its world, used by one thread.
public final class SimulatedReactor: Reactor, @unchecked Sendable {
  /// The world it lives in.
  public let world: SimulatedWorld
  /// For traces.
  public let name: String

  private var ready: [() -> Void] = []
  private var jobs: [@Sendable () -> Void] = []
  private var timers = TimerHeap()
  private var endOfTurn: [() -> Void] = []
  private var turn: MillraceIO.Timer?
  private var alarm: MillraceIO.Timer?
  private var isDead = false

  private static let wakeDelay: ClosedRange<Duration> = .zero ... .microseconds(100)

  /// A reactor of the current machine.
  public init(world: SimulatedWorld, name: String) {
    self.world = world
    self.name = name
    world.register(self)
  }

  /// The world's clock.
  public var now: MonotonicTime { world.now }
  /// How long the events of a turn take, before its timers and its end; nothing, unless a test wants a busy machine.
  public var turnTime = Duration.zero
  /// The world's wall clock.
  public var wallClock: Timestamp { world.wallClock }
  /// Both of the world's clocks.
  public var clocks: ClockReading { world.clocks }
  /// True inside this reactor's turns and in set-up code.
  public var isCurrent: Bool { world.current === self || world.isSettingUp }

  /// Runs `job` in a later turn.
  public func submit(_ job: @escaping @Sendable () -> Void) {
    guard !isDead else { return }
    jobs.append(job)
    wake()
  }

  /// Runs `job` at the end of this turn, or of the next.
  public func atEndOfTurn(_ job: @escaping () -> Void) {
    requireCurrent()
    guard !isDead else { return }
    endOfTurn.append(job)
    if world.current !== self { wake() }
  }

  /// Runs `job` after `delay`, a little late at times.
  @discardableResult
  public func schedule(after delay: Duration, _ job: @escaping () -> Void) -> MillraceIO.Timer {
    requireCurrent()
    let timer = MillraceIO.Timer(deadline: now + delay, job: job)
    if !isDead {
      timers.add(timer)
      setAlarm()
    }
    return timer
  }

  /// Listens on the world's network.
  public func listen(
    _ address: SocketAddress, accept: @escaping (any Connection) -> any ConnectionHandler
  ) throws(IOError) -> any Listener {
    requireCurrent()
    return try world.network.listen(address, on: self, accept: accept)
  }

  /// Runs `job` among the events of a later turn.
  func enqueue(_ job: @escaping () -> Void) {
    guard !isDead else { return }
    ready.append(job)
    wake()
  }

  /// Drops everything: the machine has ended.
  func discard() {
    isDead = true
    turn?.cancel()
    alarm?.cancel()
    ready = []
    jobs = []
    endOfTurn = []
    timers.removeAll()
  }

  private func requireCurrent() {
    precondition(isCurrent, "reactor \(name) was used from outside its turns")
  }

  private func wake() {
    guard turn?.job == nil else { return }
    turn = world.scheduleOnMachine(after: world.randomDelay(SimulatedReactor.wakeDelay)) { [unowned self] in runTurn() }
  }

  private func setAlarm() {
    let next = timers.nextDeadline()
    if alarm?.job != nil && alarm?.deadline == next { return }
    alarm?.cancel()
    alarm = next.map { deadline in
      world.scheduleOnMachine(after: deadline - now) { [unowned self] in wake() }
    }
  }

  private func runTurn() {
    world.current = self
    let events = ready
    ready = []
    for event in events where !world.isCrashed { event() }
    let submitted = jobs
    jobs = []
    for job in submitted where !world.isCrashed { job() }
    if turnTime > .zero { world.pass(turnTime) }
    let mark = timers.mark
    while !world.isCrashed, let timer = timers.takeDue(at: now, addedBefore: mark) { timer.fire() }
    let ends = endOfTurn
    endOfTurn = []
    for job in ends where !world.isCrashed { job() }
    world.current = nil
    guard !world.isCrashed, !isDead else { return }
    if !endOfTurn.isEmpty { wake() }
    setAlarm()
  }
}
