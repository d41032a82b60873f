// State that another build wrote: files in Tests/golden/state, one directory for each version of the formats.
//
// A file holds what a job's state log said after half of its input, and what the job wrote out of the other half. Every version is
// read for ever; the newest is what this build writes. A change that is meant gets a directory of its own:
// MILLRACE_WRITE_GOLDEN=2 swift test --filter StateGolden

import Glibc
import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

/// One file.
private struct StateGolden: Equatable {
  /// Records of the state log, key and value in hexadecimal digits, in order; `-` for no value.
  var state: [String] = []
  /// What came out of the rest, sorted.
  var output: [String] = []

  var text: String { (state.map { "state \($0)" } + output.map { "out \($0)" }).joined(separator: "\n") + "\n" }

  init() {}

  init(text: String) {
    for line in text.split(separator: "\n") {
      if line.hasPrefix("state ") { state.append(String(line.dropFirst(6))) }
      if line.hasPrefix("out ") { output.append(String(line.dropFirst(4))) }
    }
  }

  /// The last value of each key: in which order a build writes the keys of a commit is its own affair.
  var lastValues: [String: String] {
    var values: [String: String] = [:]
    for record in state {
      let parts = record.split(separator: " ")
      values[String(parts[0])] = String(parts[1])
    }
    return values
  }

  /// Batches of a state log.
  var batches: [Bytes] {
    var writer = StateLogWriter(timestamp: Timestamp(milliseconds: 1))
    for record in state {
      let parts = record.split(separator: " ")
      let key = Bytes(StateGolden.bytes(parts[0]))
      key.withBuffer { key in
        guard parts[1] != "-" else { return writer.put(key: key, value: nil) }
        Bytes(StateGolden.bytes(parts[1])).withBuffer { writer.put(key: key, value: $0) }
      }
    }
    return writer.finish()
  }

  static func digits(_ bytes: Bytes) -> String {
    bytes.array.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  private static func bytes(_ digits: Substring) -> [UInt8] {
    guard digits != "." else { return [] }
    let values = digits.utf8.map { UInt8($0 > 57 ? $0 - 87 : $0 - 48) }
    return stride(from: 0, to: values.count, by: 2).map { values[$0] << 4 | values[$0 + 1] }
  }
}

@Suite(.serialized) struct StateGoldenTests {
  private static let root =
    String(#filePath.prefix(through: #filePath.lastIndex(of: "/") ?? #filePath.startIndex))
    + "../golden/state"
  /// What this build writes.
  private static let newest = 1

  /// Lines of three users, in two partitions, a second after the other; some are out of order, some come again.
  private static let input: [(partition: Int32, records: [Record])] = {
    var random = SeededRandom(seed: 2026)
    return (0..<24).map { batch in
      let records = (0..<5).map { index in
        let time = Int64(batch * 5 + index) * 1000 - Int64.random(in: 0...3, using: &random) * 700
        let user = ["ann", "bob", "carl"][Int.random(in: 0..<3, using: &random)]
        return Record(
          key: nil, value: Bytes("\(user) \(Int64.random(in: 0...12, using: &random))"),
          timestamp: Timestamp(milliseconds: 86_390_000 + time))
      }
      return (Int32(batch % 2), records)
    }
  }()

  private static func host() -> MemoryHost {
    let host = MemoryHost()
    host.createTopic("in", partitions: 2)
    host.createTopic("out", partitions: 1)
    return host
  }

  private static func append(_ part: some Sequence<(partition: Int32, records: [Record])>, to host: MemoryHost) throws {
    for (partition, records) in part {
      var builder = RecordBatchBuilder()
      for record in records { builder.append(record) }
      try host.append(topic: "in", partition: partition, batch: builder.finish())
    }
  }

  /// Runs the job over what is there.
  private static func run(_ job: StateGoldenJob, on host: MemoryHost, workers: Int) throws {
    var options = JobOptions()
    options.idleWait = .zero
    options.briefWait = .zero
    options.workers = workers
    options.clock = { MonotonicTime(nanoseconds: 1) }
    options.wallClock = { Timestamp(milliseconds: 86_400_000) }
    let executor = try JobExecutor(job.definition, host: host, options: options)
    while try executor.turn() == .progress {}
    try executor.settle()
  }

  private static func state(of job: StateGoldenJob, on host: MemoryHost) throws -> [String] {
    var records: [String] = []
    _ = try host.open(job: job.name) { (bytes: Bytes) throws(JobError) in
      do throws(RecordBatchError) {
        let header = try RecordBatchHeader(bytes)
        let part = bytes[RecordBatchHeader.size..<header.totalSize]
        for record in try RecordReader.records(part, header: header) {
          let value = record.value.map { $0.count == 0 ? "." : StateGolden.digits($0) } ?? "-"
          records.append("\(StateGolden.digits(record.key ?? Bytes())) \(value)")
        }
      } catch {
        throw JobError(.corruptState, "\(error)")
      }
    }
    return records
  }

  /// What this build's state is after half of the input, and what comes out of the rest.
  private static func golden(_ job: StateGoldenJob) throws -> StateGolden {
    var golden = StateGolden()
    let host = host()
    try append(input.prefix(12), to: host)
    try run(job, on: host, workers: 1)
    golden.state = try state(of: job, on: host)
    golden.output = try rest(job, behind: golden, workers: 1)
    return golden
  }

  /// What a job that begins with a golden state writes out of the second half of the input.
  private static func rest(_ job: StateGoldenJob, behind golden: StateGolden, workers: Int) throws -> [String] {
    let host = host()
    let epoch = try host.open(job: job.name) { _ in }
    let ticket = try host.submit(
      StepCommit(job: job.name, epoch: epoch, outputs: [], state: golden.batches, stateLogStart: nil))
    _ = try host.wait(ticket)
    try append(input, to: host)
    try run(job, on: host, workers: workers)
    return try host.records(topic: "out", partition: 0).map {
      "\($0.timestamp.milliseconds) \($0.key?.text ?? "-") \($0.value?.text ?? "-")"
    }.sorted()
  }

  private static func read(_ path: String) -> String? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 65_536)
    while case let count = fread(&part, 1, part.count, file), count > 0 { bytes += part[..<count] }
    return String(decoding: bytes, as: UTF8.self)
  }

  @Test("state of every version is read, and the job goes on as the build that wrote it did", arguments: [1, 3])
  func read(workers: Int) throws {
    for version in 1...Self.newest {
      for job in StateGoldenJob.all {
        let text = try #require(Self.read("\(Self.root)/\(version)/\(job.name).txt"), "\(version)/\(job.name)")
        let golden = StateGolden(text: text)
        #expect(golden.output.count > 20 && golden.state.count > 20, "\(version)/\(job.name)")
        let output = try Self.rest(job, behind: golden, workers: workers)
        // What the end of a step hands on has the newest time of a worker's values.
        func timeless(_ lines: [String]) -> [Substring] { lines.map { $0.drop { $0 != " " } }.sorted() }
        if workers == 1 {
          #expect(output == golden.output, "\(version)/\(job.name)")
        } else {
          #expect(timeless(output) == timeless(golden.output), "\(version)/\(job.name)")
        }
      }
    }
  }

  @Test("what is written is the newest version")
  func written() throws {
    let wanted = getenv("MILLRACE_WRITE_GOLDEN").flatMap { Int(String(cString: $0)) }
    for job in StateGoldenJob.all {
      let golden = try Self.golden(job)
      if let wanted {
        let file = try #require(fopen("\(Self.root)/\(wanted)/\(job.name).txt", "w"))
        fputs(golden.text, file)
        fclose(file)
      } else {
        let text = try #require(Self.read("\(Self.root)/\(Self.newest)/\(job.name).txt"), "\(job.name)")
        let known = StateGolden(text: text)
        #expect(golden.lastValues == known.lastValues, "\(job.name)")
        #expect(golden.output == known.output, "\(job.name)")
      }
    }
  }

  @Test("the jobs have state of every kind")
  func kinds() throws {
    var kinds: Set<UInt8> = []
    for job in StateGoldenJob.all {
      let text = try #require(Self.read("\(Self.root)/\(Self.newest)/\(job.name).txt"), "\(job.name)")
      for record in StateGolden(text: text).state {
        kinds.insert(UInt8(record.dropFirst(4).prefix(2), radix: 16) ?? 255)
      }
    }
    // All but what participants remember, which FileSinkTests hold.
    #expect(kinds == [0, 1, 2, 3, 4, 5])
  }
}
