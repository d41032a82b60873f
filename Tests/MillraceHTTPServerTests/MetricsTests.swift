// MetricsTests: lines of the text format, numbers as they are, and bounds.

import MillraceBase
import MillraceQueueing
import Testing

@testable import MillraceHTTPServer

@Test("numbers are written exactly, seconds with as many digits as they need, and labels escaped")
func lines() {
  var writer = MetricsWriter()
  for value in [0, 7, 10, 1_234_567_890, UInt64.max] { writer.line("n", "", MetricsText.none, value) }
  for nanoseconds in [0, 1, 1_000_000_000, 1_500_000_000, 2_000_000_010, 123_456_789, UInt64.max] {
    writer.seconds("s", "_sum", MetricsText.none, nanoseconds: nanoseconds)
  }
  MetricsLabels(("a", "x\"y\\z\n"), ("b", "é")).withBytes { writer.line("l", "", $0, 1) }
  writer.number("d", .infinity)
  #expect(
    writer.take().text == """
      n 0
      n 7
      n 10
      n 1234567890
      n 18446744073709551615
      s_sum 0
      s_sum 0.000000001
      s_sum 1
      s_sum 1.5
      s_sum 2.00000001
      s_sum 0.123456789
      s_sum 18446744073.709551615
      l{a="x\\"y\\\\z\\n",b="é"} 1
      d +Inf

      """)
  #expect(writer.count == 0)
}

@Test("lines of any length fit, and pieces are of one size")
func pieces() {
  var writer = MetricsWriter()
  let long = String(repeating: "q", count: 200_000)
  MetricsLabels(("queue", long)).withBytes { writer.line("m", "", $0, 1) }
  #expect(writer.isFull && writer.take().text == "m{queue=\"\(long)\"} 1\n")
  #expect(!writer.isFull)
}

@Test("a piece that is full where a family ends does not begin the next one twice")
func familyBorder() {
  var entries = MetricsEntries<UInt64>()
  entries.append(1, [("queue", String(repeating: "q", count: MetricsWriter.pieceSize))])
  let families: [MetricsFamily<UInt64>] = [.init("a", "gauge", "A.") { $0 }, .init("b", "gauge", "B.") { $0 }]
  var writer = MetricsWriter()
  var text = ""
  var isDone = false
  while !isDone {
    isDone = entries.write(families, to: &writer)
    text += writer.take().text
  }
  let heads = text.split(separator: "\n").filter { $0.hasPrefix("#") }
  #expect(heads == ["# HELP a A.", "# TYPE a gauge", "# HELP b B.", "# TYPE b gauge"])
}

@Test("a histogram counts what lies at or below each edge, and all at infinity")
func histogram() {
  var values = Histogram()
  for nanoseconds: UInt64 in [10_000, 90_000, 3_000_000, 20_000_000_000] { values.record(nanoseconds) }
  var writer = MetricsWriter()
  writer.histogram("h", "Help.", values)
  let text = writer.take().text
  for line in [
    "h_bucket{le=\"0.00005\"} 1", "h_bucket{le=\"0.0001\"} 2", "h_bucket{le=\"0.0025\"} 2", "h_bucket{le=\"0.005\"} 3",
    "h_bucket{le=\"10\"} 3", "h_bucket{le=\"+Inf\"} 4", "h_count 4", "h_sum 20.0031",
  ] { #expect(text.contains("\n\(line)\n"), "\(line)") }
}

@Test("a histogram of an entry has its labels before the edge, and counts exactly")
func labelledHistogram() {
  var times = TimeBuckets()
  for milliseconds: Int64 in [1, 2, 4000, 7_200_000, 200_000_000] {
    times.record(nanoseconds: milliseconds * 1_000_000)
  }
  var writer = MetricsWriter()
  MetricsLabels(("vhost", "/")).withBytes { writer.times("h", $0, times) }
  let lines = writer.take().text.split(separator: "\n")
  #expect(lines.count == TimeBuckets.edges.count + 3)
  for line in [
    "h_bucket{vhost=\"/\",le=\"0.001\"} 1", "h_bucket{vhost=\"/\",le=\"0.0025\"} 2",
    "h_bucket{vhost=\"/\",le=\"5\"} 3", "h_bucket{vhost=\"/\",le=\"3600\"} 3", "h_bucket{vhost=\"/\",le=\"21600\"} 4",
    "h_bucket{vhost=\"/\",le=\"86400\"} 4", "h_bucket{vhost=\"/\",le=\"+Inf\"} 5", "h_sum{vhost=\"/\"} 207204.003",
    "h_count{vhost=\"/\"} 5",
  ] { #expect(lines.contains(Substring(line)), "\(line)") }
  // What the labels say is what the buckets count by.
  #expect(
    MetricsWriter.timeEdges.map { Double("\($0)") ?? 0 } == TimeBuckets.edges.map { Double($0) / 1e9 } + [.infinity])
}

@Test("the time not ready counts from when it was seen until it was seen otherwise")
func availability() {
  func at(_ seconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: seconds * 1_000_000_000) }
  var availability = Availability(now: at(0))
  for (second, isReady) in [(1, true), (3, false), (4, false), (6, true), (10, true)] as [(Int64, Bool)] {
    availability.observe(isReady: isReady, now: at(second))
  }
  #expect(availability.all == .seconds(10) && availability.ready == .seconds(7))
}

@Test("one look after the other tells of the queues that there are, with their own names, however they came and went")
func queuesComeAndGo() throws {
  let world = try HTTPWorld(["metrics.max.entities": "3"])
  let client = world.connect()
  func told() throws -> [String: String] {
    let body = try #require(client.ask("GET", "/metrics")).body
    let lines = body.split(separator: "\n").filter { $0.hasPrefix("millrace_queue_messages_ready{") }
    return Dictionary(
      uniqueKeysWithValues: lines.map {
        (String($0.split(separator: "\"")[2 + 1]), String($0.split(separator: " ")[1]))
      })
  }
  func declare(_ name: String, messages: Int) {
    #expect(client.ask("PUT", "/api/v1/queues/\(name)")?.status == 201)
    let list = Array(repeating: #"{"body":"x"}"#, count: messages).joined(separator: ",")
    #expect(client.ask("POST", "/api/v1/queues/\(name)/messages", "{\"messages\":[\(list)]}")?.status == 201)
  }
  declare("a", messages: 1)
  declare("b", messages: 2)
  for _ in 0..<3 { #expect(try told() == ["a": "1", "b": "2"]) }
  #expect(client.ask("DELETE", "/api/v1/queues/a")?.status == 200)
  declare("c", messages: 3)
  for _ in 0..<3 { #expect(try told() == ["b": "2", "c": "3"]) }
  declare("b2", messages: 4)
  for _ in 0..<2 { #expect(try told() == ["b": "2", "c": "3", "b2": "4"]) }
  // As many as before, and others.
  #expect(client.ask("DELETE", "/api/v1/queues/c")?.status == 200)
  declare("d", messages: 5)
  for _ in 0..<2 { #expect(try told() == ["b": "2", "d": "5", "b2": "4"]) }
  // One more than are shown: three, and what is left without a name.
  declare("e", messages: 6)
  for _ in 0..<2 {
    let body = try #require(client.ask("GET", "/metrics")).body
    let lines = body.split(separator: "\n").filter { $0.hasPrefix("millrace_queue_messages_ready{") }
    #expect(lines.count == 4 && lines.last?.hasPrefix(#"millrace_queue_messages_ready{vhost="",queue=""} "#) == true)
    #expect(lines.compactMap { Int($0.split(separator: " ")[1]) }.reduce(0, +) == 17)
  }
}

@Suite struct JobMetricsTests {
  /// A job as a host tells of it; JobReport+JSON.swift in MillraceConnectors writes it so.
  private static let told = """
    {"name":"count","state":"running","epoch":3,"process":7,"stateLogBytes":4096,"recordsIn":10,"recordsOut":4,
     "bytesIn":900,"bytesOut":80,"lateRecords":1,"failedRecords":2,"steps":6,"commits":5,"stateKeys":8,"lag":12,
     "watermark":null,"busySeconds":1.5,"waitedForCommitsSeconds":0.25,"commit":{"p50":1500,"p99":20000},
     "latency":{"p50":2500,"p99":1000000},
     "chains":[
      {"operators":[{"number":0,"kind":"RecordInput","name":"a"},{"number":1,"kind":"Map","name":""}],"recordsIn":10,
       "recordsOut":9,"lateRecords":0,"failedRecords":2,"stateEntries":null,"stateBytes":null,"busySeconds":null,
       "timedWith":2},
      {"operators":[{"number":2,"kind":"KeyedAggregate","name":"words"}],"recordsIn":9,"recordsOut":4,"lateRecords":1,
       "failedRecords":0,"stateEntries":8,"stateBytes":123,"busySeconds":1.5,"timedWith":null}],
     "inputs":[{"input":"a","partition":0,"lag":5,"timeLagSeconds":2.5},
      {"input":"a","partition":1,"lag":7,"timeLagSeconds":0.5},
      {"input":"b","partition":0,"lag":null,"timeLagSeconds":null}]}
    """

  private func metrics(_ settings: [String: String] = [:], _ jobs: String) throws -> [Substring] {
    let world = try HTTPWorld(settings)
    let value = try Bytes(jobs).withBuffer { try JSONValue($0) }
    world.broker.writesJobs = { value.write(to: &$0) }
    return try #require(world.connect().ask("GET", "/metrics")).body.split(separator: "\n")
  }

  @Test("a job's state has its size in the metrics, as a whole and by operator, and what is not known has no line")
  func state() throws {
    let idle = #"{"name":"idle","state":"idle","stateLogBytes":0}"#
    let lines = try metrics([:], "[\(JobMetricsTests.told),\(idle)]")
    let operators = "stream_job=\"count\",operator=\"2\",kind=\"KeyedAggregate\",name=\"words\""
    let source = "stream_job=\"count\",operator=\"0\",kind=\"RecordInput\",name=\"a\""
    for line in [
      "millrace_job_running{stream_job=\"count\"} 1.0", "millrace_job_running{stream_job=\"idle\"} 0.0",
      "millrace_job_state_entries{stream_job=\"count\"} 8.0", "millrace_job_state_bytes{stream_job=\"count\"} 123.0",
      "millrace_job_state_log_bytes{stream_job=\"count\"} 4096.0",
      "millrace_job_state_log_bytes{stream_job=\"idle\"} 0.0",
      "millrace_job_commit_latency_seconds{stream_job=\"count\",quantile=\"0.5\"} 0.0015",
      "millrace_job_commit_latency_seconds{stream_job=\"count\",quantile=\"0.99\"} 0.02",
      "millrace_job_latency_seconds{stream_job=\"count\",quantile=\"0.99\"} 1.0",
      "millrace_job_lag_records{stream_job=\"count\"} 12.0",
      "millrace_job_commit_wait_seconds_total{stream_job=\"count\"} 0.25",
      "millrace_job_operator_state_bytes{\(operators)} 123.0", "millrace_job_operator_state_entries{\(operators)} 8.0",
      "millrace_job_operator_records_in_total{\(source)} 10.0",
      "millrace_job_operator_busy_seconds_total{\(operators)} 1.5",
      "millrace_job_input_lag_records{stream_job=\"count\",input=\"a\"} 12.0",
      "millrace_job_input_time_lag_seconds{stream_job=\"count\",input=\"a\"} 2.5",
    ] { #expect(lines.contains(Substring(line)), "\(line)") }
    let started = { (prefix: String) in lines.filter { $0.hasPrefix(prefix) } }
    #expect(started("millrace_job_watermark_lag_seconds{").isEmpty, "it uses no event time")
    #expect(started("millrace_job_operator_state_bytes{").count == 1, "an input of no event time has no state")
    #expect(started("millrace_job_operator_busy_seconds_total{").count == 1, "timed with the other")
    #expect(started("millrace_job_input_lag_records{").count == 1)
    #expect(started("millrace_job_commit_latency_seconds{").count == 2)
  }

  @Test("a job of which no times were measured has no lines of them")
  func nothingMeasured() throws {
    let new = JobMetricsTests.told.replacing(#"{"p50":1500,"p99":20000}"#, with: "null")
      .replacing(#"{"p50":2500,"p99":1000000}"#, with: "null")
    let lines = try metrics([:], "[\(new)]")
    #expect(lines.contains("millrace_job_commits_total{stream_job=\"count\"} 5.0"))
    for name in ["commit_latency", "latency"] {
      #expect(!lines.contains { $0.hasPrefix("millrace_job_\(name)_seconds{") }, "\(name)")
    }
  }

  @Test("jobs, operators and inputs beyond the most that are shown are summed up")
  func many() throws {
    let other = JobMetricsTests.told.replacing("\"count\"", with: "\"other\"")
    let third = JobMetricsTests.told.replacing("\"count\"", with: "\"third\"")
    let shown = try metrics(["metrics.max.entities": "1"], "[\(JobMetricsTests.told),\(other),\(third)]")
    #expect(
      shown.filter { $0.hasPrefix("millrace_job_records_in_total{") } == [
        "millrace_job_records_in_total{stream_job=\"count\"} 10.0",
        "millrace_job_records_in_total{stream_job=\"\"} 20.0",
      ])
    #expect(shown.contains("millrace_job_state_log_bytes{stream_job=\"\"} 8192.0"))
    #expect(shown.count { $0.hasPrefix("millrace_job_latency_seconds{") } == 2, "times of several jobs have no sum")
    let lines = try metrics(["metrics.max.entities": "1"], "[\(JobMetricsTests.told),\(other)]")
    let nobody = "stream_job=\"\",operator=\"\",kind=\"\",name=\"\""
    for line in [
      "millrace_job_operator_state_bytes{\(nobody)} 246.0", "millrace_job_operator_records_in_total{\(nobody)} 28.0",
      "millrace_job_input_lag_records{stream_job=\"\",input=\"\"} 12.0",
      "millrace_job_input_time_lag_seconds{stream_job=\"\",input=\"\"} 2.5",
    ] { #expect(lines.contains(Substring(line)), "\(line)") }
  }
}
