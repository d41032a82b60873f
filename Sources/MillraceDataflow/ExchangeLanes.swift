// ExchangeLanes: values on their way between the workers of a job.
//
// For each exchange there is a lane from each worker to each. A round fills the lanes in one phase and empties them in a later one, with
// a barrier in between, so that no lane is ever used by two threads at a time. Marks in the lanes say what belongs to which run of
// the round, so that those who receive see what a single worker would see: run by run, and after each what event time set free.

import MillraceBase

/// Values from one worker to another, in the order in which they were sent, cut by marks.
///
/// Safety: `@unchecked Sendable` because sender and receiver use it in different phases of a round.
@usableFromInline
final class Lane<Value>: @unchecked Sendable {
  @usableFromInline
  struct Element {
    @usableFromInline let value: Value
    @usableFromInline let time: Timestamp
    @usableFromInline
    init(value: Value, time: Timestamp) {
      self.value = value
      self.time = time
    }
  }

  /// The mutable part, behind a pointer: fields of a class would be checked for exclusive access at every use.
  @usableFromInline
  struct Core {
    @usableFromInline var elements: UnsafeMutablePointer<Element>
    @usableFromInline var count = 0
    @usableFromInline var capacity: Int
    @usableFromInline
    init(capacity: Int) {
      elements = .allocate(capacity: capacity)
      self.capacity = capacity
    }
  }

  private static var initialCapacity: Int { 64 }
  /// A lane that was larger is made small again when it is emptied.
  private static var keptCapacity: Int { 1 << 18 }

  // Safety: allocated in init, freed in deinit.
  @usableFromInline let core: UnsafeMutablePointer<Core>
  /// How many elements there were at each mark.
  @usableFromInline private(set) var marks: [Int] = []

  init() {
    core = .allocateOnOwnLines()
    core.initialize(to: Core(capacity: Lane.initialCapacity))
  }

  deinit {
    core.pointee.elements.deinitialize(count: core.pointee.count)
    core.pointee.elements.deallocate()
    core.deallocate()
  }

  @inlinable @inline(__always)
  static func append(_ value: Value, _ time: Timestamp, to core: UnsafeMutablePointer<Core>) {
    if core.pointee.count == core.pointee.capacity { grow(core) }
    (core.pointee.elements + core.pointee.count).initialize(to: Element(value: value, time: time))
    core.pointee.count &+= 1
  }

  @inlinable @inline(never)
  static func grow(_ core: UnsafeMutablePointer<Core>) {
    let capacity = core.pointee.capacity * 2
    let larger = UnsafeMutablePointer<Element>.allocate(capacity: capacity)
    larger.moveInitialize(from: core.pointee.elements, count: core.pointee.count)
    core.pointee.elements.deallocate()
    core.pointee.elements = larger
    core.pointee.capacity = capacity
  }

  /// What was sent so far belongs to what is over.
  func mark() { marks.append(core.pointee.count) }

  /// Empties the lane for the next round.
  func clear() {
    core.pointee.elements.deinitialize(count: core.pointee.count)
    core.pointee.count = 0
    if core.pointee.capacity > Lane.keptCapacity {
      core.pointee.elements.deallocate()
      core.pointee = Core(capacity: Lane.initialCapacity)
    }
    marks.removeAll(keepingCapacity: true)
  }
}

/// The lanes of one exchange between all workers of a job: for what batches lead to, and for what event time sets free.
@usableFromInline
final class LaneMatrix<Value>: Sendable {
  @usableFromInline let workers: Int
  /// From worker `from` to worker `to` at `from * workers + to`.
  @usableFromInline let ofRuns: [Lane<Value>]
  @usableFromInline let ofTime: [Lane<Value>]
  /// Of each worker.
  let watermarks: [LaneWatermarks]

  @usableFromInline
  init(workers: Int) {
    self.workers = workers
    ofRuns = (0..<workers * workers).map { _ in Lane() }
    ofTime = (0..<workers * workers).map { _ in Lane() }
    watermarks = (0..<workers).map { _ in LaneWatermarks() }
  }
}

/// The watermarks before an exchange on one worker, behind each run of the round.
///
/// Safety: `@unchecked Sendable` because the worker notes them in another phase of a round than that in which others read them.
final class LaneWatermarks: @unchecked Sendable {
  var times: [Timestamp] = []
}

/// One worker's end of an exchange: it sends its own values and receives those whose keys it has.
///
/// Safety: `@unchecked Sendable` because it is used by one worker, on whatever thread that is.
@usableFromInline
final class ExchangeEnd<Value>: @unchecked Sendable {
  @usableFromInline let worker: Int
  @usableFromInline let workers: Int
  @usableFromInline let keep: ((Value, ExchangeArena) -> Value)?
  @usableFromInline let arena = ExchangeArena()
  /// No exchange lies before it: all workers let event time go on together there, so that nobody may hand anything on because of it.
  private let isHead: Bool
  private let matrix: LaneMatrix<Value>
  // Safety: allocated in init, freed in deinit, not changed in between.
  @usableFromInline let runs: UnsafeMutablePointer<UnsafeMutablePointer<Lane<Value>.Core>>
  @usableFromInline let freed: UnsafeMutablePointer<UnsafeMutablePointer<Lane<Value>.Core>>
  private var readers: [LaneReader<Value>] = []

  /// - Parameter keep: makes a value independent of memory that is lent for a call; nil when it is anyhow.
  @usableFromInline
  init(
    _ matrix: LaneMatrix<Value>, worker: Int, isHead: Bool, keep: ((Value, ExchangeArena) -> Value)?
  ) {
    self.matrix = matrix
    self.worker = worker
    self.isHead = isHead
    self.keep = keep
    workers = matrix.workers
    runs = .allocate(capacity: workers)
    freed = .allocate(capacity: workers)
    for to in 0..<workers {
      (runs + to).initialize(to: matrix.ofRuns[worker * workers + to].core)
      (freed + to).initialize(to: matrix.ofTime[worker * workers + to].core)
    }
  }

  deinit {
    runs.deallocate()
    freed.deallocate()
  }

  // MARK: Sending

  /// Empties this worker's lanes. Everyone has received what was in them.
  @usableFromInline
  func begin() {
    for to in 0..<workers {
      matrix.ofRuns[worker * workers + to].clear()
      matrix.ofTime[worker * workers + to].clear()
    }
    arena.clear()
    matrix.watermarks[worker].times.removeAll(keepingCapacity: true)
    for reader in readers { reader.begin() }
  }

  /// Sends a value to the worker that has the keys with this hash.
  @inlinable @inline(__always)
  func send(
    _ value: Value, _ time: Timestamp, hash: UInt64,
    on lanes: UnsafeMutablePointer<UnsafeMutablePointer<Lane<Value>.Core>>
  ) {
    send(value, time, to: KeyGroup.worker(of: KeyGroup.of(hash: hash), among: workers), on: lanes)
  }

  /// Sends a value to a worker.
  @inlinable @inline(__always)
  func send(
    _ value: Value, _ time: Timestamp, to worker: Int,
    on lanes: UnsafeMutablePointer<UnsafeMutablePointer<Lane<Value>.Core>>
  ) {
    if let keep {
      Lane.append(keep(value, arena), time, to: lanes[worker])
    } else {
      Lane.append(value, time, to: lanes[worker])
    }
  }

  /// What was sent since the last mark belongs to the run that is over.
  @usableFromInline
  func markRun() {
    for to in 0..<workers { matrix.ofRuns[worker * workers + to].mark() }
  }

  /// What was set free since the last mark belongs to the run that is over; behind it, event time is at `watermark`.
  @usableFromInline
  func markTime(_ watermark: Timestamp) {
    matrix.watermarks[worker].times.append(watermark)
    guard !isHead else {
      precondition(
        (0..<workers).allSatisfy { freed[$0].pointee.count == 0 },
        "an operator before the first exchange hands on values because of event time: it must stand behind an Exchange")
      return
    }
    for to in 0..<workers { matrix.ofTime[worker * workers + to].mark() }
  }

  // MARK: Receiving

  /// A reader of what all workers send to this one. Each reads everything.
  @usableFromInline
  func reader() -> LaneReader<Value> {
    let reader = LaneReader(self)
    readers.append(reader)
    return reader
  }

  @usableFromInline var lanesOfTimeAreUsed: Bool { !isHead }
  @usableFromInline func lane(ofRunsFrom from: Int) -> Lane<Value> { matrix.ofRuns[from * workers + worker] }
  @usableFromInline func lane(ofTimeFrom from: Int) -> Lane<Value> { matrix.ofTime[from * workers + worker] }

  /// How far event time has come before the exchange: where the slowest worker is. Before the first exchange all are in the same place,
  /// and go on in the phase in which this is read.
  @usableFromInline
  func watermark(_ mark: Int) -> Timestamp {
    guard !isHead else { return matrix.watermarks[worker].times[mark] }
    return matrix.watermarks.reduce(Timestamp(milliseconds: .max)) { min($0, $1.times[mark]) }
  }
}

/// Reads what was sent to one worker, run by run.
///
/// Safety: `@unchecked Sendable` because it is used by one worker, on whatever thread that is.
@usableFromInline
final class LaneReader<Value>: @unchecked Sendable {
  // Safety: the stage before the lanes keeps the end, and is kept as long as those that read it.
  @usableFromInline unowned(unsafe) let end: ExchangeEnd<Value>
  private var runs = 0
  private var times = 0

  init(_ end: ExchangeEnd<Value>) { self.end = end }

  /// The next round begins.
  func begin() { (runs, times) = (0, 0) }

  /// Hands what all workers sent for the next run to `body`.
  @inlinable @inline(never)
  func receiveRun(_ body: (Value, Timestamp) -> Void) {
    let mark = nextRun()
    for from in 0..<end.workers { LaneReader.hand(end.lane(ofRunsFrom: from), mark, body) }
  }

  /// Hands what event time set free behind that run to `body`.
  /// - Returns: the watermark before the lanes.
  @inlinable @inline(never)
  func receiveTime(_ body: (Value, Timestamp) -> Void) -> Timestamp {
    let mark = nextTime()
    if end.lanesOfTimeAreUsed {
      for from in 0..<end.workers { LaneReader.hand(end.lane(ofTimeFrom: from), mark, body) }
    }
    return end.watermark(mark)
  }

  /// Hands what all workers sent at the end of the step to `body`.
  @inlinable @inline(never)
  func receiveEnd(_ body: (Value, Timestamp) -> Void) { receiveRun(body) }

  @inlinable @inline(__always)
  static func hand(_ lane: Lane<Value>, _ mark: Int, _ body: (Value, Timestamp) -> Void) {
    let end = lane.marks[mark]
    var at = mark > 0 ? lane.marks[mark - 1] : 0
    while at < end {
      let element = lane.core.pointee.elements + at
      body(element.pointee.value, element.pointee.time)
      at += 1
    }
  }

  @usableFromInline
  func nextRun() -> Int {
    defer { runs += 1 }
    return runs
  }

  @usableFromInline
  func nextTime() -> Int {
    defer { times += 1 }
    return times
  }
}
