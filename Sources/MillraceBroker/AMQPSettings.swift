// AMQPSettings: the broker's settings of clients that speak AMQP.

extension BrokerSettings {
  /// Sizes.
  static let amqpTable: [Setting] = [
    Setting(
      "amqp.max.message.size", .int, "16777216", range: 1...134_217_728, unit: .bytes,
      "Largest body of a message that is published by AMQP, in bytes.")
  ]

  /// `amqp.max.message.size`
  public var largestAMQPMessage: Int { text("amqp.max.message.size").flatMap { Int($0) } ?? 16 << 20 }
}
