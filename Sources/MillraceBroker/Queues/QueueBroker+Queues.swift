// QueueBroker+Queues: declaring, looking at, emptying and deleting queues, and consuming from them.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceMetadata
import MillraceModel
import MillraceRouting

extension QueueBroker {
  /// Declares a queue.
  ///
  /// `completion` follows once the queue can be used, durably when it is to be durable; it may be called before this returns.
  /// - Errors: 403 for a reserved name, 405 for an exclusive queue of somebody else, 406 for arguments that make no sense or
  ///   differ from the queue that is there, 530 without such a virtual host, 541 when storage fails.
  public func declare(
    _ declaration: QueueDeclaration, in virtualHost: String, owner: QueueOwner?,
    completion: @escaping (Result<QueueStatus, RoutingError>) -> Void
  ) {
    var declaration = declaration
    declaration.virtualHost = virtualHost
    let isOwnName = declaration.name.isEmpty
    do throws(RoutingError) {
      if isOwnName {
        try QueueArguments.checkServerNamed(declaration.arguments)
        declaration.name = newName()
      }
    } catch {
      return completion(.failure(error))
    }
    let name = QueueName(virtualHost: virtualHost, name: declaration.name)
    if changing[name] != nil {
      // What comes out of the change decides what this finds.
      changing[name]?.append { [self] in
        declare(declaration, in: virtualHost, owner: owner, completion: completion)
      }
      return
    }
    do throws(RoutingError) {
      let arguments = try check(declaration, in: virtualHost, owner, isOwnName: isOwnName)
      if let hosted = queues[name] {
        hosted.queue.touch(now: now)
        touched(hosted)
        return completion(.success(status(of: hosted)))
      }
      if arguments.type == .stream { return declareStream(declaration, arguments, in: virtualHost, completion) }
      guard declaration.isDurable, !declaration.isExclusive else {
        return completion(.success(status(of: host(declaration, arguments, owner: owner))))
      }
      create(declaration, arguments, name, owner, completion)
    } catch {
      completion(.failure(error))
    }
  }

  /// Checks a declaration against rules and against the queue that is there.
  private func check(
    _ declaration: QueueDeclaration, in virtualHost: String, _ owner: QueueOwner?, isOwnName: Bool
  ) throws(RoutingError) -> QueueArguments {
    guard isOpen, broker.isOpen else { throw RoutingError(.internalError, "the broker is closed") }
    if declaration.isExclusive, owner?.isClosed ?? true {
      throw RoutingError(.internalError, "whoever declares exclusive queue '\(declaration.name)' is gone")
    }
    guard hasVirtualHost(virtualHost) else {
      throw RoutingError.noVirtualHost(virtualHost)
    }
    if let hosted = find(declaration.name, in: virtualHost) {
      try checkOwner(of: hosted, owner)
      try hosted.declaration.checkEquivalence(of: declaration)
      return hosted.arguments
    }
    if declaration.name.hasPrefix("amq.") && !isOwnName {
      throw RoutingError(.accessRefused, "queue name '\(declaration.name)' contains reserved prefix 'amq.*'")
    }
    if declaration.name.utf8.count > Routing.maximumNameLength {
      throw RoutingError(
        .preconditionFailed, "queue name of \(declaration.name.utf8.count) bytes exceeds \(Routing.maximumNameLength)")
    }
    return try QueueArguments(declaration)
  }

  private func newName() -> String {
    var name = "amq.gen-"
    let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    for _ in 0..<22 { name.unicodeScalars.append(Unicode.Scalar(letters[Int(random.next() & 63)])) }
    return name
  }

  private func create(
    _ declaration: QueueDeclaration, _ arguments: QueueArguments, _ name: QueueName, _ owner: QueueOwner?,
    _ completion: @escaping (Result<QueueStatus, RoutingError>) -> Void
  ) {
    changing[name] = []
    var number: Int64 = 0
    recordUnit({ [self] error in
      let waiting = changing.removeValue(forKey: name) ?? []
      if let error {
        completion(.failure(error))
      } else if let durable = broker.metadata.queues[number] {
        let hosted = host(declaration, arguments, owner: owner, durable: durable)
        completion(.success(status(of: hosted)))
      } else {
        completion(.failure(RoutingError(.notFound, "queue '\(name.name)' was deleted meanwhile")))
      }
      for next in waiting { next() }
    }) { [self] () throws(RoutingError) in
      guard hasVirtualHost(name.virtualHost) else {
        throw RoutingError.noVirtualHost(name.virtualHost)
      }
      number = broker.metadata.queues.nextNumber
      let definition = DurableQueue.Definition(
        number: number, virtualHost: name.virtualHost, name: name.name, isAutoDelete: declaration.isAutoDelete,
        arguments: declaration.arguments,
        lanes: broker.metadata.newPartitions(Int(arguments.options.maximumPriority) + 1), created: now)
      return AppendUnit(event: MetadataEvent.queue(.queueCreated(definition)).encoded())
    }
  }

  func status(of hosted: HostedQueue) -> QueueStatus {
    QueueStatus(
      name: hosted.name, messageCount: hosted.queue.length, consumerCount: hosted.queue.consumerCount)
  }

  /// Looks at a queue without changing it, as a passive declaration does; it counts as use.
  /// - Throws: 404, 405, 530.
  public func inspect(
    _ queue: String, in virtualHost: String, owner: QueueOwner?
  ) throws(RoutingError) -> QueueStatus {
    if find(queue, in: virtualHost) == nil, let topic = stream(queue, in: virtualHost) { return status(of: topic) }
    let hosted = try usable(queue, in: virtualHost, by: owner)
    hosted.queue.touch(now: now)
    touched(hosted)
    return status(of: hosted)
  }

  /// Removes what is ready. `completion` gets the number of messages once that is durable.
  public func purge(
    _ queue: String, in virtualHost: String, owner: QueueOwner?,
    completion: @escaping (Result<Int, RoutingError>) -> Void
  ) {
    do throws(RoutingError) {
      if find(queue, in: virtualHost) == nil, stream(queue, in: virtualHost) != nil {
        throw RoutingError(
          .notImplemented, "purge not supported by stream queue '\(queue)' in vhost '\(virtualHost)'")
      }
      let hosted = try usable(queue, in: virtualHost, by: owner)
      let count = hosted.queue.purge()
      hosted.meter.removed(count, reason: .purged, now: exactNow)
      touched(hosted)
      guard hosted.isDurable else { return completion(.success(count)) }
      whenDurable { error in completion(error.map { .failure($0) } ?? .success(count)) }
    } catch {
      completion(.failure(error))
    }
  }

  // MARK: Deleting

  /// Deletes a queue with its messages; they are not dead-lettered. Its consumers are told.
  ///
  /// `completion` gets the number of messages that were ready; 0 when there is no such queue, which is no error.
  /// - Errors: 405, 406 when it is in use or not empty and that was a condition, 530.
  public func delete(
    _ queue: String, in virtualHost: String, ifUnused: Bool = false, ifEmpty: Bool = false, owner: QueueOwner?,
    completion: @escaping (Result<Int, RoutingError>) -> Void
  ) {
    let name = QueueName(virtualHost: virtualHost, name: queue)
    if changing[name] != nil {
      changing[name]?.append { [self] in
        delete(
          queue, in: virtualHost, ifUnused: ifUnused, ifEmpty: ifEmpty, owner: owner, completion: completion)
      }
      return
    }
    do throws(RoutingError) {
      guard hasVirtualHost(virtualHost) else {
        throw RoutingError.noVirtualHost(virtualHost)
      }
      guard let hosted = queues[name] else {
        guard let topic = stream(queue, in: virtualHost) else { return completion(.success(0)) }
        let count = status(of: topic).messageCount
        return broker.deleteTopic(topic) { error in
          completion(error.map { .failure(RoutingError(.internalError, $0.reason)) } ?? .success(count))
        }
      }
      try checkOwner(of: hosted, owner)
      if ifUnused, hosted.queue.consumerCount > 0 {
        throw RoutingError(.preconditionFailed, "queue '\(queue)' in vhost '\(virtualHost)' in use")
      }
      if ifEmpty, hosted.queue.length > 0 {
        throw RoutingError(.preconditionFailed, "queue '\(queue)' in vhost '\(virtualHost)' not empty")
      }
      let count = hosted.queue.length
      remove(hosted) { error in completion(error.map { .failure($0) } ?? .success(count)) }
    } catch {
      completion(.failure(error))
    }
  }

  /// Deletes a queue, whoever asks.
  func remove(_ hosted: HostedQueue, completion: @escaping Completion) {
    guard !hosted.isDeleted else { return completion(nil) }
    let name = QueueName(virtualHost: hosted.virtualHost, name: hosted.name)
    // What was published before goes into the log before its lanes go.
    flushPublications()
    // Before anybody hears of it: who declares the name again at once waits for the deletion.
    changing[name] = []
    forget(hosted)
    recordRemoval(of: hosted, name, completion)
  }

  /// Records that a queue is deleted. It is gone already: while the disk has no room even for that, it is tried again, and who
  /// declares the name anew waits.
  private func recordRemoval(of hosted: HostedQueue, _ name: QueueName, _ completion: @escaping Completion) {
    recordUnit({ [self] error in
      // Whatever the reason, as long as the log has not stopped: a drain that fails refuses appends as a full disk does.
      if let error, isOpen, broker.isOpen {
        broker.logger.logRarely(
          .error, "queues", "a queue's deletion cannot be recorded yet, and is tried again", "",
          ["queue": name.name, "vhost": name.virtualHost, "error": error.description], now: broker.reactor.now)
        broker.reactor.schedule(after: .seconds(1)) { [self] in recordRemoval(of: hosted, name, completion) }
        return
      }
      let waiting = changing.removeValue(forKey: name) ?? []
      if let error {
        broker.logger.log(
          .error, "queues", "a queue could not be deleted; it is there again after a restart",
          ["queue": name.name, "vhost": name.virtualHost, "error": error.description])
      }
      completion(error)
      for next in waiting { next() }
    }) { [self] in
      var unit = AppendUnit()
      switch removal(of: .destination(.queue(name.name)), in: name.virtualHost) {
      case .nothing: break
      case .event(let event): unit.events.append(MetadataEvent.queue(event).encoded())
      case .transient(let body): broker.metadata.applyTransient(body)
      }
      if let number = hosted.number {
        unit.events.append(MetadataEvent.queue(.queueDeleted(number)).encoded())
      }
      unit.givesSpaceBack = true
      return unit.events.isEmpty ? nil : unit
    }
  }

  /// The queue is not there any more, as far as clients see.
  func forget(_ hosted: HostedQueue) {
    guard !hosted.isDeleted else { return }
    hosted.isDeleted = true
    queues[QueueName(virtualHost: hosted.virtualHost, name: hosted.name)] = nil
    byID[hosted.queue.id] = nil
    hosted.timer?.timer.cancel()
    hosted.timer = nil
    for (_, lane) in hosted.memory.all { lane.freeAll { broker.log.scratch.free($0) } }
    memoryUsed -= hosted.countedBytes
    hosted.countedBytes = 0
    let consumers = hosted.consumers.values.sorted { $0.number < $1.number }
    hosted.consumers = [:]
    for consumer in consumers {
      // The credit of a channel's other consumers must not stay spent.
      hosted.queue.removeConsumer(consumer.id, isFailure: false, now: now)
      gaveBack(consumer.pool)
      consumer.sink?.ended(consumer, .queueDeleted)
      consumer.serveGets()
    }
    hosted.waitingGets = []
    queuesWithLetters[ObjectIdentifier(hosted)] = nil
    stillQueues[ObjectIdentifier(hosted)] = nil
    hosted.tellAfterLetters()
    lookAtPressure()
  }

  /// The owner is gone: its exclusive queues are deleted.
  public func ownerClosed(_ owner: QueueOwner) {
    watchPressure(owner, nil)
    owner.isClosed = true
    let exclusive = owner.queues
    owner.queues = []
    for hosted in exclusive where !hosted.isDeleted { remove(hosted) { _ in } }
  }

  /// An auto-delete queue goes with its last consumer.
  func consumerLeft(_ hosted: HostedQueue) {
    guard hosted.isAutoDelete, hosted.hadConsumers, hosted.queue.consumerCount == 0, !hosted.isDeleted else { return }
    remove(hosted) { _ in }
  }

  // MARK: Consuming

  /// Adds a consumer; deliveries begin at the end of the turn.
  ///
  /// A topic of this name is read from `start` on, what `filter` takes, unless a queue hides it; queues heed neither. What
  /// `deliver` of the sink does to the consumer, as pausing it, takes effect after a few more deliveries.
  /// - Parameter shareGroup: the share group as whose member it reads the topic; then the group knows where it is.
  /// - Throws: 403 when it, or another one, is exclusive; 404, 405, 530; 540 when a limit is shared with other consumers of
  ///   a quorum queue; 406 for a share group of what is no topic.
  public func consume(
    _ queue: String, in virtualHost: String, owner: QueueOwner?, options: ConsumerOptions,
    from start: StreamStart = .next, filter: StreamFilter? = nil, shareGroup: String? = nil, sink: any DeliverySink
  ) throws(RoutingError) -> QueueConsumer {
    if find(queue, in: virtualHost) == nil, let topic = stream(queue, in: virtualHost) {
      return try read(
        topic, in: virtualHost, options: options, from: start, filter: filter, shareGroup: shareGroup, sink: sink)
    }
    let hosted = try usable(queue, in: virtualHost, by: owner)
    if shareGroup != nil {
      throw RoutingError(
        .preconditionFailed, "queue '\(queue)' in vhost '\(virtualHost)' is no stream: it has no share groups")
    }
    if hosted.arguments.type == .quorum, options.pool.map({ $0.limit > 0 }) ?? false {
      throw RoutingError(.notImplemented, "queue '\(queue)' in vhost '\(virtualHost)' does not support global qos")
    }
    let id: ConsumerID
    do throws(QueueError) {
      id = try hosted.queue.addConsumer(options, now: now)
    } catch {
      throw RoutingError(.accessRefused, "queue '\(queue)' in vhost '\(virtualHost)' in exclusive use")
    }
    let consumer = HostedConsumer(id, of: hosted, options: options, sink: sink, queues: self)
    hosted.consumers[id] = consumer
    if !options.isPassive { hosted.hadConsumers = true }
    touched(hosted)
    return consumer
  }

  /// Adds a passive consumer: nothing is pushed to it, it takes messages one by one.
  /// - Throws: 404, 405, 530.
  public func attach(
    _ queue: String, in virtualHost: String, owner: QueueOwner?, sink: any DeliverySink
  ) throws(RoutingError) -> QueueConsumer {
    var options = ConsumerOptions()
    options.isPassive = true
    return try consume(queue, in: virtualHost, owner: owner, options: options, sink: sink)
  }

  /// Somebody asked for a message that must be read first.
  func getsWait(_ hosted: HostedQueue, _ consumer: HostedConsumer) {
    if !hosted.waitingGets.contains(where: { $0 === consumer }) { hosted.waitingGets.append(consumer) }
    touched(hosted)
  }
}
