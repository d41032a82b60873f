// QueueBroker+Spill: messages that no log keeps go to disk before memory is short, and are read from there.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceModel

extension QueueBroker {
  /// Bytes of memory from which on messages go to disk. Publishers wait at ``memoryLimit``, if the disk is slower than they.
  var spillLimit: Int { memoryLimit / 2 }
  /// A queue that holds less is left alone.
  private static let fewBytes = 256 << 10
  /// After the disk has refused a block, the next one has to wait so long.
  private static let spillPause = Duration.seconds(1)

  /// Counts anew what a queue holds in memory.
  func countMemory(of hosted: HostedQueue) {
    guard !hosted.isDurable, !hosted.isDeleted else { return }
    let held = hosted.heldInMemory
    memoryUsed += held - hosted.countedBytes
    hosted.countedBytes = held
  }

  /// What is done with need not be kept any longer where no log keeps it.
  func forgetDone(_ changes: [QueueChange], of hosted: HostedQueue) {
    hosted.forgetDone(changes) { broker.log.scratch.free($0) }
  }

  /// Begins to write what the queues that hold most hold, one block at a time, while memory is short.
  func spill() {
    guard memoryUsed > spillLimit, !isSpilling, isOpen else { return }
    guard !broker.log.isSpaceLow, broker.reactor.now >= spillAgain else { return spillLater() }
    let holders = byID.values.filter { $0.countedBytes >= QueueBroker.fewBytes }
    for hosted in holders.sorted(by: { ($1.countedBytes, $0.queue.id) < ($0.countedBytes, $1.queue.id) }) {
      let lanes = hosted.memory.all.sorted { ($1.lane.bytes, $0.number) < ($0.lane.bytes, $1.number) }
      for lane in lanes.map(\.number) {
        guard let chunk = hosted.memory.change(lane, { $0.nextChunk() }) else { continue }
        return spill(chunk, of: hosted, lane)
      }
    }
    // Nothing is worth it now; what comes in the next moment may be.
    spillAgain = broker.reactor.now + .milliseconds(10)
    spillLater()
  }

  /// Publishers that wait bring no turn about at whose end there would be another try.
  private func spillLater() {
    guard memoryUsed > memoryLimit / 4 * 3, !isSpillPlanned else { return }
    isSpillPlanned = true
    broker.reactor.schedule(after: .milliseconds(50)) { [weak self] in
      guard let self else { return }
      isSpillPlanned = false
      spill()
      lookAtPressure()
    }
  }

  private func spill(_ chunk: SpillChunk, of hosted: HostedQueue, _ lane: UInt8) {
    isSpilling = true
    broker.log.scratch.write {
      QueueBroker.block(of: chunk.messages)
    } completion: { [self] result in
      isSpilling = false
      switch result {
      case .success(let block):
        if hosted.isDeleted {
          broker.log.scratch.free(block)
        } else {
          hosted.memory.change(lane) { $0.spilled(chunk, to: block) { broker.log.scratch.free($0) } }
          countMemory(of: hosted)
        }
      case .failure(let error):
        spillAgain = broker.reactor.now + QueueBroker.spillPause
        guard error.code != .stopped else { return }
        broker.logger.logRarely(
          .error, "queues", "messages cannot be moved from memory to disk", "publishers may have to wait",
          ["error": error.description], now: broker.reactor.now)
      }
      lookAtPressure()
      spill()
    }
  }

  /// Messages with rising offsets as batches, one for each run of consecutive ones.
  static func block(of messages: [Message]) -> Bytes {
    var writer = ByteWriter(capacity: 64 << 10)
    var rest = messages[...]
    while let first = rest.first {
      var builder = RecordBatchBuilder()
      var next = first.offset
      while let message = rest.first, message.offset == next {
        MessageRecord.append(message, to: &builder)
        rest.removeFirst()
        next += 1
      }
      let position = writer.count
      builder.finish().withBuffer { writer.copy($0) }
      writer.overwrite(RecordBatchHeader.size, at: position) {
        RecordBatchHeader.patch($0, baseOffset: first.offset, leaderEpoch: -1)
      }
    }
    return writer.finishJoined()
  }

  // MARK: Reading

  /// The messages of a lane from `offset` on, done ones too where they are still there, wherever they are kept; at once
  /// when memory has them.
  ///
  /// - Parameters:
  ///   - count: how far to read, in offsets.
  ///   - bytes: reading ends behind the message that reaches it.
  ///   - completion: what was found. The queue may have been deleted meanwhile.
  func readLane(
    _ lane: UInt8, of hosted: HostedQueue, from offset: Offset, count: Int, bytes: Int,
    completion: @escaping (Result<ReadMessages, LogError>) -> Void
  ) {
    guard hosted.isDurable else {
      switch (hosted.memory[lane] ?? TransientLane()).place(from: offset, limit: count) {
      case .memory(let messages, let end):
        return completion(.success(ReadMessages(messages: messages, end: end)))
      case .disk(let run):
        return read(run, lane, of: hosted, from: offset, count: count, bytes: bytes, completion: completion)
      }
    }
    guard Int(lane) < hosted.logs.count else { return completion(.success(ReadMessages(end: offset))) }
    let log = hosted.logs[Int(lane)]
    broker.log.read(log, from: offset, limit: max(bytes, 1)) { [self] result in
      completion(
        result.flatMap { runs in
          do throws(LogError) {
            return .success(try messages(in: runs, log.id, lane, from: offset, count: count, bytes: bytes))
          } catch {
            return .failure(error)
          }
        })
    }
  }

  private func read(
    _ run: SpilledRun, _ lane: UInt8, of hosted: HostedQueue, from offset: Offset, count: Int, bytes: Int,
    completion: @escaping (Result<ReadMessages, LogError>) -> Void
  ) {
    broker.log.scratch.read(run.block) { [self] result in
      do throws(LogError) {
        var found = try messages(
          in: [try result.get()], PartitionLogID(0), lane, from: offset, count: count, bytes: bytes)
        // Behind the last one of the block, which need not be the last of its range, nothing is left of that.
        if found.messages.count < count, found.end >= (run.left.ranges.last?.upperBound ?? 0) {
          found.end = max(found.end, run.range.upperBound)
        }
        completion(.success(found))
      } catch {
        guard error.code != .stopped, !hosted.isDeleted else { return completion(.failure(error)) }
        broker.logger.logRarely(
          .error, "queues", "messages that memory had no room for cannot be read, and are lost", "",
          [
            "queue": hosted.name, "vhost": hosted.virtualHost, "messages": "\(run.left.count)",
            "error": error.description,
          ], key: hosted.name, now: broker.reactor.now)
        hosted.memory.change(lane) { $0.remove(run.range) { broker.log.scratch.free($0) } }
        completion(.success(ReadMessages(end: run.range.upperBound)))
      }
    }
  }

  func messages(
    in runs: [Bytes], _ partition: PartitionLogID, _ lane: UInt8, from offset: Offset, count: Int, bytes: Int
  ) throws(LogError) -> ReadMessages {
    var reader = MessageReader(partition: partition, lane: lane)
    do throws(MessageRecordError) {
      return try reader.read(runs, from: offset, count: count, bytes: bytes)
    } catch {
      throw LogError(.corruption, error.description)
    }
  }
}
