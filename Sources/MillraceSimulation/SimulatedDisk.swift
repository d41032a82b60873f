// SimulatedDisk: what survives a crash: inodes, and names with those changes that are not durable yet.
//
// Names become durable in changes: one for a create or remove, two entries in one change for a rename, which is atomic. A
// sync of a directory makes every change durable that touches it, and all earlier ones of the same names.

import MillraceBase
import MillraceIO

/// The state behind every generation of a ``SimulatedFileSystem``.
final class SimulatedDisk {
  /// What a power loss does to what was not flushed. Mixed decides for each change alone.
  enum Mood: CaseIterable { case loseAll, keepAll, mixed }

  struct NameChange {
    /// A name and what it now stands for; nil for a removed one.
    struct Entry {
      let directory: SimulatedInode
      let name: String
      let target: SimulatedInode?
    }
    let entries: [Entry]
    let order: UInt64

    func touches(_ other: NameChange) -> Bool {
      entries.contains { mine in
        other.entries.contains { $0.directory === mine.directory && $0.name == mine.name }
      }
    }
  }

  let world: SimulatedWorld
  var random: SeededRandom
  var capacity: Int64
  var faults = DiskFaults()
  /// Sizes of all files that have a name.
  private(set) var usedBytes: Int64 = 0
  /// Handles of older generations are dead.
  private(set) var generation = 0
  private(set) var root = SimulatedInode(id: 0, isDirectory: true)
  private var nextInode: UInt64 = 1
  private var nameChanges: [NameChange] = []
  /// Stamped on changes of names; counts only in replays of recordings.
  var order: UInt64 = 0
  private var locked: [SimulatedInode] = []

  init(world: SimulatedWorld, capacity: Int64) {
    self.world = world
    self.capacity = capacity
    random = SeededRandom(seed: world.random.next())
    world.register(self)
  }

  // MARK: Names

  static func components(_ path: String) -> [String] {
    path.split(separator: "/").filter { $0 != "." }.map(String.init)
  }

  func find(_ path: String) -> SimulatedInode? {
    var at = root
    for name in SimulatedDisk.components(path) {
      guard let next = at.entries[name] else { return nil }
      at = next
    }
    return at
  }

  /// The directory that holds the path's last name, and that name.
  func parent(_ path: String, _ operation: String) throws(IOError) -> (directory: SimulatedInode, name: String) {
    var names = SimulatedDisk.components(path)
    guard let last = names.popLast() else {
      throw IOError(.alreadyExists, operation: operation, subject: path, reason: "the root directory")
    }
    var at = root
    for name in names {
      guard let next = at.entries[name], next.isDirectory else {
        throw IOError(.notFound, operation: operation, subject: path, reason: "no directory \(name)")
      }
      at = next
    }
    return (at, last)
  }

  func makeInode(isDirectory: Bool) -> SimulatedInode {
    defer { nextInode += 1 }
    return SimulatedInode(id: nextInode, isDirectory: isDirectory)
  }

  /// Changes names as seen; durable only later.
  func change(_ entries: [NameChange.Entry]) {
    for entry in entries { entry.directory.entries[entry.name] = entry.target }
    nameChanges.append(NameChange(entries: entries, order: order))
    usedBytes = measure()
  }

  func syncNames(_ directory: SimulatedInode, through order: UInt64 = .max) {
    keepNames { $0.order <= order && $0.entries.contains { $0.directory === directory } }
  }

  /// Makes the changes durable that `chosen` names, and those before them that touch the same names, in order.
  private func keepNames(_ chosen: (NameChange) -> Bool) {
    var kept = nameChanges.map(chosen)
    for later in nameChanges.indices.reversed() where kept[later] {
      for earlier in 0..<later where !kept[earlier] && nameChanges[earlier].touches(nameChanges[later]) {
        kept[earlier] = true
      }
    }
    var rest: [NameChange] = []
    for (index, change) in nameChanges.enumerated() {
      if kept[index] {
        for entry in change.entries { entry.directory.durableEntries[entry.name] = entry.target }
      } else {
        rest.append(change)
      }
    }
    nameChanges = rest
  }

  // MARK: Locks

  func lock(_ inode: SimulatedInode) -> Bool {
    if locked.contains(where: { $0 === inode }) { return false }
    locked.append(inode)
    return true
  }

  func unlock(_ inode: SimulatedInode) { locked.removeAll { $0 === inode } }

  // MARK: Space

  /// Accounts for a file that grew or shrank.
  func resized(_ inode: SimulatedInode, from old: Int) { usedBytes += Int64(inode.current.count - old) }

  private func measure() -> Int64 {
    var sum: Int64 = 0
    visit { _, inode in if !inode.isDirectory { sum += Int64(inode.current.count) } }
    return sum
  }

  /// Every path with its inode, in the order of names; a directory before what is in it.
  func visit(_ body: (String, SimulatedInode) -> Void) {
    func walk(_ directory: SimulatedInode, _ path: String) {
      for name in directory.entries.keys.sorted() {
        guard let inode = directory.entries[name] else { continue }
        body(path + "/" + name, inode)
        if inode.isDirectory { walk(inode, path + "/" + name) }
      }
    }
    walk(root, "")
  }

  // MARK: Crash

  func crash(_ kind: SimulatedWorld.Crash, _ forced: Mood? = nil) {
    generation += 1
    locked = []
    guard kind == .powerLoss else { return }
    let mood = forced ?? pickMood()
    switch mood {
    case .loseAll: break
    case .keepAll: keepNames { _ in true }
    case .mixed:
      if random.oneIn(2) {
        // As a journaling file system does: all up to some point.
        var left = Int.random(in: 0...nameChanges.count, using: &random)
        keepNames { _ in
          left -= 1
          return left >= 0
        }
      } else {
        keepNames { _ in random.oneIn(2) }
      }
    }
    nameChanges = []
    lose(root, forced ?? pickMood())
    usedBytes = measure()
  }

  private func pickMood() -> Mood {
    switch Int.random(in: 0..<6, using: &random) {
    case 0: .loseAll
    case 1: .keepAll
    default: .mixed
    }
  }

  private func lose(_ directory: SimulatedInode, _ mood: Mood) {
    directory.entries = directory.durableEntries
    for name in directory.entries.keys.sorted() {
      guard let inode = directory.entries[name] else { continue }
      if inode.isDirectory {
        lose(inode, mood)
      } else {
        inode.losePower(mood, &random)
      }
    }
  }
}
