// Broker+JobQueues: what steps of jobs put into message queues, and what jobs take out of them.
//
// Records of a batch for a queue become messages of its lanes, in the append unit of the step. Queues see them when that is
// durable, as they see any publication. A step waits until the queues that refuse what is beyond their limit have room for it,
// and with it the steps behind it.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceModel
import MillraceRouting

/// A run's message on its way into a queue.
private typealias StepMessage = (hosted: HostedQueue, publication: Publication)

extension Broker {
  /// Checks that a job may write a queue of the virtual host `/`.
  /// - Throws: `.unknownQueue` when there is none of that name, or it does not outlive the server.
  public func checkQueue(ofJob name: String) throws(BrokerError) { _ = try jobQueue(name) }

  private func jobQueue(_ name: String) throws(BrokerError) -> HostedQueue {
    guard let hosted = queues.find(name, in: Routing.defaultVirtualHost) else {
      throw BrokerError(.unknownQueue, "there is no queue \(name) in the virtual host /")
    }
    guard hosted.isDurable else {
      throw BrokerError(.unknownQueue, "queue \(name) is not durable: no commit keeps its messages")
    }
    return hosted
  }

  /// The messages of a step, and whether their queues are not ready for them yet.
  ///
  /// Nothing has happened to the queues on return.
  func messages(of step: JobStep) throws(BrokerError) -> (staged: StagedMessages?, mustWait: Bool) {
    var messages: [StepMessage] = []
    var needs: [ObjectIdentifier: (hosted: HostedQueue, count: Int, bytes: Int)] = [:]
    for batch in step.messages {
      let hosted = try jobQueue(batch.queue)
      let before = messages.count
      let bytes = try read(batch.bytes, for: hosted, into: &messages)
      var need = needs[ObjectIdentifier(hosted)] ?? (hosted, 0, 0)
      need.count += messages.count - before
      need.bytes += bytes
      needs[ObjectIdentifier(hosted)] = need
    }
    guard !messages.isEmpty else { return (nil, false) }
    var isForced: Set<ObjectIdentifier> = []
    for (id, need) in needs {
      if need.hosted.isRemembering { return (nil, true) }
      if need.hosted.queue.hasRoom(for: need.count, bytes: need.bytes) { continue }
      // More than the queue ever takes: the step goes in when nothing else is there.
      guard need.hosted.queue.length == 0 else { return (nil, true) }
      isForced.insert(id)
    }
    return (StagedMessages(messages: messages, forced: isForced), false)
  }

  /// - Returns: the bytes of the bodies.
  private func read(
    _ batch: Bytes, for hosted: HostedQueue, into messages: inout [StepMessage]
  ) throws(BrokerError) -> Int {
    guard let format = queues.recordFormat else {
      throw BrokerError(.unknownQueue, "queue \(hosted.name): no format of messages is registered")
    }
    let header = try Broker.ownHeader(batch)
    let records: [Record]
    do throws(RecordBatchError) {
      guard header.codec == CompressionCodec.none else {
        throw RecordBatchError(.malformed, "a compressed batch for queue \(hosted.name)")
      }
      records = try RecordReader.records(batch[RecordBatchHeader.size..<header.totalSize], header: header)
    } catch {
      throw BrokerError(.corruptBatch, error.description)
    }
    let key = Bytes(hosted.name)
    var bytes = 0
    for record in records {
      let properties = format.properties(of: record)
      let body = record.value ?? Bytes()
      bytes += body.count
      messages.append(
        (
          hosted,
          Publication(
            virtualHost: hosted.virtualHost, exchange: Bytes(), routingKey: key, format: format,
            properties: properties, body: body, facts: format.facts(properties))
        ))
    }
    return bytes
  }
}

// What jobs read of queues.
extension Broker {
  /// Begins to take messages of a durable queue of the virtual host `/` for a run of a job. Those that runs before it took and
  /// that are not settled come again.
  /// - Parameter onArrival: called when messages come and none were waiting to be taken.
  /// - Throws: `.fencedJob`, `.unknownQueue`; `.queueTaken` when another consumer has the queue for itself.
  public func openQueue(
    _ queue: String, job: String, epoch: Int64, onArrival: @escaping () -> Void
  ) throws(BrokerError) {
    guard let run = jobRuns[job], run.epoch == epoch else { throw fenced(job, epoch) }
    guard run.intakes[queue] == nil else { return }
    _ = try jobQueue(queue)
    guard let format = queues.recordFormat else {
      throw BrokerError(.unknownQueue, "queue \(queue): no format of messages is registered")
    }
    do throws(RoutingError) {
      run.intakes[queue] = try QueueIntake(queue, of: queues, format: format, onArrival: onArrival)
    } catch {
      throw BrokerError(.queueTaken, error.description)
    }
  }

  /// Takes the next messages of a queue that the run has opened.
  /// - Returns: a record batch, and how many messages the run has taken so far; nil when there are none.
  /// - Throws: `.fencedJob`, `.unknownQueue` when the queue was deleted, `.queueTaken` when messages were taken back.
  public func takeMessages(
    _ queue: String, job: String, epoch: Int64, maxBytes: Int
  ) throws(BrokerError) -> (bytes: Bytes, through: UInt64)? {
    guard let run = jobRuns[job], run.epoch == epoch else { throw fenced(job, epoch) }
    guard let intake = run.intakes[queue] else {
      throw BrokerError(.invalidRequest, "run \(epoch) of job \(job) does not read queue \(queue)")
    }
    return try intake.take(maxBytes: maxBytes)
  }

  /// Whether messages wait for the run to take them.
  public func hasMessages(job: String, epoch: Int64) -> Bool {
    guard let run = jobRuns[job], run.epoch == epoch else { return false }
    return run.intakes.values.contains { $0.hasMessages }
  }

  /// The run takes nothing of queues any more; what it took and did not settle goes back.
  public func giveBackMessages(job: String, epoch: Int64) {
    guard let run = jobRuns[job], run.epoch == epoch else { return }
    run.giveBack()
  }

  /// Checks that what a step settles is the run's to settle.
  func checkSettlements(of step: JobStep, _ run: JobRun) throws(BrokerError) {
    for (queue, after, through) in step.settlements {
      guard let intake = run.intakes[queue] else {
        throw BrokerError(
          .invalidRequest, "run \(run.epoch) settles messages of queue \(queue), which it does not read")
      }
      try intake.check(after: after, through: through)
    }
  }
}

/// The messages of a step, which go into its append unit.
struct StagedMessages {
  fileprivate let messages: [StepMessage]
  fileprivate let forced: Set<ObjectIdentifier>
}

extension QueueBroker {
  /// Puts messages into a unit that is handed to the log next; ``stepEnded(_:_:)`` follows.
  func stage(_ staged: StagedMessages, in unit: StagedUnit) {
    for (hosted, publication) in staged.messages {
      _ = enqueue(
        publication.detached(), into: .queue(hosted), isDelayed: false, on: .unit(unit),
        isForced: staged.forced.contains(ObjectIdentifier(hosted)))
    }
  }

  /// The unit is durable, or never will be.
  func stepEnded(_ unit: StagedUnit, _ result: Result<[AppendedBatch], LogError>) {
    switch result {
    case .success(let appended): ended(unit, nil, appended)
    case .failure: withdraw(unit)
    }
  }
}
