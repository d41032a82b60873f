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
}

extension Bytes {
  /// The properties of a message without any, in AMQP's form: no flags. Of no object, so that nothing is counted.
  static var nothing: Bytes {
    let text: StaticString = "\0\0"
    return Bytes(owner: nil, start: UnsafeRawPointer(text.utf8Start), count: 2)
  }
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

  func add(_ message: StagedMessage, _ hosted: HostedQueue, lane: UInt8) {
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
    size += MessageRecord.size(of: message.message)
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
      guard let number = batch.hosted.number else { continue }
      unit.events.append(
        MetadataEvent.queue(.published(number, lane: batch.lane, bytes: batch.bytes)).encoded())
      var builder = RecordBatchBuilder()
      for message in batch.messages { MessageRecord.append(message.message, to: &builder) }
      let bytes = builder.finish()
      do throws(RecordBatchError) {
        unit.batches.append((batch.hosted.logs[Int(batch.lane)], bytes, try RecordBatchHeader(bytes)))
      } catch {
        preconditionFailure("a batch that this program made cannot be read: \(error)")
      }
    }
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
