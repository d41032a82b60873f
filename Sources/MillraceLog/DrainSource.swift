// DrainSource: where a drain takes a sealed journal file's batches from: memory, or one sequential pass over the file.

import MillraceBase
import MillraceIO
import MillraceModel

/// The batches of one sealed file, packed without the padding between commits.
///
/// A sparse file (single records, each in a commit of 4 KiB) leaves the hot tail long before enough of its kind have
/// gathered to be drained; its records alone are small.
struct PackedFile: Sendable {
  /// Positions in the journal file, rising, and where in `memory` each batch starts.
  private let positions: [UInt32]
  private let starts: [Int]
  private let memory: Chunk

  /// Bytes of all batches.
  let size: Int

  /// Packs batches that memory holds.
  /// - Returns: nil when one of them is not there.
  init?(_ batches: [BatchReference], from regions: [HotTail.Region]) {
    let sorted = batches.inOrderOfPlaces()
    size = sorted.reduce(0) { $0 + Int($1.length) }
    memory = Chunk(capacity: max(size, 1))
    var starts: [Int] = []
    starts.reserveCapacity(sorted.count)
    var at = 0
    for reference in sorted {
      guard let bytes = HotTail.bytes(regions, position: Int(reference.position), length: Int(reference.length))
      else { return nil }
      PackedFile.copy(bytes, to: memory.base + at)
      starts.append(at)
      at += bytes.count
    }
    positions = sorted.map(\.position)
    self.starts = starts
  }

  /// Reads batches from the file in large pieces, each batch verified.
  /// - Throws: `.corruption` when one is not what was written, `.io`.
  init(_ batches: [BatchReference], reading file: any File) throws(LogError) {
    let sorted = batches.inOrderOfPlaces()
    size = sorted.reduce(0) { $0 + Int($1.length) }
    memory = Chunk(capacity: max(size, 1))
    var starts: [Int] = []
    starts.reserveCapacity(sorted.count)
    let fileSize = try LogError.wrapping { () throws(IOError) in Int(try file.size()) }
    var window = Bytes()
    var windowStart = 0
    var at = 0
    for reference in sorted {
      let position = Int(reference.position)
      let length = Int(reference.length)
      if position < windowStart || position + length > windowStart + window.count {
        windowStart = position.roundedDown(to: file.pageSize)
        let wanted = max(PackedFile.windowSize, position - windowStart + length)
        window = try JournalReader.read(file, at: windowStart, length: min(wanted, fileSize - windowStart))
      }
      guard position + length <= windowStart + window.count else {
        throw LogError(.corruption, "\(file.path): batch at byte \(position) is cut off")
      }
      let bytes = window[(position - windowStart)..<(position - windowStart + length)]
      try JournalReader.check(bytes, reference, path: file.path)
      PackedFile.copy(bytes, to: memory.base + at)
      starts.append(at)
      at += length
    }
    positions = sorted.map(\.position)
    self.starts = starts
  }

  private static let windowSize = 4 << 20

  private static func copy(_ bytes: Bytes, to memory: UnsafeMutableRawPointer) {
    bytes.withBuffer { from in
      if let base = from.baseAddress { memory.copyMemory(from: base, byteCount: from.count) }
    }
  }

  /// The batch at `position` of the journal file, as it stands there; nil when it is none of those packed.
  func bytes(position: UInt32, length: Int) -> Bytes? {
    let index = positions.partitioningIndex { $0 < position }
    guard index < positions.count, positions[index] == position, starts[index] + length <= size else { return nil }
    return memory.bytes(starts[index]..<(starts[index] + length))
  }
}

/// One sealed file of a drain.
struct DrainSource: Sendable {
  let number: UInt64
  let file: any File
  let regions: [HotTail.Region]
  private(set) var packed: PackedFile?

  init(number: UInt64, file: any File, regions: [HotTail.Region], packed: PackedFile?) {
    self.number = number
    self.file = file
    self.regions = regions
    self.packed = packed
  }

  /// Sees to it that all of `batches` can be had without reading the file small batch by small batch.
  mutating func prepare(_ batches: [BatchReference]) throws(LogError) {
    guard packed == nil else { return }
    let missing = batches.inOrderOfPlaces().filter {
      HotTail.bytes(regions, position: Int($0.position), length: Int($0.length)) == nil
    }
    // Large ones are read one by one, and written from where they were read.
    let size = missing.reduce(0) { $0 + Int($1.length) }
    guard size < missing.count * DrainSource.largeBatch else { return }
    packed = try PackedFile(missing, reading: file)
  }

  private static let largeBatch = 64 << 10

  /// A batch's bytes. What is shared may bear any of its partitions' base offsets: segments keep it once for all of them.
  func bytes(_ reference: BatchReference) throws(LogError) -> Bytes {
    if let bytes = packed?.bytes(position: reference.position, length: Int(reference.length)) { return bytes }
    if let bytes = HotTail.bytes(regions, position: Int(reference.position), length: Int(reference.length)) {
      return bytes
    }
    return try JournalReader.batch(reference, in: file)
  }
}
