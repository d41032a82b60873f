// Broker+JobQueues: what steps of jobs put into message queues.
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
