// TakenMessages: what one connection has taken from a queue, from then until it is acknowledged or goes back.

import MillraceBroker
import MillraceDelivery

/// The messages of one request to take some. They are in flight with a consumer that goes with the connection, so that a
/// client that dies before it has written them anywhere loses none: they are delivered again.
final class TakenMessages: DeliverySink {
  var consumer: QueueConsumer?
  private var positions: [Position] = []
  private var messages: [QueueMessage] = []
  private var bytes = 0
  private var left = 0

  func deliver(_ delivery: Delivery, to consumer: QueueConsumer) {}
  func ended(_ consumer: QueueConsumer, _ reason: QueueConsumer.EndReason) {}

  /// Takes messages until there are `limit`, or they reach `bytes`, or the queue is empty. Kept alive by what it waits for.
  /// - Parameter completion: gets them, and how many are left; they are not held here afterwards.
  func take(_ limit: Int, bytes most: Int, completion: @escaping ([QueueMessage], Int) -> Void) {
    while messages.count < limit, bytes < most, let consumer {
      var isAnswered = false
      var isWaiting = false
      var isEmpty = false
      consumer.get(isNoAck: false) { [self] got in
        isAnswered = true
        if let got { add(got.delivery, left: got.left) } else { isEmpty = true }
        guard isWaiting else { return }
        if isEmpty { finish(completion) } else { take(limit, bytes: most, completion: completion) }
      }
      isWaiting = true
      if !isAnswered { return }
      if isEmpty { break }
    }
    finish(completion)
  }

  private func add(_ delivery: Delivery, left: Int) {
    self.left = left
    positions.append(delivery.position)
    var message = QueueMessage(delivery.message, at: delivery.position)
    message.isRedelivered = delivery.isRedelivered
    message.failures = delivery.deliveryCount
    messages.append(message)
    bytes += message.body.count + message.properties.count
  }

  private func finish(_ completion: ([QueueMessage], Int) -> Void) {
    let found = messages
    messages = []
    completion(found, left)
  }

  /// - Returns: how many were still in flight here.
  func acknowledge() -> Int {
    guard let consumer else { return 0 }
    return positions.reduce(0) { $0 + (consumer.settle($1, .acknowledge) ? 1 : 0) }
  }

  /// Gives back what is in flight.
  /// - Parameter isFailure: whether that counts as a failed delivery, as when a connection breaks.
  func close(isFailure: Bool) {
    // First, because it tells those that wait for a message.
    let closed = consumer
    consumer = nil
    closed?.close(isFailure: isFailure)
  }
}
