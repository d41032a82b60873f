// AMQPConsumer: a channel's consumers as the broker sees them: of a queue, for basic.get, of direct replies.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceDelivery

/// A consumer that deliveries are pushed to.
final class AMQPConsumer: DeliverySink {
  let channel: AMQPChannel
  let tag: ShortString
  let isNoAck: Bool
  /// The queue's end of it.
  private(set) var queueConsumer: QueueConsumer?
  /// What came before the client was told that there is a consumer.
  private var early: [Delivery] = []

  init(channel: AMQPChannel, tag: ShortString, isNoAck: Bool) {
    self.channel = channel
    self.tag = tag
    self.isNoAck = isNoAck
  }

  func deliver(_ delivery: Delivery, to consumer: QueueConsumer) {
    deliver([delivery][...], to: consumer)
  }

  func deliver(_ deliveries: ArraySlice<Delivery>, to consumer: QueueConsumer) {
    if queueConsumer == nil { return early.append(contentsOf: deliveries) }
    channel.deliver(deliveries, of: consumer, to: self)
  }

  /// The client has been told: deliveries go out from now on.
  func begin(_ consumer: QueueConsumer) {
    queueConsumer = consumer
    channel.deliver(early[...], of: consumer, to: self)
    early = []
  }

  func ended(_ consumer: QueueConsumer, _ reason: QueueConsumer.EndReason) { channel.ended(self, consumer, reason) }
}

/// A consumer that takes one message at a time.
final class AMQPGetter: DeliverySink {
  private let channel: AMQPChannel
  private let queue: String
  /// The queue's end of it.
  var queueConsumer: QueueConsumer?

  init(channel: AMQPChannel, queue: String) {
    self.channel = channel
    self.queue = queue
  }

  func deliver(_ delivery: Delivery, to consumer: QueueConsumer) {
    preconditionFailure("a passive consumer was delivered to")
  }

  func ended(_ consumer: QueueConsumer, _ reason: QueueConsumer.EndReason) {
    switch reason {
    case .queueDeleted: channel.getters[queue] = nil
    case .timedOut: channel.timedOut(consumer)
    }
  }
}

/// A channel's consumer of direct replies.
struct ReplyConsumer {
  /// What clients call the queue that there is not.
  static let queue = "amq.rabbitmq.reply-to"

  let tag: ShortString
  /// The routing key by which it is reached through the default exchange.
  let address: ShortString

  /// Whether a routing key may be an address.
  static func isAddress(_ key: ShortString) -> Bool {
    guard key.count > queue.utf8.count, key.bytes[0] == UInt8(ascii: "a") else { return false }
    return key.bytes.withBuffer { $0.starts(with: queue.utf8) && $0[queue.utf8.count] == UInt8(ascii: ".") }
  }
}
