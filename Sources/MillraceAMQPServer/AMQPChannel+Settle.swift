// AMQPChannel+Settle: what the client says of its deliveries: ack, nack, reject, recover.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceDelivery

extension AMQPChannel {
  func acknowledge(_ fields: BasicAck) throws(AMQPError) {
    try settle(fields.deliveryTag, multiple: fields.multiple, .acknowledge)
  }

  /// - Parameter isFailure: whether a requeue counts as a failed delivery: `reject` does, `nack` does not.
  func settle(_ tag: UInt64, multiple: Bool, requeue: Bool, isFailure: Bool) throws(AMQPError) {
    try settle(tag, multiple: multiple, requeue ? .requeue(isFailure: isFailure) : .discard)
  }

  private func settle(_ tag: UInt64, multiple: Bool, _ settlement: Settlement) throws(AMQPError) {
    let isInTransaction = mode == .transactional
    if multiple, !isInTransaction, settlement == .acknowledge { return try acknowledge(through: tag) }
    let isKnown = unacknowledged.take(tag, multiple: multiple) { delivery in
      if isInTransaction {
        transaction.settlements.append((delivery, settlement))
      } else {
        // It may not be in flight any more, when its queue is gone or it took too long.
        delivery.holder.settle(delivery.position, settlement)
      }
    }
    guard isKnown else { throw AMQPError(.preconditionFailed, "unknown delivery tag \(tag)") }
  }

  /// Acknowledges all up to a delivery, a consumer's in a row together.
  private func acknowledge(through tag: UInt64) throws(AMQPError) {
    var holder: QueueConsumer?
    var positions: [Position] = []
    let isKnown = unacknowledged.take(tag, multiple: true) { delivery in
      if delivery.holder !== holder {
        holder?.acknowledge(positions)
        positions.removeAll(keepingCapacity: true)
        holder = delivery.holder
      }
      positions.append(delivery.position)
    }
    holder?.acknowledge(positions)
    guard isKnown else { throw AMQPError(.preconditionFailed, "unknown delivery tag \(tag)") }
  }

  /// All that was delivered and not settled goes back.
  func recover(requeue: Bool) throws(AMQPError) {
    guard requeue else { throw AMQPError(.notImplemented, "requeue=false") }
    var all: [UnacknowledgedDelivery<QueueConsumer>] = []
    unacknowledged.takeAll { all.append($0) }
    for delivery in all { delivery.holder.settle(delivery.position, .requeue(isFailure: false)) }
  }
}
