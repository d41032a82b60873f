// AMQPChannel+Get: basic.get: one message, if there is one.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceRouting

extension AMQPChannel {
  /// Queues whose passive consumer is kept for the next time.
  private static let mostGetters = 64

  func get(_ fields: BasicGet) throws(AMQPError) {
    let queue = try queueName(fields.queue)
    try permitted { access throws(RoutingError) in try access.requireQueue(.read, queue) }
    let consumer = try getter(queue)
    let answer: (Result<(delivery: Delivery, left: Int)?, RoutingError>) -> Void = waiting(BasicGet.id) { [self] got in
      guard let got else { return write(BasicGetEmpty()) }
      lastTag += 1
      if !fields.noAck {
        unacknowledged.append(
          UnacknowledgedDelivery(tag: lastTag, holder: consumer, position: got.delivery.position))
      }
      connection.writer.getOk(
        channel: number, deliveryTag: lastTag, redelivered: got.delivery.isRedelivered,
        exchange: got.delivery.message.exchange, routingKey: got.delivery.message.routingKey,
        messageCount: UInt32(clamping: got.left), properties: AMQPChannel.properties(got.delivery, consumer.queueType),
        body: ContentBody(got.delivery.message.body))
      connection.hasWritten()
      connection.chargeAnswered(got.delivery.message.properties.count + got.delivery.message.body.count)
    }
    consumer.get(isNoAck: fields.noAck) { answer(.success($0)) }
  }

  private func getter(_ queue: String) throws(AMQPError) -> QueueConsumer {
    if let known = getters[queue]?.queueConsumer { return known }
    let getter = AMQPGetter(channel: self, queue: queue)
    do throws(RoutingError) {
      let made = try queues.attach(queue, in: virtualHost, owner: connection.owner, sink: getter)
      getter.queueConsumer = made
      if getters.count >= AMQPChannel.mostGetters, let other = getters.keys.min() {
        // What it has delivered can still be settled.
        getters.removeValue(forKey: other)?.queueConsumer?.cancel()
      }
      getters[queue] = getter
      return made
    } catch {
      throw AMQPError(error)
    }
  }
}
