// SimulatedWorld: virtual time and the one queue of events that a whole simulated machine and its clients run in.

import MillraceBase
import MillraceIO

/// Everything that happens in a simulation happens here, one event after another, decided by the seed alone.
///
/// There are two sides. The *machine* is what a crash ends: reactors, executors, open files and the server's ends of
/// connections. Clients and the test's own events outlive it. After ``crash(_:)`` no event runs until ``restart()``, which
/// begins a new machine over the same disks.
///
/// Safety: a world and all that lives in it are used by one thread.
public final class SimulatedWorld: @unchecked Sendable {
  /// How a machine ends.
  public enum Crash: Sendable {
    /// Un-flushed writes and names may be lost, torn or reordered.
    case powerLoss
    /// The process is killed; the page cache survives, so that a later power loss may still lose what was not flushed.
    case processKill
  }

  /// What everything follows from.
  public let seed: UInt64
  /// The monotonic clock.
  public private(set) var now = MonotonicTime(nanoseconds: 1_000_000_000)
  /// Set by a crash, until ``restart()``.
  public private(set) var isCrashed = false
  /// Counts machines: 0 for the first, one more with each restart.
  public private(set) var machine = 0
  /// Events run so far.
  public private(set) var eventCount = 0
  /// Stands for everything that happened, in its order: equal for two runs of the same seed and scenario.
  public private(set) var traceHash: UInt64
  /// The last notes with their times, oldest first, for the report of a failure.
  public private(set) var notes: [String] = []
  /// Mutating disk operations so far, on all disks.
  public private(set) var diskOperations = 0
  /// The connections between clients and the machine.
  public private(set) lazy var network = SimulatedNetwork(world: self)

  var random: SeededRandom
  var current: SimulatedReactor?
  private var reactors: [SimulatedReactor] = []
  private var executors: [SimulatedExecutor] = []
  private var disks: [SimulatedDisk] = []
  private var events = TimerHeap()
  private var isInEvent = false
  private var wallClockOffset: Int64 = 1_790_000_000_000
  private var crashAtOperation: Int?

  private static let notesKept = 200

  /// The world that `seed` names.
  public init(seed: UInt64) {
    self.seed = seed
    random = SeededRandom(seed: seed)
    traceHash = Hashing.mix(seed)
  }

  /// The wall clock.
  public var wallClock: Timestamp { Timestamp(milliseconds: wallClockOffset + now.nanoseconds / 1_000_000) }

  /// Both clocks.
  public var clocks: ClockReading {
    ClockReading(monotonic: now, wallNanoseconds: wallClockOffset * 1_000_000 + now.nanoseconds)
  }

  /// Sets the wall clock forwards or backwards, as an administrator or a time server may.
  public func jumpWallClock(by delay: Duration) { wallClockOffset += delay.inMilliseconds }

  /// Lets time pass within an event: what happens there takes that long.
  func pass(_ time: Duration) { now = now + time }

  // MARK: Events

  /// Runs `job` after `delay`, also when the machine has crashed and restarted by then.
  @discardableResult
  public func schedule(after delay: Duration, _ job: @escaping () -> Void) -> MillraceIO.Timer {
    let timer = MillraceIO.Timer(deadline: now + delay, job: job)
    events.add(timer)
    return timer
  }

  /// Runs `job` after `delay` unless the machine ends before.
  @discardableResult
  func scheduleOnMachine(after delay: Duration, _ job: @escaping () -> Void) -> MillraceIO.Timer {
    let born = machine
    return schedule(after: delay) { [unowned self] in
      if machine == born { job() }
    }
  }

  /// Whether the caller is set-up code, outside any event.
  var isSettingUp: Bool { !isInEvent }

  /// Runs the next event.
  /// - Returns: false when there is none, or the machine has crashed.
  @discardableResult
  public func step() -> Bool {
    precondition(!isInEvent, "the world was stepped from inside an event")
    guard !isCrashed, let deadline = events.nextDeadline(),
      let event = events.takeDue(at: deadline, addedBefore: events.mark)
    else { return false }
    now = max(now, deadline)
    eventCount += 1
    mix(UInt64(bitPattern: now.nanoseconds))
    isInEvent = true
    event.fire()
    isInEvent = false
    return true
  }

  /// Runs events for `time`; the clock then stands at its end, unless the machine crashed.
  public func run(for time: Duration) {
    let end = now + time
    while !isCrashed, let next = events.nextDeadline(), next <= end { step() }
    if !isCrashed { now = max(now, end) }
  }

  /// Runs events until `condition` holds.
  /// - Returns: whether it does; false after a crash, when no event is left, or after `events` events.
  @discardableResult
  public func run(atMost events: Int = 1_000_000, until condition: () -> Bool) -> Bool {
    for _ in 0..<events {
      if condition() { return true }
      if !step() { break }
    }
    return condition()
  }

  // MARK: Crashes

  /// Makes the machine lose power in its `count`-th mutating disk operation from now (1: in the next one).
  ///
  /// That operation is applied in part at most, and throws ``MillraceIO/IOError`` with `isPowerLoss`, as all later ones.
  public func crashAfterOperations(_ count: Int?) { crashAtOperation = count.map { diskOperations + $0 } }

  /// Ends the machine now: no event runs any more.
  public func crash(_ kind: Crash = .powerLoss) {
    guard !isCrashed else { return }
    note("crash", kind == .powerLoss ? 1 : 0)
    isCrashed = true
    crashAtOperation = nil
    for disk in disks { disk.crash(kind) }
  }

  /// Begins a new machine after a crash, or ends the old one by a kill first. Clients see their connections reset.
  ///
  /// Get the disks' contents with ``SimulatedFileSystem/reopen()``; make new reactors and executors.
  public func restart() {
    precondition(!isInEvent, "the world was restarted from inside an event")
    if !isCrashed { crash(.processKill) }
    endMachine()
    isCrashed = false
    machine += 1
    note("restart", UInt64(machine))
  }

  /// Ends everything and breaks reference cycles; the world must not be used afterwards.
  public func tearDown() {
    isCrashed = true
    machine += 1
    // First, because an ended machine's connections are forgotten.
    network.tearDown()
    endMachine()
    events.removeAll()
    // A disk knows its world.
    disks = []
  }

  private func endMachine() {
    network.machineEnded()
    for reactor in reactors { reactor.discard() }
    reactors = []
    for executor in executors { executor.discard() }
    executors = []
  }

  // MARK: For the parts of the world

  func register(_ reactor: SimulatedReactor) { reactors.append(reactor) }
  func register(_ executor: SimulatedExecutor) { executors.append(executor) }
  func register(_ disk: SimulatedDisk) { disks.append(disk) }

  /// Counts a mutating disk operation; true when the machine is to lose power in it.
  func countDiskOperation() -> Bool {
    diskOperations += 1
    return diskOperations == crashAtOperation
  }

  /// Adds to the trace.
  public func note(_ label: StaticString, _ value: UInt64) {
    mix(Hashing.stable(UnsafeRawBufferPointer(start: label.utf8Start, count: label.utf8CodeUnitCount)))
    mix(value)
    if notes.count == SimulatedWorld.notesKept { notes.removeFirst(SimulatedWorld.notesKept / 2) }
    notes.append("\(now.nanoseconds) \(label) \(value)")
  }

  private func mix(_ value: UInt64) { traceHash = Hashing.mix(traceHash ^ value) &+ value }

  /// A delay from `range`, mostly near its start.
  func randomDelay(_ range: ClosedRange<Duration>) -> Duration {
    let low = range.lowerBound.inNanoseconds
    let span = range.upperBound.inNanoseconds - low
    let limit = random.oneIn(4) ? span : span / 8
    return .nanoseconds(low + Int64.random(in: 0...max(0, limit), using: &random))
  }
}

extension IOError {
  /// What every operation throws once the simulated machine has lost power.
  static func powerLoss(_ operation: String, _ subject: String) -> IOError {
    IOError(.failed, operation: operation, subject: subject, number: -1, reason: "the simulated machine is off")
  }

  /// Whether the simulated machine crashed. No system call has error number −1.
  public var isPowerLoss: Bool { number == -1 }
}
