// StateMemoryTests: jobs whose state is larger than the memory that they may use for it.

import MillraceBase
import MillraceModel
import MillraceStreams
import Synchronization
import Testing

@testable import MillraceDataflow

/// Appends `count` records whose keys are `key(number)` in batches of 500.
private func append(_ count: Int, to host: MemoryHost, from first: Int = 0, key: (Int) -> String) throws {
  for start in stride(from: first, to: first + count, by: 500) {
    var builder = RecordBatchBuilder()
    for number in start..<min(first + count, start + 500) {
      builder.append(
        Record(
          key: Bytes(key(number)), value: Bytes("value \(number)"), timestamp: Timestamp(milliseconds: Int64(number)))
      )
    }
    try host.append(topic: "in", partition: 0, batch: builder.finish())
  }
}

private func newHost() -> MemoryHost {
  let host = MemoryHost()
  host.createTopic("in", partitions: 1)
  host.createTopic("out", partitions: 1)
  return host
}

private func options(_ memory: Int?, workers: Int = 1) -> JobOptions {
  var options = JobOptions()
  options.stateMemory = memory
  options.workers = workers
  options.idleWait = .zero
  options.briefWait = .zero
  options.stepBytes = 64 << 10
  options.readBytes = 64 << 10
  return options
}

/// Runs what there is.
/// - Returns: the figures, and the most memory that the state took behind a step.
private func run(_ executor: JobExecutor) throws -> (figures: JobFigures, memory: Int) {
  var most = 0
  while try executor.turn() == .progress { most = max(most, executor.figures.stateMemory) }
  return (executor.figures, most)
}

/// The last value of each key in the topic `out`.
private func results(_ host: MemoryHost) throws -> [String: String] {
  var last: [String: String] = [:]
  for record in try host.records(topic: "out", partition: 0) { last[record.key?.text ?? "-"] = record.value?.text }
  return last
}

private let records = DataStream.topic("in").keyBy(\.key)

/// A state that lists the values of a key, and counts its calls in a map.
private func listing() -> JobDefinition {
  let values = ListState<String>("values")
  let counts = MapState<String, Int64>("counts")
  let results = records.process([values, counts]) { record, key, emit in
    let count = (key[counts]["calls"] ?? 0) + 1
    key[values].append(record.value.text)
    key[counts]["calls"] = count
    emit(Keyed(key: record.key.text, value: "\(key[values].count) \(count)"))
  }
  return results.to(topic: "out").job(named: "states")
}

/// Every tenth value with all values of its key.
private func joining() -> JobDefinition {
  let events = DataStream.topic("in").map { record -> TimedEvent in
    let number = Int64(record.value.text.dropFirst("value ".count)) ?? -1
    return TimedEvent(key: record.key.text, number: number, time: number)
  }
  let some = events.filter { $0.number % 10 == 0 }.keyBy { $0.key }
  let pairs = some.join(events.keyBy { $0.key }).map {
    Keyed(key: $0.right.key, value: "\($0.left.number) \($0.right.number)")
  }
  return pairs.to(topic: "out").job(named: "joins")
}

/// Each with the memory that it gets, a fraction of what it would take.
private let jobs: [(name: String, limit: Int, job: JobDefinition)] = [
  ("counts", 150_000, records.count().to(topic: "out").job(named: "counts")),
  (
    "folds", 300_000,
    records.fold("") { $0 = String(($0 + $1.value.text).suffix(100)) }.to(topic: "out").job(named: "folds")
  ),
  ("lists and maps", 600_000, listing()),
  ("joins", 400_000, joining()),
]

@Test(
  "state beyond the memory lies in files, results are the same, and the memory is kept; so it is in a run that recovers",
  arguments: 0..<4, [1, 3])
func stateBeyondMemory(_ number: Int, _ workers: Int) throws {
  let (name, limit, job) = jobs[number]
  let free = newHost()
  let bound = newHost()
  for host in [free, bound] { try append(8000, to: host) { "key \($0 % 5000)" } }
  var executor = try JobExecutor(job, host: free, options: options(nil, workers: workers))
  let whole = try run(executor)
  #expect(whole.figures.stateMemory == 0 && whole.figures.stateFiles == 0)
  executor = try JobExecutor(job, host: bound, options: options(limit, workers: workers))
  let first = try run(executor)
  #expect(first.figures.stateFiles > 50_000, "\(name): \(first.figures.stateFiles) bytes in files")
  #expect(first.memory < limit * 3 / 2, "\(name): \(first.memory) bytes")
  #expect(first.figures.stateKeys == whole.figures.stateKeys, "\(name)")
  #expect(try results(bound) == results(free), "\(name)")
  // Killed, and started again with another number of workers: nothing is in its files any more.
  executor = try JobExecutor(job, host: bound, options: options(limit, workers: 4 - workers))
  #expect(executor.figures.stateKeys == whole.figures.stateKeys, "\(name)")
  for host in [free, bound] { try append(3000, to: host, from: 8000) { "key \($0 % 5500)" } }
  let second = try run(executor)
  #expect(second.figures.stateFiles > 50_000 && second.memory < limit * 3 / 2, "\(name): \(second.memory) bytes")
  executor = try JobExecutor(job, host: free, options: options(nil))
  _ = try run(executor)
  #expect(try results(bound) == results(free), "\(name)")
}

@Test("lists that are longer than what is read at a time come back whole")
func longLists() throws {
  let host = newHost()
  let executor = try JobExecutor(listing(), host: host, options: options(10_000))
  // Elements of some 20 bytes: each list takes several buckets of a file.
  for round in 0..<4 {
    try append(1000, to: host, from: round * 1000) { "key \($0 % 4)" }
    #expect(try run(executor).figures.stateFiles > 10_000)
    let count = (round + 1) * 250
    #expect(try results(host) == Dictionary(uniqueKeysWithValues: (0..<4).map { ("key \($0)", "\(count) \(count)") }))
  }
}

@Test("a job whose files cannot be read ends before it commits, and the next run goes on rightly")
func unreadableState() throws {
  let isBroken = Atomic(false)
  let host = newHost()
  let job = records.count().to(topic: "out").job(named: "counts")
  host.makeStateFiles { () throws(JobError) in
    MemoryStateFile { isBroken.load(ordering: .relaxed) ? .flipsBit : nil }
  }
  try append(3000, to: host) { "key \($0)" }
  let executor = try JobExecutor(job, host: host, options: options(10_000))
  _ = try run(executor)
  let before = try results(host)
  isBroken.store(true, ordering: .relaxed)
  try append(3000, to: host) { "key \($0)" }
  let error = #expect(throws: JobError.self) { try run(executor) }
  #expect(error?.code == .stateFileFailed)
  #expect(try results(host) == before, "nothing that rests on it was committed")
  host.makeStateFiles { () throws(JobError) in MemoryStateFile() }
  _ = try run(try JobExecutor(job, host: host, options: options(10_000)))
  #expect(try results(host) == Dictionary(uniqueKeysWithValues: (0..<3000).map { ("key \($0)", "2") }))
}

@Test("a job whose files cannot be written goes on in memory for a while, and with files once there is room")
func fullDisk() throws {
  let isFull = Atomic(true)
  let host = newHost()
  let job = records.count().to(topic: "out").job(named: "counts")
  host.makeStateFiles { () throws(JobError) in MemoryStateFile { isFull.load(ordering: .relaxed) ? .isFull : nil } }
  let limit = 400_000
  let executor = try JobExecutor(job, host: host, options: options(limit))
  try append(7000, to: host) { "key \($0)" }
  let first = try run(executor)
  #expect(first.memory > limit && first.figures.stateFiles == 0)
  isFull.store(false, ordering: .relaxed)
  try append(2000, to: host, from: 7000) { "key \($0)" }
  let second = try run(executor)
  #expect(second.figures.stateFiles > 0 && second.figures.stateMemory < limit)
  // With twice the memory in use the job ends, rather than take the machine down.
  isFull.store(true, ordering: .relaxed)
  try append(20_000, to: host, from: 9000) { "key \($0)" }
  let error = #expect(throws: JobError.self) { try run(executor) }
  #expect(error?.code == .stateFileFailed)
  isFull.store(false, ordering: .relaxed)
  _ = try run(try JobExecutor(job, host: host, options: options(limit)))
  #expect(try results(host).count == 29_000)
}

@Test("keys that are to be forgotten are forgotten in files, too")
func forgottenInFiles() throws {
  let host = newHost()
  let events = DataStream.topic("in").eventTime { $0.timestamp }
  let job = events.keyBy(\.key).deduplicate(within: .milliseconds(100)).map { Keyed(key: $0.key.text, value: "") }
    .to(topic: "out").job(named: "first")
  var options = options(1000)
  (options.readBytes, options.stepBytes) = (1, 1)
  let executor = try JobExecutor(job, host: host, options: options)
  // A key a millisecond, 500 in a step.
  try append(3000, to: host) { "key \($0)" }
  let figures = try run(executor).figures
  #expect(
    (200...800).contains(figures.stateKeys), "\(figures.stateKeys) keys")
  #expect(figures.stateFiles > 1000)
  #expect(try results(host).count == 3000)
}

@Test("no memory at all is refused")
func noMemory() throws {
  let job = records.count().to(topic: "out").job(named: "counts")
  let error = #expect(throws: JobError.self) { try JobExecutor(job, host: newHost(), options: options(0)) }
  #expect(error?.code == .invalidJob)
}
