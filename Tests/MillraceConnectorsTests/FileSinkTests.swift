// FileSinkTests: files of a job over a disk that loses power, with commits that are lost or told wrongly.

import MillraceBase
import MillraceConnectors
import MillraceDataflow
import MillraceIO
import MillraceModel
import MillraceSimulation
import MillraceStreams
import Synchronization
import Testing

private struct Item: TypedRecord {
  var n: Int64 = 0
  var text = ""
  static let schema = RecordSchema<Item>(.field("n", \.n), .field("text", \.text))
}

/// Time that the test sets.
private final class TestClock: Sendable {
  let nanoseconds = Mutex<Int64>(0)
  var now: MonotonicTime { MonotonicTime(nanoseconds: nanoseconds.withLock { $0 }) }
  func pass(_ time: Duration) { nanoseconds.withLock { $0 += time.inNanoseconds } }
}

/// Somebody who reads the files that appear, and may take them away.
private struct FileReader {
  var seen: [String: [UInt8]] = [:]
  var taken: Set<String> = []

  /// Looks at all visible files; of each the contents must stay, and one that was taken must not come again.
  mutating func look(_ disk: SimulatedFileSystem, takes: Bool, _ random: inout SeededRandom) throws {
    for (path, bytes) in disk.contents() where path.hasPrefix("/out/") && !path.hasPrefix("/out/.") {
      #expect(!taken.contains(path), "\(path) came again")
      if let known = seen[path] { #expect(known == bytes, "\(path) changed") }
      seen[path] = bytes
      if takes, random.oneIn(3) {
        try disk.remove(path)
        try disk.syncDirectory("/out")
        taken.insert(path)
      }
    }
  }

  /// The lines of all files in the order of their names.
  var lines: [String] {
    seen.sorted { $0.key < $1.key }.flatMap { String(decoding: $0.value, as: UTF8.self).split(separator: "\n") }
      .map(String.init)
  }
}

private func job(_ disk: SimulatedFileSystem, _ rolling: FileRolling, _ clock: TestClock) -> JobDefinition {
  DataStream.topic("in").map { $0.value.text }
    .toLines(directory: "/out", FileSinkOptions(rolling: rolling, in: disk, clock: { clock.now }))
    .job(named: "files")
}

private func options(_ random: inout SeededRandom) -> JobOptions {
  var options = JobOptions()
  options.idleWait = .zero
  options.briefWait = .zero
  options.readBytes = random.oneIn(2) ? 1 : 400
  options.stepBytes = random.oneIn(2) ? 1 : 2000
  options.commitsInFlight = Int.random(in: 1...3, using: &random)
  options.workers = Int.random(in: 1...3, using: &random)
  options.wakeBytes = random.oneIn(2) ? 0 : .max
  return options
}

@Test(
  "every line is in one file once, whatever fails, and no file changes or comes again",
  arguments: 1...60 as ClosedRange<UInt64>)
func oracleFileSink(seed: UInt64) throws {
  var random = SeededRandom(seed: seed)
  let world = SimulatedWorld(seed: seed)
  defer { world.tearDown() }
  var disk = SimulatedFileSystem(world: world)
  let luckSeed = random.next()
  let host = MemoryHost { number in
    var luck = SeededRandom(seed: luckSeed &+ number)
    guard luck.oneIn(5) else { return .acknowledged }
    return luck.oneIn(2) ? .applied : .lost
  }
  host.createTopic("in", partitions: 1)
  let clock = TestClock()
  let rolling =
    random.oneIn(4)
    ? FileRolling.everyStep : FileRolling(size: Int64.random(in: 1...80, using: &random), interval: .seconds(10))
  var (expected, appended): ([String], Int) = ([], 0)
  let total = Int.random(in: 5...40, using: &random)
  var reader = FileReader()
  var (failures, quiet) = (0, 0)
  let takes = random.oneIn(2)
  while true {
    if failures < 40, random.oneIn(2) { world.crashAfterOperations(Int.random(in: 1...30, using: &random)) }
    do throws(JobError) {
      let executor = try JobExecutor(job(disk, rolling, clock), host: host, options: options(&random))
      while quiet < 2 {
        if appended < total, random.oneIn(2) {
          var builder = RecordBatchBuilder()
          for _ in 0..<Int.random(in: 1...4, using: &random) {
            let line = "line \(expected.count)" + String(repeating: "x", count: Int.random(in: 0...12, using: &random))
            expected.append(line)
            builder.append(Record(value: Bytes(line), timestamp: Timestamp(milliseconds: 1)))
          }
          try host.append(topic: "in", partition: 0, batch: builder.finish())
          appended += 1
        }
        let turn = try executor.turn()
        do { try reader.look(disk, takes: takes, &random) } catch { throw JobError(.sinkFailed, "\(error)") }
        if random.oneIn(10) { clock.pass(.seconds(4)) }
        if turn != .progress, appended == total {
          // Whatever is open gets old enough.
          clock.pass(.seconds(11))
          quiet += 1
        } else {
          quiet = 0
        }
      }
      world.crashAfterOperations(nil)
      break
    } catch {
      failures += 1
      quiet = 0
      try #require(error.code == .commitFailed || error.code == .sinkFailed, "\(error)")
      try #require(failures < 1000)
      if world.isCrashed {
        world.restart()
        disk = disk.reopen()
      } else {
        world.crashAfterOperations(nil)
      }
    }
  }
  try reader.look(disk, takes: false, &random)
  #expect(reader.lines == expected, "seed \(seed), \(failures) failures")
  let hidden = disk.contents().map(\.path).filter { $0.hasPrefix("/out/.") }
  #expect(hidden.isEmpty, "\(hidden)")
}

@Test("files are visible only once their commit is durable; one that is open is not")
func visibleWithTheCommit() throws {
  let world = SimulatedWorld(seed: 1)
  defer { world.tearDown() }
  let disk = SimulatedFileSystem(world: world)
  let clock = TestClock()
  let rolling = FileRolling(size: 20, interval: .seconds(60))
  let driver = TestDriver(job(disk, rolling, clock))
  func names() -> [String] { disk.contents().map(\.path).filter { $0.hasPrefix("/out/") } }
  try driver.send("in", value: "one")
  try driver.run()
  #expect(names() == ["/out/.part-0000000000.txt.1.part"])
  driver.crash()
  // A foreign file stays; what no commit remembers goes.
  for path in ["/out/.part-0000000009.txt.7.part", "/out/.other-0000000001.txt.1.part", "/out/.part-x.txt.1.part"] {
    try disk.open(path, [.write, .create]).close()
  }
  try driver.send("in", value: "two, and more than 20 bytes")
  driver.next(.lost)
  #expect(throws: JobError.self) { try driver.run() }
  #expect(!names().contains("/out/part-0000000000.txt"))
  try driver.run()
  #expect(
    names().sorted() == ["/out/.other-0000000001.txt.1.part", "/out/.part-x.txt.1.part", "/out/part-0000000000.txt"])
  #expect(
    disk.contents().first { $0.path == "/out/part-0000000000.txt" }.map { String(decoding: $0.bytes, as: UTF8.self) }
      == "one\ntwo, and more than 20 bytes\n")
  // Time ends a file without input.
  try driver.send("in", value: "three")
  try driver.run()
  #expect(!names().contains("/out/part-0000000001.txt"))
  clock.pass(.seconds(61))
  try driver.run()
  #expect(names().contains("/out/part-0000000001.txt"))
}

@Test(
  "structs are written as lines of JSON, and as rows of CSV below a header; the end of all inputs ends the last file")
func formats() throws {
  let world = SimulatedWorld(seed: 1)
  defer { world.tearDown() }
  let disk = SimulatedFileSystem(world: world)
  let items = DataStream.records(
    named: "items", (1...3).map { Record(value: Bytes("{\"n\":\($0),\"text\":\"a,\($0)\"}")) }
  )
  .decode(Item.self, from: .json)
  let options = FileSinkOptions(in: disk)
  let job = StreamOutput.job(
    named: "formats",
    [
      items.to(directory: "/json/deep", as: .json, prefix: "items", options),
      items.to(directory: "/csv", as: .csv, options),
    ])
  let driver = TestDriver(job)
  #expect(try driver.run())
  let contents = disk.contents().map { "\($0.path): \(String(decoding: $0.bytes, as: UTF8.self))" }
  #expect(
    contents == [
      "/csv/part-0000000000.csv: n,text\n1,\"a,1\"\n2,\"a,2\"\n3,\"a,3\"\n",
      "/json/deep/items-0000000000.jsonl: {\"n\":1,\"text\":\"a,1\"}\n{\"n\":2,\"text\":\"a,2\"}\n{\"n\":3,\"text\":\"a,3\"}\n",
    ])
  // Nothing more comes of another run.
  driver.crash()
  #expect(try driver.run())
  #expect(disk.contents().count == 2)
  let twice = StreamOutput.job(
    named: "twice", [items.to(directory: "/x", as: .json, options), items.to(directory: "/x", as: .json, options)])
  #expect(throws: JobError.self) { try TestDriver(twice).run() }
}
