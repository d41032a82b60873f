// JobSection: the metrics of stream jobs: of each as a whole, of its operators and of its inputs.
//
// Hosts of jobs, in this process or workers on the socket, tell about once a second what their jobs have done, and what they
// have told last is shown. What a job does not tell, such as event time where it uses none, has no line.

import MillraceBase
import MillraceBroker

/// A family of lines, of those entries that have a value.
extension MetricsFamily {
  /// A family with a number for each entry that has one.
  init(
    some name: StaticString, _ type: StaticString, _ help: StaticString,
    _ value: @escaping @Sendable (Entry) -> Double?
  ) {
    (self.name, self.type, self.help) = (name, type, help)
    write = { writer, name, labels, entry in
      if let value = value(entry) { writer.number(name, labels, value) }
    }
  }

  /// A summary of microseconds as seconds: two quantiles of each entry that has them.
  init(
    quantiles name: StaticString, _ help: StaticString, _ value: @escaping @Sendable (Entry) -> JSONValue?
  ) {
    (self.name, type, self.help) = (name, "summary", help)
    write = { writer, name, labels, entry in
      guard let times = value(entry) else { return }
      if let half = times["p50"]?.double { writer.quantile(name, labels, "0.5", half / 1e6) }
      if let most = times["p99"]?.double { writer.quantile(name, labels, "0.99", most / 1e6) }
    }
  }
}

/// Figures of one operator, with what follows it in its loop; or of several such.
struct OperatorMetrics: Sendable {
  var recordsIn: Double
  var recordsOut: Double
  var late: Double
  var failed: Double
  var stateEntries: Double?
  var stateBytes: Double?
  var busySeconds: Double?

  /// - Parameter chain: as JobReport+JSON.swift in MillraceConnectors shows.
  init(_ chain: JSONValue) {
    recordsIn = chain["recordsIn"]?.double ?? 0
    recordsOut = chain["recordsOut"]?.double ?? 0
    late = chain["lateRecords"]?.double ?? 0
    failed = chain["failedRecords"]?.double ?? 0
    stateEntries = chain["stateEntries"]?.double
    stateBytes = chain["stateBytes"]?.double
    busySeconds = chain["timedWith"]?.double == nil ? chain["busySeconds"]?.double : nil
  }

  mutating func add(_ other: OperatorMetrics) {
    func sum(_ one: Double?, _ other: Double?) -> Double? {
      one == nil && other == nil ? nil : (one ?? 0) + (other ?? 0)
    }
    recordsIn += other.recordsIn
    recordsOut += other.recordsOut
    late += other.late
    failed += other.failed
    stateEntries = sum(stateEntries, other.stateEntries)
    stateBytes = sum(stateBytes, other.stateBytes)
    busySeconds = sum(busySeconds, other.busySeconds)
  }
}

/// How far a job is behind in an input, over the partitions of it that it has told about.
struct JobInputMetrics: Sendable {
  var lag: Double?
  var timeLag: Double?

  mutating func add(_ other: JobInputMetrics) {
    lag = lag == nil && other.lag == nil ? nil : (lag ?? 0) + (other.lag ?? 0)
    timeLag = timeLag.map { max($0, other.timeLag ?? 0) } ?? other.timeLag
  }
}

/// Jobs. Their label is not `job`: that is Prometheus' own, which would rename theirs.
final class JobSection {
  private let server: HTTPServer
  private let limit: Int
  private var jobs = MetricsEntries<JSONValue>()
  /// Sums of the jobs that have no lines of their own.
  private var otherJobs: [String: Double]?
  private var operators = MetricsEntries<OperatorMetrics>()
  private var otherOperators: OperatorMetrics?
  private var inputs = MetricsEntries<JobInputMetrics>()
  private var otherInputs: JobInputMetrics?
  private let families: [MetricsFamily<JSONValue>]

  init(_ server: HTTPServer, limit: Int) {
    self.server = server
    self.limit = limit
    families = JobSection.families(now: Double(server.broker.reactor.wallClock.milliseconds))
  }

  private static func families(now: Double) -> [MetricsFamily<JSONValue>] {
    [
      .init(some: "millrace_job_running", "gauge", "1 while the job runs.") {
        $0["state"]?.string.map { $0 == "running" || $0 == "embedded" || $0 == "stopping" ? 1 : 0 }
      },
      .init(some: "millrace_job_records_in_total", "counter", "Records that the job has read.") {
        $0["recordsIn"]?.double
      },
      .init(some: "millrace_job_records_out_total", "counter", "Records that the job has written.") {
        $0["recordsOut"]?.double
      },
      .init(some: "millrace_job_in_bytes_total", "counter", "Bytes of the batches that the job has read.") {
        $0["bytesIn"]?.double
      },
      .init(some: "millrace_job_out_bytes_total", "counter", "Bytes of the batches that the job has written.") {
        $0["bytesOut"]?.double
      },
      .init(some: "millrace_job_late_records_total", "counter", "Records that came too late.") {
        $0["lateRecords"]?.double
      },
      .init(
        some: "millrace_job_failed_records_total", "counter",
        "Records for which a function failed that the job goes on without."
      ) { $0["failedRecords"]?.double },
      .init(some: "millrace_job_steps_total", "counter", "Steps that the job has handed over to be committed.") {
        $0["steps"]?.double
      },
      .init(some: "millrace_job_commits_total", "counter", "Steps of the job that are durable.") {
        $0["commits"]?.double
      },
      .init(some: "millrace_job_busy_seconds_total", "counter", "Time that the job's threads worked.") {
        $0["busySeconds"]?.double
      },
      .init(
        some: "millrace_job_commit_wait_seconds_total", "counter",
        "Time in which the job did nothing, because as many commits were under way as may be."
      ) { $0["waitedForCommitsSeconds"]?.double },
      .init(
        quantiles: "millrace_job_commit_latency_seconds",
        "From handing over a commit of the job until it was durable, since the run began."
      ) { $0["commit"] },
      .init(
        quantiles: "millrace_job_latency_seconds",
        "From a record's own time until what it led to was durable, since the run began."
      ) { $0["latency"] },
      .init(some: "millrace_job_lag_records", "gauge", "Records that the job has not read yet.") { $0["lag"]?.double },
      .init(some: "millrace_job_state_entries", "gauge", "Entries of the job's state.") { $0["stateKeys"]?.double },
      .init(some: "millrace_job_state_bytes", "gauge", "Bytes of keys and values of the job's state.") { job in
        job["chains"]?.array.map { $0.reduce(0) { $0 + ($1["stateBytes"]?.double ?? 0) } }
      },
      .init(
        some: "millrace_job_state_log_bytes", "gauge",
        "Bytes of the log that the job's state is kept in, up to four times the state."
      ) { $0["stateLogBytes"]?.double },
      .init(
        some: "millrace_job_watermark_lag_seconds", "gauge", "How far the job's event time is behind the clock."
      ) { $0["watermark"]?.double.map { max(0, now - $0) / 1000 } },
    ]
  }

  private static let operatorFamilies: [MetricsFamily<OperatorMetrics>] = [
    .init(
      some: "millrace_job_operator_records_in_total", "counter", "Values that came to the operator."
    ) { $0.recordsIn },
    .init(
      some: "millrace_job_operator_records_out_total", "counter",
      "Values that the operator, or the last of those that follow it in its loop, has handed on."
    ) { $0.recordsOut },
    .init(
      some: "millrace_job_operator_late_records_total", "counter", "Values that came too late for the operator."
    ) { $0.late },
    .init(
      some: "millrace_job_operator_failed_records_total", "counter",
      "Values for which a function of the operator failed."
    ) { $0.failed },
    .init(some: "millrace_job_operator_state_entries", "gauge", "Entries of the operator's state.") {
      $0.stateEntries
    },
    .init(
      some: "millrace_job_operator_state_bytes", "gauge", "Bytes of keys and values of the operator's state."
    ) { $0.stateBytes },
    .init(
      some: "millrace_job_operator_busy_seconds_total", "counter",
      "Time of the job's threads in the operator, and in those that are one loop with it."
    ) { $0.busySeconds },
  ]

  private static let inputFamilies: [MetricsFamily<JobInputMetrics>] = [
    .init(
      some: "millrace_job_input_lag_records", "gauge",
      "Records of an input that the job has not run yet, of the 256 partitions that are furthest behind."
    ) { $0.lag },
    .init(
      some: "millrace_job_input_time_lag_seconds", "gauge",
      "How much older the newest record that was run is than the newest of its partition, of the input's worst."
    ) { $0.timeLag },
  ]

  /// What can be summed up over jobs.
  private static let sums = [
    "recordsIn", "recordsOut", "bytesIn", "bytesOut", "lateRecords", "failedRecords", "steps", "commits", "busySeconds",
    "waitedForCommitsSeconds", "lag", "stateKeys", "stateLogBytes",
  ]

  /// Asks the jobs' hosts: what they have told lies ready.
  func gather() {
    for job in server.jobs {
      let name = job["name"]?.string ?? ""
      if jobs.count < limit {
        jobs.append(job, [("stream_job", name)])
      } else {
        var others = otherJobs ?? [:]
        for name in JobSection.sums { if let value = job[name]?.double { others[name, default: 0] += value } }
        otherJobs = others
      }
      for chain in job["chains"]?.array ?? [] { add(chain, name) }
      var places: [String: JobInputMetrics] = [:]
      for one in job["inputs"]?.array ?? [] {
        let metrics = JobInputMetrics(lag: one["lag"]?.double, timeLag: one["timeLagSeconds"]?.double)
        let input = one["input"]?.string ?? ""
        if places[input]?.add(metrics) == nil { places[input] = metrics }
      }
      for (input, metrics) in places.sorted(by: { $0.key < $1.key }) {
        if inputs.count < limit {
          inputs.append(metrics, [("stream_job", name), ("input", input)])
        } else if otherInputs?.add(metrics) == nil {
          otherInputs = metrics
        }
      }
    }
    if let otherJobs {
      jobs.append(
        .object(otherJobs.sorted { $0.key < $1.key }.map { .init($0.key, .number($0.value)) }), [("stream_job", "")])
    }
    if let otherOperators {
      operators.append(otherOperators, [("stream_job", ""), ("operator", ""), ("kind", ""), ("name", "")])
    }
    if let otherInputs { inputs.append(otherInputs, [("stream_job", ""), ("input", "")]) }
  }

  /// A chain goes by its first operator: it is the one that may have state.
  private func add(_ chain: JSONValue, _ job: String) {
    guard let first = chain["operators"]?.array?.first else { return }
    let metrics = OperatorMetrics(chain)
    if operators.count < limit {
      operators.append(
        metrics,
        [
          ("stream_job", job), ("operator", "\(Int(first["number"]?.double ?? 0))"),
          ("kind", first["kind"]?.string ?? ""),
          ("name", first["name"]?.string ?? ""),
        ])
    } else if otherOperators?.add(metrics) == nil {
      otherOperators = metrics
    }
  }

  func write(to writer: inout MetricsWriter) -> Bool {
    jobs.write(families, to: &writer) && operators.write(JobSection.operatorFamilies, to: &writer)
      && inputs.write(JobSection.inputFamilies, to: &writer)
  }
}

extension HTTPServer {
  /// What hosts of jobs tell of them: an array of objects as JobReport+JSON.swift in MillraceConnectors shows.
  var jobs: [JSONValue] {
    guard let writes = broker.writesJobs else { return [] }
    var json = JSONWriter()
    writes(&json)
    do throws(DecodingError) {
      return try Bytes(json.bytes).withBuffer { (buffer) throws(DecodingError) in try JSONValue(buffer).array ?? [] }
    } catch {
      return []
    }
  }
}
