// TestDriver: runs a job on topics in memory, with a clock that the test sets and crashes where it wants them.

import MillraceBase
import MillraceDataflow
import MillraceModel
import Synchronization

/// Runs a job step by step, for tests of jobs: no broker, no threads, no waiting.
///
///     let driver = try TestDriver(job)
///     try driver.send("clicks", key: "ann", value: "/", at: 1_000)
///     try driver.run()
///     #expect(try driver.output("counts").map(\.value?.text) == ["1"])
///
/// Topics are made when they are first used, with ``partitions`` each. One thread at a time may use a driver.
public final class TestDriver {
  /// What becomes of the next commit; see ``MemoryHost/Fate``.
  public typealias Fate = MemoryHost.Fate

  private struct OpenCalls {
    var list: [(number: UInt64, call: OutsideCall)] = []
    var next: UInt64 = 0
  }

  private final class Plan: Sendable {
    let nanoseconds = Mutex<Int64>(0)
    let fates = Mutex<[Fate]>([])
    let calls = Mutex(OpenCalls())
  }

  /// The job.
  public let job: JobDefinition
  /// How it is run; the clocks are the driver's.
  public private(set) var options: JobOptions
  /// Partitions of each topic.
  public let partitions: Int
  private let host: MemoryHost
  private let plan = Plan()
  private var executor: JobExecutor?
  private var seen: [String: [Int]] = [:]

  /// A driver whose job has not begun; time is 0.
  /// - Parameters:
  ///   - partitions: of each topic; with several, records without a key go to the first unless told otherwise.
  ///   - options: how the job is run; it never waits.
  public init(_ job: JobDefinition, partitions: Int = 1, options: JobOptions = JobOptions()) {
    self.job = job
    self.partitions = partitions
    let plan = plan
    let clock: @Sendable () -> MonotonicTime = {
      MonotonicTime(nanoseconds: plan.nanoseconds.withLock { $0 })
    }
    host = MemoryHost(
      newTopicPartitions: partitions,
      fate: { _ in plan.fates.withLock { $0.isEmpty ? .acknowledged : $0.removeFirst() } }, clock: clock)
    var options = options
    options.idleWait = .zero
    options.briefWait = .zero
    options.clock = clock
    options.wallClock = { Timestamp(milliseconds: plan.nanoseconds.withLock { $0 } / 1_000_000) }
    options.startCall = { call in
      let number = plan.calls.withLock { calls in
        calls.list.append((calls.next, call))
        calls.next += 1
        return calls.next - 1
      }
      return { plan.calls.withLock { $0.list.removeAll { $0.number == number } } }
    }
    self.options = options
  }

  /// Workers that run the job, from its next beginning on: set it before the first ``run()``, or behind a ``crash()``.
  public var workers: Int {
    get { options.workers }
    set { options.workers = newValue }
  }

  /// The time, in ms: of the wall clock, and since the driver was made.
  public var now: Timestamp { options.wallClock() }

  /// Lets time pass. What that leads to comes with the next ``run()``.
  public func pass(_ time: Duration) { plan.nanoseconds.withLock { $0 += time.inNanoseconds } }

  /// Appends one record, as a batch of its own.
  /// - Parameters:
  ///   - time: its event time in ms; ``now`` when nil.
  ///   - partition: where it goes; as Kafka's default partitioner says when nil.
  /// - Throws: `.unknownTopic` for a partition that is not there.
  public func send(
    _ topic: String, key: String? = nil, value: String?, at time: Int64? = nil, partition: Int32? = nil
  ) throws(JobError) {
    let record = Record(
      key: key.map { Bytes($0) }, value: value.map { Bytes($0) },
      timestamp: time.map { Timestamp(milliseconds: $0) } ?? now)
    try send(topic, [record], partition: partition)
  }

  /// Appends records as one batch.
  /// - Throws: `.unknownTopic` for a partition that is not there.
  public func send(_ topic: String, _ records: [Record], partition: Int32? = nil) throws(JobError) {
    guard let first = records.first else { return }
    let chosen =
      partition
      ?? first.key.map { key in Int32(key.withBuffer { Hashing.kafkaPartition(key: $0, partitions: partitions) }) } ?? 0
    var builder = RecordBatchBuilder()
    for record in records { builder.append(record) }
    _ = try host.partitionCount(topic: topic)
    try host.append(topic: topic, partition: chosen, batch: builder.finish())
  }

  /// Puts a message into a queue, which is made when it is first used; ``now`` is its time.
  /// - Throws: `.unknownQueue` never.
  public func publish(_ message: OutputMessage, to queue: String) throws(JobError) {
    host.createQueue(queue)
    try host.append(queue: queue, message, at: now)
  }

  /// How many messages of a queue no commit has settled.
  public func unsettledCount(_ queue: String) -> Int { host.unsettledCount(queue: queue) }

  /// Makes steps until nothing is left to do; begins the job when it is not running.
  /// - Returns: whether all inputs have ended.
  /// - Throws: what the job fails with; of commits that ``next(_:)`` lets fail, `.commitFailed`. The job is not running then.
  @discardableResult
  public func run() throws(JobError) -> Bool {
    do throws(JobError) {
      let running = try running()
      var turn = try running.turn()
      while turn == .progress { turn = try running.turn() }
      try running.settle()
      return turn == .finished
    } catch {
      crash()
      throw error
    }
  }

  private func running() throws(JobError) -> JobExecutor {
    if let executor { return executor }
    let begun = try JobExecutor(job, host: host, options: options)
    executor = begun
    return begun
  }

  /// Makes one step, or waits for one commit, without settling what is in flight.
  /// - Returns: whether there was something to do.
  /// - Throws: as ``run()``.
  @discardableResult
  public func step() throws(JobError) -> Bool {
    do throws(JobError) {
      let running = try running()
      return try running.turn() == .progress
    } catch {
      crash()
      throw error
    }
  }

  /// Ends the job's run as a crash does: what was not committed is gone. The next ``run()`` recovers.
  public func crash() {
    executor = nil
    plan.calls.withLock { $0.list = [] }
  }

  /// Decides what becomes of the next commits.
  public func next(_ fates: Fate...) { plan.fates.withLock { $0 += fates } }

  /// The calls of asynchronous functions that wait for an answer, in the order in which they were begun. A function is not called unless
  /// ``runCalls()`` does it; a call is given up when its time, which ``pass(_:)`` lets pass, is over at the next ``run()``.
  public var calls: [OutsideCall] { plan.calls.withLock { $0.list.map(\.call) } }

  /// Answers a call in its function's place; the next ``run()`` takes the answer.
  /// - Parameters:
  ///   - index: in ``calls``, which it leaves.
  ///   - output: of the type that the function returns.
  public func answerCall(_ index: Int = 0, with output: some Sendable) { takeCall(index).answer(.success(output)) }

  /// Lets a call fail; see ``answerCall(_:with:)``.
  public func failCall(_ index: Int = 0, with error: any Error) { takeCall(index).answer(.failure(error)) }

  private func takeCall(_ index: Int) -> OutsideCall {
    plan.calls.withLock { calls in
      precondition(calls.list.indices.contains(index), "call \(index) of \(calls.list.count)")
      return calls.list.remove(at: index).call
    }
  }

  /// Calls the functions of all calls that wait for an answer, one after the other.
  public func runCalls() async {
    let open = plan.calls.withLock { calls in
      let open = calls.list.map(\.call)
      calls.list = []
      return open
    }
    for call in open { await call.run() }
  }

  /// Everything in a topic, partition by partition.
  /// - Throws: `.corruptInput`.
  public func output(_ topic: String) throws(JobError) -> [Record] {
    var records: [Record] = []
    for partition in 0..<Int32(try host.partitionCount(topic: topic)) {
      records += try host.records(topic: topic, partition: partition)
    }
    return records
  }

  /// All messages that the job has put into a queue, as records: the body is the value, properties are headers `amqp.…`.
  /// - Throws: `.unknownQueue` before the job has begun.
  public func messages(_ queue: String) throws(JobError) -> [Record] { try host.messages(queue: queue) }

  /// What came into a topic since the last call, partition by partition.
  /// - Throws: `.corruptInput`.
  public func newOutput(_ topic: String) throws(JobError) -> [Record] {
    var records: [Record] = []
    let count = try host.partitionCount(topic: topic)
    var places = seen[topic] ?? []
    places += [Int](repeating: 0, count: max(0, count - places.count))
    for partition in 0..<count {
      let all = try host.records(topic: topic, partition: Int32(partition))
      records += all[places[partition]...]
      places[partition] = all.count
    }
    seen[topic] = places
    return records
  }

  /// The figures of the run, those of its operators included; nothing while the job is not running.
  public var figures: JobFigures {
    executor?.refreshFigures()
    return executor?.figures ?? JobFigures()
  }
}
