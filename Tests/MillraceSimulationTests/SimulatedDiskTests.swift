// SimulatedDiskTests: what a crash may take and what it must leave, over many seeds.

import MillraceBase
import MillraceIO
import Testing

@testable import MillraceSimulation

private func write(_ file: any File, _ bytes: [UInt8], at position: Int64 = 0) throws {
  try bytes.withUnsafeBytes { try file.write($0, at: position) }
}

private func fill(_ value: UInt8, _ count: Int = 4096) -> [UInt8] { [UInt8](repeating: value, count: count) }

private func read(_ system: SimulatedFileSystem, _ path: String) throws -> [UInt8] {
  try system.readAll(path, limit: 1 << 24).array
}

/// A world with a disk that holds a durable file `/d/a` of two sectors' worth of ones.
private func prepared(seed: UInt64, _ options: OpenOptions = []) throws -> (
  SimulatedWorld, SimulatedFileSystem, any File
) {
  let world = SimulatedWorld(seed: seed)
  let system = SimulatedFileSystem(world: world)
  try system.createDirectory("/d")
  try system.syncDirectory("/")
  let file = try system.open("/d/a", [.read, .write, .create, options])
  try write(file, fill(1))
  try file.flush()
  try system.syncDirectory("/d")
  return (world, system, file)
}

@Test("files behave as files do: positions, sizes, names and errors")
func filesBehave() throws {
  let world = SimulatedWorld(seed: 1)
  let system = SimulatedFileSystem(world: world)
  try system.createDirectory("d")
  try system.createDirectory("/d/")
  let file = try system.open("d/a", [.read, .write, .create, .exclusive])
  try write(file, [1, 2, 3], at: 5)
  #expect(try file.size() == 8)
  #expect(try read(system, "/d/a") == [0, 0, 0, 0, 0, 1, 2, 3])
  try file.resize(6)
  #expect(try read(system, "/d/a") == [0, 0, 0, 0, 0, 1])
  try system.rename("d/a", to: "d/b")
  #expect(try system.list("d") == ["b"])
  #expect(try !system.exists("d/a"))
  try write(file, [9])
  #expect(try read(system, "d/b")[0] == 9)
  for (code, body) in [
    (IOError.Code.notFound, { _ = try system.open("d/none", .read) }),
    (.notFound, { _ = try system.open("none/a", [.write, .create]) }),
    (.alreadyExists, { _ = try system.open("d/b", [.write, .create, .exclusive]) }),
    (.notFound, { try system.remove("d/none") }),
    (.notFound, { try system.syncDirectory("none") }),
    (.alreadyExists, { try system.createDirectory("d/b") }),
  ] as [(IOError.Code, () throws -> Void)] {
    let error = #expect(throws: IOError.self) { try body() }
    #expect(error?.code == code)
  }
  let lock = try system.lock("d/lock")
  #expect(#expect(throws: IOError.self) { try system.lock("d/lock") }?.code == .locked)
  lock.release()
  try system.lock("d/lock").release()
  file.close()
  #expect(throws: IOError.self) { try file.size() }
  try system.remove("d/b")
  try system.remove("d/lock")
  #expect(system.usedBytes == 0)
}

@Test("bytes that were flushed, or written durably, survive every power loss", arguments: [false, true])
func durableSurvives(_ direct: Bool) throws {
  for seed in UInt64(0)..<300 {
    let (world, system, plain) = try prepared(seed: seed)
    let durable = try system.open("/d/a", [.read, .write, .durableWrites])
    // An older un-flushed write must not come back over a newer durable one.
    try write(plain, fill(7, 1024), at: 256)
    try write(durable, fill(2, 512), at: 512)
    if direct { try plain.flush() }
    world.crash()
    #expect(#expect(throws: IOError.self) { try plain.size() }?.isPowerLoss == true)
    world.restart()
    let after = try read(system.reopen(), "/d/a")
    #expect(after.count == 4096, "seed \(seed)")
    #expect(Array(after[512..<1024]) == fill(2, 512), "seed \(seed)")
    #expect(after[0] == 1 && after[4095] == 1, "seed \(seed)")
    if direct { #expect(after[256] == 7 && after[1279] == 7, "seed \(seed)") }
    #expect(#expect(throws: IOError.self) { try plain.size() }?.isPowerLoss == true)
    #expect(throws: IOError.self) { try system.exists("/d/a") }
  }
}

@Test("un-flushed writes are sometimes kept, sometimes lost, sometimes torn at 512 bytes, sometimes reordered")
func unflushedMayVanish() throws {
  var kept = 0
  var lost = 0
  var torn = 0
  var reordered = 0
  for seed in UInt64(0)..<300 {
    let (world, system, file) = try prepared(seed: seed)
    try write(file, fill(2, 2048))
    try write(file, fill(3, 2048), at: 2048)
    world.crash()
    world.restart()
    let after = try read(system.reopen(), "/d/a")
    let sectors = stride(from: 0, to: 4096, by: 512).map { Array(after[$0..<($0 + 512)]) }
    for sector in sectors { #expect(Set(sector).count == 1, "seed \(seed): a sector is torn inside") }
    let first = Set(sectors[..<4].map { $0[0] })
    let second = Set(sectors[4...].map { $0[0] })
    if first == [2] && second == [3] { kept += 1 }
    if first == [1] && second == [1] { lost += 1 }
    if first.count == 2 || second.count == 2 { torn += 1 }
    if first == [1] && second == [3] { reordered += 1 }
  }
  #expect(min(kept, lost, torn, reordered) > 10, "kept \(kept), lost \(lost), torn \(torn), reordered \(reordered)")
}

@Test("a file that grew without a flush may come back short, or long with zeros")
func growthMayVanish() throws {
  var sizes: Set<Int> = []
  var zeros = 0
  for seed in UInt64(0)..<300 {
    let (world, system, file) = try prepared(seed: seed)
    try write(file, fill(2), at: 4096)
    world.crash()
    world.restart()
    let after = try read(system.reopen(), "/d/a")
    #expect(Array(after[..<4096]) == fill(1))
    sizes.insert(after.count)
    if after[4096...].contains(0) { zeros += 1 }
  }
  #expect(sizes.contains(4096) && sizes.contains(8192) && sizes.count > 4, "\(sizes)")
  #expect(zeros > 5)
}

@Test("names survive once their directory is synced; before, a new, renamed or removed name may be either way")
func namesNeedSync() throws {
  var seen: Set<String> = []
  for seed in UInt64(0)..<400 {
    let (world, system, _) = try prepared(seed: seed)
    let made = try system.open("/d/new", [.write, .create])
    try write(made, [1])
    try made.flush()
    try system.rename("/d/a", to: "/d/b")
    try system.open("/d/c", [.write, .create]).close()
    try system.syncDirectory("/d")
    try system.rename("/d/new", to: "/d/c")
    try system.remove("/d/b")
    try system.open("/d/late", [.write, .create]).close()
    world.crash()
    world.restart()
    let after = system.reopen()
    let names = try after.list("/d").sorted()
    #expect(!names.contains("a"), "seed \(seed): a synced rename was undone")
    #expect(names.contains("c"), "seed \(seed): a rename left neither the old nor the new file")
    let renamed = try read(after, "/d/c") == [1]
    #expect(renamed != names.contains("new"), "seed \(seed): a rename was torn: \(names)")
    seen.insert((renamed ? "renamed " : "") + names.joined(separator: " "))
  }
  // Rename, remove and create, each kept or lost.
  #expect(seen.count == 8, "\(seen)")
}

@Test("an unsynced directory takes its files along, and replacing a file leaves the old or the new contents")
func replaceIsAtomic() throws {
  var outcomes: [String: Int] = [:]
  for seed in UInt64(0)..<300 {
    let world = SimulatedWorld(seed: seed)
    let system = SimulatedFileSystem(world: world)
    try system.createDirectory("/d")
    try system.syncDirectory("/")
    try system.replace("/d/x", in: "/d", with: Bytes("old"))
    world.crashAfterOperations(Int(seed) % 6 + 1)
    do {
      try system.replace("/d/x", in: "/d", with: Bytes("newer"))
      outcomes["no crash", default: 0] += 1
    } catch {
      #expect(error.isPowerLoss && world.isCrashed)
    }
    world.restart()
    outcomes[try system.reopen().readAll("/d/x", limit: 10).text, default: 0] += 1
  }
  #expect(Set(outcomes.keys) == ["old", "newer", "no crash"], "\(outcomes)")
}

@Test("power lost inside a durable write may tear it; afterwards the world stands still")
func crashInsideDurableWrite() throws {
  var torn = 0
  for seed in UInt64(0)..<200 {
    let (world, system, _) = try prepared(seed: seed)
    let durable = try system.open("/d/a", [.read, .write, .durableWrites])
    var ran = false
    world.schedule(after: .zero) { ran = true }
    world.crashAfterOperations(2)
    try write(durable, fill(2, 2048))
    #expect(!world.isCrashed)
    #expect(#expect(throws: IOError.self) { try write(durable, fill(3)) }?.isPowerLoss == true)
    #expect(world.isCrashed && !world.step() && !ran)
    world.restart()
    let after = Set(try read(system.reopen(), "/d/a"))
    #expect(after.isSubset(of: [1, 2, 3]))
    if after.contains(3) && after.count > 1 { torn += 1 }
  }
  #expect(torn > 20, "\(torn)")
}

@Test("a killed process loses no write, but a power loss after it still may")
func processKillKeepsPageCache() throws {
  var lostLater = 0
  for seed in UInt64(0)..<100 {
    let (world, system, file) = try prepared(seed: seed)
    try write(file, fill(2))
    world.restart()
    let second = system.reopen()
    #expect(try read(second, "/d/a") == fill(2))
    world.crash()
    world.restart()
    if try read(second.reopen(), "/d/a") != fill(2) { lostLater += 1 }
  }
  #expect(lostLater > 10)
}

@Test("a full disk takes what fits and refuses the rest; removing makes room")
func fullDisk() throws {
  let world = SimulatedWorld(seed: 3)
  let system = SimulatedFileSystem(world: world, capacity: 10_000)
  let file = try system.open("a", [.write, .create])
  try write(file, fill(1, 6000))
  #expect(try system.availableBytes("/") == 4000)
  #expect(#expect(throws: IOError.self) { try write(file, fill(2, 6000), at: 6000) }?.code == .noSpace)
  #expect(try file.size() == 10_000)
  try write(file, fill(3, 10_000))
  #expect(#expect(throws: IOError.self) { try file.resize(10_001) }?.code == .noSpace)
  try system.remove("a")
  #expect(try system.availableBytes("/") == 10_000)
}

@Test("a failed flush loses for good, even though reads see the bytes and a later flush succeeds")
func failedFlushLoses() throws {
  var lost = 0
  for seed in UInt64(0)..<100 {
    let (world, system, file) = try prepared(seed: seed)
    try write(file, fill(2))
    system.faults.flushFailureProbability = 1
    #expect(throws: IOError.self) { try file.flush() }
    system.faults.flushFailureProbability = 0
    try file.flush()
    #expect(try read(system, "/d/a") == fill(2))
    world.crash()
    world.restart()
    if try read(system.reopen(), "/d/a") == fill(1) { lost += 1 }
  }
  #expect(lost > 20)
}

@Test("a failed write leaves each sector of 512 bytes as it was or as it was to be, never half of it")
func failedWriteKeepsSectorsWhole() throws {
  var seen: [String: Int] = [:]
  for seed in UInt64(0)..<400 {
    let (world, system, file) = try prepared(seed: seed)
    // Begins and ends inside a sector, and makes the file longer.
    let range = [0..<4096, 300..<1300, 3000..<6000][Int(seed) % 3]
    system.faults.writeFailureProbability = 1
    #expect(throws: IOError.self) { try write(file, fill(2, range.count), at: Int64(range.lowerBound)) }
    system.faults = DiskFaults()
    func check(_ after: [UInt8]) -> [UInt8] {
      var parts: [UInt8] = []
      for start in stride(from: 0, to: max(after.count, 4096), by: 512) {
        let sector = start..<min(start + 512, after.count)
        let inside = Set(after[sector.clamped(to: range)])
        #expect(inside.count < 2, "seed \(seed): the sector at \(start) is torn inside")
        let outside = Set(sector.filter { !range.contains($0) }.map { after[$0] })
        #expect(outside.isSubset(of: start < 4096 ? [1] : [0]), "seed \(seed): bytes near \(start) were not to change")
        if let value = inside.first { parts.append(value) }
      }
      return parts
    }
    let left = check(try read(system, "/d/a"))
    let isFirst = zip(left, left.dropFirst()).allSatisfy { $0 == 2 || $1 != 2 }
    seen[Set(left) == [2] ? "all" : left.contains(2) ? isFirst ? "first" : "any" : "none", default: 0] += 1
    world.restart()
    #expect(check(try read(system.reopen(), "/d/a")) == left, "a killed process loses nothing")
    world.crash()
    world.restart()
    if check(try read(system.reopen(), "/d/a")) != left { seen["lost later", default: 0] += 1 }
  }
  #expect(seen.count == 5 && seen.values.allSatisfy { $0 > 20 }, "\(seen)")
}

@Test("faults strike where a predicate says, and at random with a given chance")
func faultsStrike() throws {
  let (_, system, file) = try prepared(seed: 5)
  system.faults.predicate = { $0.kind == .write && $0.position == 4096 ? .noSpace : nil }
  try write(file, fill(2))
  #expect(#expect(throws: IOError.self) { try write(file, fill(2), at: 4096) }?.code == .noSpace)
  system.faults = DiskFaults()
  system.faults.readFailureProbability = 0.5
  var failures = 0
  for _ in 0..<1000 { do { _ = try read(system, "/d/a") } catch { failures += 1 } }
  #expect((400...600).contains(failures), "\(failures)")
}

@Test("direct access refuses what is not aligned")
func directNeedsAlignment() throws {
  let (_, system, _) = try prepared(seed: 6)
  let file = try system.open("/d/a", [.read, .write, .direct])
  let chunk = Chunk(capacity: 1 << 16)
  try file.write(UnsafeRawBufferPointer(start: chunk.base, count: 4096), at: 4096)
  #expect(throws: IOError.self) { try file.write(UnsafeRawBufferPointer(start: chunk.base, count: 100), at: 0) }
  #expect(throws: IOError.self) { try file.write(UnsafeRawBufferPointer(start: chunk.base, count: 4096), at: 512) }
  #expect(throws: IOError.self) { try file.write(UnsafeRawBufferPointer(start: chunk.base + 8, count: 4096), at: 0) }
}
