// QueueBroker+Topics: topics as queues of type stream: every topic whose name clients may use is one, in the virtual host `/`.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceMetadata
import MillraceModel
import MillraceRouting

extension QueueBroker {
  /// The topic that a queue's name stands for, unless a queue of that name hides it.
  func stream(_ name: String, in virtualHost: String) -> TopicMetadata? {
    guard virtualHost == Routing.defaultVirtualHost, let topic = broker.topic(name), !topic.isInternal else {
      return nil
    }
    return topic
  }

  /// Declares a stream: the topic is made when it is not there, with one partition.
  func declareStream(
    _ declaration: QueueDeclaration, _ arguments: QueueArguments, in virtualHost: String,
    _ completion: @escaping (Result<QueueStatus, RoutingError>) -> Void
  ) {
    if let topic = stream(declaration.name, in: virtualHost) { return completion(.success(status(of: topic))) }
    guard virtualHost == Routing.defaultVirtualHost else {
      return completion(
        .failure(
          RoutingError(
            .notImplemented,
            "queue '\(declaration.name)' in vhost '\(virtualHost)': streams are topics, which are in vhost '/' only")))
    }
    var configs: [String: String] = [:]
    if let bytes = arguments.options.maximumBytes { configs["retention.bytes"] = "\(bytes)" }
    // A stream keeps what it has unless it is told otherwise; a topic has a standard of a week.
    configs["retention.ms"] = arguments.maximumAge.map { "\($0.inMilliseconds)" } ?? "-1"
    broker.createTopic(declaration.name, partitions: 1, configs: configs) { [self] result in
      switch result {
      case .success(let topic): completion(.success(status(of: topic)))
      case .failure(let error) where error.code == .topicExists:
        // Somebody else was quicker.
        guard let topic = stream(declaration.name, in: virtualHost) else {
          return completion(.failure(RoutingError(.accessRefused, error.reason)))
        }
        completion(.success(status(of: topic)))
      case .failure(let error):
        completion(
          .failure(
            RoutingError(
              error.code == .storage ? .resourceError : .preconditionFailed,
              "queue '\(declaration.name)' in vhost '\(virtualHost)': \(error.reason)")))
      }
    }
  }

  func status(of topic: TopicMetadata) -> QueueStatus {
    var count: Offset = 0
    for index in topic.partitions.indices {
      if let partition = broker.partition(topic, Int32(index)) {
        count += partition.highWatermark - partition.startOffset
      }
    }
    return QueueStatus(
      name: topic.name, messageCount: Int(count),
      consumerCount: readers.values.count { $0.queue == topic.name && !$0.isCancelled }
        + sharers.values.count { $0.queue == topic.name && !$0.isCancelled })
  }

  /// Reads a topic as a consumer, for itself or as one of a share group.
  /// - Throws: 406 without a limit of unsettled deliveries; 540 for one that settles by itself, that shares a limit, or that
  ///   takes messages one by one; 406 or 506 when the share group cannot be joined.
  func read(
    _ topic: TopicMetadata, in virtualHost: String, options: ConsumerOptions, from start: StreamStart,
    filter: StreamFilter?, shareGroup: String?, sink: any DeliverySink
  ) throws(RoutingError) -> QueueConsumer {
    let name = "queue '\(topic.name)' in vhost '\(virtualHost)'"
    if options.isPassive { throw RoutingError(.notImplemented, "basic.get not supported by stream queues \(name)") }
    if options.pool.map({ $0.limit > 0 }) ?? false {
      throw RoutingError(.notImplemented, "\(name) does not support global qos")
    }
    if options.isNoAck {
      throw RoutingError(.notImplemented, "automatic acknowledgement not supported by stream \(name)")
    }
    if options.credit == 0 {
      throw RoutingError(.preconditionFailed, "consumer prefetch count is not set for '\(name)'")
    }
    guard topic.partitions.count <= 256 else {
      throw RoutingError(
        .notImplemented, "\(name) has \(topic.partitions.count) partitions, 256 can be read as a queue")
    }
    guard let format = recordFormat else {
      throw RoutingError(.notImplemented, "\(name): no format of messages is registered")
    }
    if let shareGroup {
      do throws(BrokerError) {
        return try SharedConsumer(
          of: topic, in: virtualHost, group: shareGroup, options: options, format: format, sink: sink, queues: self)
      } catch {
        throw RoutingError(
          error.code == .groupTooLarge ? .resourceError : .preconditionFailed, "\(name): \(error.reason)")
      }
    }
    return StreamConsumer(
      of: topic, in: virtualHost, from: start, filter: filter, options: options, format: format, sink: sink,
      queues: self)
  }

  /// Takes away the bindings to a topic that is deleted: the event, when any of them is durable.
  func removal(ofTopic name: String) -> Bytes? {
    switch removal(of: .destination(.topic(name)), in: Routing.defaultVirtualHost) {
    case .nothing: return nil
    case .event(let event): return MetadataEvent.queue(event).encoded()
    case .transient(let body):
      broker.metadata.applyTransient(body)
      return nil
    }
  }

  func touched(_ consumer: StreamConsumer) {
    if consumer.isTouched || !isOpen { return }
    consumer.isTouched = true
    touchedStreams.append(consumer)
    planTurn()
  }

  // MARK: Publishing

  /// Whether a topic's rules let a message become one of its records.
  func accepts(_ publication: Publication, _ topic: TopicMetadata) -> Bool {
    if topic.isCompacted, key(of: publication) == nil { return false }
    return StagedUnit.size(of: record(of: publication)) + RecordBatchHeader.size <= largestBatch(of: topic)
  }

  /// The default exchange's key is the topic's name, which says nothing of the message.
  private func key(of publication: Publication) -> Bytes? {
    publication.exchange.isEmpty || publication.routingKey.isEmpty ? nil : publication.routingKey
  }

  private func record(of publication: Publication) -> Record {
    Record(
      key: key(of: publication), value: publication.body,
      headers: publication.format.recordHeaders(publication.properties), timestamp: broker.reactor.wallClock)
  }

  private func largestBatch(of topic: TopicMetadata) -> Int {
    topic.configs["max.message.bytes"].flatMap { Int($0) } ?? broker.settings.largestMessage
  }

  /// Puts a message into a unit as a record of a topic.
  /// - Returns: false when the topic's rules refuse it.
  func enqueue(_ publication: Publication, into topic: TopicMetadata, unit: StagedUnit) -> Bool {
    let record = record(of: publication)
    if topic.isCompacted, record.key == nil { return false }
    var index = 0
    if topic.partitions.count > 1 {
      if let key = record.key {
        index = key.withBuffer { Hashing.kafkaPartition(key: $0, partitions: topic.partitions.count) }
      } else {
        keylessRecords &+= 1
        index = keylessRecords % topic.partitions.count
      }
    }
    guard let log = broker.partition(topic, Int32(index)) else { return false }
    let size = StagedUnit.size(of: record)
    let limit = largestBatch(of: topic)
    guard size + RecordBatchHeader.size <= limit else { return false }
    unit.add(record, topic, log, size: size, limit: limit)
    return true
  }
}
