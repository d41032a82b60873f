// LogStore+Times: which batch holds a record of some time, or the newest one.

import MillraceBase
import MillraceIO
import MillraceModel

/// A search for a time. Segments may be removed, and records drained, while segments are asked; then it begins anew.
private struct TimeSearch {
  static let attempts = 3

  let log: PartitionLog
  let time: Timestamp
  var attempts = TimeSearch.attempts

  /// The same once more, nil when it was tried often enough.
  var again: TimeSearch? { attempts > 1 ? TimeSearch(log: log, time: time, attempts: attempts - 1) : nil }
}

extension LogStore {
  /// The first batch that holds a record at or after `time`, nil when there is none.
  ///
  /// Which record of the batch it is only its records tell. Times may be in any order: the newest time of each run, block
  /// and batch is known, so that of what is on disk only the block that holds the batch is read.
  /// - Complexity: O(runs + blocks of one run), without reading more than an index part and a block.
  public func firstBatch(
    _ log: PartitionLog, notBefore time: Timestamp, completion: @escaping (Result<Bytes?, LogError>) -> Void
  ) {
    firstBatch(TimeSearch(log: log, time: time), completion)
  }

  private func firstBatch(_ search: TimeSearch, _ completion: @escaping (Result<Bytes?, LogError>) -> Void) {
    let log = search.log
    let time = search.time
    trim(log)
    let recentBase = log.recent.first?.baseOffset ?? .max
    let extents = log.extents.filter { $0.maxTimestamp >= time.milliseconds && $0.baseOffset < recentBase }
    guard !extents.isEmpty else { return firstRecentBatch(log, notBefore: time, completion) }
    let segments = segments
    let start = log.startOffset
    inBackground { () throws(LogError) -> Bytes? in
      // The newest record of a run may lie below the start, so that several runs may have to be asked.
      for extent in extents {
        if let found = try segments.firstBatch(in: extent, notBefore: time, start: start) { return found }
      }
      return nil
    } completion: { [self] result in
      switch result {
      case .failure:
        guard let again = search.again else { return completion(result) }
        firstBatch(again, completion)
      case .success(.some): completion(result)
      case .success(nil):
        trim(log)
        // What was in the journal only may be in a segment now that was not asked.
        guard log.recent.first?.baseOffset ?? .max == recentBase else { return firstBatch(search, completion) }
        firstRecentBatch(log, notBefore: time, completion)
      }
    }
  }

  /// Runs `body` in the background and `completion` with its result here.
  private func inBackground<Answer: Sendable>(
    _ body: @escaping @Sendable () throws(LogError) -> Answer,
    completion: @escaping (Result<Answer, LogError>) -> Void
  ) {
    let box = ReactorBound(completion, on: reactor)
    let reactor = reactor
    background.submit {
      let result: Result<Answer, LogError>
      do throws(LogError) { result = .success(try body()) } catch { result = .failure(error) }
      reactor.submit { box.take()(result) }
    }
  }

  private func firstRecentBatch(
    _ log: PartitionLog, notBefore time: Timestamp, _ completion: @escaping (Result<Bytes?, LogError>) -> Void
  ) {
    for index in 0..<log.recent.count {
      let reference = log.recent[index]
      guard reference.nextOffset <= log.highWatermark else { break }
      if reference.maxTimestamp >= time.milliseconds {
        return read(log, from: max(reference.baseOffset, log.startOffset), limit: 1) { result in
          completion(result.map(\.first))
        }
      }
    }
    completion(.success(nil))
  }

  /// The batch with the largest timestamp, nil when the partition is empty.
  public func newestBatch(_ log: PartitionLog, completion: @escaping (Result<Bytes?, LogError>) -> Void) {
    newestBatch(log, attempts: TimeSearch.attempts, completion)
  }

  private func newestBatch(
    _ log: PartitionLog, attempts: Int, _ completion: @escaping (Result<Bytes?, LogError>) -> Void
  ) {
    trim(log)
    var largest = Int64.min
    // What a run's newest time belongs to may lie below the start: then the next smaller one is asked for.
    for extent in log.extents { largest = max(largest, extent.maxTimestamp) }
    for index in 0..<log.recent.count where log.recent[index].nextOffset <= log.highWatermark {
      largest = max(largest, log.recent[index].maxTimestamp)
    }
    guard largest > .min else { return completion(.success(nil)) }
    newestBatch(TimeSearch(log: log, time: Timestamp(milliseconds: largest), attempts: attempts), completion)
  }

  private func newestBatch(_ search: TimeSearch, _ completion: @escaping (Result<Bytes?, LogError>) -> Void) {
    let log = search.log
    firstBatch(search) { [self] result in
      guard case .success(nil) = result, let first = log.extents.first, first.baseOffset < log.startOffset else {
        return completion(result)
      }
      // Only the first run can reach below the start.
      let segments = segments
      let start = log.startOffset
      inBackground { () throws(LogError) in
        try segments.newestTime(in: first, start: start)
      } completion: { [self] result in
        switch result {
        case .failure(let error):
          guard let again = search.again else { return completion(.failure(error)) }
          newestBatch(log, attempts: again.attempts, completion)
        case .success(let inFirst):
          var next = inFirst ?? .min
          for extent in log.extents where extent.baseOffset >= first.nextOffset {
            next = max(next, extent.maxTimestamp)
          }
          for index in 0..<log.recent.count
          where log.recent[index].nextOffset <= log.highWatermark && log.recent[index].baseOffset >= first.nextOffset {
            next = max(next, log.recent[index].maxTimestamp)
          }
          guard next > .min, next < search.time.milliseconds else { return completion(.success(nil)) }
          firstBatch(TimeSearch(log: log, time: Timestamp(milliseconds: next)), completion)
        }
      }
    }
  }
}

extension SegmentReader {
  /// The first batch of an extent that reaches beyond `start` and holds a record at or after `time`.
  func firstBatch(in extent: SegmentExtent, notBefore time: Timestamp, start: Offset) throws(LogError) -> Bytes? {
    for block in try index(extent) where block.maxTimestamp >= time.milliseconds && block.lastOffset >= start {
      guard let run = try batches(in: extent, from: max(block.baseOffset, start), limit: block.length).first else {
        continue
      }
      for (position, header) in try RecordBatchRun.headers(in: run) where header.maxTimestamp >= time {
        return run[position..<(position + header.totalSize)]
      }
    }
    return nil
  }

  /// The largest time in the batches of an extent that reach beyond `start`, nil when there are none.
  func newestTime(in extent: SegmentExtent, start: Offset) throws(LogError) -> Int64? {
    var newest: Int64?
    for block in try index(extent) where block.lastOffset >= start {
      if block.baseOffset >= start {
        newest = max(newest ?? .min, block.maxTimestamp)
        continue
      }
      for run in try batches(in: extent, from: start, limit: block.length) {
        for (_, header) in try RecordBatchRun.headers(in: run) where header.lastOffset <= block.lastOffset {
          newest = max(newest ?? .min, header.maxTimestamp.milliseconds)
        }
      }
    }
    return newest
  }
}
