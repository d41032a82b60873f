// Broker+Metrics: the broker's figures as numbers, for whoever shows them: of the server as a whole, and of partitions, groups
// and queues one by one, so that a reader of very many can do them in several turns.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceModel
import MillraceQueueing

/// Figures of the server as a whole.
public struct BrokerMetrics: Sendable {
  /// From a commit's first entry until it was durable, in nanoseconds.
  public var commitLatency: Histogram
  /// From handing a write to the device until it was durable, in nanoseconds.
  public var flushLatency: Histogram
  /// Commits that became durable.
  public var commits: UInt64
  /// Bytes written to the journal.
  public var journalBytes: UInt64
  /// Units that wait for room in the journal.
  public var waitingUnits: Int
  /// Bytes of batches in memory.
  public var hotTailBytes: Int
  /// Bytes of batches that are in no segment yet.
  public var undrainedBytes: Int
  /// Segment files.
  public var segments: Int
  /// Their bytes.
  public var segmentBytes: Int64
  /// Free bytes of the disk.
  public var availableBytes: Int64
  /// Records are refused because the disk is nearly full.
  public var isSpaceLow: Bool
  /// Compactions that ended.
  public var compactions: UInt64
  /// Records that compactions took out.
  public var recordsCompactedAway: UInt64
  /// Merges of segments.
  public var merges: UInt64
  /// Bytes of segments whose checksums were found right.
  public var scrubbedBytes: Int64
  /// Damaged parts of segments that were found.
  public var damagedBlocks: Int
  /// Memory that queues which are not durable hold.
  public var queueMemoryBytes: Int
}

/// Figures of one partition.
public struct PartitionMetrics: Sendable {
  /// Records appended since the start.
  public var recordsIn: UInt64
  /// Their bytes.
  public var bytesIn: UInt64
  /// Bytes read since the start.
  public var bytesOut: UInt64
  /// Bytes of records that are kept.
  public var size: Int64
  /// Offset of the oldest record.
  public var startOffset: Offset
  /// Offset behind the newest durable record.
  public var highWatermark: Offset
}

/// A queue whose figures can be asked for. Belongs to the reactor; a queue that is deleted meanwhile keeps its last figures.
public struct MeteredQueue {
  let hosted: HostedQueue

  /// Its virtual host.
  public var virtualHost: String { hosted.virtualHost }
  /// Its name.
  public var name: String { hosted.name }

  /// Figures that cost next to nothing to ask for.
  public var metrics: QueueMetrics {
    let lengths = hosted.queue.lengths()
    return QueueMetrics(
      ready: lengths.ready, readyBytes: lengths.readyBytes, unacknowledged: lengths.inFlight,
      consumers: lengths.consumers, counts: hosted.counts)
  }
}

/// Figures of one queue, or of several.
public struct QueueMetrics: Sendable {
  /// Messages that are not with consumers.
  public var ready: Int
  /// Their bytes.
  public var readyBytes: Int64
  /// Messages that are.
  public var unacknowledged: Int
  /// Consumers.
  public var consumers: Int
  /// What has happened since the start.
  public var counts: QueueCounts

  /// Adds another queue's.
  public mutating func add(_ other: QueueMetrics) {
    ready += other.ready
    readyBytes += other.readyBytes
    unacknowledged += other.unacknowledged
    consumers += other.consumers
    counts.add(other.counts)
  }
}

extension Broker {
  /// Time since the broker was opened.
  public var uptime: Duration { reactor.now - started }
  /// Whether records are refused because the disk is nearly full.
  public var isSpaceLow: Bool { log.isSpaceLow }

  /// Figures of the server as a whole.
  /// - Complexity: O(segments), without looking at any file.
  public var metrics: BrokerMetrics {
    let journal = log.journalFigures
    let cleaning = log.cleaningFigures
    let scrub = log.scrubFigures
    let segments = log.segmentFigures
    return BrokerMetrics(
      commitLatency: journal.commitLatency, flushLatency: journal.flushLatency, commits: journal.commits,
      journalBytes: journal.bytesWritten, waitingUnits: log.waitingUnits, hotTailBytes: log.hotTailSize,
      undrainedBytes: segments.undrainedBytes, segments: segments.count, segmentBytes: segments.bytes,
      availableBytes: log.availableSpace, isSpaceLow: log.isSpaceLow, compactions: UInt64(cleaning.compactions),
      recordsCompactedAway: UInt64(cleaning.removedRecords), merges: UInt64(cleaning.merges),
      scrubbedBytes: scrub.soundBytes, damagedBlocks: scrub.damaged, queueMemoryBytes: queues.memoryUsed)
  }

  /// Figures of a partition; nil when there is none.
  public func metrics(of topic: TopicMetadata, _ index: Int32) -> PartitionMetrics? {
    guard let log = partition(topic, index) else { return nil }
    let seen = traffic[log.id] ?? PartitionTraffic()
    return PartitionMetrics(
      recordsIn: seen.recordsIn, bytesIn: seen.bytesIn, bytesOut: seen.bytesOut, size: log.size,
      startOffset: log.startOffset, highWatermark: log.highWatermark)
  }

  /// How far a group is behind in each topic that it has committed offsets for, in the order of the topics' names.
  /// - Complexity: O(committed offsets · log).
  public func lag(ofGroup group: String) -> [(topic: String, lag: Int64)] {
    var lags: [String: Int64] = [:]
    for (place, committed) in groups.offsets(group) {
      guard let log = topic(place.topic).flatMap({ partition($0, place.partition) }) else { continue }
      lags[place.topic, default: 0] += max(0, log.highWatermark - max(committed.offset, log.startOffset))
    }
    return lags.sorted { $0.key < $1.key }.map { (topic: $0.key, lag: $0.value) }
  }
}

extension QueueBroker {
  /// All queues there are, in an order that stays as long as ``queueListVersion`` does.
  /// - Complexity: O(queues) when that has changed since the last call.
  public var meteredQueues: [MeteredQueue] {
    if let metered { return metered }
    let all = queues.values.map { MeteredQueue(hosted: $0) }
    metered = all
    return all
  }
  /// How many queues there are.
  public var queueCount: Int { queues.count }
}
