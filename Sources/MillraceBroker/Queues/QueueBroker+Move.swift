// QueueBroker+Move: messages from one queue into others, each in the commit that takes it out.

import MillraceBase
import MillraceDelivery
import MillraceModel
import MillraceRouting

/// Where a message goes that is moved.
public struct MoveTarget {
  /// The queue.
  public var queue: String
  /// The properties it gets.
  public var properties: Bytes

  /// A queue, and the properties the message gets.
  public init(queue: String, properties: Bytes) {
    self.queue = queue
    self.properties = properties
  }
}

extension QueueBroker {
  /// Moves up to `limit` messages that are ready out of a queue, in its order.
  ///
  /// Each is published to its target in the commit that takes it out, so that it is in one of the queues at any time.
  /// Deduplication at the target does not count. `completion` gets how many were moved; those that came while it went on
  /// may be among them.
  /// - Parameter target: where a message goes; nil, and a queue that is not there, leave it where it is.
  /// - Errors: 404, 405, 530; 506 when a target is full, 541 when storage fails: what was moved before stays moved.
  public func move(
    from queue: String, in virtualHost: String, owner: QueueOwner?, limit: Int,
    to target: @escaping (Message) -> MoveTarget?, completion: @escaping (Result<Int, RoutingError>) -> Void
  ) {
    do throws(RoutingError) {
      let hosted = try usable(queue, in: virtualHost, by: owner)
      let move = QueueMove(self, virtualHost: virtualHost, limit: min(limit, hosted.queue.length), target, completion)
      move.consumer = try attach(queue, in: virtualHost, owner: owner, sink: move)
      move.take()
    } catch {
      completion(.failure(error))
    }
  }
}

/// One call of `move`. Kept alive by the answers it waits for.
private final class QueueMove: DeliverySink {
  private static let messagesAtOnce = 256
  private static let bytesAtOnce = 1 << 20

  private let queues: QueueBroker
  private let virtualHost: String
  /// Messages that may still be looked at.
  private var left: Int
  private let target: (Message) -> MoveTarget?
  private let completion: (Result<Int, RoutingError>) -> Void
  var consumer: QueueConsumer?
  private var transaction = QueueTransaction()
  private var bytes = 0
  private var moved = 0
  private var isEmpty = false

  init(
    _ queues: QueueBroker, virtualHost: String, limit: Int, _ target: @escaping (Message) -> MoveTarget?,
    _ completion: @escaping (Result<Int, RoutingError>) -> Void
  ) {
    self.queues = queues
    self.virtualHost = virtualHost
    left = limit
    self.target = target
    self.completion = completion
    transaction.isForced = true
  }

  func deliver(_ delivery: Delivery, to consumer: QueueConsumer) {}
  func ended(_ consumer: QueueConsumer, _ reason: QueueConsumer.EndReason) {}

  /// Takes messages until a batch is full, then publishes it.
  func take() {
    while left > 0, !isEmpty, transaction.publications.count < QueueMove.messagesAtOnce, bytes < QueueMove.bytesAtOnce {
      var isAnswered = false
      var isWaiting = false
      guard let consumer else { return }
      consumer.get(isNoAck: false) { [self] got in
        isAnswered = true
        if let got { add(got.delivery, consumer) } else { isEmpty = true }
        if isWaiting { take() }
      }
      isWaiting = true
      if !isAnswered { return }
    }
    publish()
  }

  private func add(_ delivery: Delivery, _ consumer: QueueConsumer) {
    left -= 1
    let message = delivery.message
    // What goes nowhere stays in flight until the end, so that it is not taken again.
    guard let target = target(message), let format = queues.formats[message.format],
      queues.find(target.queue, in: virtualHost) != nil
    else { return }
    var facts = format.facts(target.properties)
    facts.isPersistent = message.isDurable
    facts.extraKeys = []
    transaction.publications.append(
      Publication(
        virtualHost: virtualHost, exchange: Bytes(), routingKey: Bytes(target.queue), format: format,
        properties: target.properties, body: message.body, facts: facts))
    transaction.settlements.append((consumer, delivery.position, .acknowledge))
    bytes += message.body.count + target.properties.count
  }

  private func publish() {
    guard !transaction.publications.isEmpty else { return end(.success(moved)) }
    var sums: [String: (count: Int, bytes: Int)] = [:]
    for publication in transaction.publications {
      sums[publication.routingKey.text, default: (0, 0)].count += 1
      sums[publication.routingKey.text, default: (0, 0)].bytes += publication.body.count
    }
    for (queue, sum) in sums
    where !queues.hasRoom(in: queue, of: virtualHost, for: sum.count, bytes: sum.bytes) {
      return end(
        .failure(RoutingError(.resourceError, "queue '\(queue)' is full; \(moved) messages were moved before")))
    }
    let batch = transaction
    transaction.publications = []
    transaction.settlements = []
    bytes = 0
    queues.commit(batch) { [self] result in
      switch result {
      case .failure(let error): end(.failure(error))
      case .success:
        moved += batch.publications.count
        // Others get their turn, and the stack does not grow with the queue.
        queues.broker.reactor.atEndOfTurn { [self] in take() }
      }
    }
  }

  private func end(_ result: Result<Int, RoutingError>) {
    consumer?.close(isFailure: false)
    consumer = nil
    completion(result)
  }
}
