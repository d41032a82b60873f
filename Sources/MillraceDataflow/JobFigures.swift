// JobOptions and JobFigures: how a job is run, and what it tells about itself. Of its operators: ChainFigures.swift.

import MillraceBase

/// Limits of a job's steps.
public struct JobOptions: Sendable {
  /// Bytes asked for in one read, for each worker.
  public var readBytes = 1 << 20
  /// A step takes no further read once it has this many bytes.
  public var stepBytes = 4 << 20
  /// A step takes no further read once it is this old.
  public var commitInterval = Duration.milliseconds(100)
  /// Commits handed over and not yet durable, while the next step is computed.
  public var commitsInFlight = 2
  /// Threads that run the job, each for its share of the keys: 1 to 256. The state does not depend on it: a job may be
  /// stopped and started again with another number.
  public var workers = 1
  /// About the bytes of memory that keyed state may take, of all workers together; what is beyond goes into files of the host, what was
  /// not used lately first, and comes back when it is asked for. Nil for no limit. What a step changes is in memory until it
  /// ends, so a limit is not kept below that.
  public var stateMemory: Int?
  /// Bytes of input from which on it pays to wake the threads of several workers; for less, one thread does the work of all.
  public var wakeBytes = 16 << 10
  /// Slots from which on a table's lookups are gathered; tests have small tables do it, too.
  var largeTable = KeyedTable.largeSlots
  /// How long a read waits when there is nothing to do.
  public var idleWait = Duration.seconds(1)
  /// How long a read waits while commits are in flight, and between two looks at a source that had nothing.
  public var briefWait = Duration.milliseconds(2)
  /// Monotonic clock.
  public var clock: @Sendable () -> MonotonicTime = { .now }
  /// Wall clock; gives output records their time.
  public var wallClock: @Sendable () -> Timestamp = { .now }
  /// Begins a call of an asynchronous function, at once and without waiting for it. What it returns is called when the answer is not
  /// waited for any more. Called by the job's threads.
  public var startCall: @Sendable (OutsideCall) -> (@Sendable () -> Void) = { call in
    let task = Task { await call.run() }
    return { task.cancel() }
  }

  /// The defaults.
  public init() {}
}

/// A job's figures since it was started.
public struct JobFigures: Sendable {
  /// Records read.
  public var recordsIn: UInt64 = 0
  /// Bytes of record batches read.
  public var bytesIn: UInt64 = 0
  /// Values that came too late for every window.
  public var lateRecords: UInt64 = 0
  /// Values for which a function failed that the job goes on without.
  public var failedRecords: UInt64 = 0
  /// Records emitted.
  public var recordsOut: UInt64 = 0
  /// Bytes of record batches emitted.
  public var bytesOut: UInt64 = 0
  /// State records written, swept ones included.
  public var stateRecords: UInt64 = 0
  /// Steps handed over.
  public var steps: UInt64 = 0
  /// Of these, steps that are durable.
  public var commits: UInt64 = 0
  /// Keys in the job's state.
  public var stateKeys = 0
  /// About the bytes of memory that state takes which may go into files; 0 without ``JobOptions/stateMemory``.
  public var stateMemory = 0
  /// Bytes of files with state that memory has no room for.
  public var stateFiles = 0
  /// Records not yet read, as far as the host tells.
  public var lag: Int64 = 0
  /// The lowest of the job's watermarks; nil without event time, or while there is none.
  public var watermark: Timestamp?
  /// Time from handing over a commit until it was durable, in nanoseconds.
  public var commitLatency = Histogram()
  /// Time from a record's own until the commit that holds what it led to was durable, in nanoseconds, for each record; 0 for times in the future.
  /// A record's time is the newest of its batch, to the ms: with `LogAppendTime` that is when it was appended, else what its producer has said.
  /// Of sources, and of records without times, it is from when the job read them.
  public var latency = Histogram()
  /// Time that the job's threads were at work, all workers together: decompressing, in operators, and writing the state.
  public var busy = Duration.zero
  /// Time that the job waited for commits to become durable, because as many were in flight as may be.
  public var waitedForCommits = Duration.zero
  /// What the job does in a second: over the last one, and over the last ten, or as long as it has run.
  public var lastSecond = JobRates()
  /// The same, over the last ten seconds.
  public var lastTenSeconds = JobRates()

  /// The operators, as ``JobDefinition/explain()`` numbers and names them; like rates and ``inputs`` at most 100 ms older than the rest.
  public var chains: [ChainFigures] = []
  /// The partitions of the inputs that are topics, and sources.
  public var inputs: [InputFigures] = []
  /// What ``chains`` is made of, as of the last step.
  var chainCounts: [ChainCounts] = []

  /// Nothing yet.
  public init() {}
}
