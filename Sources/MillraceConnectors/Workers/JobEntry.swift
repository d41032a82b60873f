// JobEntry and JobDetail: a server's jobs as operators see them.

import MillraceBase
import MillraceModel

/// One of a server's jobs.
public struct JobEntry: Equatable, Sendable {
  /// Whether a job runs.
  public enum State: UInt8, Sendable {
    /// Nobody runs it.
    case idle
    /// A worker runs it.
    case running
    /// It is stopped, and its worker finishes what it has begun.
    case stopping
    /// It may not run until it is resumed.
    case stopped
    /// It runs in the server's own process, as far as is known.
    case embedded
  }

  /// Its name.
  public var name: String
  /// Whether it runs.
  public var state: State
  /// The number of its newest run, from 1 on.
  public var epoch: Int64
  /// The worker's process; 0 without one.
  public var processID: UInt32

  /// Writes the members into an object that is being written.
  public func writeMembers(to json: inout JSONWriter) {
    json.name("name")
    json.string(name)
    json.name("state")
    json.string("\(state)")
    json.name("epoch")
    json.number(epoch)
    json.name("process")
    json.number(processID)
  }

  static let smallestSize = 17

  func encode(to writer: inout ByteWriter) {
    writer.text(name)
    writer.uint8(state.rawValue)
    writer.int64(epoch)
    writer.uint32(processID)
  }

  init(from reader: inout ByteReader) throws(DecodingError) {
    name = try reader.text()
    let at = reader.position
    guard let known = State(rawValue: try reader.uint8()) else { throw DecodingError("an unknown state", at: at) }
    state = known
    epoch = try reader.int64()
    processID = try reader.uint32()
  }

  init(name: String, state: State, epoch: Int64, processID: UInt32) {
    self.name = name
    self.state = state
    self.epoch = epoch
    self.processID = processID
  }
}

/// How far a job has come in one partition of an input.
public struct JobPosition: Equatable, Sendable {
  /// Topic.
  public var topic: String
  /// Partition of the topic.
  public var partition: Int32
  /// Offset of the next record, as of the newest durable commit.
  public var offset: Offset
  /// Offset behind the last record that readers may see; −1 when the partition is not there.
  public var endOffset: Offset

  /// Records not read yet.
  public var lag: Int64 { endOffset < 0 ? 0 : max(0, endOffset - offset) }
}

/// Everything that a server knows of a job.
public struct JobDetail: Equatable, Sendable {
  /// Name, state, epoch, process.
  public var entry: JobEntry
  /// Offset of the first record of the state log.
  public var stateStart: Offset
  /// Offset behind the last one.
  public var stateEnd: Offset
  /// Bytes of the state log, up to four times the state.
  public var stateBytes: Int64
  /// Where it stands in its inputs. Known of jobs that a worker runs.
  public var positions: [JobPosition]
  /// What its newest run has told last; nil when it has not run since the server's start.
  public var report: JobReport?

  func encode(to writer: inout ByteWriter) {
    entry.encode(to: &writer)
    writer.int64(stateStart)
    writer.int64(stateEnd)
    writer.int64(stateBytes)
    let topics = TopicTable(positions.lazy.map(\.topic))
    topics.encode(to: &writer)
    writer.list(positions) { writer, position in
      writer.uint32(topics.index(of: position.topic))
      writer.int32(position.partition)
      writer.int64(position.offset)
      writer.int64(position.endOffset)
    }
    writer.bool(report != nil)
    report?.encode(to: &writer)
  }

  init(from reader: inout ByteReader) throws(DecodingError) {
    entry = try JobEntry(from: &reader)
    stateStart = try reader.int64()
    stateEnd = try reader.int64()
    stateBytes = try reader.int64()
    let topics = try TopicTable(from: &reader)
    positions = try reader.list(ofSize: 24) { (reader) throws(DecodingError) in
      JobPosition(
        topic: try topics.read(&reader), partition: try reader.int32(), offset: try reader.int64(),
        endOffset: try reader.int64())
    }
    report = try reader.flag() ? try JobReport(from: &reader) : nil
  }

  init(
    entry: JobEntry, stateStart: Offset, stateEnd: Offset, stateBytes: Int64, positions: [JobPosition],
    report: JobReport?
  ) {
    self.entry = entry
    self.stateStart = stateStart
    self.stateEnd = stateEnd
    self.stateBytes = stateBytes
    self.positions = positions
    self.report = report
  }
}
