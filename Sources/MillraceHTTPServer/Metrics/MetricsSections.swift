// MetricsSections: the metrics of queues, partitions and groups: gathered in slices, then written family by family.

import MillraceBase
import MillraceBroker
import MillraceQueueing

/// A family of lines, one for each entry.
struct MetricsFamily<Entry: Sendable>: Sendable {
  let name: StaticString
  let type: StaticString
  let help: StaticString
  /// Writes the lines of one entry.
  let write: @Sendable (inout MetricsWriter, StaticString, UnsafeRawBufferPointer, Entry) -> Void

  /// A family with a whole number for each entry.
  init(_ name: StaticString, _ type: StaticString, _ help: StaticString, _ value: @escaping @Sendable (Entry) -> UInt64)
  {
    (self.name, self.type, self.help) = (name, type, help)
    write = { $0.line($1, "", $2, value($3)) }
  }

  /// A histogram of times for each entry.
  init(
    histogram name: StaticString, _ help: StaticString, _ value: @escaping @Sendable (Entry) -> TimeBuckets
  ) {
    (self.name, type, self.help) = (name, "histogram", help)
    write = { $0.times($1, $2, value($3)) }
  }

  /// A summary of times, without quantiles, for each entry.
  init(
    times name: StaticString, _ help: StaticString,
    _ value: @escaping @Sendable (Entry) -> (count: UInt64, nanoseconds: UInt64)
  ) {
    (self.name, type, self.help) = (name, "summary", help)
    write = { writer, name, labels, entry in
      let times = value(entry)
      writer.seconds(name, "_sum", labels, nanoseconds: times.nanoseconds)
      writer.line(name, "_count", labels, times.count)
    }
  }
}

/// Entries with their labels, and how far their families are written.
struct MetricsEntries<Entry: Sendable> {
  private var entries: [Entry] = []
  private(set) var labels: MetricsLabelList
  private var family = 0
  private var index = 0

  var count: Int { entries.count }

  /// - Parameter labels: of all entries that will be appended without any, when they are known already.
  init(labels: MetricsLabelList = MetricsLabelList(), capacity: Int = 0) {
    self.labels = labels
    entries.reserveCapacity(capacity)
  }

  /// The next entry that has its labels already.
  mutating func append(_ entry: Entry) { entries.append(entry) }

  mutating func append(_ entry: Entry, _ labels: [(name: StaticString, value: String)]) {
    entries.append(entry)
    self.labels.append(labels)
  }

  /// Writes on until the piece is full.
  /// - Returns: whether everything is written.
  mutating func write(_ families: [MetricsFamily<Entry>], to writer: inout MetricsWriter) -> Bool {
    guard !entries.isEmpty else { return true }
    while family < families.count {
      let one = families[family]
      while index < entries.count {
        if writer.isFull { return false }
        if index == 0 { writer.head(one.name, one.type, one.help) }
        let entry = entries[index]
        labels.withBytes(index) { one.write(&writer, one.name, $0, entry) }
        index += 1
      }
      index = 0
      family += 1
    }
    return true
  }
}

/// Queues.
final class QueueSection {
  private let server: HTTPServer
  private let limit: Int
  private var queues: [MeteredQueue] = []
  private var next = 0
  private var isBegun = false
  /// The labels were made by an earlier look, and the queues are the same: their names, which lie here and there in memory,
  /// would cost a third of the whole.
  private var isLabelled = false
  private var version: UInt64 = 0
  private var entries = MetricsEntries<QueueMetrics>()
  private var others: QueueMetrics?
  private var total = 0
  /// Queues looked at in a turn.
  private static let slice = 1000

  init(_ server: HTTPServer, limit: Int) {
    self.server = server
    self.limit = limit
  }

  private static let families: [MetricsFamily<QueueMetrics>] = [
    .init("millrace_queue_messages_ready", "gauge", "Messages that are not with consumers: the queue's length.") {
      UInt64($0.ready)
    },
    .init("millrace_queue_messages_unacknowledged", "gauge", "Messages that are with consumers.") {
      UInt64($0.unacknowledged)
    },
    .init("millrace_queue_ready_bytes", "gauge", "Bytes of messages that are not with consumers.") {
      UInt64(clamping: $0.readyBytes)
    },
    .init("millrace_queue_consumers", "gauge", "Consumers that are pushed to.") { UInt64($0.consumers) },
    .init("millrace_queue_messages_arrived_total", "counter", "Messages that came into the queue.") {
      $0.counts.arrived
    },
    .init("millrace_queue_messages_delivered_total", "counter", "Deliveries, redeliveries included.") {
      $0.counts.delivered
    },
    .init("millrace_queue_messages_redelivered_total", "counter", "Deliveries of messages that were delivered before.")
    {
      $0.counts.redelivered
    },
    .init("millrace_queue_messages_acknowledged_total", "counter", "Messages that were acknowledged.") {
      $0.counts.acknowledged
    },
    .init(
      "millrace_queue_messages_removed_total", "counter", "Messages that left otherwise: expired, rejected, purged …"
    ) { $0.counts.removed },
    .init("millrace_queue_messages_dead_lettered_total", "counter", "Messages that went to a dead-letter exchange.") {
      $0.counts.deadLettered
    },
    .init(times: "millrace_queue_waiting_seconds", "Time from a message's coming to its delivery.") {
      $0.counts.waiting
    },
    .init(times: "millrace_queue_processing_seconds", "Time from a delivery until it was settled.") {
      $0.counts.processing
    },
  ]

  private func begin() {
    isBegun = true
    let broker: QueueBroker = server.broker.queues
    queues = broker.meteredQueues
    total = queues.count
    version = broker.queueListVersion
    let shown = min(total, limit) + 1
    if let known = server.queueLabels, known.version == version, known.limit == limit {
      isLabelled = true
      entries = MetricsEntries(labels: known.labels, capacity: shown)
    } else {
      entries = MetricsEntries(capacity: shown)
    }
  }

  /// Looks at some more queues.
  /// - Returns: whether all were looked at.
  func gather() -> Bool {
    if !isBegun { begin() }
    let end = min(queues.count, next + QueueSection.slice)
    for queue in queues[next..<end] {
      let metrics = queue.metrics
      if entries.count < limit {
        if isLabelled {
          entries.append(metrics)
        } else {
          entries.append(metrics, [("vhost", queue.virtualHost), ("queue", queue.name)])
        }
      } else if others == nil {
        others = metrics
      } else {
        others?.add(metrics)
      }
    }
    next = end
    guard end == queues.count else { return false }
    if !isLabelled { server.queueLabels = (version, limit, entries.labels) }
    queues = []
    if let others { entries.append(others, [("vhost", ""), ("queue", "")]) }
    return true
  }

  func write(to writer: inout MetricsWriter) -> Bool {
    guard entries.write(QueueSection.families, to: &writer) else { return false }
    writer.single("millrace_queues", "gauge", "Queues.", total)
    return true
  }
}

/// Partitions.
final class PartitionSection {
  private let server: HTTPServer
  private let limit: Int
  private var names: [String] = []
  private var next = 0
  private var isBegun = false
  private var entries = MetricsEntries<PartitionMetrics>()
  private var others: PartitionMetrics?
  private var count = 0
  /// Partitions looked at in a turn, at least one topic's.
  private static let slice = 1000

  init(_ server: HTTPServer, limit: Int) {
    self.server = server
    self.limit = limit
  }

  private static let families: [MetricsFamily<PartitionMetrics>] = [
    .init("millrace_topic_records_in_total", "counter", "Records appended.") { $0.recordsIn },
    .init("millrace_topic_in_bytes_total", "counter", "Bytes of batches appended.") { $0.bytesIn },
    .init("millrace_topic_out_bytes_total", "counter", "Bytes of batches handed to readers.") { $0.bytesOut },
    .init("millrace_topic_size_bytes", "gauge", "Bytes of records that are kept.") { UInt64(clamping: $0.size) },
    .init("millrace_topic_start_offset", "gauge", "Offset of the oldest record.") { UInt64(clamping: $0.startOffset) },
    .init("millrace_topic_end_offset", "gauge", "Offset behind the newest durable record.") {
      UInt64(clamping: $0.highWatermark)
    },
  ]

  func gather() -> Bool {
    let broker = server.broker
    if !isBegun {
      isBegun = true
      names = broker.topics.keys.sorted()
    }
    var looked = 0
    while next < names.count, looked < PartitionSection.slice {
      let name = names[next]
      next += 1
      guard let topic = broker.topic(name) else { continue }
      for index in 0..<topic.partitions.count {
        guard let metrics = broker.metrics(of: topic, Int32(index)) else { continue }
        looked += 1
        count += 1
        if entries.count < limit {
          entries.append(metrics, [("topic", name), ("partition", "\(index)")])
        } else {
          add(metrics)
        }
      }
    }
    guard next == names.count else { return false }
    if let others { entries.append(others, [("topic", ""), ("partition", "")]) }
    return true
  }

  private func add(_ one: PartitionMetrics) {
    guard var sum = others else {
      others = one
      return
    }
    sum.recordsIn += one.recordsIn
    sum.bytesIn += one.bytesIn
    sum.bytesOut += one.bytesOut
    sum.size += one.size
    // Of offsets only their distance means anything in a sum: how many there are.
    sum.startOffset += one.startOffset
    sum.highWatermark += one.highWatermark
    others = sum
  }

  func write(to writer: inout MetricsWriter) -> Bool {
    guard entries.write(PartitionSection.families, to: &writer) else { return false }
    writer.single("millrace_topics", "gauge", "Topics, those that Millrace keeps for itself included.", names.count)
    writer.single("millrace_partitions", "gauge", "Partitions of topics.", count)
    return true
  }
}

/// Groups.
final class GroupSection {
  private let server: HTTPServer
  private let limit: Int
  private var names: [String] = []
  private var next = 0
  private var isBegun = false
  private var lags = MetricsEntries<Int64>()
  private var members = MetricsEntries<Int>()
  private var others: Int64?
  /// Groups looked at in a turn.
  private static let slice = 50

  init(_ server: HTTPServer, limit: Int) {
    self.server = server
    self.limit = limit
  }

  func gather() -> Bool {
    let broker = server.broker
    if !isBegun {
      isBegun = true
      names = broker.groups.names
    }
    let end = min(names.count, next + GroupSection.slice)
    for name in names[next..<end] {
      if members.count < limit { members.append(broker.groups.describe(name).members.count, [("group", name)]) }
      for (topic, lag) in broker.lag(ofGroup: name) {
        if lags.count < limit {
          lags.append(lag, [("group", name), ("topic", topic)])
        } else {
          others = (others ?? 0) + lag
        }
      }
    }
    next = end
    guard end == names.count else { return false }
    if let others { lags.append(others, [("group", ""), ("topic", "")]) }
    return true
  }

  func write(to writer: inout MetricsWriter) -> Bool {
    guard
      lags.write(
        [
          .init("millrace_group_lag_records", "gauge", "Records behind the offsets that a group has committed.") {
            UInt64(clamping: $0)
          }
        ], to: &writer),
      members.write(
        [.init("millrace_group_members", "gauge", "Members of a group.") { UInt64($0) }], to: &writer)
    else { return false }
    writer.single("millrace_groups", "gauge", "Groups.", names.count)
    return true
  }
}
