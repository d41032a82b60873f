// LogInspection: looks at a data directory that no server has open, without changing anything in it.

import MillraceBase
import MillraceIO
import MillraceModel

/// A commit, as an inspection reports it.
public struct InspectedCommit: Sendable {
  /// Its number.
  public let sequence: UInt64
  /// When it was made.
  public let time: Timestamp
  /// Entries in all.
  public let entries: Int
  /// Record batches among the entries, and the records in them.
  public let batches: Int
  /// Records in the batches.
  public let records: Int
  /// Events of the state machine among the entries.
  public let events: Int
  /// Those events, when they were asked for; they share the commit's memory.
  public let eventBytes: [Bytes]
  /// Bytes, the header included, without padding.
  public let bytes: Int
  /// The file it stands in.
  public let file: String
  /// Where it begins in the file.
  public let position: Int
}

/// A journal file, as an inspection reports it.
public struct InspectedJournalFile: Sendable {
  /// Its path.
  public let path: String
  /// Bytes.
  public let size: Int64
  /// What it holds, in a few words.
  public let use: String
}

/// A segment that the snapshot names, as an inspection reports it.
public struct InspectedSegment: Sendable {
  /// Its number.
  public let number: UInt64
  /// Its path.
  public let path: String
  /// Partitions with records in it.
  public let partitions: Int
  /// Blocks whose checksums were found right.
  public let blocks: Int
  /// Bytes in those blocks.
  public let bytes: Int64
}

/// Bytes that are interpreted or served, and so verified. What lies outside of all such ranges means nothing.
public struct InspectedRange: Sendable {
  /// What stands there.
  public enum Use: String, Sendable {
    /// A journal file's header.
    case journalHeader = "journal header"
    /// A commit that is not drained yet.
    case commit = "commit"
    /// The journal's last, empty commit: it says that the one before is durable. Without it nothing is lost.
    case endMark = "end mark"
    /// The snapshot, all of it.
    case snapshot = "snapshot"
    /// A segment's header.
    case segmentHeader = "segment header"
    /// A partition's index in a segment.
    case index = "index"
    /// Record batches in a segment.
    case block = "block"
  }
  /// The file.
  public let path: String
  /// The first byte.
  public let position: Int64
  /// Bytes.
  public let length: Int
  /// What they are.
  public internal(set) var use: Use
}

/// What a snapshot stands for.
public struct InspectedSnapshot: Sendable {
  /// The commit whose effects, and those of all before it, are in the snapshot.
  public let sequence: UInt64
  /// All records up to this commit are in segments.
  public let drainedSequence: UInt64
  /// Partitions.
  public let partitions: Int
  /// Segments.
  public let segments: Int
  /// Bytes of the snapshot.
  public let bytes: Int64
}

/// What was found in a data directory.
public struct LogInspection: Sendable {
  /// The data directory.
  public let directory: String
  /// Journal files, by name.
  public private(set) var files: [InspectedJournalFile] = []
  /// The snapshot, if there is one that can be read.
  public private(set) var snapshot: InspectedSnapshot?
  /// Segments that the snapshot names.
  public private(set) var segments: [InspectedSegment] = []
  /// Segment files that the snapshot does not name: left over from an interrupted drain, harmless.
  public private(set) var orphans: [String] = []
  /// Commits read: those that are not drained yet.
  public private(set) var commits = 0
  /// Sequence of the first of them.
  public private(set) var firstSequence: UInt64?
  /// Sequence of the last of them.
  public private(set) var lastSequence: UInt64?
  /// Time of the last of them.
  public private(set) var lastTime: Timestamp?
  /// Their bytes, headers included.
  public private(set) var commitBytes: Int64 = 0
  /// Record batches in them.
  public private(set) var batches = 0
  /// Records in them.
  public private(set) var records = 0
  /// Events in them.
  public private(set) var events = 0
  /// How the journal ends when it ends in the middle of a commit that was never acknowledged: no damage.
  public private(set) var tornTail: String?
  /// Damage to what is not needed any more; the server starts all the same.
  public private(set) var harmless: [String] = []
  /// What is damaged, each with file and position.
  public private(set) var problems: [String] = []
  /// The bytes that were verified, when they were asked for.
  public private(set) var ranges: [InspectedRange] = []
  private let collectsRanges: Bool
  private let collectsEvents: Bool

  /// Reads the data directory and checks every checksum in it.
  ///
  /// Opens files for reading only. The caller sees to it that no server has the directory open.
  /// - Parameters:
  ///   - collectingRanges: fills ``ranges``.
  ///   - collectingEvents: fills ``InspectedCommit/eventBytes``.
  ///   - visit: receives each commit that is not drained yet, in order.
  /// - Throws: `.io` when there is no data directory or a file cannot be opened. Damage is no error but a problem.
  public static func run(
    directory: String, fileSystem: any FileSystem, collectingRanges: Bool = false,
    collectingEvents: Bool = false, visit: (InspectedCommit) -> Void = { _ in }
  ) throws(LogError) -> LogInspection {
    let exists = try LogError.wrapping { () throws(IOError) in
      let found = try fileSystem.exists(directory)
      return found ? try fileSystem.exists("\(directory)/journal") : false
    }
    guard exists else { throw LogError(.io, "\(directory) is no data directory: there is no journal in it") }
    var inspection = LogInspection(
      directory: directory, collectsRanges: collectingRanges, collectsEvents: collectingEvents)
    let snapshot = try inspection.readSnapshot(fileSystem)
    try inspection.readFiles(snapshot, fileSystem)
    try inspection.readJournal(snapshot, fileSystem, visit)
    try inspection.readSegments(snapshot, fileSystem)
    return inspection
  }

  private init(directory: String, collectsRanges: Bool, collectsEvents: Bool) {
    self.directory = directory
    self.collectsRanges = collectsRanges
    self.collectsEvents = collectsEvents
  }

  private mutating func add(_ use: InspectedRange.Use, _ path: String, _ position: Int64, _ length: Int) {
    guard collectsRanges else { return }
    ranges.append(InspectedRange(path: path, position: position, length: length, use: use))
  }

  /// Runs `body`; damage becomes a problem, any other error goes on.
  private mutating func noting<Value>(_ body: () throws(LogError) -> Value) throws(LogError) -> Value? {
    do throws(LogError) {
      return try body()
    } catch {
      guard error.code == .corruption else { throw error }
      problems.append(error.reason)
      return nil
    }
  }

  private mutating func readSnapshot(_ fileSystem: any FileSystem) throws(LogError) -> Snapshot? {
    let directory = directory
    let contents = try noting { () throws(LogError) in
      try SnapshotSlots.read(directory, fileSystem: fileSystem, checksAll: true)
    }
    harmless = contents?.harmless ?? []
    guard let contents, let snapshot = contents.snapshot else { return nil }
    for path in contents.headerPaths { add(.snapshot, path, 0, 64) }
    add(.snapshot, contents.path, Int64(contents.place.lowerBound), contents.place.count)
    self.snapshot = InspectedSnapshot(
      sequence: snapshot.sequence, drainedSequence: snapshot.drainedSequence,
      partitions: snapshot.partitions.count, segments: snapshot.segments.count, bytes: Int64(contents.place.count))
    return snapshot
  }

  private mutating func readFiles(_ snapshot: Snapshot?, _ fileSystem: any FileSystem) throws(LogError) {
    var damaged: [String] = []
    files = try LogError.wrapping { () throws(IOError) in
      var found: [InspectedJournalFile] = []
      for name in try fileSystem.list("\(directory)/journal").sorted() where name.hasSuffix(".journal") {
        let path = "\(directory)/journal/\(name)"
        let file: any File
        do throws(IOError) {
          file = try fileSystem.open(path, .read)
        } catch {
          guard error.code == .corrupt else { throw error }
          damaged.append(LogError(error).reason)
          continue
        }
        defer { file.close() }
        let size = try file.size()
        let block = Chunk(capacity: 4096)
        let room = UnsafeMutableRawBufferPointer(start: block.base, count: 64)
        let isWhole = try file.readUnverified(into: room, at: 0) == 64
        let header = isWhole ? JournalFileHeader(UnsafeRawBufferPointer(room)) : nil
        let use =
          if let header, Int64(header.fileSize) != size {
            "use \(header.fileNumber), cut off: it was \(header.fileSize) bytes long"
          } else if size < 2 * Int64(file.pageSize) || size % Int64(file.pageSize) != 0 {
            "unfinished: its making was interrupted"
          } else if let header {
            snapshot.map { header.firstSequence <= $0.drainedSequence } ?? false
              ? "use \(header.fileNumber), commits from \(header.firstSequence), drained at least in part"
              : "use \(header.fileNumber), commits from \(header.firstSequence)"
          } else {
            "never used"
          }
        found.append(InspectedJournalFile(path: path, size: size, use: use))
      }
      return found
    }
    problems += damaged
  }

  private mutating func readJournal(
    _ snapshot: Snapshot?, _ fileSystem: any FileSystem, _ visit: (InspectedCommit) -> Void
  ) throws(LogError) {
    // Without the snapshot that was there, nobody knows where to begin.
    guard problems.isEmpty else { return }
    var recovery = JournalRecovery(directory: "\(directory)/journal", fileSystem: fileSystem)
    recovery.changesNothing = true
    var paths: [UInt64: String] = [:]
    for file in files {
      let opened = try LogError.wrapping { () throws(IOError) in try fileSystem.open(file.path, .read) }
      defer { opened.close() }
      guard file.size >= Int64(opened.pageSize) else { continue }
      let block = try JournalReader.read(opened, at: 0, length: opened.pageSize)
      if let header = block.withBuffer({ JournalFileHeader($0) }) { paths[header.fileNumber] = file.path }
    }
    var found = self
    let recovered = try noting { () throws(LogError) in
      try recovery.run(snapshot: snapshot, newIdentity: JournalIdentity(high: 0, low: 0)) { commit throws(LogError) in
        visit(try found.count(commit, path: paths[commit.fileNumber] ?? "?"))
      }
    }
    found.problems = problems
    self = found
    tornTail = recovered?.tornTail
    if let recovered {
      let used = recovered.sealed.map(\.slot.path) + (recovered.active.map { [$0.slot.path] } ?? [])
      for path in used { add(.journalHeader, path, 0, 64) }
    }
    recovered?.active?.slot.file.close()
    for file in recovered?.sealed ?? [] { file.slot.file.close() }
    for spare in recovered?.spares ?? [] { spare.file.close() }
  }

  private mutating func count(_ commit: ReadCommit, path: String) throws(LogError) -> InspectedCommit {
    var batches = 0
    var records = 0
    var events = 0
    var eventBytes: [Bytes] = []
    try commit.bytes.withBuffer { buffer throws(LogError) in
      try JournalEntry.forEach(in: buffer, header: commit.header) { entry throws(LogError) in
        switch entry.kind {
        case .event:
          events += 1
          if collectsEvents { eventBytes.append(commit.bytes[entry.position..<(entry.position + entry.length)]) }
        case .startOffset: break
        case .records, .sameRecords:
          batches += 1
          do throws(RecordBatchError) {
            let bytes = commit.bytes[entry.position..<(entry.position + entry.length)]
            records += Int(try RecordBatchHeader.checked(bytes).recordCount)
          } catch {
            throw LogError(.corruption, "\(path): batch at byte \(commit.position + entry.position): \(error)")
          }
        }
      }
    }
    if let last = ranges.indices.last, ranges[last].use == .endMark { ranges[last].use = .commit }
    add(commit.header.entryCount == 0 ? .endMark : .commit, path, Int64(commit.position), commit.bytes.count)
    commits += 1
    firstSequence = firstSequence ?? commit.header.sequence
    lastSequence = commit.header.sequence
    lastTime = commit.header.time
    commitBytes += Int64(commit.bytes.count)
    self.batches += batches
    self.records += records
    self.events += events
    return InspectedCommit(
      sequence: commit.header.sequence, time: commit.header.time, entries: commit.header.entryCount, batches: batches,
      records: records, events: events, eventBytes: eventBytes, bytes: commit.bytes.count, file: path,
      position: commit.position)
  }

  private mutating func checkFile(
    _ segment: SnapshotSegment, _ path: String, _ identity: JournalIdentity?, _ fileSystem: any FileSystem
  ) throws(LogError) {
    let found = try noting { () throws(LogError) in
      try LogInspection.sizeAndProblem(segment, path, identity, fileSystem)
    }
    guard let (size, problem) = found else { return }
    if size != segment.fileSize {
      problems.append("\(path): the file ends at byte \(size), it was written with \(segment.fileSize) bytes")
    }
    add(.segmentHeader, path, 0, 64)
    if let problem { problems.append("\(path): \(problem)") }
  }

  private static func sizeAndProblem(
    _ segment: SnapshotSegment, _ path: String, _ identity: JournalIdentity?, _ fileSystem: any FileSystem
  ) throws(LogError) -> (size: Int64, problem: String?) {
    try LogError.wrapping { () throws(IOError) in
      let file = try fileSystem.open(path, .read)
      defer { file.close() }
      let block = Chunk(capacity: 4096)
      let got = try file.readUnverified(
        into: UnsafeMutableRawBufferPointer(start: block.base, count: 64), at: 0)
      let head = UnsafeRawBufferPointer(start: block.base, count: got)
      let problem = identity.flatMap { SegmentFormat.headerProblem(head, number: segment.number, identity: $0) }
      return (try file.size(), problem)
    }
  }

  private mutating func readSegments(_ snapshot: Snapshot?, _ fileSystem: any FileSystem) throws(LogError) {
    let folder = "\(directory)/segments"
    let names = try LogError.wrapping { () throws(IOError) in
      try fileSystem.exists(folder) ? try fileSystem.list(folder).sorted() : []
    }
    let reader = SegmentReader(directory: folder, fileSystem: fileSystem)
    var known: Set<String> = []
    for segment in snapshot?.segments ?? [] {
      let name = SegmentFormat.name(segment.number)
      known.insert(name)
      guard names.contains(name) else {
        problems.append("\(folder)/\(name): the snapshot names this segment, but it is not there")
        continue
      }
      try checkFile(segment, "\(folder)/\(name)", snapshot?.identity, fileSystem)
      var blocks = 0
      var bytes: Int64 = 0
      var partitions = 0
      // Blocks that several partitions may have, each read once.
      var shared: Set<Int64> = []
      for partition in snapshot?.partitions ?? [] {
        for extent in partition.extents where extent.segment == segment.number {
          partitions += 1
          guard let index = try noting({ () throws(LogError) in try reader.index(extent) }) else { continue }
          let path = "\(folder)/\(name)"
          add(.index, path, extent.indexPosition, extent.blockCount * SegmentFormat.indexEntrySize)
          for block in index where !block.isShared || shared.insert(block.position).inserted {
            add(.block, path, block.position, block.length)
            // One block at a time: the smallest limit reads, and so verifies, exactly one.
            let isSound = try noting { () throws(LogError) in
              try reader.batches(in: extent, from: block.baseOffset, limit: 1)
            }
            guard isSound != nil else { continue }
            blocks += 1
            bytes += Int64(block.length)
          }
        }
      }
      reader.forget(segment.number)
      segments.append(
        InspectedSegment(
          number: segment.number, path: "\(folder)/\(name)", partitions: partitions, blocks: blocks, bytes: bytes))
    }
    if snapshot != nil || self.snapshot == nil { orphans = names.filter { !known.contains($0) } }
  }
}
