// Broker+Together: batches for any partitions and offsets of groups as one unit: what a transaction is for those who have
// all of it at hand.

import MillraceBase
import MillraceLog
import MillraceMetadata
import MillraceModel

extension Broker {
  /// Appends batches and commits offsets, all in one commit of the journal or nothing.
  ///
  /// Every reader sees the records from the moment the commit is durable, which `completion` tells; no marker is needed.
  /// - Parameters:
  ///   - batches: each checked as ``produce(_:_:records:transaction:completion:)`` does; without producer ids.
  ///   - offsets: by group; the groups must have no members.
  /// - Errors: those of producing and of committing offsets, `.messageTooLarge` when it exceeds the log's largest unit.
  public func append(
    together batches: [JobStep.Output], offsets: [String: [PartitionOffset]] = [:],
    completion: @escaping (BrokerError?) -> Void
  ) {
    var unit = AppendUnit()
    do throws(BrokerError) {
      guard isOpen else { throw BrokerError(.stopped, "the broker is closed") }
      for batch in batches {
        guard let topic = topic(batch.topic) else { throw unknown(batch.topic) }
        let prepared = try prepare(topic, batch.partition, batch.bytes)
        guard !prepared.header.isIdempotent else {
          throw BrokerError(.invalidRecord, "a batch of producer \(prepared.header.producerID) goes its own way")
        }
        unit.batches.append(prepared)
      }
      for (group, list) in offsets.sorted(by: { $0.key < $1.key }) where !list.isEmpty {
        try groups.checkCommit(group: group, memberID: "", instanceID: nil, generation: -1)
        for offset in list where topic(offset.partition.topic) == nil { throw unknown(offset.partition.topic) }
        unit.events.append(MetadataEvent.offsetsCommitted(group: group, offsets: list).encoded())
      }
    } catch {
      return completion(error)
    }
    guard !unit.batches.isEmpty || !unit.events.isEmpty else { return completion(nil) }
    let appended = unit.batches
    log.append(unit) { [self] result in
      switch result {
      case .success:
        for batch in appended { count(batch.log, batch.header) }
        completion(nil)
      case .failure(let error): completion(BrokerError(error))
      }
    }
  }

  private func unknown(_ topic: String) -> BrokerError {
    BrokerError(.unknownTopicOrPartition, "topic \(topic) does not exist")
  }
}
