// StepOutput: the records that a step emits, grouped into one batch per partition.

import MillraceBase
import MillraceModel

/// Collects a step's records for all sinks of a job.
///
/// Safety: `@unchecked Sendable` because it is used by the job's worker thread only.
public final class StepOutput: @unchecked Sendable {
  /// A batch is closed once it has this many bytes, so that it stays below the broker's default limit of 1 MiB.
  public static let batchSize = 512 * 1024

  private struct Sink {
    /// Of the topic or queue.
    let name: String
    let isQueue: Bool
    var builders: [RecordBatchBuilder]
    /// Partition for records without a key: one per step, then the next.
    var keyless = 0
    /// Of the batches that were closed.
    var records: UInt64 = 0
    var bytes: UInt64 = 0
  }

  private var sinks: [Sink] = []
  private var closed: [OutputBatch] = []
  private var closedSize = 0
  /// Records emitted since the last ``take()``.
  public private(set) var recordCount = 0
  /// Time given to records that bring none.
  public internal(set) var stepTime = Timestamp.none

  init() {}

  /// Bytes of all batches so far.
  var size: Int {
    sinks.reduce(closedSize) { $1.builders.reduce($0) { $0 + ($1.count > 0 ? $1.size : 0) } }
  }

  func addSink(topic: String, partitions: Int) -> Int {
    add(topic, isQueue: false, partitions: partitions)
  }

  func addSink(queue: String) -> Int { add(queue, isQueue: true, partitions: 1) }

  private func add(_ name: String, isQueue: Bool, partitions: Int) -> Int {
    if let known = sinks.firstIndex(where: { $0.name == name && $0.isQueue == isQueue }) { return known }
    // Copies of a builder would share its memory, so each partition gets one of its own.
    let builders = (0..<max(1, partitions)).map { _ in RecordBatchBuilder() }
    sinks.append(Sink(name: name, isQueue: isQueue, builders: builders))
    return sinks.count - 1
  }

  /// Adds a record. The partition follows from the key as Kafka's default partitioner says; records without a key go to
  /// one partition per step, in turn.
  public func emit(
    _ sink: Int, key: UnsafeRawBufferPointer?, value: UnsafeRawBufferPointer?, timestamp: Timestamp = .none
  ) {
    let count = sinks[sink].builders.count
    let partition =
      if count == 1 { 0 } else if let key { Hashing.kafkaPartition(key: key, partitions: count) } else {
        sinks[sink].keyless
      }
    let time = timestamp == .none ? stepTime : timestamp
    sinks[sink].builders[partition].append(key: key, value: value, timestamp: time)
    recordCount += 1
    if sinks[sink].builders[partition].size >= StepOutput.batchSize { close(sink, partition) }
  }

  /// Adds a record with headers; see ``emit(_:key:value:timestamp:)``.
  func emit(_ sink: Int, _ record: Record) {
    let count = sinks[sink].builders.count
    let partition =
      record.key.map { key in count == 1 ? 0 : key.withBuffer { Hashing.kafkaPartition(key: $0, partitions: count) } }
      ?? (count == 1 ? 0 : sinks[sink].keyless)
    var record = record
    if record.timestamp == .none { record.timestamp = stepTime }
    sinks[sink].builders[partition].append(record)
    recordCount += 1
    if sinks[sink].builders[partition].size >= StepOutput.batchSize { close(sink, partition) }
  }

  /// The step's batches, in order within each partition; the output is empty again.
  func take() -> [OutputBatch] {
    for sink in sinks.indices {
      for partition in sinks[sink].builders.indices where sinks[sink].builders[partition].count > 0 {
        close(sink, partition)
      }
      sinks[sink].keyless = (sinks[sink].keyless + 1) % sinks[sink].builders.count
    }
    recordCount = 0
    let taken = closed
    closed.removeAll()
    closedSize = 0
    return taken
  }

  /// Records that were written into a topic, and the bytes of their batches.
  func written(_ sink: Int) -> (records: UInt64, bytes: UInt64) { (sinks[sink].records, sinks[sink].bytes) }

  private func close(_ sink: Int, _ partition: Int) {
    sinks[sink].records += UInt64(sinks[sink].builders[partition].count)
    let bytes = sinks[sink].builders[partition].finish()
    sinks[sink].bytes += UInt64(bytes.count)
    let name = sinks[sink].name
    let batch = OutputBatch(
      target: sinks[sink].isQueue ? .queue(name) : .topic(name, partition: Int32(partition)), bytes: bytes)
    closedSize += batch.size
    closed.append(batch)
  }
}
