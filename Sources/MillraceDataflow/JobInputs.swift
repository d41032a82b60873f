// JobInputs: a job's topics, queues and sources, and how far each has been read.

import MillraceBase
import MillraceModel

/// Reads all inputs of a job and keeps their positions. A queue keeps its own: a job tells it what was settled. The position that
/// stands in the state log for it only counts.
struct JobInputs {
  /// A batch on its way into a step.
  struct Batch {
    /// What moves on when the batch has been run: the index of a topic's partition, a queue or a source.
    fileprivate enum Origin {
      case topic(Int)
      case queue(Int, through: UInt64)
      case source(Int, position: Bytes?)
    }

    fileprivate let origin: Origin
    /// Where the partition stands behind the batch and the void ones that follow it.
    fileprivate var nextOffset: Offset
    let input: Int
    let partition: Int32
    let bytes: Bytes
    let header: RecordBatchHeader
    let firstOffset: Offset
    /// When its newest record came, as far as is known.
    var arrival = MonotonicTime(nanoseconds: 0)

    /// Its times are those of records that somebody has appended.
    var isOfTopic: Bool { if case .topic = origin { true } else { false } }

    fileprivate func isOf(position: Int) -> Bool {
      if case .topic(position) = origin { true } else { false }
    }
  }

  private struct Source {
    let input: Int
    let name: [UInt8]
    let source: any ReplayableSource
    var position: Bytes?
    var changed = false
    var isFinished = false
    /// Batches that were read and not run yet.
    var unrun = 0
  }

  private struct Queue {
    let input: Int
    let name: [UInt8]
    let queue: String
    /// Messages that were run, and those that a commit says so of.
    var passed: UInt64 = 0
    var settled: UInt64 = 0
    /// Batches that were taken and not run yet.
    var unrun = 0
  }

  /// Where the next read goes on.
  private var positions: [InputPosition] = []
  /// Offsets behind what was run: what a commit says.
  private var passed: [Offset] = []
  private var endOffsets: [Offset] = []
  /// Newest times of the records that were run, and of those that the partitions have.
  private var passedTimes: [Timestamp] = []
  private var endTimes: [Timestamp] = []
  /// Of each input: records and bytes that were run.
  private(set) var read: [(records: UInt64, bytes: UInt64)] = []
  private var positionInputs: [Int] = []
  private var positionNames: [[UInt8]] = []
  private var changed: [Bool] = []
  private var sources: [Source] = []
  private var queues: [Queue] = []
  /// Topics that are read, with their inputs and the partitions that have positions.
  private var topics: [(input: Int, topic: String, partitions: Int)] = []
  /// The host's count when the partitions were asked for.
  private var partitionAdditions: UInt64

  /// - Parameter recovered: positions of the last commit by their name in the state log.
  init(_ inputs: [JobInput], host: any JobHost, positions recovered: [[UInt8]: Bytes]) throws(JobError) {
    // Before the partitions, so that none that are added meanwhile is missed.
    partitionAdditions = host.partitionAdditions
    read = inputs.map { _ in (0, 0) }
    for (index, input) in inputs.enumerated() {
      switch input {
      case .topic(let topic):
        topics.append((index, topic, 0))
        try addPartitions(to: topics.count - 1, host: host, positions: recovered)
      case .queue(let queue):
        try host.openQueue(queue)
        queues.append(Queue(input: index, name: JobInputs.name(input, partition: 0), queue: queue))
      case .source(_, let make):
        let name = JobInputs.name(input, partition: 0)
        let source = try make()
        try source.restore(recovered[name])
        sources.append(Source(input: index, name: name, source: source, position: recovered[name]))
      }
    }
  }

  /// Adds positions for partitions that a topic has and that have none.
  private mutating func addPartitions(
    to index: Int, host: any JobHost, positions recovered: [[UInt8]: Bytes]
  ) throws(JobError) {
    let (input, topic, known) = topics[index]
    let count = try host.partitionCount(topic: topic)
    guard count > known else { return }
    for partition in Int32(known)..<Int32(count) {
      let name = JobInputs.name(.topic(topic), partition: partition)
      let offset = try recovered[name].map { bytes throws(JobError) in try JobInputs.offset(bytes) } ?? 0
      positions.append(InputPosition(topic: topic, partition: partition, offset: offset))
      passed.append(offset)
      positionNames.append(name)
      positionInputs.append(input)
      endOffsets.append(-1)
      passedTimes.append(.none)
      endTimes.append(.none)
      changed.append(false)
    }
    topics[index].partitions = count
  }

  /// Takes up partitions that topics got since they were last asked for; they are read from their starts.
  private mutating func takeNewPartitions(host: any JobHost) throws(JobError) {
    let additions = host.partitionAdditions
    guard additions != partitionAdditions else { return }
    partitionAdditions = additions
    for index in topics.indices { try addPartitions(to: index, host: host, positions: [:]) }
  }

  /// Whether nothing can come any more.
  var areFinished: Bool { positions.isEmpty && queues.isEmpty && sources.allSatisfy(\.isFinished) }

  /// Whether there are sources that must be asked again when they had nothing.
  var haveSources: Bool { sources.contains { !$0.isFinished } }

  /// Records not yet read, as far as the host told.
  var lag: Int64 {
    zip(passed, endOffsets).reduce(0) { $0 + max(0, $1.1 - $1.0) }
  }

  /// Where the job stands in each partition, and its queues and sources.
  /// - Parameter names: of the inputs.
  func figures(_ names: [String]) -> [InputFigures] {
    var found: [InputFigures] = []
    for index in positions.indices {
      let place = InputPlace(input: names[positionInputs[index]], partition: positions[index].partition)
      var figures = InputFigures(place: place)
      if endOffsets[index] >= 0 {
        let lag = max(0, endOffsets[index] - passed[index])
        figures.lag = lag
        if lag == 0 {
          figures.timeLag = .zero
        } else if endTimes[index] != .none, passedTimes[index] != .none {
          figures.timeLag = .milliseconds(
            max(0, endTimes[index].milliseconds.subtracting(passedTimes[index].milliseconds)))
        }
      }
      found.append(figures)
    }
    for queue in queues { found.append(InputFigures(place: InputPlace(input: names[queue.input], partition: 0))) }
    for source in sources { found.append(InputFigures(place: InputPlace(input: names[source.input], partition: 0))) }
    return found
  }

  /// What event time has to know of a partition; a queue or source is its own partition 0.
  struct Progress {
    let input: Int
    let partition: Int32
    /// As in the state log.
    let name: [UInt8]
    /// Everything that is known to be there was run.
    let isRead: Bool
    /// Everything was run, and nothing can follow.
    let isFinished: Bool
  }

  /// Calls `body` for each partition and source.
  func forEachProgress(_ body: (Progress) -> Void) {
    for index in positions.indices {
      let isRead = passed[index] == positions[index].offset && passed[index] >= endOffsets[index]
      body(
        Progress(
          input: positionInputs[index], partition: positions[index].partition, name: positionNames[index],
          isRead: isRead, isFinished: false))
    }
    for queue in queues {
      body(
        Progress(input: queue.input, partition: 0, name: queue.name, isRead: queue.unrun == 0, isFinished: false))
    }
    for source in sources {
      let isRead = source.unrun == 0
      body(
        Progress(
          input: source.input, partition: 0, name: source.name, isRead: isRead,
          isFinished: isRead && source.isFinished))
    }
  }

  /// The next batches; waits for them when there are none.
  /// - Parameters:
  ///   - maxBytes: of a batch of a source or queue; of all batches of topics, times `batches`.
  ///   - batches: how many of each source and queue, so that several workers have something to do.
  mutating func read(
    host: any JobHost, maxBytes: Int, batches: Int, wait: Duration
  ) throws(JobError) -> [Batch] {
    try takeNewPartitions(host: host)
    var taken: [Batch] = []
    for index in sources.indices { try take(&taken, from: index, maxBytes: maxBytes, batches: batches) }
    for index in queues.indices {
      try take(&taken, ofQueue: index, host: host, maxBytes: maxBytes, batches: batches)
    }
    if positions.isEmpty && (!taken.isEmpty || wait == .zero) { return taken }
    // What brings no records, such as the end of a transaction, is no reason to call a topic read to its end.
    let mostBytes = maxBytes * batches
    while try take(&taken, host: host, maxBytes: mostBytes, wait: taken.isEmpty ? wait : .zero), taken.isEmpty {}
    return taken
  }

  /// Reads from a source until it has given so many batches, or has none.
  private mutating func take(
    _ taken: inout [Batch], from index: Int, maxBytes: Int, batches: Int
  ) throws(JobError) {
    for _ in 0..<batches {
      guard !sources[index].isFinished else { return }
      let got = try sources[index].source.next(maxBytes: maxBytes)
      sources[index].isFinished = got.isFinished
      guard let bytes = got.batch else { return }
      sources[index].unrun += 1
      taken.append(
        Batch(
          origin: .source(index, position: got.position), nextOffset: 0, input: sources[index].input, partition: 0,
          bytes: bytes, header: try JobInputs.header(bytes), firstOffset: 0))
    }
  }

  /// Takes messages of a queue until it has given so many batches, or has none.
  private mutating func take(
    _ taken: inout [Batch], ofQueue index: Int, host: any JobHost, maxBytes: Int, batches: Int
  ) throws(JobError) {
    for _ in 0..<batches {
      guard let got = try host.takeMessages(queues[index].queue, maxBytes: maxBytes) else { return }
      queues[index].unrun += 1
      taken.append(
        Batch(
          origin: .queue(index, through: got.through), nextOffset: 0, input: queues[index].input, partition: 0,
          bytes: got.bytes, header: try JobInputs.header(got.bytes), firstOffset: 0))
    }
  }

  /// Reads from the topics once.
  /// - Returns: whether a position moved.
  private mutating func take(
    _ taken: inout [Batch], host: any JobHost, maxBytes: Int, wait: Duration
  ) throws(JobError) -> Bool {
    let batches = try host.read(positions, maxBytes: maxBytes, wait: wait)
    var hasMoved = false
    taken.reserveCapacity(taken.count + batches.count)
    for batch in batches {
      guard positions.indices.contains(batch.position) else {
        throw JobError(.corruptInput, "the host answered for position \(batch.position) of \(positions.count)")
      }
      let header = try JobInputs.header(batch.bytes)
      let at = positions[batch.position].offset
      // A batch from before the position was read twice by the host; a gap is what compaction or retention left.
      guard header.nextOffset > at else { continue }
      if !batch.isVoid {
        taken.append(
          Batch(
            origin: .topic(batch.position), nextOffset: header.nextOffset, input: positionInputs[batch.position],
            partition: positions[batch.position].partition, bytes: batch.bytes, header: header, firstOffset: at))
      } else if let last = taken.lastIndex(where: { $0.isOf(position: batch.position) }) {
        taken[last].nextOffset = header.nextOffset
      } else {
        passed[batch.position] = header.nextOffset
        changed[batch.position] = true
      }
      positions[batch.position].offset = header.nextOffset
      hasMoved = true
      if batch.endOffset >= 0 { endOffsets[batch.position] = batch.endOffset }
      if batch.endTime != .none { endTimes[batch.position] = batch.endTime }
    }
    return hasMoved
  }

  /// The batch has been run: the commit of the step says so. Batches must pass in the order in which they were read.
  mutating func pass(_ batch: Batch) {
    read[batch.input].bytes += UInt64(batch.bytes.count)
    if !batch.header.isControl { read[batch.input].records += UInt64(batch.header.recordCount) }
    switch batch.origin {
    case .topic(let index):
      passed[index] = batch.nextOffset
      passedTimes[index] = max(passedTimes[index], batch.header.maxTimestamp)
      changed[index] = true
    case .queue(let index, let through):
      queues[index].passed = through
      queues[index].unrun -= 1
    case .source(let index, let position):
      sources[index].position = position
      sources[index].changed = true
      sources[index].unrun -= 1
    }
  }

  /// What the step is to settle, since the last call.
  mutating func takeSettlements() -> [QueueSettlement] {
    var settlements: [QueueSettlement] = []
    for index in queues.indices where queues[index].passed > queues[index].settled {
      settlements.append(
        QueueSettlement(queue: queues[index].queue, after: queues[index].settled, through: queues[index].passed))
      queues[index].settled = queues[index].passed
    }
    return settlements
  }

  /// Writes the positions that changed since the last call, or all. Before ``takeSettlements()``.
  mutating func writePositions(all: Bool, into writer: inout StateLogWriter) {
    for index in positions.indices where all || changed[index] {
      var value = ByteWriter(capacity: 8)
      value.int64(passed[index])
      writer.put(position: value.finishJoined(), of: positionNames[index])
      changed[index] = false
    }
    for queue in queues where all || queue.passed > queue.settled {
      var value = ByteWriter(capacity: 8)
      value.int64(Int64(clamping: queue.passed))
      writer.put(position: value.finishJoined(), of: queue.name)
    }
    for index in sources.indices where all || sources[index].changed {
      guard let position = sources[index].position else { continue }
      writer.put(position: position, of: sources[index].name)
      sources[index].changed = false
    }
  }

  /// What stands behind the prefix of a position's key: the partition, four bytes, then the input's name.
  static func name(_ input: JobInput, partition: Int32) -> [UInt8] {
    withUnsafeBytes(of: partition.bigEndian) { Array($0) } + Array(input.positionName.utf8)
  }

  private static func offset(_ bytes: Bytes) throws(JobError) -> Offset {
    var reader = ByteReader(bytes)
    do throws(DecodingError) {
      return try reader.int64()
    } catch {
      throw JobError(.corruptState, "an input position: \(error)")
    }
  }

  private static func header(_ bytes: Bytes) throws(JobError) -> RecordBatchHeader {
    do throws(RecordBatchError) {
      let header = try RecordBatchHeader(bytes)
      guard header.totalSize <= bytes.count else {
        throw RecordBatchError(.malformed, "length says \(header.totalSize) bytes, \(bytes.count) are there")
      }
      return header
    } catch {
      throw JobError(.corruptInput, error.description)
    }
  }
}
