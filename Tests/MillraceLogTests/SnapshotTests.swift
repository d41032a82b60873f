// SnapshotTests: two slots written in turn: which one counts after a crash, and what damage is told.

import MillraceBase
import MillraceIO
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceLog

private let identity = JournalIdentity(high: 1, low: 2)

/// A snapshot whose application state says which one it is.
private func encoded(_ number: Int, size: Int = 100) -> EncodedSnapshot {
  let snapshot = Snapshot(
    identity: identity, sequence: UInt64(number), drainedSequence: 0, nextFileNumber: 1, nextSegmentNumber: 1,
    segments: [], partitions: [], application: Bytes([UInt8](repeating: UInt8(number), count: size)))
  return EncodedSnapshot(identity: identity, pieces: snapshot.pieces(partitionCount: 0, []))
}

/// Slots on a simulated disk.
private final class SlotWorld {
  let world: SimulatedWorld
  var disk: SimulatedFileSystem
  let keys: KeyRing?
  var fileSystem: any FileSystem { keys.map { EncryptedFileSystem(disk, keys: $0) } ?? disk }

  init(seed: UInt64, isEncrypted: Bool = false) throws {
    keys = isEncrypted ? KeyRing(.random()) : nil
    world = SimulatedWorld(seed: seed)
    disk = SimulatedFileSystem(world: world)
    try disk.createDirectory("/d")
    try disk.syncDirectory("/")
  }

  deinit { world.tearDown() }

  func write(_ range: ClosedRange<Int>, size: Int = 100) throws {
    let fileSystem = fileSystem
    var slots = try SnapshotSlots.read("/d", fileSystem: fileSystem).slots
    for number in range {
      slots = try slots.write(encoded(number, size: size), directory: "/d", fileSystem: fileSystem)
    }
  }

  func newest() throws -> UInt64? { try SnapshotSlots.read("/d", fileSystem: fileSystem).snapshot?.sequence }

  /// Makes an operation fail that changes the disk, the `count`-th from now on, and `times` − 1 behind it.
  /// - Parameter note: told where each of them was.
  func fail(after count: Int, times: Int, note: @escaping (DiskOperation) -> Void) {
    var number = 0
    disk.faults.predicate = { operation in
      guard operation.kind != .read else { return nil }
      number += 1
      guard (count..<(count + times)).contains(number) else { return nil }
      note(operation)
      return .failed
    }
  }

  /// Ends the machine, if it has not lost power already, and starts the next.
  func restart(_ crash: SimulatedWorld.Crash) {
    world.crashAfterOperations(nil)
    disk.faults.predicate = nil
    if !world.isCrashed { world.crash(crash) }
    world.restart()
    disk = disk.reopen()
  }

  func flip(_ path: String, at position: Int64, mask: UInt8 = 1) throws {
    let file = try disk.open(path, [.read, .write])
    var byte = [UInt8](repeating: 0, count: 1)
    _ = try byte.withUnsafeMutableBytes { try file.read(into: $0, at: position) }
    byte[0] ^= mask
    try byte.withUnsafeBytes { try file.write($0, at: position) }
    try file.flush()
    file.close()
  }
}

@Test("snapshots alternate between two files, and in the steady state only overwrite them")
func slotsAlternate() throws {
  let slots = try SlotWorld(seed: 1)
  #expect(try slots.newest() == nil)
  try slots.write(1...2)
  let names = slots.disk.contents().map { ($0.path, $0.bytes.count) }
  #expect(names.map(\.0) == ["/d/snapshot.0", "/d/snapshot.1"])
  slots.disk.faults.predicate = { [.write, .read].contains($0.kind) ? nil : .failed }
  try slots.write(3...9)
  #expect(try slots.newest() == 9)
  #expect(slots.disk.contents().map(\.bytes.count) == names.map(\.1))
  slots.disk.faults.predicate = nil
  try slots.write(10...10, size: 200_000)
  #expect(try slots.newest() == 10)
}

@Test(
  "recovers the newest complete snapshot after a power loss in every write, and never an older one",
  arguments: [false, true])
func recoversFromEveryWrite(isEncrypted: Bool) throws {
  var seen: Set<UInt64?> = []
  for operation in 1...40 {
    for seed: UInt64 in 1...4 {
      let slots = try SlotWorld(seed: seed * 100 + UInt64(operation), isEncrypted: isEncrypted)
      slots.world.crashAfterOperations(operation)
      var done: UInt64 = 0
      do {
        for number in 1...6 {
          try slots.write(number...number, size: number * 9000)
          done = UInt64(number)
        }
      } catch {
        #expect(slots.world.isCrashed)
      }
      if !slots.world.isCrashed { slots.world.crash(.powerLoss) }
      slots.world.restart()
      slots.disk = slots.disk.reopen()
      let found = try slots.newest()
      seen.insert(found)
      #expect((found ?? 0) == done || found == done + 1, "operation \(operation), seed \(seed)")
      // It goes on from there.
      try slots.write(7...8)
      #expect(try slots.newest() == 8)
    }
  }
  #expect(seen.count >= 4)
}

@Test(
  "recovers the newest complete snapshot however often any write of a slot fails or loses power, and is tried again",
  arguments: [false, true])
func recoversFromRepeatedFailures(isEncrypted: Bool) throws {
  var struck: Set<String> = []
  var failedYetFound = 0
  var failedAndLost = 0
  for operation in 1...16 {
    for seed: UInt64 in 1...40 {
      let slots = try SlotWorld(seed: seed * 100 + UInt64(operation), isEncrypted: isEncrypted)
      var random = SeededRandom(seed: seed)
      var attempt: UInt64 = 0
      // What the last one that was written, and all attempts since, stand for.
      var expected: Set<UInt64> = [0]
      for round in 1...6 {
        let place: Comment = "operation \(operation), seed \(seed), round \(round)"
        let contents: SnapshotSlots.Contents
        do throws(LogError) {
          contents = try SnapshotSlots.read("/d", fileSystem: slots.fileSystem)
        } catch {
          Issue.record("\(place): \(error)")
          return
        }
        let found = contents.snapshot?.sequence ?? 0
        #expect(expected.contains(found), place)
        if expected.count > 1 { if found == expected.min() { failedAndLost += 1 } else { failedYetFound += 1 } }
        if random.oneIn(3) {
          slots.world.crashAfterOperations(operation)
        } else {
          slots.fail(after: operation, times: Int.random(in: 1...3, using: &random)) {
            struck.insert("\($0.kind) \($0.path) \($0.position)")
          }
        }
        do {
          // As a start does. One that cannot is tried again by the next round.
          try SnapshotSlots.confirm(contents, fileSystem: slots.fileSystem)
          expected = [found]
          var state = contents.slots
          for _ in 1...5 where !slots.world.isCrashed {
            attempt += 1
            expected.insert(attempt)
            let snapshot = encoded(Int(attempt), size: Int.random(in: 1...20_000, using: &random))
            do {
              state = try state.write(snapshot, directory: "/d", fileSystem: slots.fileSystem)
              expected = [attempt]
            } catch {
              // Perhaps the process is ended before it tries again.
              if random.oneIn(2) { break }
            }
          }
        } catch {
          #expect(error.code == .io, place)
        }
        slots.restart(random.oneIn(2) ? .processKill : .powerLoss)
      }
      try slots.write(200...201)
      #expect(try slots.newest() == 201)
    }
  }
  for slot in 0...1 {
    // Of the file's own header, of the slot's, and of the body.
    for place in isEncrypted ? [0, 8192, 12_288] : [0, 4096] {
      #expect(struck.contains("write /d/snapshot.\(slot) \(place)"))
    }
    for place in ["create /d/snapshot.\(slot) 0"] {
      #expect(struck.contains(place))
    }
  }
  #expect(struck.contains("syncDirectory /d 0") && min(failedYetFound, failedAndLost) > 100)
}

@Test("damage to the newest snapshot, or to a header that may be the newest's, is reported by name, never passed over")
func damagedSlots() throws {
  for count in 1...3 {
    let newest = (count + 1) % 2
    for (slot, position, isFatal) in [
      (newest, 0, true), (newest, 9, true), (newest, 35, true), (newest, 63, true), (newest, 4096, true),
      (newest, 4150, true), (1 - newest, 20, count > 1), (1 - newest, 4100, false),
    ] {
      let slots = try SlotWorld(seed: 7)
      try slots.write(1...count)
      if count == 1, slot != newest { continue }
      try slots.flip("/d/snapshot.\(slot)", at: Int64(position))
      if isFatal {
        let error = #expect(throws: LogError.self, "slot \(slot) byte \(position)") { try slots.newest() }
        #expect(error?.code == .corruption && error?.reason.contains("/d/snapshot.\(slot)") == true)
      } else {
        #expect(try slots.newest() == UInt64(count))
        let harmless = try SnapshotSlots.read("/d", fileSystem: slots.disk, checksAll: true).harmless
        #expect(harmless.count == 1 && harmless[0].contains("/d/snapshot.\(slot)"))
      }
    }
    // Before the second snapshot, losing the only one looks like a start that was interrupted; the journal tells.
    for slot in (count == 1 ? 1 : 0)...1 {
      let slots = try SlotWorld(seed: 8)
      try slots.write(1...count)
      try slots.disk.remove("/d/snapshot.\(slot)")
      let error = #expect(throws: LogError.self) { try slots.newest() }
      #expect(error?.reason.contains("/d/snapshot.\(slot): the file is missing") == true)
    }
    let slots = try SlotWorld(seed: 9)
    try slots.write(1...count)
    let file = try slots.disk.open("/d/snapshot.\(newest)", [.read, .write])
    try file.resize(4200)
    #expect(throws: LogError.self) { try slots.newest() }
  }
}

@Test("a slot that was emptied is told from one that was never written")
func emptiedSlot() throws {
  // Of two, the second may never have been written: then the journal tells.
  for count in 3...4 {
    for slot in 0...1 {
      for size: Int64 in [0, 63, 64] {
        let slots = try SlotWorld(seed: 10)
        try slots.write(1...count)
        let file = try slots.disk.open("/d/snapshot.\(slot)", [.read, .write])
        try file.resize(0)
        try file.resize(size)
        try file.flush()
        file.close()
        let error = #expect(throws: LogError.self, "\(count) snapshots, slot \(slot)") { try slots.newest() }
        #expect(error?.reason.hasPrefix("/d/snapshot.\(slot) at byte 0: the header of the snapshot is gone") == true)
      }
    }
  }
}

@Test("a damaged snapshot keeps a log from starting, although the older one is whole")
func damagedNewestSnapshot() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  while log.store.drain.slots.number < 3 { _ = try log.fill(partition, batches: 1) }
  log.settle()
  let newest = 1 - log.store.drain.slots.next
  log.end()
  let path = "/data/snapshot.\(newest)"
  for position in [0, 40, 4096, 4300] {
    try log.damage(path, at: position)
    let error = #expect(throws: LogError.self) { try log.open() }
    #expect(error?.code == .corruption && error?.reason.contains(path) == true)
    try log.damage(path, at: position)
  }
  try log.open()
}

@Test("a page of partitions is encoded again exactly when one of them has changed")
func pagesOfPartitions() throws {
  let log = LogWorld()
  try log.open()
  let first = try log.create(1)
  let other = try log.create(1 + 3 * SnapshotPage.span)
  let pages = try [first, other].map { try #require(log.store.drain.pages[$0.id.number / SnapshotPage.span]) }
  func expectSame() throws {
    for (page, partition) in zip(pages, [first, other]) {
      var writer = ByteWriter()
      Snapshot.write(partition.snapshot, to: &writer)
      #expect(page.bytes(expired: 0) == writer.finishJoined())
      #expect(!page.mark.isStale)
    }
  }
  try expectSame()
  try log.append(TestBatch(producer: 5, epoch: 0, sequence: 0), to: first)
  #expect(pages[0].mark.isStale && !pages[1].mark.isStale)
  try expectSame()
  var unit = AppendUnit()
  unit.startOffsets = [(first, 1)]
  let pending = log.append(unit)
  log.run { pending.result != nil }
  #expect(pages[0].mark.isStale && !pages[1].mark.isStale)
  try expectSame()
  // A producer that was silent for long is forgotten, although nothing changes any more.
  #expect(first.producers.count == 1)
  _ = pages[0].bytes(expired: .max / 2)
  #expect(first.producers.isEmpty)
}

@Test("a snapshot that a start goes by is durable from then on, although its last write may not have been")
func snapshotIsConfirmed() throws {
  let slots = try SlotWorld(seed: 1)
  try slots.write(1...2)
  // As after a write of "complete" that failed, and left its bytes in the system's memory.
  let path = try SnapshotSlots.read("/d", fileSystem: slots.disk).path
  var header = try #require(try SnapshotSlots.read("/d", fileSystem: slots.disk).header)
  func write(_ options: OpenOptions) throws {
    let file = try slots.disk.open(path, options)
    var block = header.encoded().withBuffer { [UInt8]($0) }
    block += [UInt8](repeating: 0, count: 4096 - block.count)
    try block.withUnsafeBytes { try file.write($0, at: 0) }
  }
  header.state = .writing
  try write([.write, .durableWrites])
  header.state = .complete
  try write([.write])
  #expect(try slots.newest() == 2)
  try SnapshotSlots.confirm(try SnapshotSlots.read("/d", fileSystem: slots.disk), fileSystem: slots.disk)
  slots.world.crash()
  slots.world.restart()
  slots.disk = slots.disk.reopen()
  #expect(try slots.newest() == 2)
}
