// StagedUnit: what is to become durable together: batches of lanes, changes of queues, and who is told.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceMetadata
import MillraceModel
import MillraceRouting

/// A message that gets its offset from the log.
struct StagedMessage {
  /// Complete but for its offset.
  var message: Message
  /// It was admitted by the queue, which counts it.
  let isAdmitted: Bool
  /// Messages of a unit with the same one become the same record, which is written once; those with −1 are copied.
  var content: Int32 = -1

  init(message: Message, isAdmitted: Bool) {
    self.message = message
    self.isAdmitted = isAdmitted
  }
}

extension Bytes {
  /// The properties of a message without any, in AMQP's form: no flags. Of no object, so that nothing is counted.
  static var nothing: Bytes {
    let text: StaticString = "\0\0"
    return Bytes(owner: nil, start: UnsafeRawPointer(text.utf8Start), count: 2)
  }
  /// Whether these are the very same bytes, in the same memory.
  func isSameMemory(_ other: Bytes) -> Bool { start == other.start && count == other.count }
  /// Whether they are the same as ``nothing``.
  var isNothing: Bool { count == 2 && self[0] | self[1] == 0 }

  /// Bytes in memory of their own, so that they do not keep alive what was received with them, up to 1 MiB; a large part
  /// of that may.
  var detached: Bytes { isEmpty || count >= 256 << 10 ? self : withBuffer { Bytes(copying: $0) } }
}

/// Batches and changes of one append unit, not handed to the log yet.
final class StagedUnit {
  private struct LaneKey: Hashable {
    let queue: ObjectIdentifier
    let lane: UInt8
  }

  /// Messages for one lane, in order.
  struct LaneBatch {
    let hosted: HostedQueue
    let lane: UInt8
    var messages: [StagedMessage] = []
    var bytes: Int64 = 0
  }

  /// Records for a partition of a topic, in order.
  struct RecordRun {
    let topic: TopicMetadata
    let log: PartitionLog
    var records: [Record] = []
    /// Bytes of the batch, about.
    var size = RecordBatchHeader.size
  }

  var batches: [LaneBatch] = []
  /// Where in `batches` a lane's is.
  private var indexes: [LaneKey: Int] = [:]
  /// For each of `batches` its first one in the unit that was handed to the log last; the others of its lane follow behind.
  private(set) var firstOfLane: [Int] = []
  /// The messages with the body that was added last, each with another record.
  private var contents: [(message: Message, number: Int32)] = []
  private var contentCount: Int32 = 0
  /// Publications of whoever published in a turn; what is lost of them concerns everybody's orderly end.
  var isOfMany = false
  /// Its size counts among the transfers under way.
  var isCounted = false
  var records: [RecordRun] = []
  /// Batches of records as they were handed to the log last.
  var countedRecords: [(log: PartitionLog, header: RecordBatchHeader)] = []
  /// Changes of queues, in order.
  var changes: [(hosted: HostedQueue, changes: [QueueChange])] = []
  /// Confirms, those of one publisher that follow each other together.
  private(set) var tags: [(publisher: QueuePublisher, tags: ClosedRange<UInt64>)] = []
  /// Confirms of messages that are spread over several units.
  var shared: [SharedConfirm] = []
  var whenDurable: [(RoutingError?) -> Void] = []
  /// About as many bytes as it will take in the journal.
  var size = 0

  var isEmpty: Bool {
    batches.isEmpty && records.isEmpty && changes.isEmpty && whenDurable.isEmpty && tags.isEmpty && shared.isEmpty
  }

  /// What a message's lane and its being a batch of its own take besides the record.
  static let sharedOverhead = 256

  /// The number of a message's record, if the unit has that already.
  private func content(of message: Message) -> Int32? {
    contents.first { MessageRecord.isSame($0.message, message) }?.number
  }

  /// Most bytes that a message adds to the unit, and whether that is so little because its record is there already.
  func cost(of message: Message, isShared: Bool) -> (bytes: Int, isRepeated: Bool) {
    if isShared, content(of: message) != nil { return (2 * StagedUnit.sharedOverhead, true) }
    return (MessageRecord.size(of: message) + 2 * StagedUnit.sharedOverhead, false)
  }

  /// Adds a message whose record is written once for all lanes that get the same.
  func addShared(_ message: StagedMessage, _ hosted: HostedQueue, lane: UInt8) {
    var message = message
    size += StagedUnit.sharedOverhead
    if let known = content(of: message.message) {
      message.content = known
      return add(message, hosted, lane: lane, isRepeated: true)
    }
    // Copies of a message come one behind the other.
    if let last = contents.last, !last.message.body.isSameMemory(message.message.body) { contents = [] }
    contents.append((message.message, contentCount))
    message.content = contentCount
    contentCount += 1
    add(message, hosted, lane: lane)
  }

  /// Adds a message to its lane's.
  /// - Parameter isRepeated: its record is in the unit already.
  func add(_ message: StagedMessage, _ hosted: HostedQueue, lane: UInt8, isRepeated: Bool = false) {
    let index: Int
    if let last = batches.last, last.hosted === hosted, last.lane == lane {
      index = batches.count - 1
    } else if let found = indexes[LaneKey(queue: ObjectIdentifier(hosted), lane: lane)] {
      index = found
    } else {
      index = batches.count
      indexes[LaneKey(queue: ObjectIdentifier(hosted), lane: lane)] = index
      batches.append(LaneBatch(hosted: hosted, lane: lane))
      size += 256
    }
    if !isRepeated { size += MessageRecord.size(of: message.message) }
    batches[index].bytes += Int64(message.message.size)
    batches[index].messages.append(message)
  }

  func add(_ record: Record, _ topic: TopicMetadata, _ log: PartitionLog, size: Int, limit: Int) {
    // The topic limits its batches.
    var index = records.count - 1
    while index >= 0, records[index].log !== log { index -= 1 }
    if index < 0 || records[index].size + size > limit {
      index = records.count
      records.append(RecordRun(topic: topic, log: log))
      self.size += 128
    }
    records[index].records.append(record)
    records[index].size += size
    self.size += size
  }

  /// Most bytes that a record takes in a batch.
  static func size(of record: Record) -> Int {
    let headers = record.headers.reduce(10) { $0 + $1.key.utf8.count + ($1.value?.count ?? 0) + 10 }
    return 30 + (record.key?.count ?? 0) + (record.value?.count ?? 0) + headers
  }

  /// A confirm that waits for this unit alone.
  func addTag(_ tag: UInt64, of publisher: QueuePublisher) {
    if let last = tags.last, last.publisher === publisher, last.tags.upperBound + 1 == tag {
      tags[tags.count - 1].tags = last.tags.lowerBound...tag
    } else {
      tags.append((publisher, tag...tag))
    }
  }

  /// A confirm that waits for this unit, among others.
  func add(_ confirm: SharedConfirm) {
    if shared.last === confirm { return }
    confirm.expectOneMore()
    shared.append(confirm)
  }

  func add(_ changes: [QueueChange], _ hosted: HostedQueue) {
    // A transaction that only rejects says nothing else of its queue.
    guard !changes.isEmpty else { return }
    self.changes.append((hosted, changes))
    for change in changes {
      if case .done(_, let ranges, _) = change { size += 32 + 20 * ranges.count } else { size += 32 }
    }
  }

  /// Those who wait for a unit that failed, without what it was to do.
  func confirms() -> StagedUnit {
    let unit = StagedUnit()
    unit.tags = tags
    unit.shared = shared
    unit.whenDurable = whenDurable
    return unit
  }

  /// What the log is to append, of the queues that are still there.
  func appendUnit(metadata: Metadata, givesSpaceBack: Bool) -> AppendUnit {
    // A virtual host takes the logs of its queues with it before that is durable.
    batches.removeAll { $0.hosted.isDeleted || $0.hosted.logs[Int($0.lane)].isDeleted }
    indexes = [:]
    records.removeAll { $0.log.isDeleted }
    changes.removeAll { $0.hosted.isDeleted }
    var unit = AppendUnit()
    unit.givesSpaceBack = givesSpaceBack
    for (hosted, changes) in changes {
      guard let number = hosted.number else { continue }
      unit.events.append(MetadataEvent.queue(.changed(number, changes)).encoded())
      // As far as the events before this one went: what is done gives its space back one commit later.
      guard let state = metadata.queues[number]?.state else { continue }
      for change in changes {
        guard case .done(let lane, _, _) = change, var start = state.lanes[lane]?.start else { continue }
        let log = hosted.logs[Int(lane)]
        // Ids of messages that are done are read again after a start.
        start = min(start, log.nextOffset - Offset(hosted.arguments.options.deduplicationCount))
        if start > log.startOffset { unit.startOffsets.append((log, start)) }
      }
    }
    for batch in batches {
      guard let number = batch.hosted.number else { preconditionFailure("a lane of a queue without a log") }
      unit.events.append(
        MetadataEvent.queue(.published(number, lane: batch.lane, bytes: batch.bytes)).encoded())
    }
    addLanes(to: &unit)
    countedRecords = []
    for run in records {
      var builder = RecordBatchBuilder()
      for record in run.records { builder.append(record) }
      var bytes = builder.finish()
      do throws(RecordBatchError) {
        var header = try RecordBatchHeader(bytes)
        if run.topic.configs["message.timestamp.type"] == "LogAppendTime" {
          (bytes, header) = Broker.stamped(bytes, header, with: header.maxTimestamp)
        }
        unit.batches.append((run.log, bytes, header))
        countedRecords.append((run.log, header))
      } catch {
        preconditionFailure("a batch that this program made cannot be read: \(error)")
      }
    }
    return unit
  }

  /// Adds the batches of all lanes. A record that several messages have is a batch of its own in the place of each.
  private func addLanes(to unit: inout AppendUnit) {
    // Nothing is added any more, and nobody else is to have the messages.
    contents = []
    firstOfLane = []
    firstOfLane.reserveCapacity(batches.count)
    var times = [Int](repeating: 0, count: Int(contentCount))
    if contentCount > 0 {
      for message in batches.lazy.flatMap(\.messages) where message.content >= 0 { times[Int(message.content)] += 1 }
    }
    // Where in the unit the record of a content is.
    var written: [Int32: Int] = [:]
    for batch in batches {
      let log = batch.hosted.logs[Int(batch.lane)]
      firstOfLane.append(unit.batches.count)
      var builder = RecordBatchBuilder()
      for message in batch.messages {
        guard message.content >= 0, times[Int(message.content)] > 1 else {
          MessageRecord.append(message.message, to: &builder)
          continue
        }
        StagedUnit.finish(&builder, log, &unit)
        if let index = written[message.content] {
          unit.share(index, with: log)
        } else {
          written[message.content] = unit.batches.count
          MessageRecord.append(message.message, to: &builder)
          StagedUnit.finish(&builder, log, &unit)
        }
      }
      StagedUnit.finish(&builder, log, &unit)
    }
  }

  private static func finish(_ builder: inout RecordBatchBuilder, _ log: PartitionLog, _ unit: inout AppendUnit) {
    guard builder.count > 0 else { return }
    let bytes = builder.finish()
    do throws(RecordBatchError) {
      unit.batches.append((log, bytes, try RecordBatchHeader(bytes)))
    } catch {
      preconditionFailure("a batch that this program made cannot be read: \(error)")
    }
  }
}

/// A confirm that waits for several units.
final class SharedConfirm {
  private let publisher: QueuePublisher
  private let tag: UInt64
  private var missing: Int
  private var isAccepted = true

  init(_ publisher: QueuePublisher, _ tag: UInt64, units: Int) {
    self.publisher = publisher
    self.tag = tag
    missing = units
  }

  func ended(_ isAccepted: Bool) {
    self.isAccepted = self.isAccepted && isAccepted
    missing -= 1
    if missing == 0 { publisher.settle(tag, self.isAccepted) }
  }

  func expectOneMore() { missing += 1 }
}
