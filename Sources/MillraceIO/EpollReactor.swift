// EpollReactor: one thread's event loop over epoll, with timers, submitted jobs and end-of-turn jobs.

import CMillraceSystem
import Glibc
import MillraceBase
import Synchronization

/// What a descriptor's readiness is reported to.
protocol EventSource: AnyObject {
  /// The descriptor is ready as the `MR_…` flags say. Reactor thread.
  func ready(_ flags: UInt32)
  /// The reactor stops: let go of the descriptor.
  func reactorStops()
}

/// Linux's reactor.
///
/// Until ``start()`` or ``run()`` it belongs to the thread that made it, which may listen, watch and schedule; then to the
/// thread that runs it. Output is sent after each phase of a turn (events, jobs, timers, end), one gathered call a
/// connection, so that the answers to pipelined requests leave together.
///
/// Safety: everything mutable belongs to the owning thread, except `inbox`, `owner` and `thread`, which lock.
public final class EpollReactor: Reactor, @unchecked Sendable {
  private struct Inbox {
    var jobs: [@Sendable () -> Void] = []
    /// The loop sleeps, or is about to, and nobody has woken it yet.
    var sleeping = false
    /// The loop has ended: jobs are dropped.
    var closed = false
  }
  private struct Slot {
    var source: (any EventSource)?
    var generation: UInt32 = 0
  }

  /// Names the thread and the log lines.
  public let name: String
  /// Most unread bytes that a connection's handler may leave.
  public let inputLimit: Int
  /// Whether io_uring may be used.
  public let usesRing: Bool
  let logger: Logger
  private let epoll: Int32
  private let wakeup: Int32
  private let inbox = Mutex(Inbox())
  private let owner: Atomic<UInt>
  private let thread = Mutex<SystemThread?>(nil)

  private let events = UnsafeMutablePointer<mr_event>.allocate(capacity: EpollReactor.eventsPerTurn)
  private var slots: [Slot] = []
  private var freeSlots: [Int] = []
  private var timers = TimerHeap()
  private var jobs: [@Sendable () -> Void] = []
  private var endOfTurn: [() -> Void] = []
  private(set) var isRunning = false
  private var stopRequested = false
  private var cachedNow = MonotonicTime.now
  /// Connections with output that was not offered to the system yet.
  private var unsent: [SocketConnection] = []
  /// Connections that read again and may hold input from before.
  private var resumed: [SocketConnection] = []
  /// Connections whose handlers are still to hear that they are closed.
  private var closed: [(connection: SocketConnection, error: IOError?)] = []

  private static let eventsPerTurn = 256
  private static let wakeToken = UInt64.max

  /// A reactor owned by the calling thread until it runs.
  /// - Parameter inputLimit: most unread bytes of one connection; a larger message ends it. 101 MiB lets Kafka's largest
  ///   request (`socket.request.max.bytes`, 100 MiB) in.
  /// - Parameter usesRing: false has every file written on threads, also where the system offers io_uring.
  /// - Throws: `.tooManyFiles` or `.failed` when the system has no descriptors.
  public init(
    name: String, logger: Logger, inputLimit: Int = 101 << 20, usesRing: Bool = true
  ) throws(IOError) {
    self.usesRing = usesRing
    self.name = name
    self.logger = logger
    self.inputLimit = inputLimit
    let epoll = try IOError.check(mr_epoll_create(), "create reactor", name)
    let wakeup = mr_eventfd()
    let added = wakeup < 0 ? wakeup : mr_epoll_add(epoll, wakeup, EpollReactor.wakeToken, UInt32(MR_READABLE))
    if added < 0 {
      if wakeup >= 0 { mr_close(wakeup) }
      mr_close(epoll)
      throw IOError.system(-added, "create reactor", name)
    }
    self.epoll = epoll
    self.wakeup = wakeup
    owner = Atomic(UInt(pthread_self()))
  }

  deinit {
    events.deallocate()
    mr_close(wakeup)
    mr_close(epoll)
  }

  /// The monotonic clock, read at the start of each phase of a turn.
  public var now: MonotonicTime { isRunning ? cachedNow : .now }
  /// The wall clock.
  public var wallClock: Timestamp { .now }
  /// Both clocks, read now.
  public var clocks: ClockReading { .now }
  /// Whether the caller runs on this reactor's thread.
  public var isCurrent: Bool { owner.load(ordering: .relaxed) == UInt(pthread_self()) }

  /// Runs the loop on a thread of its own.
  public func start() throws(IOError) {
    precondition(isCurrent && !isRunning, "reactor \(name) was started twice, or by another thread than its owner")
    owner.store(0, ordering: .relaxed)
    let started = try SystemThread(name: name) { [self] in run() }
    thread.withLock { $0 = started }
  }

  /// Runs the loop on the calling thread until ``stop()``.
  public func run() {
    precondition(!isRunning, "reactor \(name) runs already")
    owner.store(UInt(pthread_self()), ordering: .relaxed)
    isRunning = true
    while !stopRequested { turn() }
    shutDown()
    isRunning = false
  }

  /// Ends the loop: runs the jobs submitted so far, closes listeners and connections (their handlers hear of it), drops
  /// timers. Waits for the end unless called on the reactor itself. Jobs submitted later are dropped.
  public func stop() {
    if isCurrent {
      stopRequested = true
      if !isRunning { shutDown() }
      return
    }
    submit { [self] in stopRequested = true }
    let started = thread.withLock { held in
      defer { held = nil }
      return held
    }
    started?.join()
  }

  /// Runs `job` on the reactor's thread, after what was submitted before. Any thread may call.
  public func submit(_ job: @escaping @Sendable () -> Void) {
    let wake = inbox.withLock { inbox in
      if inbox.closed { return false }
      inbox.jobs.append(job)
      defer { inbox.sleeping = false }
      return inbox.sleeping
    }
    if wake { mr_eventfd_signal(wakeup) }
  }

  /// Runs `job` once at the end of the current turn; a job registered by an end-of-turn job runs in the next.
  public func atEndOfTurn(_ job: @escaping () -> Void) {
    requireOwner()
    endOfTurn.append(job)
  }

  /// Runs `job` after `delay`.
  @discardableResult
  public func schedule(after delay: Duration, _ job: @escaping () -> Void) -> Timer {
    requireOwner()
    let timer = Timer(deadline: now + delay, job: job)
    timers.add(timer)
    return timer
  }

  /// Calls `ready` on the reactor whenever `descriptor` is readable, until cancelled. The descriptor stays the caller's.
  public func watch(descriptor: Int32, _ ready: @escaping () -> Void) throws(IOError) -> DescriptorWatch {
    requireOwner()
    return try DescriptorWatch(descriptor: descriptor, reactor: self, ready)
  }

  /// A writer that uses io_uring for small writes where ``usesRing`` and the system allow it.
  public func fileWriter(_ executor: any BlockingExecutor) -> any FileWriter {
    usesRing ? RingFileWriter(reactor: self, executor: executor) : ThreadFileWriter(reactor: self, executor: executor)
  }

  /// Listens on `address`.
  public func listen(
    _ address: SocketAddress, accept: @escaping (any Connection) -> any ConnectionHandler
  ) throws(IOError) -> any Listener {
    requireOwner()
    return try SocketListener(address, on: self, accept: accept)
  }

  func requireOwner() {
    precondition(isCurrent, "reactor \(name) was used from another thread")
  }
}

// The loop.
extension EpollReactor {
  private func turn() {
    let count = mr_epoll_wait(epoll, events, Int32(EpollReactor.eventsPerTurn), prepareToWait())
    precondition(count >= 0, "epoll_wait failed: error \(-count)")
    takeJobs()
    cachedNow = .now
    notifyClosed()
    offerResumed()
    for index in 0..<Int(count) { dispatch(events[index]) }
    sendUnsent()

    if !jobs.isEmpty {
      for job in jobs { job() }
      jobs.removeAll(keepingCapacity: jobs.count <= 4096)
      sendUnsent()
    }

    cachedNow = .now
    let mark = timers.mark
    while let timer = timers.takeDue(at: cachedNow, addedBefore: mark) { timer.fire() }
    sendUnsent()

    if !endOfTurn.isEmpty {
      let due = endOfTurn
      endOfTurn = []
      for job in due { job() }
      sendUnsent()
    }
  }

  /// How long the loop may sleep, in nanoseconds; −1 for ever.
  private func prepareToWait() -> Int64 {
    var timeout: Int64 = -1
    if stopRequested || !closed.isEmpty || !resumed.isEmpty || !unsent.isEmpty || !endOfTurn.isEmpty {
      timeout = 0
    } else if let deadline = timers.nextDeadline() {
      timeout = max(0, deadline.nanoseconds - MonotonicTime.now.nanoseconds)
    }
    guard timeout != 0 else { return 0 }
    let mustRun = inbox.withLock { inbox in
      inbox.sleeping = inbox.jobs.isEmpty
      return !inbox.jobs.isEmpty
    }
    return mustRun ? 0 : timeout
  }

  private func takeJobs() {
    // Safety: `jobs` is empty here, so the two arrays only change places and keep their memory.
    var taken = jobs
    jobs = []
    inbox.withLock { inbox in
      inbox.sleeping = false
      swap(&inbox.jobs, &taken)
    }
    jobs = taken
  }

  private func dispatch(_ event: mr_event) {
    if event.token == EpollReactor.wakeToken {
      mr_eventfd_drain(wakeup)
      return
    }
    let slot = slots[Int(event.token & 0xffff_ffff)]
    // An event may be older than the descriptor that now has its number.
    guard slot.generation == UInt32(event.token >> 32) else { return }
    slot.source?.ready(event.flags)
  }

  private func notifyClosed() {
    guard !closed.isEmpty else { return }
    let due = closed
    closed = []
    for (connection, error) in due { connection.notifyClosed(error) }
  }

  private func offerResumed() {
    guard !resumed.isEmpty else { return }
    let due = resumed
    resumed = []
    for connection in due { connection.offerBuffered() }
  }

  private func sendUnsent() {
    var next = 0
    // Handlers may write more while this runs.
    while next < unsent.count {
      unsent[next].sendUnsent()
      next += 1
    }
    if next > 0 { unsent.removeAll(keepingCapacity: next <= 4096) }
  }

  private func shutDown() {
    // Jobs may submit others; a circle of them must not keep the loop from ending.
    for _ in 0..<1000 {
      takeJobs()
      if jobs.isEmpty && endOfTurn.isEmpty && closed.isEmpty && slots.allSatisfy({ $0.source == nil }) { break }
      let submitted = jobs
      jobs = []
      for job in submitted { job() }
      let due = endOfTurn
      endOfTurn = []
      for job in due { job() }
      sendUnsent()
      for slot in slots { slot.source?.reactorStops() }
      notifyClosed()
    }
    timers.removeAll()
    resumed = []
    let dropped = inbox.withLock { inbox in
      inbox.closed = true
      defer { inbox.jobs = [] }
      return inbox.jobs.count
    }
    if dropped > 0 {
      logger.log(.warning, "io", "a stopping reactor dropped jobs", ["reactor": name, "jobs": "\(dropped)"])
    }
  }
}

// What sockets need of their reactor.
extension EpollReactor {
  /// Registers a descriptor; returns the token for the two calls below.
  func register(_ descriptor: Int32, _ flags: UInt32, _ source: any EventSource, _ subject: String) throws(IOError)
    -> UInt64
  {
    if freeSlots.isEmpty {
      freeSlots.append(slots.count)
      slots.append(Slot())
    }
    let index = freeSlots[freeSlots.count - 1]
    let token = UInt64(slots[index].generation) << 32 | UInt64(index)
    try IOError.check(mr_epoll_add(epoll, descriptor, token, flags), "watch", subject)
    freeSlots.removeLast()
    slots[index].source = source
    return token
  }

  /// Changes what a registered descriptor is watched for; `attached` false means that it was detached before.
  func change(_ descriptor: Int32, _ token: UInt64, _ flags: UInt32, attached: Bool) -> Int32 {
    attached ? mr_epoll_modify(epoll, descriptor, token, flags) : mr_epoll_add(epoll, descriptor, token, flags)
  }

  /// Stops watching for anything, hang-ups included, but keeps the registration.
  func detach(_ descriptor: Int32) { _ = mr_epoll_remove(epoll, descriptor) }

  /// Forgets a registration; events that were fetched already are dropped.
  func unregister(_ descriptor: Int32, _ token: UInt64) {
    _ = mr_epoll_remove(epoll, descriptor)
    let index = Int(token & 0xffff_ffff)
    slots[index].source = nil
    slots[index].generation &+= 1
    freeSlots.append(index)
  }

  /// Sends the connection's output at the end of this phase.
  func sendLater(_ connection: SocketConnection) { unsent.append(connection) }
  /// Offers buffered input in the next turn.
  func offerLater(_ connection: SocketConnection) { resumed.append(connection) }
  /// Tells the handler in the next turn.
  func notifyLater(_ connection: SocketConnection, _ error: IOError?) { closed.append((connection, error)) }
}
