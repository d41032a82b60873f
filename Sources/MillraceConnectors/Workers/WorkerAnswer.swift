// WorkerAnswer: what a server answers on the socket of workers, and its bytes.
//
// Kinds: 0 refused, 1 hello, 2 opened, 3 state, 4 partition count, 5 batches, 6 committed, 7 done, 8 jobs, 9 job, 10 end offsets,
// 11 messages.

import MillraceBase
import MillraceDataflow
import MillraceModel

/// An answer with what stands in front of each.
struct WorkerFrame {
  /// The request's.
  var number: UInt32
  /// The job of this connection is to stop.
  var isStopping: Bool
  /// ``JobHost/partitionAdditions``.
  var partitionAdditions: UInt64
  var answer: WorkerAnswer

  func encoded() -> [Bytes] {
    WorkerProtocol.frame(number) { writer in
      writer.uint8(isStopping ? 1 : 0)
      writer.uint64(partitionAdditions)
      answer.encode(to: &writer)
    }
  }

  init(number: UInt32, isStopping: Bool, partitionAdditions: UInt64, answer: WorkerAnswer) {
    self.number = number
    self.isStopping = isStopping
    self.partitionAdditions = partitionAdditions
    self.answer = answer
  }

  /// Reads a frame without its size.
  init(_ bytes: Bytes) throws(DecodingError) {
    var reader = ByteReader(bytes)
    number = try reader.uint32()
    isStopping = try reader.flag()
    partitionAdditions = try reader.uint64()
    answer = try WorkerAnswer(from: &reader)
    try reader.expectEnd()
  }
}

/// An answer on the socket of workers.
enum WorkerAnswer: Sendable {
  /// Nothing was done.
  case refused(JobError)
  case hello(version: UInt16, largestCommit: UInt64)
  /// A run has begun; its state lies between the offsets.
  case opened(epoch: Int64, start: Offset, end: Offset)
  /// Runs of whole batches from the offset asked for on, and where the log starts and ends now. None when it starts later.
  case state([Bytes], start: Offset, end: Offset)
  case partitionCount(UInt32)
  case batches([FetchedInput])
  case committed(stateLogOffset: Offset)
  case done
  case jobs([JobEntry], isMore: Bool)
  case job(JobDetail)
  /// −1 for a partition that is not there.
  case endOffsets([Offset])
  /// Messages of a queue, and how many the run has taken of it.
  case messages(Bytes, through: UInt64)

  func encode(to writer: inout ByteWriter) {
    switch self {
    case .refused(let error):
      writer.uint8(0)
      writer.uint8(error.code.number)
      writer.text(error.reason)
    case .hello(let version, let largestCommit):
      writer.uint8(1)
      writer.uint16(version)
      writer.uint64(largestCommit)
    case .opened(let epoch, let start, let end):
      writer.uint8(2)
      writer.int64(epoch)
      writer.int64(start)
      writer.int64(end)
    case .state(let runs, let start, let end):
      writer.uint8(3)
      writer.int64(start)
      writer.int64(end)
      writer.list(runs) { $0.bytes($1) }
    case .partitionCount(let count):
      writer.uint8(4)
      writer.uint32(count)
    case .batches(let inputs):
      writer.uint8(5)
      writer.list(inputs) { writer, input in input.encode(to: &writer) }
    case .committed(let offset):
      writer.uint8(6)
      writer.int64(offset)
    case .done: writer.uint8(7)
    case .jobs(let jobs, let isMore):
      writer.uint8(8)
      writer.list(jobs) { writer, job in job.encode(to: &writer) }
      writer.bool(isMore)
    case .job(let job):
      writer.uint8(9)
      job.encode(to: &writer)
    case .endOffsets(let offsets):
      writer.uint8(10)
      writer.list(offsets) { $0.int64($1) }
    case .messages(let bytes, let through):
      writer.uint8(11)
      writer.uint64(through)
      writer.bytes(bytes)
    }
  }

  init(from reader: inout ByteReader) throws(DecodingError) {
    let at = reader.position
    switch try reader.uint8() {
    case 0:
      guard let code = JobError.Code(number: try reader.uint8()) else { throw DecodingError("an unknown code", at: at) }
      self = .refused(JobError(code, try reader.text()))
    case 1: self = .hello(version: try reader.uint16(), largestCommit: try reader.uint64())
    case 2: self = .opened(epoch: try reader.int64(), start: try reader.int64(), end: try reader.int64())
    case 3:
      let start = try reader.int64()
      let end = try reader.int64()
      let runs = try reader.list(ofSize: 4) { (reader) throws(DecodingError) in try reader.bytes() }
      self = .state(runs, start: start, end: end)
    case 4: self = .partitionCount(try reader.uint32())
    case 5:
      self = .batches(
        try reader.list(ofSize: FetchedInput.smallestSize) { (reader) throws(DecodingError) in
          try FetchedInput(from: &reader)
        })
    case 6: self = .committed(stateLogOffset: try reader.int64())
    case 7: self = .done
    case 8:
      let jobs = try reader.list(ofSize: JobEntry.smallestSize) { (reader) throws(DecodingError) in
        try JobEntry(from: &reader)
      }
      self = .jobs(jobs, isMore: try reader.flag())
    case 9: self = .job(try JobDetail(from: &reader))
    case 10:
      self = .endOffsets(try reader.list(ofSize: 8) { (reader) throws(DecodingError) in try reader.int64() })
    case 11:
      let through = try reader.uint64()
      self = .messages(try reader.bytes(), through: through)
    case let kind: throw DecodingError("answer \(kind)", at: at)
    }
  }
}

extension FetchedInput {
  static let smallestSize = 28

  func encode(to writer: inout ByteWriter) {
    writer.uint32(UInt32(position))
    writer.int64(endOffset)
    writer.int64(endTime.milliseconds)
    writer.list(voids) { writer, void in
      writer.int64(void.producerID)
      writer.int64(void.firstOffset)
      writer.int64(void.lastOffset)
    }
    writer.list(runs) { $0.bytes($1) }
  }

  init(from reader: inout ByteReader) throws(DecodingError) {
    position = Int(try reader.uint32())
    endOffset = try reader.int64()
    endTime = Timestamp(milliseconds: try reader.int64())
    voids = try reader.list(ofSize: 24) { (reader) throws(DecodingError) in
      VoidRecords(
        producerID: try reader.int64(), firstOffset: try reader.int64(), lastOffset: try reader.int64())
    }
    runs = try reader.list(ofSize: 4) { (reader) throws(DecodingError) in try reader.bytes() }
  }
}

extension JobError.Code {
  /// By their numbers in answers, which never change.
  private static let numbered: [JobError.Code] = [
    .fenced, .commitFailed, .unknownTopic, .corruptInput, .corruptState, .invalidJob, .stepTooLarge, .sourceFailed,
    .closed,
    .stopped, .noServer, .unknownQueue,
  ]

  var number: UInt8 { UInt8(JobError.Code.numbered.firstIndex(of: self) ?? 1) }

  init?(number: UInt8) {
    guard JobError.Code.numbered.indices.contains(Int(number)) else { return nil }
    self = JobError.Code.numbered[Int(number)]
  }
}
