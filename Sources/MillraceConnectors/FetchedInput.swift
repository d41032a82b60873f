// FetchedInput: what a broker answers to a job that reads, and how that becomes batches: for jobs of this process and workers.

import MillraceBase
import MillraceBroker
import MillraceDataflow
import MillraceModel

/// Records of a producer that are not for readers, because their transaction was aborted.
struct VoidRecords: Equatable, Sendable {
  var producerID: Int64
  var firstOffset: Offset
  var lastOffset: Offset
}

/// What was read at one position.
struct FetchedInput: Sendable {
  /// Index into the positions of the read.
  var position: Int
  /// Runs of whole batches, in order.
  var runs: [Bytes]
  var voids: [VoidRecords]
  /// Offset behind what readers may see.
  var endOffset: Offset
  /// Newest time of the partition's records; `.none` when there is none.
  var endTime = Timestamp.none

  /// Takes the runs apart.
  /// - Parameter wanted: batches that end before this offset are left out.
  func batches(from wanted: Offset) throws(JobError) -> [InputBatch] {
    var batches: [InputBatch] = []
    for run in runs {
      for (batch, header) in try FetchedInput.split(run) where header.nextOffset > wanted {
        batches.append(
          InputBatch(position: position, bytes: batch, endOffset: endOffset, endTime: endTime, isVoid: isVoid(header)))
      }
    }
    return batches
  }

  private func isVoid(_ header: RecordBatchHeader) -> Bool {
    if header.isControl { return true }
    guard header.isTransactional else { return false }
    return voids.contains {
      $0.producerID == header.producerID && $0.firstOffset <= header.baseOffset && header.baseOffset <= $0.lastOffset
    }
  }

  /// The batches of a run, which the log has verified.
  static func split(_ run: Bytes) throws(JobError) -> [(batch: Bytes, header: RecordBatchHeader)] {
    var found: [(batch: Bytes, header: RecordBatchHeader)] = []
    var rest = RecordBatchRun(run)
    do throws(RecordBatchError) {
      while let next = try rest.next() { found.append(next) }
    } catch {
      throw JobError(.corruptInput, error.description)
    }
    return found
  }

  /// The records part of a batch, decompressed: at most 64 MiB.
  static func plainRecords(of batch: Bytes, _ header: RecordBatchHeader) throws(JobError) -> Bytes {
    do throws(BrokerError) {
      return try Broker.plainRecords(of: batch, header: header)
    } catch {
      throw JobError(.corruptInput, "batch at offset \(header.baseOffset): \(error.reason)")
    }
  }
}

// What both hosts ask of the broker, on its reactor.
extension Broker {
  /// Reads what is committed at the positions, beginning with the one at index `first`.
  /// - Returns: the wait, when there is nothing yet.
  @discardableResult
  func readInputs(
    _ positions: [InputPosition], first: Int, maxBytes: Int, wait: Duration,
    completion: @escaping (Result<[FetchedInput], JobError>) -> Void
  ) -> FetchWait? {
    var targets: [FetchTarget] = []
    targets.reserveCapacity(positions.count)
    for step in positions.indices {
      let position = positions[(first + step) % positions.count]
      let partition = topic(position.topic).flatMap { self.partition($0, position.partition) }
      let offset = max(position.offset, partition?.startOffset ?? 0)
      // A step's results are committed; what led to them has to be, too.
      targets.append(FetchTarget(partition: partition, offset: offset, limit: maxBytes, isCommittedOnly: true))
    }
    return fetch(targets, minimum: wait > .zero ? 1 : 0, limit: { maxBytes }, wait: wait) { [self] results in
      completion(inputs(results, of: positions, first: first))
    }
  }

  private func inputs(
    _ results: [FetchedPartition], of positions: [InputPosition], first: Int
  ) -> Result<[FetchedInput], JobError> {
    var inputs: [FetchedInput] = []
    for (step, result) in results.enumerated() {
      let index = (first + step) % positions.count
      if let error = result.error {
        let place = "\(positions[index].topic)-\(positions[index].partition)"
        return .failure(
          JobError(
            JobError(error, or: error.code == .offsetOutOfRange ? .corruptInput : .sourceFailed).code,
            "reading \(place): \(error.reason)"))
      }
      guard !result.batches.isEmpty else { continue }
      let voids = result.aborted.map {
        VoidRecords(producerID: $0.producerID, firstOffset: $0.firstOffset, lastOffset: $0.lastOffset)
      }
      let partition = topic(positions[index].topic).flatMap { self.partition($0, positions[index].partition) }
      inputs.append(
        FetchedInput(
          position: index, runs: result.batches, voids: voids, endOffset: result.lastStableOffset,
          endTime: partition?.newestTime ?? .none))
    }
    return inputs.isEmpty && !isOpen ? .failure(.brokerClosed) : .success(inputs)
  }

  /// The partitions of a topic, which is made first when it is missing and may be made.
  func countPartitions(ofInput name: String, completion: @escaping (Result<Int, JobError>) -> Void) {
    if let found = topic(name) { return completion(.success(found.partitions.count)) }
    guard settings.createsTopics else {
      return completion(.failure(JobError(.unknownTopic, "topic \(name) does not exist")))
    }
    createTopic(name) { [self] result in
      switch result {
      case .success(let made): completion(.success(made.partitions.count))
      case .failure(let error):
        // Somebody else may have made it while this creation waited.
        if let found = topic(name) { return completion(.success(found.partitions.count)) }
        completion(.failure(JobError(error, or: .unknownTopic)))
      }
    }
  }
}
