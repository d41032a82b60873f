// RecoveryTests: a job that crashes at any commit goes on exactly where its last commit left it.

import MillraceBase
import MillraceDataflow
import MillraceModel
import Synchronization
import Testing

private func loaded(_ host: MemoryHost, _ lines: [String], partitions: Int) throws {
  host.createTopic("lines", partitions: partitions)
  host.createTopic("counts", partitions: 3)
  for start in stride(from: 0, to: lines.count, by: 25) {
    let part = Array(lines[start..<min(start + 25, lines.count)])
    try host.append(topic: "lines", partition: Int32(start / 25 % partitions), batch: batch(part))
  }
}

/// Runs the job again and again, as a supervisor would, until a run has read everything.
private func runThroughCrashes(_ job: JobDefinition, _ host: MemoryHost, limit: Int = 100_000) throws -> Int {
  var crashes = 0
  while true {
    do {
      try drain(job, host)
      return crashes
    } catch {
      #expect(error.code == .commitFailed)
      crashes += 1
      try #require(crashes < limit)
    }
  }
}

private func expectExact(_ host: MemoryHost, _ lines: [String], _ context: String) throws {
  let expected = naiveCounts(lines)
  let said = try emitted(host, partitions: 3)
  #expect(said.mapValues { $0.last ?? 0 } == expected, "\(context)")
  // Nothing is said twice and nothing is taken back: what a word's records say only grows.
  for (word, counts) in said {
    #expect(zip(counts, counts.dropFirst()).allSatisfy { $0 < $1 }, "\(word): \(counts); \(context)")
  }
}

@Test("oracle: counts equal a recount of the input, over partitions and steps")
func oracleCounts() throws {
  for seed in UInt64(1)...20 {
    var random = SeededRandom(seed: seed)
    let lines = randomLines(Int.random(in: 1...2000, using: &random), using: &random)
    let host = MemoryHost()
    try loaded(host, lines, partitions: Int.random(in: 1...5, using: &random))
    try drain(countJob(), host, quick(readBytes: Int.random(in: 1...20_000, using: &random)))
    try expectExact(host, lines, "seed \(seed)")
  }
}

@Test("recovers: a crash at every commit, with the commit lost, and with only its acknowledgement lost")
func recoversEveryCommit() throws {
  var random = SeededRandom(seed: 5)
  let lines = randomLines(600, using: &random)
  let clean = MemoryHost()
  try loaded(clean, lines, partitions: 2)
  try drain(countJob(), clean)
  let commits = clean.commitCount
  #expect(commits >= 8)
  for crash in 1...commits {
    for fate in [MemoryHost.Fate.lost, .applied] {
      let host = MemoryHost { $0 == crash ? fate : .acknowledged }
      try loaded(host, lines, partitions: 2)
      #expect(try runThroughCrashes(countJob(), host) == 1)
      try expectExact(host, lines, "crash at commit \(crash), \(fate)")
    }
  }
}

@Test("recovers: random crashes, over and over, while the log is swept and cut, against a recount")
func recoversRandomCrashes() throws {
  var crashes = 0
  var cuts = 0
  for seed in UInt64(1)...30 {
    var random = SeededRandom(seed: seed)
    let lines = randomLines(3000, using: &random)
    let dice = Mutex(SeededRandom(seed: seed &* 977))
    let host = MemoryHost { _ in
      dice.withLock { dice in dice.oneIn(9) ? (dice.oneIn(2) ? .lost : .applied) : .acknowledged }
    }
    try loaded(host, lines, partitions: 3)
    crashes += try runThroughCrashes(countJob(), host)
    if host.stateLogStart(job: "count") > 0 { cuts += 1 }
    try expectExact(host, lines, "seed \(seed)")
  }
  #expect(crashes > 100)
  #expect(cuts > 10, "the log was cut in \(cuts) of 30 runs")
}

@Test("the state log is cut as the sweep goes round, to a small multiple of the keys alive")
func stateLogStaysSmall() throws {
  var random = SeededRandom(seed: 3)
  let lines = randomLines(60_000, using: &random)
  let host = MemoryHost()
  try loaded(host, lines, partitions: 1)
  var largest = 0.0
  let executor = try JobExecutor(countJob(), host: host, options: quick())
  while try executor.turn() == .progress {
    let keys = Double(executor.figures.stateKeys)
    if executor.figures.steps > 500 {
      largest = max(largest, Double(host.stateRecordCount(job: "count")) / keys)
    }
  }
  try executor.settle()
  #expect(executor.figures.steps > 600)
  #expect(executor.figures.stateRecords > 10 * UInt64(executor.figures.stateKeys))
  #expect(largest < 4 && largest >= 1, "\(largest) records per key")
  try expectExact(host, lines, "after sweeping")
}

@Test("an older run of a job cannot commit once a newer one has begun")
func olderRunIsFenced() throws {
  let host = MemoryHost()
  try loaded(host, ["a b", "a"], partitions: 1)
  let older = try JobExecutor(countJob(), host: host, options: quick())
  let newer = try JobExecutor(countJob(), host: host, options: quick())
  #expect(throws: JobError.self) { _ = try older.turn() }
  #expect(try newer.turn() == .progress)
  try newer.settle()
  #expect(try emitted(host, partitions: 3) == ["a": [2], "b": [1]])
}

@Test("state of an operator that the job no longer has is refused with its number")
func unknownOperatorIsRefused() throws {
  let host = MemoryHost()
  try loaded(host, ["a"], partitions: 1)
  try drain(countJob(), host)
  let other = JobDefinition(
    name: "count", [Pipeline(RecordInput(.topic("lines")), into: RecordTopicSink(topic: "counts"))])
  let error = #expect(throws: JobError.self) { try drain(other, host) }
  #expect(error?.code == .corruptState)
  #expect(error?.reason.contains("\(JobGraph.operatorID("words"))") == true)
}

@Test("the position of a partition that has long been idle survives every cut of the state log")
func idlePositionSurvives() throws {
  var random = SeededRandom(seed: 8)
  let lines = randomLines(4000, using: &random)
  let host = MemoryHost()
  host.createTopic("counts", partitions: 3)
  host.createTopic("lines", partitions: 2)
  try host.append(topic: "lines", partition: 1, batch: batch(["idle idle"]))
  for start in stride(from: 0, to: lines.count, by: 25) {
    try host.append(topic: "lines", partition: 0, batch: batch(Array(lines[start..<min(start + 25, lines.count)])))
  }
  try drain(countJob(), host)
  #expect(host.stateLogStart(job: "count") > 0)
  try drain(countJob(), host)
  try expectExact(host, lines + ["idle idle"], "after a restart")
}
