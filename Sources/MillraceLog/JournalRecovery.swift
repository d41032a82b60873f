// JournalRecovery: finds the journal's end after any stop, tells a torn tail from corruption, and replays what counts.

import MillraceBase
import MillraceIO

/// Where a journal goes on.
struct RecoveredJournal {
  var identity: JournalIdentity
  /// The file that the next commit goes into, if it has room.
  var active: JournalFile?
  /// Where the next commit starts in it.
  var position: Int
  var chain: UInt64
  var nextSequence: UInt64
  var nextFileNumber: UInt64
  /// Files that are full and hold commits that are not drained, oldest first.
  var sealed: [JournalFile] = []
  /// Files that hold nothing needed.
  var spares: [JournalSlot] = []
  /// For naming new files.
  var nextName: Int
  var largestFile: Int
  /// What was cut off, in words; nil when the journal ended cleanly.
  var tornTail: String?
  /// Files shorter or longer than their header says that hold nothing needed; they are removed.
  var cutSpares: [String] = []
}

struct JournalRecovery {
  private struct Candidate {
    let slot: JournalSlot
    let header: JournalFileHeader?
    /// The file is not as long as it was made. With a header it was complete once, so that something was cut off.
    var isCut = false
  }

  /// A commit that was read, but that no header says is durable.
  private struct DoubtfulCommit {
    let sequence: UInt64
    let slot: JournalSlot
    let position: Int
    let blocks: Bytes
  }

  let directory: String
  let fileSystem: any FileSystem
  /// Opens files for reading only, and leaves interrupted ones where they are.
  var changesNothing = false

  /// Reads all journal files.
  ///
  /// - Parameters:
  ///   - snapshot: the newest snapshot, if any: commits up to its drained sequence are not looked at.
  ///   - newIdentity: used when there is no journal yet.
  ///   - visit: receives each whole commit above the drained sequence, in order.
  /// - Throws: `.corruption` naming file and position when something that was durable cannot be read.
  func run(
    snapshot: Snapshot?, newIdentity: JournalIdentity, visit: (ReadCommit) throws(LogError) -> Void
  ) throws(LogError) -> RecoveredJournal {
    var (candidates, nextName) = try openFiles()
    let identity = try identity(of: candidates, snapshot: snapshot) ?? newIdentity
    let first = (snapshot?.drainedSequence ?? 0) + 1
    var sequence = first
    var chain: UInt64? = snapshot == nil ? 0 : nil
    let highestNumber = candidates.compactMap { $0.header?.fileNumber }.max() ?? 0
    var result = RecoveredJournal(
      identity: identity, active: nil, position: 0, chain: 0, nextSequence: first,
      nextFileNumber: max(highestNumber + 1, snapshot?.nextFileNumber ?? 1), nextName: nextName,
      largestFile: candidates.map(\.slot.size).max() ?? 0)
    var end = CommitEnd.endOfFile
    var known = snapshot?.sequence ?? 0
    var doubtful: [DoubtfulCommit] = []
    var unused: [Candidate] = []
    while let index = JournalRecovery.file(startingAt: sequence, in: candidates) {
      let candidate = candidates.remove(at: index)
      guard let header = candidate.header else { continue }
      guard !candidate.isCut else {
        throw LogError(
          .corruption,
          "\(candidate.slot.path): the file ends at byte \(candidate.slot.size), it was \(header.fileSize) bytes long")
      }
      let scan = try JournalScan(slot: candidate.slot, header: header)
      // Of two files that begin with the same sequence, one was given up before it had a commit. Its header may even have been
      // wiped by an earlier start, have come back with a power failure, and bear the number of the other one.
      if JournalRecovery.file(startingAt: sequence, in: candidates) != nil, try !scan.hasCommit(sequence, chain) {
        unused.append(candidate)
        continue
      }
      if let previous = result.active {
        previous.lastSequence = sequence - 1
        result.sealed.append(previous)
      }
      result.active = JournalFile(
        slot: candidate.slot, number: header.fileNumber, firstSequence: header.firstSequence)
      (result.position, end) = try scan.commits(sequence: &sequence, chain: &chain) { commit throws(LogError) in
        known = max(known, commit.header.durable)
        doubtful.removeAll { $0.sequence <= known }
        // The file's header is as doubtful as its first commit.
        let start = commit.position == candidate.slot.page ? 0 : commit.position
        doubtful.append(
          DoubtfulCommit(
            sequence: commit.header.sequence, slot: candidate.slot, position: start,
            blocks: scan.blocks(start..<(commit.position + commit.header.alignedSize(page: candidate.slot.page)))))
        try visit(commit)
      }
      if result.position == candidate.slot.page {
        // The header of a file whose first commit was cut off is as doubtful, and what follows will need it.
        doubtful.append(
          DoubtfulCommit(
            sequence: sequence, slot: candidate.slot, position: 0, blocks: scan.blocks(0..<candidate.slot.page)))
      }
    }
    candidates += unused
    result.chain = chain ?? 0
    result.nextSequence = sequence
    result.nextName = nextName
    nextName += 1
    result.spares = candidates.filter { !$0.isCut }.map(\.slot)
    result.cutSpares = candidates.filter { $0.isCut && $0.header != nil }.map(\.slot.path)
    try checkTail(result, candidates: candidates, snapshot: snapshot, end: end)
    for candidate in candidates where candidate.isCut { candidate.slot.file.close() }
    if !changesNothing {
      try makeDurable(doubtful.filter { $0.sequence > known })
      try forgetFuture(candidates.filter { !$0.isCut }, from: sequence)
      for candidate in candidates where candidate.isCut {
        try LogError.wrapping { () throws(IOError) in try fileSystem.remove(candidate.slot.path) }
      }
    }
    if case .noCommit(let reason) = end, reason != "no header" {
      result.tornTail = "after commit \(sequence - 1): \(reason)"
    }
    return result
  }

  /// Writes the last commits again. They are whole, but may be so in the device's or the system's memory only, when the
  /// process before was killed while it wrote them or after such a write had failed; from now on they count as durable.
  private func makeDurable(_ commits: [DoubtfulCommit]) throws(LogError) {
    for commit in commits {
      try LogError.wrapping { () throws(IOError) in
        try commit.blocks.withBuffer { buffer throws(IOError) in
          try commit.slot.file.rewrite(buffer, at: Int64(commit.position))
        }
      }
    }
  }

  /// Wipes the headers of files that were begun behind the tail that is cut off: their sequences will be given again.
  private func forgetFuture(_ spares: [Candidate], from sequence: UInt64) throws(LogError) {
    let zeros = Chunk(capacity: 64 * 1024)
    // Memory is used again: what it held last was read from a journal file, whose header would count once more.
    zeros.base.initializeMemory(as: UInt8.self, repeating: 0, count: zeros.capacity)
    for spare in spares {
      guard let header = spare.header, header.firstSequence >= sequence else { continue }
      try LogError.wrapping { () throws(IOError) in
        try spare.slot.file.write(
          UnsafeRawBufferPointer(start: zeros.base, count: spare.slot.page), at: 0)
      }
    }
  }

  /// Opens everything in the journal's directory.
  private func openFiles() throws(LogError) -> ([Candidate], nextName: Int) {
    var candidates: [Candidate] = []
    var nextName = 1
    let names = try LogError.wrapping { () throws(IOError) in try fileSystem.list(directory) }
    for name in names.sorted() where name.hasSuffix(".journal") {
      guard let number = Int(name.dropLast(".journal".count)) else { continue }
      nextName = max(nextName, number + 1)
      let path = "\(directory)/\(name)"
      let (file, size) = try LogError.wrapping { () throws(IOError) in
        let file = try fileSystem.open(path, changesNothing ? .read : [.read, .write, .direct, .durableWrites])
        return (file, Int(try file.size()))
      }
      let header = try JournalRecovery.header(of: file, size: size)
      // A file whose making was interrupted is shorter than its first commit would need, or not a whole number of blocks;
      // it never had a header, which is written with the first commit.
      let isWhole = size >= 2 * file.pageSize && size % file.pageSize == 0
      let isCut = header.map { $0.fileSize != size } ?? !isWhole
      candidates.append(Candidate(slot: JournalSlot(file: file, size: size), header: header, isCut: isCut))
    }
    return (candidates, nextName)
  }

  /// The file's header, nil when there is none or it cannot be read.
  private static func header(of file: any File, size: Int) throws(LogError) -> JournalFileHeader? {
    guard size >= 64 else { return nil }
    // Past the page cache only whole blocks can be asked for; the last one may come in part.
    let block = Chunk(capacity: 64 * 1024)
    let got = try LogError.wrapping { () throws(IOError) in
      try file.readUnverified(
        into: UnsafeMutableRawBufferPointer(start: block.base, count: file.pageSize), at: 0)
    }
    return JournalFileHeader(UnsafeRawBufferPointer(start: block.base, count: got))
  }

  private func identity(of candidates: [Candidate], snapshot: Snapshot?) throws(LogError) -> JournalIdentity? {
    var known = snapshot?.identity
    for candidate in candidates {
      guard let header = candidate.header else { continue }
      if let known, known != header.identity {
        throw LogError(.corruption, "\(candidate.slot.path): this journal file belongs to another data directory")
      }
      known = header.identity
    }
    if known == nil {
      // Without any readable header nothing tells whose the commits are; if some were durable, a header is damaged.
      for candidate in candidates {
        let from = candidate.slot.page
        guard let claim = try JournalScan.highestClaim(in: candidate.slot, from: from, identity: nil), claim.durable > 0
        else { continue }
        throw LogError(
          .corruption,
          "\(candidate.slot.path) at byte 0: no file header can be read; byte \(claim.position) says that commit "
            + "\(claim.durable) was durable")
      }
    }
    return known
  }

  /// The file whose first commit has `sequence`; of several, the one used last.
  private static func file(startingAt sequence: UInt64, in candidates: [Candidate]) -> Int? {
    candidates.indices.filter { candidates[$0].header?.firstSequence == sequence }
      .max { candidates[$0].header?.fileNumber ?? 0 < candidates[$1].header?.fileNumber ?? 0 }
  }

  /// The file without a readable header whose first commit has `sequence`.
  private func pathWithoutHeader(
    startingAt sequence: UInt64, identity: JournalIdentity, in candidates: [Candidate]
  ) throws(LogError) -> String? {
    for candidate in candidates where candidate.header == nil && candidate.slot.size >= 2 * candidate.slot.page {
      let block = try JournalReader.read(
        candidate.slot.file, at: candidate.slot.page, length: candidate.slot.page)
      let commit = block.withBuffer { CommitHeader($0) }
      if let commit, commit.identity == identity, commit.sequence == sequence { return candidate.slot.path }
    }
    return nil
  }

  /// Makes sure that what is cut off was never known as durable.
  private func checkTail(
    _ result: RecoveredJournal, candidates: [Candidate], snapshot: Snapshot?, end: CommitEnd
  ) throws(LogError) {
    let tail = result.nextSequence
    var lost = result.active.map { "\($0.slot.path) at byte \(result.position)" } ?? directory
    var reason =
      switch end {
      case .noCommit(let words): words
      case .endOfFile: "the file that follows is missing or damaged"
      }
    // A file ends with unused blocks as often as not, so that the next one may be what is damaged in either case.
    if let path = try pathWithoutHeader(startingAt: tail, identity: result.identity, in: candidates) {
      lost = "\(path) at byte 0"
      reason = "the file's header cannot be read"
    }
    if let snapshot, snapshot.sequence >= tail {
      throw LogError(
        .corruption,
        "commit \(tail) was durable and cannot be read (\(lost): \(reason)); "
          + "the snapshot stands for commit \(snapshot.sequence)")
    }
    var places: [(slot: JournalSlot, from: Int)] = []
    if let active = result.active { places.append((active.slot, result.position)) }
    for candidate in candidates {
      // A file that was drained before it became spare can claim nothing new.
      if let header = candidate.header, let snapshot, header.firstSequence <= snapshot.drainedSequence { continue }
      places.append((candidate.slot, candidate.slot.page))
    }
    for place in places {
      guard
        let claim = try JournalScan.highestClaim(in: place.slot, from: place.from, identity: result.identity),
        claim.durable >= tail
      else { continue }
      throw LogError(
        .corruption,
        "commit \(tail) was durable and cannot be read (\(lost): \(reason)); "
          + "\(place.slot.path) at byte \(claim.position) says that commit \(claim.durable) was durable")
    }
  }
}
