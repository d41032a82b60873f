// Histories: jobs run over batches that come while they run, with steps of random size and commits that fail.

import Glibc
import MillraceBase
import MillraceModel
import Testing

@testable import MillraceDataflow

/// How many random histories a test looks at that asks for `count`: a third of them, so that all tests are quick; `make oracles` says how many times
/// as many.
func histories<Number: BinaryInteger>(_ count: Number) -> Number {
  let scale = getenv("MILLRACE_ORACLE_SCALE").flatMap { Int(String(cString: $0)) }
  return scale.map { count * Number($0) } ?? (count + 2) / 3
}

/// A value with a key and an event time.
struct TimedEvent: ExchangeValue {
  var key: String
  var number: Int64
  var time: Int64

  /// As a record without a time of its own.
  var record: Record { Record(key: nil, value: Bytes("\(key) \(number) \(time)"), timestamp: .none) }

  /// From such a record.
  init(_ record: InputRecord) {
    let parts = record.value.text.split(separator: " ")
    self.init(key: String(parts[0]), number: Int64(parts[1]) ?? 0, time: Int64(parts[2]) ?? 0)
  }

  init(key: String, number: Int64, time: Int64) {
    self.key = key
    self.number = number
    self.time = time
  }
}

/// What a history led to.
struct History {
  /// The values in the topic `out`, in order.
  var out: [String]
  /// The records in the topic `out`.
  var records: [Record] = []
  /// How many there were after each step.
  var steps: [Int] = []
  /// Late values of the run that ended it.
  var late: UInt64
  /// Commits that failed.
  var failures = 0
  /// More than one worker ran it for a while. A step writes what one worker has behind what another one has, so that only the order of
  /// each key's values is part of the result.
  private(set) var isOfSeveral = false

  /// Runs `job`, which reads the topic `in` and writes `out`, of one partition each, until all batches are through.
  /// - Parameters:
  ///   - crashes: one commit in four is lost, or applied and told to have failed; the job recovers then.
  ///   - workers: how many run it, another number after each recovery.
  ///   - calls: of asynchronous functions; some are answered at each turn, until none is left.
  init(
    of job: JobDefinition, over batches: [[Record]], using random: inout SeededRandom, crashes: Bool,
    workers: ClosedRange<Int> = 1...5, calls: ScriptedCalls? = nil
  ) throws {
    let seed = random.next()
    let host = MemoryHost { number in
      var luck = SeededRandom(seed: seed &+ number)
      guard crashes, luck.oneIn(4) else { return .acknowledged }
      return luck.oneIn(2) ? .applied : .lost
    }
    host.createTopic("in", partitions: 1)
    host.createTopic("out", partitions: 1)
    (out, late) = ([], 0)
    var appended = 0
    func note() throws(JobError) {
      let count = try host.records(topic: "out", partition: 0).count
      if count != steps.last { steps.append(count) }
    }
    while true {
      var options = JobOptions()
      options.idleWait = .zero
      options.briefWait = .zero
      options.readBytes = random.oneIn(2) ? 1 : 400
      options.stepBytes = random.oneIn(2) ? 1 : 2000
      options.commitsInFlight = Int.random(in: 1...3, using: &random)
      // Each run takes over the state from another number of workers.
      options.workers = random.oneIn(2) ? workers.lowerBound : Int.random(in: workers, using: &random)
      isOfSeveral = isOfSeveral || options.workers > 1
      // Small tables do what large ones do.
      if (seed &+ UInt64(failures)).isMultiple(of: 2) { options.largeTable = 1 }
      options.wakeBytes = random.oneIn(2) ? 0 : .max
      // What did not change in a step is put into files, all of it or some.
      options.stateMemory = [nil, 1, Int.random(in: 1...4000, using: &random)].randomElement(using: &random) ?? nil
      if let calls { options.startCall = { calls.start($0) } }
      do throws(JobError) {
        let executor = try JobExecutor(job, host: host, options: options)
        while true {
          if appended < batches.count, random.oneIn(2) {
            var builder = RecordBatchBuilder()
            for record in batches[appended] { builder.append(record) }
            try host.append(topic: "in", partition: 0, batch: builder.finish())
            appended += 1
          }
          if random.oneIn(2) { calls?.answerSome(using: &random) }
          let turn = try executor.turn()
          try note()
          // What was answered since is taken up by the next turn.
          if let calls, calls.count > 0 || turn == .progress { continue }
          if turn != .progress, appended == batches.count { break }
        }
        try executor.settle()
        late = executor.figures.lateRecords
        break
      } catch {
        guard crashes, error.code == .commitFailed || error.code == .fenced else { throw error }
        failures += 1
        calls?.forget()
        try note()
        try #require(failures < 1000)
      }
    }
    records = try host.records(topic: "out", partition: 0)
    out = records.map { $0.value?.text ?? "" }
  }

  /// What the newest record of each key says after each step.
  var states: [[String: String]] {
    var state: [String: String] = [:]
    var at = 0
    return steps.map { end in
      for record in records[at..<end] { state[record.key?.text ?? ""] = record.value?.text }
      at = end
      return state
    }
  }
}

extension History {
  /// Whether `values`, which stand for those in `out`, are those that batch after batch leads to, of each batch in any order; where several
  /// workers were at work, for each key by itself, which is the first word unless told otherwise.
  func agrees(
    _ values: [String], with batches: [[String]], key: (String) -> String = { String($0.prefix { $0 != " " }) }
  ) -> Bool {
    guard isOfSeveral else { return History.agree(values, batches) }
    let sorted = Dictionary(grouping: values, by: key)
    let keys = Set(sorted.keys).union(batches.joined().map(key))
    return keys.allSatisfy { one in History.agree(sorted[one] ?? [], batches.map { $0.filter { key($0) == one } }) }
  }

  private static func agree(_ values: [String], _ batches: [[String]]) -> Bool {
    var rest = values[...]
    for batch in batches {
      guard rest.prefix(batch.count).sorted() == batch.sorted() else { return false }
      rest = rest.dropFirst(batch.count)
    }
    return rest.isEmpty
  }
}

/// How often each element is there.
func counts<Element: Hashable>(_ elements: some Sequence<Element>) -> [Element: Int] {
  var counts: [Element: Int] = [:]
  for element in elements { counts[element, default: 0] += 1 }
  return counts
}
