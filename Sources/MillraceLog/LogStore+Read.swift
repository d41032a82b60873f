// LogStore+Read: batches for readers, from memory at once, from disk by way of a background thread.

import MillraceBase
import MillraceIO
import MillraceModel

/// What a read from disk needs, free of anything that belongs to the reactor.
private enum ColdRead: Sendable {
  case segment(SegmentExtent, from: Offset, to: Offset, limit: Int)
  case journal([BatchReference], any File)
}

/// What a reader asked for.
private struct ReadWish {
  let log: PartitionLog
  let offset: Offset
  let limit: Int
  let isCommittedOnly: Bool
  var attempts = 3

  /// Where the reader has to stop.
  var end: Offset { isCommittedOnly ? log.lastStableOffset : log.highWatermark }
}

extension LogStore {
  /// Reads whole batches from the one that holds `offset` on, up to the high watermark, or only up to the last stable
  /// offset when `isCommittedOnly`: then no batch comes whose transaction has not ended.
  ///
  /// The first batch comes whatever its size; after it only what fits into `limit` bytes. `completion` is called at once
  /// when memory holds the batches, otherwise in a later turn.
  /// - Errors: `.offsetOutOfRange` below the start or above the high watermark, `.corruption`, `.io`.
  public func read(
    _ log: PartitionLog, from offset: Offset, limit: Int, isCommittedOnly: Bool = false,
    completion: @escaping (Result<[Bytes], LogError>) -> Void
  ) {
    read(ReadWish(log: log, offset: offset, limit: limit, isCommittedOnly: isCommittedOnly), completion)
  }

  private func read(_ wish: ReadWish, _ completion: @escaping (Result<[Bytes], LogError>) -> Void) {
    let log = wish.log
    let offset = wish.offset
    guard !log.isDeleted else {
      return completion(.failure(LogError(.unknownPartition, "partition \(log.id) was deleted")))
    }
    guard offset >= log.startOffset, offset <= log.highWatermark else {
      return completion(
        .failure(
          LogError(.offsetOutOfRange, "offset \(offset) is not within \(log.startOffset)...\(log.highWatermark)")))
    }
    guard offset < wish.end else { return completion(.success([])) }
    trim(log)
    let index = log.extents.partitioningIndex { $0.nextOffset <= offset }
    if let first = log.recent.first, offset >= first.baseOffset || index == log.extents.count {
      // Compaction leaves gaps: the next batch may begin behind the offset.
      readRecent(wish, completion)
    } else {
      guard index < log.extents.count else {
        return completion(.failure(LogError(.corruption, "partition \(log.id) has no batch for offset \(offset)")))
      }
      readSegment(log.extents[index], wish, completion)
    }
  }

  private func readSegment(
    _ extent: SegmentExtent, _ wish: ReadWish, _ completion: @escaping (Result<[Bytes], LogError>) -> Void
  ) {
    let box = ReactorBound((self, wish, completion), on: reactor)
    let reactor = reactor
    do throws(LogError) {
      let held = try segments.held(in: extent, from: wish.offset, limit: wish.limit) {
        reactor.submit {
          let (store, wish, completion) = box.take()
          store.read(wish, completion)
        }
      }
      switch held {
      case .batches(let runs): completion(.success(try LogStore.runs(runs, of: extent, below: wish.end)))
      case .loading: break
      case .unknown:
        readCold(.segment(extent, from: wish.offset, to: wish.end, limit: wish.limit), wish, completion)
      }
    } catch {
      completion(.failure(error))
    }
  }

  /// Cuts off what lies at or above `end`.
  private static func runs(_ runs: [Bytes], of extent: SegmentExtent, below end: Offset) throws(LogError) -> [Bytes] {
    guard extent.nextOffset > end else { return runs }
    return try runs.map { run throws(LogError) in try RecordBatchRun.below(end, in: run) }.filter { !$0.isEmpty }
  }

  private func readRecent(_ wish: ReadWish, _ completion: @escaping (Result<[Bytes], LogError>) -> Void) {
    let log = wish.log
    let end = wish.end
    var index = log.recent.partitioningIndex { $0.nextOffset <= wish.offset }
    var out: [Bytes] = []
    var cold: [BatchReference] = []
    var held = 0
    while index < log.recent.count {
      let reference = log.recent[index]
      guard reference.nextOffset <= end else { break }
      if held > 0, held + Int(reference.length) > wish.limit { break }
      if let bytes = heldBatch(reference) {
        if !cold.isEmpty { break }
        out.append(bytes)
      } else {
        guard out.isEmpty, cold.isEmpty || cold[0].file == reference.file else { break }
        cold.append(reference)
      }
      held += Int(reference.length)
      index += 1
    }
    guard let first = cold.first else { return completion(.success(out)) }
    guard let file = journalFile(first.file) else {
      return completion(
        .failure(LogError(.corruption, "journal file number \(first.file) of partition \(log.id) is gone")))
    }
    readCold(.journal(cold, file), wish, completion)
  }

  /// A batch of the journal that memory holds.
  private func heldBatch(_ reference: BatchReference) -> Bytes? {
    let held =
      journal.hotTail.bytes(file: reference.file, position: Int(reference.position), length: Int(reference.length))
      ?? drain.packed[reference.file]?.bytes(position: reference.position, length: Int(reference.length))
    guard let held, reference.isFurther, !configuration.leavesBaseOffsets else { return held }
    return held.rebased(reference.baseOffset)
  }

  private func journalFile(_ number: UInt64) -> (any File)? {
    if journal.active?.number == number { return journal.active?.slot.file }
    return (drain.sealed.first { $0.number == number } ?? drain.drained.first { $0.number == number })?.slot.file
  }

  private func readCold(
    _ plan: ColdRead, _ wish: ReadWish, _ completion: @escaping (Result<[Bytes], LogError>) -> Void
  ) {
    let segments = segments
    let compactions = wish.log.compactions
    let box = ReactorBound((self, wish, completion), on: reactor)
    let reactor = reactor
    background.submit {
      let result: Result<[Bytes], LogError>
      do throws(LogError) {
        switch plan {
        case .segment(let extent, let from, let to, let limit):
          let runs = try segments.batches(in: extent, from: from, limit: limit)
          result = .success(try LogStore.runs(runs, of: extent, below: to))
        case .journal(let references, let file):
          var out: [Bytes] = []
          for reference in references { out.append(try JournalReader.batch(reference, in: file)) }
          result = .success(out)
        }
      } catch {
        result = .failure(error)
      }
      reactor.submit {
        var (store, wish, completion) = box.take()
        var result = result
        if case .journal(let references, let file) = plan, store.journalFile(references[0].file) !== file {
          // It may hold other batches by now, even of the same offsets and sizes.
          result = .failure(LogError(.io, "\(file.path) was drained while it was read"))
        }
        // Records of aborted transactions may be among them, which nobody is told of any more.
        if wish.log.compactions != compactions { return store.read(wish, completion) }
        if case .failure(let error) = result, wish.attempts > 1 {
          // The file may have been drained and used again, or the segment removed, while it was being read.
          store.logger.log(.debug, "log", "reading again", ["error": error.description])
          wish.attempts -= 1
          return store.read(wish, completion)
        }
        if case .failure(let error) = result {
          store.complain(of: error)
        }
        completion(result)
      }
    }
  }

  /// Says that a read failed, with file and position; readers try again at once, so that not every time is worth a line.
  private func complain(of error: LogError) {
    logger.logRarely(
      .error, "log", "reading failed", "", ["error": error.description], key: error.reason, now: reactor.now)
  }
}

/// What a reader will want of a partition.
public struct ReadAheadWish {
  let log: PartitionLog
  let offset: Offset
  let limit: Int

  /// From `offset` on about `limit` bytes.
  public init(_ log: PartitionLog, from offset: Offset, limit: Int) {
    self.log = log
    self.offset = offset
    self.limit = limit
  }
}

extension LogStore {
  /// What a read has to ask first.
  public enum ReadPlace {
    /// The journal, in memory or on disk; or nobody, because there is nothing.
    case journal
    /// Blocks of a segment that memory holds.
    case window
    /// A segment on disk.
    case segment
  }

  /// Where a read from `offset` on finds its first batch. O(log n) in the partition's runs.
  public func place(_ log: PartitionLog, _ offset: Offset) -> ReadPlace {
    guard let extent = extent(log, offset) else { return .journal }
    return segments.isHeld(extent, offset) ? .window : .segment
  }

  /// Begins to read from segments what will be wanted soon, in the order given, about `limit` bytes in all and as far as the
  /// memory for read windows allows. Never waits; what is held or being read already counts, too.
  /// - Parameter isWanted: a reader waits for it already, so that it goes before what nobody has asked for yet.
  public func readAhead(_ wishes: some Sequence<ReadAheadWish>, limit: Int, isWanted: Bool) {
    var rest = limit
    var cold: [ExtentWish] = []
    for wish in wishes {
      guard rest > 0 else { break }
      guard let extent = extent(wish.log, wish.offset) else { continue }
      let one = ExtentWish(extent: extent, offset: wish.offset, limit: min(wish.limit, rest))
      cold.append(one)
      rest -= one.bytes
    }
    if !cold.isEmpty { segments.readAhead(cold, isWanted: isWanted) }
  }

  /// The run of batches in a segment that a read from `offset` on begins with; nil when the journal has them.
  private func extent(_ log: PartitionLog, _ offset: Offset) -> SegmentExtent? {
    guard !log.isDeleted, offset >= log.startOffset, offset < log.highWatermark else { return nil }
    trim(log)
    let index = log.extents.partitioningIndex { $0.nextOffset <= offset }
    guard index < log.extents.count, offset < log.recent.first?.baseOffset ?? .max else { return nil }
    return log.extents[index]
  }
}

extension Array {
  /// The first index whose element does not satisfy `isBefore`, when the elements are partitioned by it. O(log count).
  func partitioningIndex(_ isBefore: (Element) -> Bool) -> Int {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if isBefore(self[middle]) { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
