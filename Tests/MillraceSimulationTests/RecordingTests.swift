// RecordingTests: what was recorded on the real file system replays to what was there, and to what a power loss leaves.

import Foundation
import MillraceBase
import MillraceIO
import Testing

@testable import MillraceSimulation

private final class Scratch {
  let path: String
  init() throws {
    path = FileManager.default.temporaryDirectory.appending(path: "millrace-recording-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { _ = try? FileManager.default.removeItem(atPath: path) }
}

/// All files below a directory with their contents.
private func files(_ directory: String) throws -> [String: [UInt8]] {
  var out: [String: [UInt8]] = [:]
  let walk = FileManager.default.enumerator(atPath: directory)
  while let name = walk?.nextObject() as? String {
    var isDirectory: ObjCBool = false
    _ = FileManager.default.fileExists(atPath: directory + "/" + name, isDirectory: &isDirectory)
    if !isDirectory.boolValue {
      out[name] = [UInt8](try Data(contentsOf: URL(filePath: directory + "/" + name)))
    }
  }
  return out
}

/// Random operations on a directory; calls `after` with the number of operations recorded after each.
private func scenario(_ system: RecordingFileSystem, _ root: String, seed: UInt64, after: (Int) throws -> Void) throws {
  var random = SeededRandom(seed: seed)
  try system.createDirectory(root)
  try system.createDirectory(root + "/sub")
  var open: [any File] = []
  for step in 0..<80 {
    let name = root + (random.oneIn(2) ? "/" : "/sub/") + "f\(Int.random(in: 0..<4, using: &random))"
    switch Int.random(in: 0..<8, using: &random) {
    case 0, 1:
      var options: OpenOptions = [.read, .write, .create]
      if random.oneIn(4) { options.insert(.truncate) }
      if random.oneIn(4) { options.insert(.durableWrites) }
      open.append(try system.open(name, options))
    case 2, 3, 4:
      guard let file = open.randomElement(using: &random) else { continue }
      let bytes = [UInt8](repeating: random.oneIn(4) ? 0 : UInt8(step), count: Int.random(in: 1...3000, using: &random))
      try bytes.withUnsafeBytes { try file.write($0, at: Int64.random(in: 0...4000, using: &random)) }
    case 5:
      guard let file = open.randomElement(using: &random) else { continue }
      if random.oneIn(2) { try file.flush() } else { try file.resize(Int64.random(in: 0...5000, using: &random)) }
    case 6:
      guard try system.exists(name) else { continue }
      if random.oneIn(2) { try system.remove(name) } else { try system.rename(name, to: root + "/sub/f9") }
    default: try system.syncDirectory(random.oneIn(2) ? root : root + "/sub")
    }
    try after(Int(system.lastSequence))
  }
  for file in open { file.close() }
}

@Test("oracle: every prefix of a recording replays to exactly what was in the directory at that moment")
func oraclePrefixes() throws {
  for seed in UInt64(0)..<5 {
    let scratch = try Scratch()
    let real = LinuxFileSystem()
    let root = scratch.path + "/data"
    let system = try RecordingFileSystem(real, directory: root, recording: scratch.path + "/tape")
    var moments: [(Int, [String: [UInt8]])] = []
    try scenario(system, root, seed: seed) { moments.append(($0, try files(root))) }
    let recording = try Recording(scratch.path + "/tape", from: real)
    #expect(recording.operations.count == Int(system.lastSequence) && recording.tornBytes == 0)
    for (index, (count, expected)) in moments.enumerated() {
      let target = scratch.path + "/replay\(index)"
      try recording.replay(prefix: count, into: target, of: real, unflushed: .keep)
      #expect(try files(target) == expected, "seed \(seed), prefix \(count)")
    }
  }
}

@Test("replaying a power loss keeps what was flushed when the flush began, and loses or tears the rest by seed")
func replayLosesUnflushed() throws {
  let scratch = try Scratch()
  let real = LinuxFileSystem()
  let root = scratch.path + "/data"
  let system = try RecordingFileSystem(real, directory: root, recording: scratch.path + "/tape")
  try system.createDirectory(root)
  let file = try system.open(root + "/a", [.write, .create])
  let durable = try system.open(root + "/b", [.write, .create, .durableWrites])
  try system.syncDirectory(root)
  func write(_ file: any File, _ value: UInt8, at position: Int64) throws {
    let bytes = [UInt8](repeating: value, count: 4096)
    try bytes.withUnsafeBytes { try file.write($0, at: position) }
  }
  try write(file, 1, at: 0)
  try file.flush()
  try write(file, 2, at: 4096)
  try write(durable, 3, at: 0)
  let late = try system.open(root + "/late", [.write, .create])
  late.close()
  let recording = try Recording(scratch.path + "/tape", from: real)
  let all = recording.operations.count

  let ones = [UInt8](repeating: 1, count: 4096)
  let threes = [UInt8](repeating: 3, count: 4096)
  try recording.replay(prefix: all, into: scratch.path + "/lose", of: real, unflushed: .lose)
  #expect(try files(scratch.path + "/lose") == ["a": ones, "b": threes])
  // Before the flush was recorded nothing of the file is certain.
  let flush = try #require(recording.operations.firstIndex { $0.kind == .flush })
  try recording.replay(prefix: flush, into: scratch.path + "/before", of: real, unflushed: .lose)
  #expect(try files(scratch.path + "/before") == ["a": [], "b": []])

  var torn = 0
  var lateSeen: Set<Bool> = []
  for seed in UInt64(0)..<60 {
    let target = scratch.path + "/mixed\(seed)"
    try recording.replay(prefix: all, into: target, of: real, unflushed: .mixed(seed: seed))
    let found = try files(target)
    #expect(found["b"] == threes)
    let a = try #require(found["a"])
    #expect(Array(a.prefix(4096)) == ones)
    if a.count > 4096 && (a.count < 8192 || a.contains(0)) { torn += 1 }
    lateSeen.insert(found["late"] != nil)
  }
  #expect(torn > 5 && lateSeen.count == 2)
}

@Test("a flush does not cover a write that returned while it ran")
func flushCoversWhatWasBefore() throws {
  let disk = SimulatedDisk(world: SimulatedWorld(seed: 1), capacity: .max)
  let inode = disk.makeInode(isDirectory: false)
  inode.write([1], at: 0, durably: false, order: 1)
  inode.write([2], at: 1, durably: false, order: 2)
  inode.flush(through: 1)
  #expect(inode.durable == [1])
  inode.flush(through: 2)
  #expect(inode.durable == [1, 2])
}

@Test("a recording cut anywhere yields its whole entries; a damaged one is refused")
func everyCutOfARecording() throws {
  let scratch = try Scratch()
  let real = LinuxFileSystem()
  let tape = scratch.path + "/tape"
  let system = try RecordingFileSystem(real, directory: scratch.path + "/data", recording: tape)
  try system.createDirectory(scratch.path + "/data")
  let file = try system.open(scratch.path + "/data/x", [.write, .create])
  try Bytes("hello").withBuffer { try file.write($0, at: 7) }
  try system.rename(scratch.path + "/data/x", to: scratch.path + "/data/y")
  let whole = try Recording(tape, from: real)
  #expect(whole.operations.map(\.kind) == [.createDirectory, .open, .write, .rename])
  #expect(whole.operations[2].bytes.text == "hello" && whole.operations[2].position == 7)
  #expect(whole.operations[3].path == "x" && whole.operations[3].target == "y")

  let bytes = try real.readAll(tape, limit: 1 << 20).array
  let cut = scratch.path + "/cut"
  var counts: Set<Int> = []
  for length in bytes.indices {
    try Data(bytes[..<length]).write(to: URL(filePath: cut))
    if length < RecordedOperation.head.count {
      #expect(throws: IOError.self) { try Recording(cut, from: real) }
    } else {
      let part = try Recording(cut, from: real)
      #expect(part.operations == Array(whole.operations.prefix(part.operations.count)))
      counts.insert(part.operations.count)
    }
  }
  #expect(counts == [0, 1, 2, 3])
  var damaged = bytes
  damaged[40] ^= 1
  try Data(damaged).write(to: URL(filePath: cut))
  #expect(throws: IOError.self) { try Recording(cut, from: real) }
}
