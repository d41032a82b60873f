// SourceTests: a source goes on from every position that it named, as if it had not stopped.

import MillraceBase
import MillraceDataflow
import MillraceIO
import MillraceModel
import MillraceSimulation
import MillraceStreams
import Testing

@testable import MillraceConnectors

/// Records of a batch.
private func records(_ batch: Bytes?) throws -> [Record] {
  guard let batch else { return [] }
  let header = try RecordBatchHeader.checked(batch)
  return try RecordReader.records(batch[RecordBatchHeader.size..<header.totalSize], header: header)
}

private func texts(_ batch: Bytes?) throws -> [String] { try records(batch).map { $0.value?.text ?? "nil" } }

/// All that a source of records gives in small batches, checked to be the same from each of its positions.
private func replay(_ make: () throws -> any ReplayableSource) throws -> [String] {
  var all: [String] = []
  var positions: [(Bytes?, Int)] = [(nil, 0)]
  let source = try make()
  try source.restore(nil)
  while true {
    let got = try source.next(maxBytes: 80)
    all += try texts(got.batch)
    positions.append((got.position, all.count))
    if got.isFinished { break }
    try #require(all.count < 10_000)
  }
  for (position, count) in positions {
    let again = try make()
    try again.restore(position)
    var rest: [String] = []
    while true {
      let got = try again.next(maxBytes: 1 << 20)
      rest += try texts(got.batch)
      if got.isFinished { break }
      try #require(got.batch != nil)
    }
    #expect(rest == Array(all[count...]))
  }
  return all
}

struct SourceTests {
  private func disk(_ files: [(String, String)]) throws -> SimulatedFileSystem {
    let disk = SimulatedFileSystem(world: SimulatedWorld(seed: 1))
    for (path, text) in files { try write(path, text, disk) }
    return disk
  }

  private func write(_ path: String, _ text: String, _ disk: SimulatedFileSystem) throws {
    try disk.createDirectories(disk.parentDirectory(of: path))
    let file = try disk.open(path, [.write, .create])
    let bytes = Bytes(text)
    try file.write(bytes.buffer, at: 0)
    extendLifetime(bytes)
    file.close()
  }

  @Test("records of an array come once, from every position")
  func collection() throws {
    let values = (0..<50).map { Record(value: Bytes("value \($0)")) }
    #expect(try replay { CollectionSource(values) } == (0..<50).map { "value \($0)" })
    #expect(try replay { CollectionSource([]) } == [])
    let source = CollectionSource(values)
    for position in [[], [0, 0, 0, 0, 0, 0, 0, 51], [255, 0, 0, 0, 0, 0, 0, 0], [UInt8](repeating: 0, count: 9)]
      as [[UInt8]]
    {
      #expect(throws: JobError.self) { try source.restore(Bytes(position)) }
    }
  }

  @Test("ticks come when they are due, those that were missed with the times they should have had")
  func timer() throws {
    final class Clock: @unchecked Sendable {
      // Safety: the test has one thread.
      var now: Int64 = 1000
    }
    let clock = Clock()
    let time: @Sendable () -> Timestamp = { Timestamp(milliseconds: clock.now) }
    let source = TimerSource(every: .milliseconds(100), ticks: 6, clock: time)
    try source.restore(nil)
    #expect(try texts(source.next(maxBytes: 1000).batch) == ["0"])
    clock.now = 1099
    #expect(try source.next(maxBytes: 1000).batch == nil)
    clock.now = 1250
    let got = try source.next(maxBytes: 1000)
    #expect(try records(got.batch).map(\.timestamp.milliseconds) == [1100, 1200])
    clock.now = 9000
    let again = TimerSource(every: .milliseconds(100), ticks: 6, clock: time)
    try again.restore(got.position)
    let rest = try again.next(maxBytes: 1000)
    #expect(try texts(rest.batch) == ["3", "4", "5"])
    #expect(try records(rest.batch).map(\.timestamp.milliseconds) == [1300, 1400, 1500])
    #expect(rest.isFinished)
    // A wall clock that was set back gives no tick twice.
    clock.now = 0
    let back = TimerSource(every: .milliseconds(100), clock: time)
    try back.restore(got.position)
    #expect(try back.next(maxBytes: 1000).batch == nil)
    #expect(throws: JobError.self) { try back.restore(Bytes([1])) }
  }

  @Test("standard input is cut into lines however it comes, and counts its bytes")
  func standardInput() throws {
    for portion in [1, 3, 1000, 1 << 20] {
      // Byte by byte without the longest line, which would be looked through anew with each of its bytes.
      let long = portion < 1000 ? "" : String(repeating: "x", count: StandardInputSource.lineLimit)
      let text = Array("one\n\ntwo\r\n\(long)tail\nlast".utf8)
      var at = 0
      var isWaiting = true
      let source = StandardInputSource(
        readable: { () throws(IOError) in
          isWaiting.toggle()
          return !isWaiting
        },
        read: { (room: UnsafeMutableRawBufferPointer) throws(IOError) in
          let count = min(portion, room.count, text.count - at)
          room.copyBytes(from: text[at..<(at + count)])
          at += count
          return count
        })
      try source.restore(nil)
      var lines: [String] = []
      var last = SourceBatch(batch: nil, position: Bytes())
      while !last.isFinished {
        last = try source.next(maxBytes: 1 << 20)
        lines += try texts(last.batch)
      }
      #expect(lines == ["one", "", "two\r"] + (long.isEmpty ? [] : [long]) + ["tail", "last"])
      #expect(last.position == Bytes([0, 0, 0, 0, 0, long.isEmpty ? 0 : 1, 0, UInt8(text.count - long.utf8.count)]))
    }
  }

  @Test("the files of a directory are read once each, in the order of their names, from every position")
  func directory() throws {
    let disk = try disk([
      ("/in/b", "b1\nb2\n"), ("/in/a", "a1\n\na3"), ("/in/.hidden", "no"), ("/in/c.part", "no"), ("/in/d.tmp", "no"),
      ("/in/empty", ""), ("/in/folder/x", "no"),
    ])
    func make() -> DirectorySource { DirectorySource("/in", watches: false, in: disk) }
    #expect(try replay(make) == ["a1", "", "a3", "b1", "b2"])
    let source = DirectorySource("/in", in: disk)
    try source.restore(nil)
    var got = try source.next(maxBytes: 1000)
    #expect(try texts(got.batch) == ["a1", "", "a3", "b1", "b2"] && !got.isFinished)
    // What comes later is read, wherever its name stands; what was read is not read again, and may go.
    try write("/in/aa", "aa1\n", disk)
    try write("/in/a", "a1\n\na3 and more", disk)
    try disk.remove("/in/b")
    let again = DirectorySource("/in", in: disk)
    try again.restore(got.position)
    got = try again.next(maxBytes: 1000)
    #expect(try texts(got.batch) == ["aa1"])
    #expect(!got.position.text.contains("b"))
    // A file that goes before it was read to its end is missed.
    let slow = DirectorySource("/in", in: disk)
    try slow.restore(nil)
    got = try slow.next(maxBytes: 1)
    try disk.remove("/in/a")
    let late = DirectorySource("/in", in: disk)
    try late.restore(got.position)
    #expect(throws: JobError.self) { try late.next(maxBytes: 1000) }
    #expect(throws: JobError.self) { try late.restore(Bytes([1, 2, 3])) }
  }

  @Test("files of CSV give their header as the key of each row; rows go on over line breaks in quotes")
  func csvFiles() throws {
    let disk = try disk([("/in/1.csv", "n,text\n1,\"a\nb\"\r\n2,c\n"), ("/in/2.csv", "text,n\n\"x\"\"\n\"\"\",3")])
    func make() -> DirectorySource { DirectorySource("/in", rows: .csv, watches: false, in: disk) }
    #expect(try replay(make) == ["1,\"a\nb\"\r", "2,c", "\"x\"\"\n\"\"\",3"])
    let source = make()
    try source.restore(nil)
    #expect(try records(source.next(maxBytes: 1000).batch).map { $0.key?.text } == ["n,text", "n,text", "text,n"])
    let long = try self.disk([("/in/long", "h\n\"" + String(repeating: "x", count: 300 << 10) + "\"\n")])
    let refusing = DirectorySource("/in", rows: .csv, in: long)
    #expect(throws: JobError.self) { try refusing.next(maxBytes: 1000) }
    let lines = try self.disk([("/in/long", String(repeating: "x", count: 300 << 10) + "\ny")])
    #expect(
      try replay { DirectorySource("/in", watches: false, in: lines) }.map(\.utf8.count) == [256 << 10, 44 << 10, 1])
  }

  @Test("the machine's figures are rates between two readings")
  func metrics() throws {
    func stat(_ busy: Int, _ idle: Int) -> String { "cpu  \(busy) 0 0 \(idle) 0 0 0 0 9 9\ncpu0 1 2 3 4\n" }
    let memory = "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    400 kB\n"
    func disks(_ read: Int, _ written: Int) -> String {
      "   8 0 sda 1 2 \(read) 4 5 6 \(written) 8\n   8 1 sda1 1 2 99 4 5 6 99 8\n 259 0 nvme0n1 1 2 10 4 5 6 20 8\n 259 1 nvme0n1p1 1 2 99 4 5 6 99 8\n   7 0 loop0 1 2 99 4 5 6 99 8\n"
    }
    func network(_ received: Int, _ sent: Int) -> String {
      "Inter-|   Receive\n face |bytes\n    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n  eth0:\(received) 1 0 0 0 0 0 0 \(sent) 1 0 0 0 0 0 0\n"
    }
    let disk = try disk([
      ("/proc/stat", stat(100, 100)), ("/proc/meminfo", memory), ("/proc/diskstats", disks(1, 2)),
      ("/proc/net/dev", network(1000, 2000)),
    ])
    final class Clock: @unchecked Sendable {
      // Safety: the test has one thread.
      var seconds: Int64 = 10
    }
    let clock = Clock()
    let source = try MachineMetricsSource(every: .seconds(2), in: disk) {
      ClockReading(
        monotonic: MonotonicTime(nanoseconds: clock.seconds * 1_000_000_000),
        wallNanoseconds: clock.seconds * 1_000_000_000)
    }
    try source.restore(nil)
    #expect(try source.next(maxBytes: 1000).batch == nil)
    clock.seconds = 11
    #expect(try source.next(maxBytes: 1000).batch == nil)
    clock.seconds = 12
    for (path, text) in [("stat", stat(130, 170)), ("diskstats", disks(5, 10)), ("net/dev", network(1500, 2100))] {
      try write("/proc/" + path, text, disk)
    }
    let got = try source.next(maxBytes: 1000)
    let found = try records(got.batch)
    #expect(
      found.map { $0.value?.text } == [
        #"{"metric":"cpu.busy","value":0.3}"#, #"{"metric":"memory.used","value":614400.0}"#,
        #"{"metric":"disk.read","value":1024.0}"#, #"{"metric":"disk.written","value":2048.0}"#,
        #"{"metric":"network.received","value":250.0}"#, #"{"metric":"network.sent","value":50.0}"#,
      ])
    #expect(found.map { $0.key?.text }.first == "cpu.busy" && found.allSatisfy { $0.timestamp.milliseconds == 12_000 })
    #expect(got.position == Bytes([0, 0, 0, 0, 0, 0, 0, 1]))
    #expect(throws: JobError.self) { try source.restore(Bytes([1])) }
  }

  @Test("this machine tells its figures")
  func thisMachine() throws {
    final class Clock: @unchecked Sendable {
      // Safety: the test has one thread.
      var nanoseconds: Int64 = 0
    }
    let clock = Clock()
    let source = try MachineMetricsSource(every: .seconds(1)) {
      ClockReading(monotonic: MonotonicTime(nanoseconds: clock.nanoseconds), wallNanoseconds: 1_000_000)
    }
    try source.restore(nil)
    #expect(try source.next(maxBytes: 1000).batch == nil)
    clock.nanoseconds = 1_000_000_000
    let found = try texts(source.next(maxBytes: 1000).batch)
    #expect(found.count == 6)
    let decoder = try RecordDecoder<MachineMetric>(.json)
    let memory = Bytes(found[1])
    let metric = try decoder.decode(memory.buffer)
    extendLifetime(memory)
    #expect(metric?.metric == "memory.used" && (metric?.value ?? 0) > 1e6)
  }
}
