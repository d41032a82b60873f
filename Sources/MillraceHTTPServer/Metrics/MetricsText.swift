// MetricsText: all metrics, piece by piece: figures are looked at in slices, and written family by family, as the format asks.
//
// Beyond `metrics.max.entities` queues, partitions or groups' topics, what is left of them is summed up in one series whose
// labels are empty, so that sums stay right however many there are.

import MillraceBase
import MillraceBroker

/// One look at a server's metrics.
final class MetricsText {
  let server: HTTPServer
  private var writer = MetricsWriter()
  /// Each writes on until the piece is full, and says whether it has come to its end.
  private var sections: [(inout MetricsWriter) -> Bool] = []
  private var section = 0

  init(_ server: HTTPServer) {
    self.server = server
    let limit = server.broker.settings.largestMetrics
    let queues = QueueSection(server, limit: limit)
    let jobs = JobSection(server, limit: limit)
    let hosts = VirtualHostSection(server, limit: limit)
    let partitions = PartitionSection(server, limit: limit)
    let groups = GroupSection(server, limit: limit)
    sections = [
      { [self] in
        writeServer(&$0)
        return true
      },
      { [self] in
        writeStorage(&$0)
        return true
      },
      {
        SecuritySection.write(server, to: &$0)
        return true
      },
      { _ in
        jobs.gather()
        return true
      }, { jobs.write(to: &$0) },
      { _ in partitions.gather() }, { partitions.write(to: &$0) }, { _ in groups.gather() }, { groups.write(to: &$0) },
      { _ in queues.gather() }, { queues.write(to: &$0) },
      { _ in
        hosts.gather()
        return true
      }, { hosts.write(to: &$0) },
    ]
  }

  /// The next piece, perhaps an empty one; nil at the end.
  func next() -> Bytes? {
    guard section < sections.count else { return nil }
    // A section that only looks takes a turn of its own.
    if sections[section](&writer) { section += 1 }
    return writer.isFull || section == sections.count ? writer.take() : Bytes()
  }

  // MARK: The server as a whole

  private func writeServer(_ writer: inout MetricsWriter) {
    let broker = server.broker
    writer.head("millrace_info", "gauge", "Always 1; the labels tell which server this is.")
    MetricsLabels(("cluster_id", broker.clusterID), ("leader_epoch", "\(broker.leaderEpoch)")).withBytes {
      writer.line("millrace_info", "", $0, 1)
    }
    writer.single("millrace_uptime_seconds", "gauge", "Time since the broker was opened.", seconds: broker.uptime)
    let isReady = server.readiness.isEmpty
    server.observeAvailability()
    writer.single(
      "millrace_ready", "gauge", "1 while records and messages are taken, as /health/ready tells.", isReady ? 1 : 0)
    writer.single(
      "millrace_ready_seconds_total", "counter", "Time that the server was ready, since it began to serve HTTP.",
      seconds: server.availability.ready)
    writer.single(
      "millrace_observed_seconds_total", "counter",
      "Time over which that was observed: the share of the two is the availability.", seconds: server.availability.all)
    writer.head("millrace_connections", "gauge", "Open connections.")
    for (name, count) in server.connectionCounts() + [("http", server.connectionCount)] {
      MetricsLabels(("protocol", name)).withBytes { writer.line("millrace_connections", "", $0, UInt64(count)) }
    }
    writeRequests(&writer)
    writeLimits(&writer)
    writeLog(&writer)
    writer.head("process_cpu_seconds_total", "counter", "Processor time of all threads, user and system.")
    writer.seconds(
      "process_cpu_seconds_total", "", MetricsText.none,
      nanoseconds: UInt64(max(0, ProcessFigures.processorTime.inNanoseconds)))
    writer.single("process_resident_memory_bytes", "gauge", "Memory in use.", ProcessMemory.resident)
    if let open = ProcessFigures.openDescriptors {
      writer.single("process_open_fds", "gauge", "Open descriptors.", open)
    }
    if let most = ProcessFigures.mostDescriptors {
      writer.single("process_max_fds", "gauge", "Descriptors that may be open.", most)
    }
    writer.head("process_start_time_seconds", "gauge", "When the broker was opened, since 1970.")
    let started = broker.reactor.wallClock.milliseconds - broker.uptime.inMilliseconds
    writer.number("process_start_time_seconds", Double(started) / 1000)
  }

  private func writeLog(_ writer: inout MetricsWriter) {
    let counts = server.logger.counts
    writer.head("millrace_log_lines_total", "counter", "Lines of the log by level, as far as they were written.")
    for level in LogLevel.allCases {
      MetricsLabels(("level", level.name)).withBytes {
        writer.line("millrace_log_lines_total", "", $0, UInt64(counts.written[level.rawValue]))
      }
    }
    writer.single(
      "millrace_log_suppressed_lines_total", "counter", "Lines that were held back: there were too many of their kind.",
      counts.suppressed)
  }

  private func writeRequests(_ writer: inout MetricsWriter) {
    let figures = server.figures
    writer.head("millrace_http_requests_total", "counter", "Requests over HTTP by the first digit of the status.")
    for digit in 1...5 {
      MetricsLabels(("code", "\(digit)xx")).withBytes {
        writer.line("millrace_http_requests_total", "", $0, figures.answers[digit])
      }
    }
    writer.histogram(
      "millrace_http_request_duration_seconds", "From a request's head to its answer, streams aside.", figures.latency)
    writer.head(
      "millrace_requests_total", "counter",
      "Requests by protocol, served and refused: refused for reasons of the server's.")
    let http = (
      protocolName: "http", served: figures.answers[1...4].reduce(0, +), refused: figures.answers[5]
    )
    for one in server.requestCounts() + [http] {
      MetricsLabels(("protocol", one.protocolName), ("result", "served")).withBytes {
        writer.line("millrace_requests_total", "", $0, one.served)
      }
      MetricsLabels(("protocol", one.protocolName), ("result", "refused")).withBytes {
        writer.line("millrace_requests_total", "", $0, one.refused)
      }
    }
    writer.single(
      "millrace_http_malformed_requests_total", "counter", "Connections that sent what is no request of HTTP.",
      figures.malformed)
    writer.single(
      "millrace_http_timeouts_total", "counter", "Connections that were closed because their client was too slow.",
      figures.timedOut)
    writer.single(
      "millrace_http_waiting_requests", "gauge", "Requests that wait for records or events.", server.waiting)
    writer.single(
      "millrace_http_unsettled_deliveries", "gauge", "Messages that were taken over HTTP and not settled.",
      server.taken.count)
    writer.single("millrace_http_held_bytes", "gauge", "Bodies of requests that are held.", server.heldBytes)
  }

  // MARK: Storage

  private func writeStorage(_ writer: inout MetricsWriter) {
    let figures = server.broker.metrics
    writer.histogram(
      "millrace_commit_latency_seconds", "From a commit's first entry until it was durable.", figures.commitLatency)
    writer.histogram(
      "millrace_flush_latency_seconds", "From handing a write to the device until it was durable.",
      figures.flushLatency)
    writer.single("millrace_journal_commits_total", "counter", "Commits that became durable.", figures.commits)
    writer.single(
      "millrace_journal_written_bytes_total", "counter", "Bytes written to the journal, padding included.",
      figures.journalBytes)
    writer.single(
      "millrace_journal_waiting_units", "gauge", "Appends that wait for room in the journal.", figures.waitingUnits)
    writer.single(
      "millrace_journal_undrained_bytes", "gauge", "Bytes of records in the journal that are in no segment yet.",
      figures.undrainedBytes)
    writer.single("millrace_segments", "gauge", "Segment files.", figures.segments)
    writer.single("millrace_segment_bytes", "gauge", "Bytes of segment files.", figures.segmentBytes)
    writer.single("millrace_hot_tail_bytes", "gauge", "Bytes of recent batches in memory.", figures.hotTailBytes)
    writer.single(
      "millrace_queue_memory_bytes", "gauge", "Memory that queues which are not durable hold.", figures.queueMemoryBytes
    )
    writer.single("millrace_disk_available_bytes", "gauge", "Free bytes of the disk.", figures.availableBytes)
    writer.single(
      "millrace_disk_low", "gauge", "1 while records are refused because the disk is nearly full.",
      figures.isSpaceLow ? 1 : 0)
    writer.single("millrace_compactions_total", "counter", "Partitions compacted.", figures.compactions)
    writer.single(
      "millrace_compacted_records_total", "counter", "Records that compaction took out.", figures.recordsCompactedAway)
    writer.single("millrace_segment_merges_total", "counter", "Merges of segments.", figures.merges)
    writer.single(
      "millrace_scrubbed_bytes_total", "counter", "Bytes of segments whose checksums were found right.",
      figures.scrubbedBytes)
    writer.single("millrace_damaged_blocks_total", "counter", "Damaged parts of segments found.", figures.damagedBlocks)
  }

  static var none: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }
}
