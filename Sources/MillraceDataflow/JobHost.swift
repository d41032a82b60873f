// JobHost: everything a job needs from the outside, as one narrow interface that the broker's connector implements.

import MillraceBase
import MillraceModel

/// Where a job stands in one partition of an input topic.
public struct InputPosition: Equatable, Sendable {
  /// Topic.
  public var topic: String
  /// Partition of the topic.
  public var partition: Int32
  /// Offset of the next record to read. An offset below the partition's first one reads from the first one.
  public var offset: Offset

  /// A position.
  public init(topic: String, partition: Int32, offset: Offset) {
    self.topic = topic
    self.partition = partition
    self.offset = offset
  }
}

/// One record batch as it lies in the log.
public struct InputBatch: Sendable {
  /// Index into the positions that were handed to ``JobHost/read(_:maxBytes:wait:)``.
  public var position: Int
  /// A whole record batch, magic 2, with its base offset; possibly compressed.
  public var bytes: Bytes
  /// Offset after the last record that the partition lets readers see; −1 when the host does not know.
  public var endOffset: Offset
  /// Newest time of the partition's records, or of a few behind `endOffset`; `.none` when the host does not know.
  public var endTime: Timestamp
  /// Its records are not for readers: a transaction's end, or part of one that was aborted. Only the position moves on.
  public var isVoid: Bool

  /// A batch read at `positions[position]`.
  public init(
    position: Int, bytes: Bytes, endOffset: Offset = -1, endTime: Timestamp = .none, isVoid: Bool = false
  ) {
    self.position = position
    self.bytes = bytes
    self.endOffset = endOffset
    self.endTime = endTime
    self.isVoid = isVoid
  }
}

/// A record batch that a step appends to a topic, or whose records it puts into a message queue.
public struct OutputBatch: Sendable {
  /// Where a batch goes.
  public enum Target: Hashable, Sendable {
    /// To a partition of a topic.
    case topic(String, partition: Int32)
    /// Into a durable queue of the virtual host `/`, each record as a message: see ``OutputMessage``.
    case queue(String)
  }

  /// Where it goes.
  public var target: Target
  /// A whole record batch, magic 2, base offset 0, uncompressed, with a right CRC.
  public var bytes: Bytes

  /// A batch for `target`.
  public init(target: Target, bytes: Bytes) {
    self.target = target
    self.bytes = bytes
  }

  /// A batch for `partition` of `topic`.
  public init(topic: String, partition: Int32, bytes: Bytes) {
    self.init(target: .topic(topic, partition: partition), bytes: bytes)
  }

  /// Bytes that it counts in a commit. A message takes more in a queue than its record here, by its envelope.
  var size: Int {
    guard case .queue(let name) = target else { return bytes.count }
    do throws(RecordBatchError) {
      let count = Int(try RecordBatchHeader(bytes).recordCount)
      return bytes.count + count * (OutputBatch.messageOverhead + name.utf8.count)
    } catch {
      // The host refuses it.
      return bytes.count
    }
  }

  /// Most bytes of an envelope beside name and properties.
  static let messageOverhead = 128
}

/// Everything one step makes durable: applied whole or not at all.
public struct StepCommit: Sendable {
  /// The job.
  public var job: String
  /// The run of the job, as ``JobHost/open(job:_:)`` gave it.
  public var epoch: Int64
  /// Record batches for topics, in order.
  public var outputs: [OutputBatch]
  /// Record batches for the job's state log, in order; at least one. Input positions are among their records.
  public var state: [Bytes]
  /// When set, records of the state log below this offset are no longer needed once this commit is durable.
  public var stateLogStart: Offset?
  /// Messages that leave their queues with this commit.
  public var settlements: [QueueSettlement]

  /// A commit.
  public init(
    job: String, epoch: Int64, outputs: [OutputBatch], state: [Bytes], stateLogStart: Offset?,
    settlements: [QueueSettlement] = []
  ) {
    self.settlements = settlements
    self.job = job
    self.epoch = epoch
    self.outputs = outputs
    self.state = state
    self.stateLogStart = stateLogStart
  }
}

extension StepCommit {
  /// Bytes that a host keeps with each batch, at most; its own formats decide.
  static let batchOverhead = 64

  /// Bytes of all its batches with what a host keeps with them.
  var size: Int {
    outputs.reduce(StepCommit.batchOverhead) { $0 + $1.size + StepCommit.batchOverhead }
      + state.reduce(0) { $0 + $1.count + StepCommit.batchOverhead } + settlements.reduce(0) { $0 + $1.size }
  }
}

/// Messages of a queue that a step has settled: they leave it with the step's commit.
public struct QueueSettlement: Equatable, Sendable {
  /// The queue.
  public var queue: String
  /// How many messages that the run took were settled by the steps before.
  public var after: UInt64
  /// How many are with this one.
  public var through: UInt64

  /// A settlement.
  public init(queue: String, after: UInt64, through: UInt64) {
    self.queue = queue
    self.after = after
    self.through = through
  }

  /// Most bytes that it takes in a commit.
  var size: Int { StepCommit.batchOverhead + Int(clamping: through - min(after, through)) * 24 }
}

/// Messages that a run has taken.
public struct TakenMessages: Sendable {
  /// A whole record batch, magic 2, uncompressed: a message's body is the value, its properties are headers as records of
  /// topics have them, its routing key is the key when it came through an exchange.
  public var bytes: Bytes
  /// How many messages the run has taken of the queue, these included.
  public var through: UInt64

  /// Messages.
  public init(bytes: Bytes, through: UInt64) {
    self.bytes = bytes
    self.through = through
  }
}

/// Names a commit that was handed over and may not be durable yet.
public struct CommitTicket: Hashable, Sendable {
  /// The host's number for the commit.
  public let number: UInt64
  /// The commit with this number.
  public init(number: UInt64) { self.number = number }
}

/// What the host tells about a durable commit.
public struct CommitReceipt: Equatable, Sendable {
  /// Offset that the first record of the commit's state batches got in the state log.
  public var stateLogOffset: Offset
  /// When the commit became durable; only for the latency figure.
  public var durableAt: MonotonicTime

  /// A receipt.
  public init(stateLogOffset: Offset, durableAt: MonotonicTime) {
    self.stateLogOffset = stateLogOffset
    self.durableAt = durableAt
  }
}

/// The outside of one running job: its input topics, its output topics and its state log.
///
/// One value serves one job, a run at a time. All methods but ``interrupt()``, ``decompress(_:_:)`` and
/// ``makeStateFile()`` are called by one of the job's threads, one at a time; they may block it. Any error ends the run: what was not committed is forgotten, and the next run recovers.
///
/// What the host owes the job:
/// 1. A commit is applied whole or not at all, and in the order of submission.
/// 2. When a commit is not applied, none submitted after it under the same epoch is.
/// 3. ``wait(_:)`` returns only once the commit, and so all before it, is durable.
/// 4. After ``open(job:_:)`` has begun, no commit of an earlier epoch of the job is applied any more.
/// 5. The state log keeps at least the records from the last durable ``StepCommit/stateLogStart`` on.
public protocol JobHost: AnyObject, Sendable {
  /// Most bytes that a commit may have, its batches and 64 bytes for each of them counted.
  var largestCommit: Int { get }

  /// The number of partitions of `topic`, at least 1.
  /// - Throws: `.unknownTopic`.
  func partitionCount(topic: String) throws(JobError) -> Int

  /// Checks that there is a durable message queue `queue` in the virtual host `/`.
  /// - Throws: `.unknownQueue`.
  func checkQueue(_ queue: String) throws(JobError)

  /// Changes when topics that were there get more partitions: then ``partitionCount(topic:)`` may answer more than before,
  /// and a job asks again. Cheap; always 0 for a host whose topics never grow.
  var partitionAdditions: UInt64 { get }

  /// Starts a run: fences every earlier run of `job`, then hands every batch of its state log to `body`, oldest first,
  /// from the log's start offset on. A job that never ran has an empty state log.
  /// - Returns: the epoch of this run, higher than all before it.
  /// - Throws: what `body` throws, and `.closed`.
  func open(job: String, _ body: (Bytes) throws(JobError) -> Void) throws(JobError) -> Int64

  /// Reads batches at the positions. Blocks up to `wait` while there is nothing to read, and returns what is there as
  /// soon as there is something.
  ///
  /// Of each partition the batches come in order and without gaps from the batch that holds the position's offset on;
  /// only what is durable and not part of an open or aborted transaction is returned. When more than `maxBytes` are
  /// there, all partitions get their turn over successive calls. At least one batch is returned when there is one,
  /// however large. Without positions, the call only waits.
  /// - Returns: nothing when the time passed or ``interrupt()`` was called.
  /// - Throws: `.unknownTopic`, `.closed`.
  func read(_ positions: [InputPosition], maxBytes: Int, wait: Duration) throws(JobError) -> [InputBatch]

  /// Begins to take messages of a queue of the virtual host `/` for the run that was opened. Those that runs before it took, and
  /// that no commit has settled, come again. Nobody else gets what the run has taken until it ends.
  /// - Throws: `.unknownQueue`, `.sourceFailed`, `.closed`.
  func openQueue(_ queue: String) throws(JobError)

  /// Takes the next messages of a queue that was opened, in the order in which it delivers, without waiting for them. Their
  /// coming ends a ``read(_:maxBytes:wait:)`` that waits, or the next one.
  /// - Parameter maxBytes: of the messages; one is taken however large it is.
  /// - Returns: nil when there are none, or so many are taken and not settled that the host gives no more.
  /// - Throws: `.unknownQueue`, `.sourceFailed`, `.fenced`, `.closed`.
  func takeMessages(_ queue: String, maxBytes: Int) throws(JobError) -> TakenMessages?

  /// The run that was opened is over, and waits for nothing any more: what it took of queues and did not settle goes back.
  func endRun()

  /// The records part of a compressed batch, decompressed. Several of the job's threads may call at a time.
  /// - Throws: `.corruptInput`.
  func decompress(_ batch: Bytes, _ header: RecordBatchHeader) throws(JobError) -> Bytes

  /// Hands a commit over without waiting until it is durable. The job keeps a few commits in flight
  /// (``JobOptions/commitsInFlight``).
  /// - Parameter commit: at most ``largestCommit`` bytes.
  /// - Throws: `.fenced`, `.commitFailed`, `.unknownTopic`, `.unknownQueue`, `.closed`.
  func submit(_ commit: StepCommit) throws(JobError) -> CommitTicket

  /// Blocks until the commit is durable. Called once for each ticket, in the order of submission.
  /// - Throws: `.fenced`, `.commitFailed` (the commit may or may not be found at the next open), `.closed`.
  func wait(_ ticket: CommitTicket) throws(JobError) -> CommitReceipt

  /// An empty file for state that memory has no room for (``JobOptions/stateMemory``). Several of the job's threads may call at a time.
  /// - Throws: `.stateFileFailed`.
  func makeStateFile() throws(JobError) -> any StateFile

  /// Takes what the run tells of itself, about once a second, and at its end. Not to be waited for; of no consequence to the job.
  func report(_ figures: JobFigures)

  /// Makes a ``read(_:maxBytes:wait:)`` that waits, or the next one, return at once. Any thread may call.
  func interrupt()
}

extension JobHost {
  /// Nobody asks.
  public func report(_ figures: JobFigures) {}

  /// Topics never grow.
  public var partitionAdditions: UInt64 { 0 }

  /// There are no queues.
  public func checkQueue(_ queue: String) throws(JobError) {
    throw JobError(.unknownQueue, "\(queue): this host of jobs has no queues")
  }

  /// There are no queues.
  public func openQueue(_ queue: String) throws(JobError) { try checkQueue(queue) }

  /// There are no queues.
  public func takeMessages(_ queue: String, maxBytes: Int) throws(JobError) -> TakenMessages? { nil }

  /// Nothing has to be given back.
  public func endRun() {}
}
