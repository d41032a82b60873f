// JournalSalvage: finds the commits of a damaged journal that can still be read, wherever they stand.
//
// Recovery stops at the first commit that is not whole; salvage goes on behind it. Every block of every file may begin a
// commit. Of a sequence there may be several: a tail that was cut off had it before. Which one is right the chain says:
//
// 1. Behind a commit that was chosen, one that continues its chain; if there is none, the sequence is lost, whatever else
//    carries its number.
// 2. Without such a predecessor, one that the next commit continues; never one that a sound next commit contradicts. The
//    newest use of a file decides only what the chain leaves open.
// 3. Commits that nobody says are durable, no header and no snapshot, count only as long as the chain holds.

import MillraceBase
import MillraceIO

/// A commit whose header and payload have right checksums.
struct SalvagedCommit {
  let header: CommitHeader
  let chainValue: UInt64
  /// Index into the files.
  let file: Int
  let position: Int
}

/// What of a journal cannot be read.
struct LostCommits {
  let sequences: ClosedRange<UInt64>
  /// File and position, in words.
  let place: String
}

struct JournalSalvage {
  /// All journal files, open for reading.
  private(set) var files: [any File] = []
  /// What can be read above the sequence asked for, rising.
  private(set) var commits: [SalvagedCommit] = []
  private(set) var lost: [LostCommits] = []
  /// Places that the device does not give any more, and files that cannot be opened.
  private(set) var unreadable: [String] = []
  private(set) var identity: JournalIdentity?
  private var candidates: [UInt64: [SalvagedCommit]] = [:]
  private var damaged: [UInt64: String] = [:]
  private var durable: UInt64 = 0

  /// Reads all journal files in `directory`.
  /// - Parameters:
  ///   - identity: of the journal; nil takes that of the first header that can be read.
  ///   - drained: commits up to this one are not wanted.
  ///   - durable: commits up to this one are known to have been durable; headers may know of more.
  init(
    directory: String, identity: JournalIdentity?, drained: UInt64, durable: UInt64, fileSystem: any FileSystem
  ) throws(LogError) {
    self.identity = identity
    self.durable = durable
    let names = try LogError.wrapping { () throws(IOError) in try fileSystem.list(directory) }
    for name in names.sorted() where name.hasSuffix(".journal") {
      do throws(IOError) {
        files.append(try fileSystem.open("\(directory)/\(name)", .read))
      } catch {
        unreadable.append("\(directory)/\(name): \(error)")
      }
    }
    for index in files.indices {
      do throws(IOError) {
        scan(try contents(of: files[index]), file: index, above: drained)
      } catch {
        unreadable.append("\(files[index].path): \(error)")
      }
    }
    choose(from: drained + 1)
  }

  /// The whole file; blocks that cannot be read are zeros.
  private mutating func contents(of file: any File) throws(IOError) -> Bytes {
    let size = Int(try file.size())
    let chunk = Chunk(capacity: max(size.roundedUp(to: file.pageSize), 64 * 1024))
    chunk.base.initializeMemory(as: UInt8.self, repeating: 0, count: chunk.capacity)
    var at = 0
    func read(_ length: Int) throws(IOError) {
      _ = try file.readUnverified(
        into: UnsafeMutableRawBufferPointer(start: chunk.base + at, count: length), at: Int64(at))
    }
    while at < size {
      let length = min(1 << 20, size - at)
      do throws(IOError) {
        try read(length)
        at += length
      } catch {
        let end = at + length
        while at < end {
          let part = min(file.pageSize, end - at)
          do throws(IOError) { try read(part) } catch { unreadable.append("\(file.path) at byte \(at): \(error)") }
          at += part
        }
      }
    }
    return chunk.bytes(0..<size)
  }

  private mutating func scan(_ contents: Bytes, file: Int, above drained: UInt64) {
    contents.withBuffer { buffer in
      if identity == nil { identity = JournalFileHeader(buffer)?.identity }
      let page = files[file].pageSize
      var at = page
      while at + JournalFormat.commitHeaderSize <= buffer.count {
        let rest = UnsafeRawBufferPointer(rebasing: buffer[at...])
        guard let header = CommitHeader(rest), identity == nil || header.identity == identity else {
          at += page
          continue
        }
        identity = header.identity
        durable = max(durable, header.durable)
        let start = JournalFormat.commitHeaderSize
        let isWhole =
          header.payloadLength <= rest.count - start
          && CRC32C.checksum(UnsafeRawBufferPointer(rebasing: rest[start..<(start + header.payloadLength)]))
            == header.payloadCRC
        guard isWhole else {
          damaged[header.sequence] = "\(files[file].path) at byte \(at): the payload has a wrong checksum"
          at += page
          continue
        }
        if header.sequence > drained {
          candidates[header.sequence, default: []].append(
            SalvagedCommit(header: header, chainValue: CommitHeader.chainValue(rest), file: file, position: at))
        }
        at += header.alignedSize(page: page)
      }
    }
  }

  private mutating func choose(from first: UInt64) {
    // Nothing is before the first commit ever.
    var chain: UInt64? = first == 1 ? 0 : nil
    let standing = standing()
    for sequence in candidates.keys.sorted() {
      let expected = (commits.last?.header.sequence ?? first - 1) + 1
      if sequence != expected { chain = nil }
      let found = candidates[sequence] ?? []
      let isKnown = chain != nil || sequence == first || sequence <= durable
      guard isKnown else { break }
      let fitting = found.indices.filter { index in
        chain.map { found[index].header.previous == $0 } ?? (standing[sequence]?[index] != .contradicted)
      }
      func rank(_ index: Int) -> (Int, UInt64, Int) {
        (standing[sequence]?[index].rawValue ?? 0, found[index].header.fileNumber, found[index].position)
      }
      guard let index = fitting.max(by: { rank($0) < rank($1) }) else {
        guard sequence <= durable else { break }
        if damaged[sequence] == nil, let one = found.first {
          damaged[sequence] =
            "what \(files[one.file].path) has at byte \(one.position) under its number is not what stood between the commits "
            + "around it"
        }
        continue
      }
      if expected < sequence { lose(expected...(sequence - 1), before: found[index]) }
      commits.append(found[index])
      chain = found[index].chainValue
    }
    let end = commits.last?.header.sequence ?? first - 1
    if durable > end { lose((end + 1)...durable, before: nil) }
  }

  /// What the commits that follow say of one.
  private enum Standing: Int {
    /// There is a sound one of the next sequence, and it follows another commit than this.
    case contradicted
    case unknown
    /// There is one that continues it.
    case continued
  }

  /// What is said of each candidate, in the order of ``candidates``.
  private func standing() -> [UInt64: [Standing]] {
    var out: [UInt64: [Standing]] = [:]
    for sequence in candidates.keys.sorted(by: >) {
      let next = candidates[sequence + 1] ?? []
      let previous = Set(next.map(\.header.previous))
      // One that is contradicted itself proves nothing, and one that may never have been durable neither.
      let isNextSound = sequence < durable && out[sequence + 1]?.contains { $0 != .contradicted } ?? false
      out[sequence] = candidates[sequence]?.map { one in
        if previous.contains(one.chainValue) { return .continued }
        return isNextSound ? .contradicted : .unknown
      }
    }
    return out
  }

  private mutating func lose(_ sequences: ClosedRange<UInt64>, before next: SalvagedCommit?) {
    var places: [String] = []
    if let known = sequences.prefix(1000).compactMap({ damaged[$0] }).first {
      places = [known]
    } else {
      if let last = commits.last {
        places.append(
          "behind byte \(last.position + last.header.alignedSize(page: files[last.file].pageSize)) of \(files[last.file].path)"
        )
      }
      if let next { places.append("before byte \(next.position) of \(files[next.file].path)") }
    }
    let place = places.isEmpty ? "no file holds them" : places.joined(separator: ", ")
    lost.append(LostCommits(sequences: sequences, place: place))
  }

  /// A commit's header and payload, read again.
  func read(_ commit: SalvagedCommit) throws(LogError) -> Bytes {
    try JournalReader.read(
      files[commit.file], at: commit.position,
      length: JournalFormat.commitHeaderSize + commit.header.payloadLength)
  }
}
