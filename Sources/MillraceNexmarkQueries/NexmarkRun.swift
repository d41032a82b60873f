// NexmarkRun: a query over events, generated ones or lines of JSON, from the first to the last, and what it took.

import Glibc
import MillraceBase
import MillraceDataflow
import MillraceNexmark
import MillraceStreams

/// How a query is run.
public struct NexmarkRun: Sendable {
  /// The query.
  public var query: NexmarkQuery
  /// Makes the events.
  public var generator: NexmarkGenerator
  /// The numbers of the events.
  public var events: Range<Int64>
  /// A source of lines of JSON from which the events are read, instead of making them: each call gives one that begins
  /// with the first line.
  public var lines: (@Sendable () -> any ReplayableSource)?
  /// Whether the events are encoded into memory before the clock starts.
  public var isPrepared = false
  /// Whether the rows are kept, or only counted.
  public var keepsRows = true
  /// After how many events the job is dropped with all it has in memory; it goes on from what was committed.
  public var crashAt: Int64?
  /// How the job is run.
  public var options = JobOptions()
  /// Makes files for state beyond the job's memory.
  public var stateFiles: @Sendable () throws(JobError) -> any StateFile = { () throws(JobError) in MemoryStateFile() }

  /// A run of `query` over events of `generator`, or over ``lines`` when they are set.
  public init(_ query: NexmarkQuery, _ generator: NexmarkGenerator, events: Range<Int64>) {
    self.query = query
    self.generator = generator
    self.events = events
  }

  /// Runs the query to its end.
  ///
  /// Processor time is that of the whole process: nothing else may run in it that is not to count.
  /// - Throws: what the job fails with.
  public func run() throws(JobError) -> NexmarkOutcome {
    let host = ResultHost(keepsOutputs: keepsRows, stateFiles: stateFiles)
    var options = options
    if crashAt != nil {
      // So that something was committed by then.
      options.readBytes = min(options.readBytes, 16 << 10)
      options.stepBytes = min(options.stepBytes, 64 << 10)
    }
    let feed = try EventFeed(source, preparing: isPrepared ? options.readBytes : nil)
    let input = NexmarkEvents.source("nexmark") { () throws(JobError) in try feed.source() }
    let job = query.output(input).job(named: query.name)
    let begin = (processor: NexmarkRun.processorTime, monotonic: MonotonicTime.now)
    var executor = try JobExecutor(job, host: host, options: options)
    var crash = crashAt
    var stateFiles = 0
    while try executor.turn() != .finished {
      stateFiles = max(stateFiles, executor.figures.stateFiles)
      guard let at = crash, executor.figures.recordsIn >= UInt64(at) else { continue }
      crash = nil
      executor = try JobExecutor(job, host: host, options: options)
    }
    try executor.settle()
    let used = NexmarkRun.processorTime - begin.processor
    let elapsed = MonotonicTime.now - begin.monotonic
    let readAgain = Int64(executor.figures.recordsIn)
    return NexmarkOutcome(
      events: lines == nil ? Int64(events.count) : readAgain, elapsed: elapsed,
      processor: isPrepared ? used : used - feed.cost,
      source: feed.cost, outputs: host.outputs, outputRecords: host.outputRecords, outputBytes: host.outputBytes,
      recoveredAt: crashAt.map { _ in events.upperBound - readAgain }, stateFiles: stateFiles,
      figures: executor.figures)
  }

  private var source: @Sendable () throws(JobError) -> any ReplayableSource {
    if let lines { return { () throws(JobError) in try EventLinesSource(lines()) } }
    return { [generator, events] () throws(JobError) in NexmarkSource(generator, events: events) }
  }

  private static var processorTime: Duration {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
  }
}

/// What a run gave and took.
public struct NexmarkOutcome: Sendable {
  /// Events that the query is over.
  public let events: Int64
  /// From the start of the job to its end.
  public let elapsed: Duration
  /// Processor time of the job, without that of making or reading the events.
  public let processor: Duration
  /// Processor time of making the events, or of reading them and encoding what the job takes.
  public let source: Duration
  /// Record batches with the rows, in the order in which they were committed; none when they were only counted.
  public let outputs: [Bytes]
  /// Rows that were committed.
  public let outputRecords: Int64
  /// Bytes of their batches.
  public let outputBytes: Int
  /// Of generated events, the number of the one from which on the job went on after the crash.
  public let recoveredAt: Int64?
  /// Most bytes of state that lay in files at a time.
  public let stateFiles: Int
  /// The job's own figures; after a crash those of its second run.
  public let figures: JobFigures
}
