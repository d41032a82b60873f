// WorkerRequest: what a worker or an operator asks of a server, and its bytes.
//
// Kinds: 0 hello, 1 open, 2 state, 3 partition count, 4 read, 5 commit, 6 report, 7 interrupt, 8 list jobs, 9 show job,
// 10 stop job, 11 resume job, 12 end offsets, 13 check queue, 14 open queue, 15 take messages,
// 16 commit that settles messages.

import MillraceBase
import MillraceDataflow
import MillraceModel

/// A request on the socket of workers.
public enum WorkerRequest: Sendable {
  /// The first one: who speaks which version. The process's number is for people.
  case hello(version: UInt16, processID: UInt32)
  /// Starts a run of a job. `owner` is the worker's number, the same in all its starts; one that comes back may not take
  /// over from another one that came meanwhile.
  case open(job: String, owner: UInt64, mayTakeOver: Bool)
  /// Batches of a job's state log.
  case state(job: String, from: Offset)
  /// The partitions of a topic, which is made when it may be.
  case partitionCount(topic: String)
  /// Batches of input; waits up to so many ms while there are none.
  case read([InputPosition], maxBytes: UInt32, waitMilliseconds: UInt32)
  /// Everything that one step makes durable. Positions are among the records of its state.
  case commit(StepCommit)
  /// The run's figures; it is not answered.
  case report(JobReport)
  /// Has the read that waits answered at once.
  case interrupt
  /// Jobs behind a name, in order.
  case listJobs(after: String)
  /// One job in full.
  case showJob(String)
  /// Forbids a job to run: its worker is told to stop. `isForced` ends its run at once, whatever the worker does.
  case stopJob(String, isForced: Bool)
  /// Allows a job to run again.
  case resumeJob(String)
  /// Offsets behind what readers may see of the positions' partitions.
  case endOffsets([InputPosition])
  /// Whether there is a durable queue of this name.
  case checkQueue(String)
  /// Begins to take messages of a queue for the run.
  case openQueue(String)
  /// The next messages of a queue that was opened.
  case takeMessages(String, maxBytes: UInt32)

  /// Writes kind and fields.
  func encode(to writer: inout ByteWriter) {
    switch self {
    case .hello(let version, let processID):
      writer.uint8(0)
      writer.uint32(WorkerProtocol.magic)
      writer.uint16(version)
      writer.uint32(processID)
    case .open(let job, let owner, let mayTakeOver):
      writer.uint8(1)
      writer.text(job)
      writer.uint64(owner)
      writer.bool(mayTakeOver)
    case .state(let job, let offset):
      writer.uint8(2)
      writer.text(job)
      writer.int64(offset)
    case .partitionCount(let topic):
      writer.uint8(3)
      writer.text(topic)
    case .read(let positions, let maxBytes, let wait):
      writer.uint8(4)
      writer.uint32(maxBytes)
      writer.uint32(wait)
      WorkerRequest.encode(positions, to: &writer)
    case .commit(let commit):
      writer.uint8(commit.settlements.isEmpty ? 5 : 16)
      commit.encode(to: &writer)
      guard !commit.settlements.isEmpty else { return }
      writer.list(commit.settlements) { writer, settlement in
        writer.text(settlement.queue)
        writer.uint64(settlement.after)
        writer.uint64(settlement.through)
      }
    case .report(let report):
      writer.uint8(6)
      report.encode(to: &writer)
    case .interrupt: writer.uint8(7)
    case .listJobs(let after):
      writer.uint8(8)
      writer.text(after)
    case .showJob(let job):
      writer.uint8(9)
      writer.text(job)
    case .stopJob(let job, let isForced):
      writer.uint8(10)
      writer.text(job)
      writer.bool(isForced)
    case .resumeJob(let job):
      writer.uint8(11)
      writer.text(job)
    case .endOffsets(let positions):
      writer.uint8(12)
      WorkerRequest.encode(positions, to: &writer)
    case .checkQueue(let queue):
      writer.uint8(13)
      writer.text(queue)
    case .openQueue(let queue):
      writer.uint8(14)
      writer.text(queue)
    case .takeMessages(let queue, let maxBytes):
      writer.uint8(15)
      writer.text(queue)
      writer.uint32(maxBytes)
    }
  }

  private static func encode(_ positions: [InputPosition], to writer: inout ByteWriter) {
    let topics = TopicTable(positions.lazy.map(\.topic))
    topics.encode(to: &writer)
    writer.list(positions) { writer, position in
      writer.uint32(topics.index(of: position.topic))
      writer.int32(position.partition)
      writer.int64(position.offset)
    }
  }

  private static func positions(_ reader: inout ByteReader) throws(DecodingError) -> [InputPosition] {
    let topics = try TopicTable(from: &reader)
    return try reader.list(ofSize: 16) { (reader) throws(DecodingError) in
      InputPosition(topic: try topics.read(&reader), partition: try reader.int32(), offset: try reader.int64())
    }
  }

  /// Reads what ``encode(to:)`` writes, to the reader's end.
  /// - Throws: where the bytes are no request.
  init(from reader: inout ByteReader) throws(DecodingError) {
    let at = reader.position
    switch try reader.uint8() {
    case 0:
      guard try reader.uint32() == WorkerProtocol.magic else { throw DecodingError("no greeting", at: at) }
      self = .hello(version: try reader.uint16(), processID: try reader.uint32())
    case 1: self = .open(job: try reader.text(), owner: try reader.uint64(), mayTakeOver: try reader.flag())
    case 2: self = .state(job: try reader.text(), from: try reader.int64())
    case 3: self = .partitionCount(topic: try reader.text())
    case 4:
      let maxBytes = try reader.uint32()
      let wait = try reader.uint32()
      self = .read(try WorkerRequest.positions(&reader), maxBytes: maxBytes, waitMilliseconds: wait)
    case 5: self = .commit(try StepCommit(from: &reader))
    case 6: self = .report(try JobReport(from: &reader))
    case 7: self = .interrupt
    case 8: self = .listJobs(after: try reader.text())
    case 9: self = .showJob(try reader.text())
    case 10: self = .stopJob(try reader.text(), isForced: try reader.flag())
    case 11: self = .resumeJob(try reader.text())
    case 12: self = .endOffsets(try WorkerRequest.positions(&reader))
    case 13: self = .checkQueue(try reader.text())
    case 14: self = .openQueue(try reader.text())
    case 15: self = .takeMessages(try reader.text(), maxBytes: try reader.uint32())
    case 16:
      var commit = try StepCommit(from: &reader)
      commit.settlements = try reader.list(ofSize: 20) { (reader) throws(DecodingError) in
        QueueSettlement(queue: try reader.text(), after: try reader.uint64(), through: try reader.uint64())
      }
      self = .commit(commit)
    case let kind: throw DecodingError("request \(kind)", at: at)
    }
    try reader.expectEnd()
  }
}

/// The topics of a request, each named once.
struct TopicTable {
  private var names: [String] = []
  private var indexes: [String: UInt32] = [:]

  init(_ topics: some Sequence<String>) {
    for topic in topics where indexes[topic] == nil {
      indexes[topic] = UInt32(names.count)
      names.append(topic)
    }
  }

  init(from reader: inout ByteReader) throws(DecodingError) {
    names = try reader.list(ofSize: 4) { (reader) throws(DecodingError) in try reader.text() }
  }

  func encode(to writer: inout ByteWriter) { writer.list(names) { $0.text($1) } }

  /// Of a topic that the table was made with.
  func index(of topic: String) -> UInt32 {
    guard let index = indexes[topic] else { preconditionFailure("topic \(topic) is not in the table") }
    return index
  }

  /// Reads an index.
  func read(_ reader: inout ByteReader) throws(DecodingError) -> String {
    let at = reader.position
    let index = Int(try reader.uint32())
    guard names.indices.contains(index) else { throw DecodingError("topic \(index) of \(names.count)", at: at) }
    return names[index]
  }
}

extension OutputBatch {
  /// Stands for the partition where the name is a queue's.
  fileprivate static let queuePartition: Int32 = -1

  /// Its target in a request.
  fileprivate var address: (name: String, partition: Int32) {
    switch target {
    case .topic(let topic, let partition): (topic, partition)
    case .queue(let queue): (queue, OutputBatch.queuePartition)
    }
  }
}

extension StepCommit {
  func encode(to writer: inout ByteWriter) {
    writer.text(job)
    writer.int64(epoch)
    writer.bool(stateLogStart != nil)
    writer.int64(stateLogStart ?? 0)
    let topics = TopicTable(outputs.lazy.map { $0.address.name })
    topics.encode(to: &writer)
    writer.list(outputs) { writer, output in
      writer.uint32(topics.index(of: output.address.name))
      writer.int32(output.address.partition)
      writer.bytes(output.bytes)
    }
    writer.list(state) { $0.bytes($1) }
  }

  init(from reader: inout ByteReader) throws(DecodingError) {
    let job = try reader.text()
    let epoch = try reader.int64()
    let hasStart = try reader.flag()
    let start = try reader.int64()
    let topics = try TopicTable(from: &reader)
    let outputs = try reader.list(ofSize: 12) { (reader) throws(DecodingError) in
      let name = try topics.read(&reader)
      let partition = try reader.int32()
      return OutputBatch(
        target: partition == OutputBatch.queuePartition ? .queue(name) : .topic(name, partition: partition),
        bytes: try reader.bytes())
    }
    let state = try reader.list(ofSize: 4) { (reader) throws(DecodingError) in try reader.bytes() }
    self.init(job: job, epoch: epoch, outputs: outputs, state: state, stateLogStart: hasStart ? start : nil)
  }
}
