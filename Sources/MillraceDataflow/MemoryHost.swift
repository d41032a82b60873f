// MemoryHost: a host that keeps topics and state logs in memory: to test jobs, and to measure the engine alone.

import MillraceBase
import MillraceModel

/// Topics and state logs in memory, with the same promises as the broker's host, and failures on demand.
///
/// Several runs may share one value; a newer run fences the older. Any thread may call.
///
/// Safety: `@unchecked Sendable` because every stored variable is used under `signal`'s lock.
public final class MemoryHost: JobHost, @unchecked Sendable {
  /// What becomes of a commit.
  public enum Fate: Sendable {
    /// Applied and acknowledged.
    case acknowledged
    /// Applied, but the job is told that it failed: its acknowledgement was lost.
    case applied
    /// Not applied, nor is any later one of the run: the machine stopped before it was durable.
    case lost
  }

  private struct PartitionLog {
    var batches: [(header: RecordBatchHeader, bytes: Bytes)] = []
    var end: Offset { batches.last.map { $0.header.nextOffset } ?? start }
    var start: Offset = 0
    var newest = Timestamp.none

    mutating func append(_ batch: Bytes, epoch: Int32) throws(JobError) {
      let copy = Chunk(capacity: max(1, batch.count))
      batch.withBuffer { from in
        if let base = from.baseAddress { copy.base.copyMemory(from: base, byteCount: from.count) }
      }
      do throws(RecordBatchError) {
        _ = try RecordBatchHeader.checked(batch)
        RecordBatchHeader.patch(copy.base, baseOffset: end, leaderEpoch: epoch)
        let bytes = copy.bytes(0..<batch.count)
        let header = try RecordBatchHeader(bytes)
        newest = max(newest, header.maxTimestamp)
        batches.append((header: header, bytes: bytes))
      } catch {
        throw JobError(.commitFailed, error.description)
      }
    }

    /// The number of the first batch that ends behind `offset`.
    func index(of offset: Offset) -> Int {
      var low = 0
      var high = batches.count
      while low < high {
        let middle = (low + high) / 2
        if batches[middle].header.nextOffset <= offset { low = middle + 1 } else { high = middle }
      }
      return low
    }
  }

  private struct JobState {
    var epoch: Int64 = 0
    var log = PartitionLog()
    var isBroken = false
  }

  /// A queue; it has one reader at a time.
  private struct MessageList {
    var all: [Record] = []
    /// How many of them are settled, were when the run began, and are taken.
    var settled = 0
    var start = 0
    var taken = 0
  }

  private let signal = ThreadSignal()
  private var topics: [String: [PartitionLog]] = [:]
  private var queues: [String: MessageList] = [:]
  private var jobs: [String: JobState] = [:]
  private var receipts: [UInt64: Result<CommitReceipt, JobError>] = [:]
  private var commits: UInt64 = 0
  private var isInterrupted = false
  private var turn = 0
  private let fate: @Sendable (UInt64) -> Fate
  private let clock: @Sendable () -> MonotonicTime
  private let newTopicPartitions: Int?
  private var stateFiles: @Sendable () throws(JobError) -> any StateFile = { () throws(JobError) in MemoryStateFile() }
  /// Most bytes of a commit.
  public let largestCommit: Int
  private var largestSeen = 0

  /// A host without topics.
  ///
  /// - Parameters:
  ///   - largestCommit: most bytes of a commit.
  ///   - newTopicPartitions: partitions of topics that are made when somebody asks for them; nil when they are not.
  ///   - fate: decides what becomes of the n-th commit of the host's life, counted from 1.
  ///   - clock: says when commits are durable.
  public init(
    largestCommit: Int = 32 << 20, newTopicPartitions: Int? = nil,
    fate: @escaping @Sendable (UInt64) -> Fate = { _ in .acknowledged },
    clock: @escaping @Sendable () -> MonotonicTime = { .now }
  ) {
    self.largestCommit = largestCommit
    self.newTopicPartitions = newTopicPartitions
    self.clock = clock
    self.fate = fate
  }

  /// A file in memory, unless ``makeStateFiles(_:)`` said otherwise.
  public func makeStateFile() throws(JobError) -> any StateFile { try signal.locked { stateFiles }() }

  /// From now on `make` makes the files for state beyond a job's memory.
  public func makeStateFiles(_ make: @escaping @Sendable () throws(JobError) -> any StateFile) {
    signal.locked { stateFiles = make }
  }

  /// Makes a topic.
  public func createTopic(_ topic: String, partitions: Int) {
    signal.locked { topics[topic] = (0..<partitions).map { _ in PartitionLog() } }
  }

  /// Appends a record batch as a producer would.
  /// - Throws: `.unknownTopic`; `.commitFailed` when the batch is damaged.
  public func append(topic: String, partition: Int32, batch: Bytes) throws(JobError) {
    try signal.locked { () throws(JobError) in
      try append(OutputBatch(topic: topic, partition: partition, bytes: batch))
      signal.signal()
    }
  }

  /// Everything in a partition, in order.
  /// - Throws: `.unknownTopic`, `.corruptInput`.
  public func records(topic: String, partition: Int32) throws(JobError) -> [Record] {
    let batches = try signal.locked { () throws(JobError) in try log(topic, partition).batches }
    var out: [Record] = []
    for batch in batches {
      let part = batch.bytes[RecordBatchHeader.size..<batch.header.totalSize]
      do throws(RecordBatchError) {
        out += try RecordReader.records(part, header: batch.header)
      } catch {
        throw JobError(.corruptInput, error.description)
      }
    }
    return out
  }

  /// Number of records that a job's state log holds from its start on.
  public func stateRecordCount(job: String) -> Int {
    signal.locked { (jobs[job]?.log.batches ?? []).reduce(0) { $0 + Int($1.header.recordCount) } }
  }

  /// Offset from which a job's state log is kept.
  public func stateLogStart(job: String) -> Offset { signal.locked { jobs[job]?.log.start ?? 0 } }

  /// Bytes of the largest commit so far.
  public var largestCommitSeen: Int { signal.locked { largestSeen } }

  /// Commits submitted so far.
  public var commitCount: UInt64 { signal.locked { commits } }

  private func log(_ topic: String, _ partition: Int32) throws(JobError) -> PartitionLog {
    guard let logs = topics[topic], logs.indices.contains(Int(partition)) else {
      throw JobError(.unknownTopic, "\(topic)-\(partition)")
    }
    return logs[Int(partition)]
  }

  private func append(_ output: OutputBatch) throws(JobError) {
    switch output.target {
    case .topic(let topic, let partition):
      _ = try log(topic, partition)
      try topics[topic]?[Int(partition)].append(output.bytes, epoch: 0)
    case .queue(let queue):
      guard queues[queue] != nil else { throw JobError(.unknownQueue, queue) }
      queues[queue]?.all += try MemoryHost.records(of: output.bytes)
    }
  }

  private static func records(of batch: Bytes) throws(JobError) -> [Record] {
    do throws(RecordBatchError) {
      let header = try RecordBatchHeader.checked(batch)
      return try RecordReader.records(batch[RecordBatchHeader.size..<header.totalSize], header: header)
    } catch {
      throw JobError(.commitFailed, error.description)
    }
  }

  /// Makes a queue.
  public func createQueue(_ queue: String) { signal.locked { queues[queue] = queues[queue] ?? MessageList() } }

  /// Puts a message into a queue as a publisher would.
  /// - Throws: `.unknownQueue`.
  public func append(queue: String, _ message: OutputMessage, at time: Timestamp) throws(JobError) {
    try signal.locked { () throws(JobError) in
      guard queues[queue] != nil else { throw JobError(.unknownQueue, queue) }
      queues[queue]?.all.append(message.record(at: time))
      signal.signal()
    }
  }

  /// How many messages of a queue are not settled.
  public func unsettledCount(queue: String) -> Int {
    signal.locked { queues[queue].map { $0.all.count - $0.settled } ?? 0 }
  }

  /// Begins to take what is not settled.
  public func openQueue(_ queue: String) throws(JobError) {
    try checkQueue(queue)
    signal.locked {
      guard let settled = queues[queue]?.settled else { return }
      queues[queue]?.start = settled
      queues[queue]?.taken = settled
    }
  }

  /// Takes messages.
  public func takeMessages(_ queue: String, maxBytes: Int) throws(JobError) -> TakenMessages? {
    try signal.locked { () throws(JobError) in
      guard let list = queues[queue] else { throw JobError(.unknownQueue, queue) }
      guard list.taken < list.all.count else { return nil }
      var builder = RecordBatchBuilder()
      var taken = list.taken
      while taken < list.all.count, builder.count == 0 || builder.size < maxBytes {
        builder.append(list.all[taken])
        taken += 1
      }
      queues[queue]?.taken = taken
      return TakenMessages(bytes: builder.finish(), through: UInt64(taken - list.start))
    }
  }

  /// Makes the queue when it is missing and topics are made when they are.
  public func checkQueue(_ queue: String) throws(JobError) {
    if newTopicPartitions != nil { createQueue(queue) }
    guard signal.locked({ queues[queue] != nil }) else { throw JobError(.unknownQueue, queue) }
  }

  /// All messages that were put into a queue, as records.
  /// - Throws: `.unknownQueue`.
  public func messages(queue: String) throws(JobError) -> [Record] {
    guard let messages = signal.locked({ queues[queue]?.all }) else { throw JobError(.unknownQueue, queue) }
    return messages
  }

  /// The partitions of a topic, which is made when it is missing and may be.
  public func partitionCount(topic: String) throws(JobError) -> Int {
    if let newTopicPartitions, signal.locked({ topics[topic] == nil }) {
      createTopic(topic, partitions: newTopicPartitions)
    }
    guard let logs = signal.locked({ topics[topic] }) else { throw JobError(.unknownTopic, topic) }
    return logs.count
  }

  /// Starts a run, fencing older ones.
  public func open(job: String, _ body: (Bytes) throws(JobError) -> Void) throws(JobError) -> Int64 {
    let (epoch, batches) = signal.locked {
      jobs[job, default: JobState()].epoch += 1
      jobs[job, default: JobState()].isBroken = false
      let state = jobs[job, default: JobState()]
      return (state.epoch, state.log.batches)
    }
    for batch in batches { try body(batch.bytes) }
    return epoch
  }

  /// Reads batches, waiting for them.
  public func read(_ positions: [InputPosition], maxBytes: Int, wait: Duration) throws(JobError) -> [InputBatch] {
    let deadline = MonotonicTime.now + wait
    return try signal.locked { () throws(JobError) in
      while true {
        let found = try available(positions, maxBytes)
        if !found.isEmpty { return found }
        if isInterrupted || MonotonicTime.now >= deadline || !signal.wait(until: deadline) {
          isInterrupted = false
          return []
        }
      }
    }
  }

  private func available(_ positions: [InputPosition], _ maxBytes: Int) throws(JobError) -> [InputBatch] {
    var found: [InputBatch] = []
    var bytes = 0
    guard !positions.isEmpty else { return found }
    turn = (turn + 1) % positions.count
    for step in positions.indices {
      let index = (turn + step) % positions.count
      guard let logs = topics[positions[index].topic], logs.indices.contains(Int(positions[index].partition)) else {
        throw JobError(.unknownTopic, "\(positions[index].topic)-\(positions[index].partition)")
      }
      let log = logs[Int(positions[index].partition)]
      var at = log.index(of: positions[index].offset)
      while at < log.batches.count, found.isEmpty || bytes + log.batches[at].bytes.count <= maxBytes {
        found.append(InputBatch(position: index, bytes: log.batches[at].bytes, endOffset: log.end, endTime: log.newest))
        bytes += log.batches[at].bytes.count
        at += 1
      }
    }
    return found
  }

  /// Compressed batches are not supported.
  public func decompress(_ batch: Bytes, _ header: RecordBatchHeader) throws(JobError) -> Bytes {
    throw JobError(.corruptInput, "a host in memory does not decompress")
  }

  /// Applies the commit or loses it, as its fate says.
  public func submit(_ commit: StepCommit) throws(JobError) -> CommitTicket {
    try signal.locked { () throws(JobError) in
      commits += 1
      largestSeen = max(largestSeen, commit.size)
      // Taken out, so that appending does not copy the log.
      var state = jobs.removeValue(forKey: commit.job) ?? JobState()
      defer { jobs[commit.job] = state }
      guard commit.epoch == state.epoch else {
        throw JobError(.fenced, "epoch \(commit.epoch) of \"\(commit.job)\" was followed by \(state.epoch)")
      }
      let fate = state.isBroken ? .lost : fate(commits)
      var receipt = CommitReceipt(stateLogOffset: state.log.end, durableAt: clock())
      if fate != .lost {
        for output in commit.outputs { try append(output) }
        for batch in commit.state { try state.log.append(batch, epoch: 0) }
        for settlement in commit.settlements {
          guard let start = queues[settlement.queue]?.start else { continue }
          queues[settlement.queue]?.settled = start + Int(settlement.through)
        }
        if let start = commit.stateLogStart {
          state.log.start = start
          state.log.batches.removeFirst(state.log.index(of: start))
        }
      }
      if fate != .acknowledged { state.isBroken = true }
      receipt.durableAt = clock()
      receipts[commits] =
        fate == .acknowledged
        ? .success(receipt) : .failure(JobError(.commitFailed, "commit \(commits) was not acknowledged"))
      signal.signal()
      return CommitTicket(number: commits)
    }
  }

  /// The commit's outcome.
  public func wait(_ ticket: CommitTicket) throws(JobError) -> CommitReceipt {
    guard let receipt = signal.locked({ receipts.removeValue(forKey: ticket.number) }) else {
      throw JobError(.commitFailed, "no commit \(ticket.number) was submitted")
    }
    return try receipt.get()
  }

  /// Wakes a reader.
  public func interrupt() {
    signal.locked {
      isInterrupted = true
      signal.signal()
    }
  }
}
