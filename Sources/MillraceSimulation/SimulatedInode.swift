// SimulatedInode: one file or directory of a simulated disk, with what is durable and what is not yet.

import MillraceBase

/// A file or directory without its name.
final class SimulatedInode {
  /// A change that no flush has made durable.
  enum Change {
    case write(at: Int, [UInt8])
    case resize(Int)
  }

  /// What the disk may tear a write at, when power is lost or when the write fails. Source: the smallest atomic unit
  /// that disks promise is a sector of 512 bytes.
  static let sectorBytes = 512

  let id: UInt64
  let isDirectory: Bool
  /// What reads see.
  private(set) var current: [UInt8] = []
  /// What a power loss leaves at least, if none of `changes` got through.
  private(set) var durable: [UInt8] = []
  /// In the order in which they were made; `order` counts only in replays of recordings.
  private(set) var changes: [(order: UInt64, change: Change)] = []
  /// Names in a directory, as seen and as durable. Looked up only, never iterated without sorting.
  var entries: [String: SimulatedInode] = [:]
  var durableEntries: [String: SimulatedInode] = [:]

  init(id: UInt64, isDirectory: Bool) {
    self.id = id
    self.isDirectory = isDirectory
  }

  func write(_ bytes: [UInt8], at position: Int, durably: Bool, order: UInt64 = 0) {
    SimulatedInode.put(bytes, at: position, into: &current)
    guard durably else {
      changes.append((order, .write(at: position, bytes)))
      return
    }
    if changes.contains(where: { if case .resize = $0.change { true } else { false } }) {
      // The new size must be durable with the data, and with it everything that led to it.
      changes.append((order, .write(at: position, bytes)))
      flush()
    } else {
      forget(position..<(position + bytes.count))
      SimulatedInode.put(bytes, at: position, into: &durable)
    }
  }

  func resize(_ size: Int, order: UInt64 = 0) {
    SimulatedInode.cut(&current, size)
    changes.append((order, .resize(size)))
  }

  /// Makes the changes durable that were made up to `order`.
  func flush(through order: UInt64 = .max) {
    let count = changes.firstIndex { $0.order > order } ?? changes.count
    for (_, change) in changes[..<count] { apply(change) }
    changes.removeFirst(count)
  }

  /// A failed flush: the kernel forgets that pages were dirty, so no later flush writes the lost ones, yet reads see them.
  func failFlush(_ random: inout SeededRandom) {
    for (_, change) in changes where random.oneIn(2) { apply(change) }
    changes = []
  }

  /// Loses power: each change got through, or not, or some of its sectors did.
  func losePower(_ mood: SimulatedDisk.Mood, _ random: inout SeededRandom) {
    var claimed = durable.count
    for (_, change) in changes {
      if case .write(let position, let bytes) = change { claimed = max(claimed, position + bytes.count) }
      switch mood {
      case .loseAll: break
      case .keepAll: apply(change)
      case .mixed: applyPartly(change, &random)
      }
    }
    // The new size may have been written although the data were not.
    if mood == .mixed && claimed > durable.count && random.oneIn(4) { SimulatedInode.cut(&durable, claimed) }
    changes = []
    current = durable
  }

  private func applyPartly(_ change: Change, _ random: inout SeededRandom) {
    guard case .write(let position, let bytes) = change else {
      if random.oneIn(2) { apply(change) }
      return
    }
    for part in SimulatedInode.remains(of: bytes, at: position, &random) {
      SimulatedInode.put(part.bytes, at: part.position, into: &durable)
    }
  }

  /// What gets through of a write that fails or that power is lost in: nothing, all, its first sectors, or any of them,
  /// since the system may split a write into several requests. A sector is written whole or not at all.
  static func remains(
    of bytes: [UInt8], at position: Int, _ random: inout SeededRandom
  ) -> [(position: Int, bytes: [UInt8])] {
    let sector = SimulatedInode.sectorBytes
    switch Int.random(in: 0..<4, using: &random) {
    case 0: return []
    case 1: return [(position, bytes)]
    case 2:
      // Sectors up to some point.
      let sectors = (position + bytes.count - 1) / sector - position / sector + 1
      let kept = Int.random(in: 0..<max(1, sectors), using: &random)
      let end = min(bytes.count, max(0, (position / sector + kept) * sector - position))
      return end > 0 ? [(position, Array(bytes[..<end]))] : []
    default:
      var parts: [(position: Int, bytes: [UInt8])] = []
      var at = 0
      while at < bytes.count {
        let next = min(bytes.count, at + sector - (position + at) % sector)
        if random.oneIn(2) { parts.append((position + at, Array(bytes[at..<next]))) }
        at = next
      }
      return parts
    }
  }

  private func apply(_ change: Change) {
    switch change {
    case .write(let position, let bytes): SimulatedInode.put(bytes, at: position, into: &durable)
    case .resize(let size): SimulatedInode.cut(&durable, size)
    }
  }

  /// Drops the parts of un-flushed writes that lie in `range`, which newer durable bytes cover.
  private func forget(_ range: Range<Int>) {
    guard !changes.isEmpty else { return }
    changes = changes.flatMap { entry -> [(order: UInt64, change: Change)] in
      let order = entry.order
      guard case .write(let position, let bytes) = entry.change, range.overlaps(position..<(position + bytes.count))
      else {
        return [entry]
      }
      var rest: [(order: UInt64, change: Change)] = []
      if position < range.lowerBound {
        rest.append((order, .write(at: position, Array(bytes[..<(range.lowerBound - position)]))))
      }
      if range.upperBound < position + bytes.count {
        rest.append((order, .write(at: range.upperBound, Array(bytes[(range.upperBound - position)...]))))
      }
      return rest
    }
  }

  private static func put(_ bytes: [UInt8], at position: Int, into image: inout [UInt8]) {
    if image.count < position + bytes.count { cut(&image, position + bytes.count) }
    image.withUnsafeMutableBytes { target in
      bytes.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: target[position...]).copyMemory(from: $0) }
    }
  }

  private static func cut(_ image: inout [UInt8], _ size: Int) {
    if size < image.count {
      image.removeLast(image.count - size)
    } else {
      image += [UInt8](repeating: 0, count: size - image.count)
    }
  }
}
