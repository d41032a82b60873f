// BasicContentMethods: the methods of class 60, basic, that a content follows.
//
// Their names are kept as the bytes that were received: they are on the path of every message, and RabbitMQ checks
// no UTF-8 here either.

import MillraceBase

/// `basic.publish`, from the client: publishes the content that follows.
public struct BasicPublish: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 40)
  /// Reserved: a ticket of AMQP 0-8; ignored.
  public var ticket: UInt16
  /// Name of the exchange; empty is the default exchange.
  public var exchange: ShortString
  /// The routing key.
  public var routingKey: ShortString
  /// Whether to return it when no queue takes it.
  public var mandatory: Bool
  /// Not supported by RabbitMQ since 3.0.
  public var immediate: Bool

  /// The method with these fields.
  public init(
    exchange: ShortString = "", routingKey: ShortString = "", mandatory: Bool = false, immediate: Bool = false,
    ticket: UInt16 = 0
  ) {
    self.exchange = exchange
    self.routingKey = routingKey
    self.mandatory = mandatory
    self.immediate = immediate
    self.ticket = ticket
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    ticket = try reader.uint16()
    exchange = try reader.shortString()
    routingKey = try reader.shortString()
    let bits = try reader.uint8()
    mandatory = bits & 1 != 0
    immediate = bits & 2 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(ticket)
    writer.shortString(exchange)
    writer.shortString(routingKey)
    writer.bits(mandatory, immediate)
  }
}

/// `basic.return`, from the server: gives back a content that could not be routed.
public struct BasicReturn: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 50)
  /// A reply code; see ``ReplyCode``.
  public var replyCode: UInt16
  /// Says what happened.
  public var replyText: ShortString
  /// Name of the exchange; empty is the default exchange.
  public var exchange: ShortString
  /// The routing key.
  public var routingKey: ShortString

  /// The method with these fields.
  public init(replyCode: UInt16, replyText: ShortString = "", exchange: ShortString, routingKey: ShortString) {
    self.replyCode = replyCode
    self.replyText = replyText
    self.exchange = exchange
    self.routingKey = routingKey
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    replyCode = try reader.uint16()
    replyText = try reader.shortString()
    exchange = try reader.shortString()
    routingKey = try reader.shortString()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(replyCode)
    writer.shortString(replyText)
    writer.shortString(exchange)
    writer.shortString(routingKey)
  }
}

/// `basic.deliver`, from the server: delivers the content that follows to a consumer.
public struct BasicDeliver: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 60)
  /// Names the consumer on its channel.
  public var consumerTag: ShortString
  /// Number on its channel.
  public var deliveryTag: UInt64
  /// Whether it may have been delivered before.
  public var redelivered: Bool
  /// Name of the exchange; empty is the default exchange.
  public var exchange: ShortString
  /// The routing key.
  public var routingKey: ShortString

  /// The method with these fields.
  public init(
    consumerTag: ShortString, deliveryTag: UInt64, redelivered: Bool = false, exchange: ShortString,
    routingKey: ShortString
  ) {
    self.consumerTag = consumerTag
    self.deliveryTag = deliveryTag
    self.redelivered = redelivered
    self.exchange = exchange
    self.routingKey = routingKey
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    consumerTag = try reader.shortString()
    deliveryTag = try reader.uint64()
    let bits = try reader.uint8()
    redelivered = bits & 1 != 0
    exchange = try reader.shortString()
    routingKey = try reader.shortString()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.shortString(consumerTag)
    writer.uint64(deliveryTag)
    writer.bits(redelivered)
    writer.shortString(exchange)
    writer.shortString(routingKey)
  }
}

/// `basic.get-ok`, from the server: delivers it, as the content that follows.
public struct BasicGetOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 71)
  /// Number on its channel.
  public var deliveryTag: UInt64
  /// Whether it may have been delivered before.
  public var redelivered: Bool
  /// Name of the exchange; empty is the default exchange.
  public var exchange: ShortString
  /// The routing key.
  public var routingKey: ShortString
  /// Number of messages.
  public var messageCount: UInt32

  /// The method with these fields.
  public init(
    deliveryTag: UInt64, redelivered: Bool = false, exchange: ShortString, routingKey: ShortString, messageCount: UInt32
  ) {
    self.deliveryTag = deliveryTag
    self.redelivered = redelivered
    self.exchange = exchange
    self.routingKey = routingKey
    self.messageCount = messageCount
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    deliveryTag = try reader.uint64()
    let bits = try reader.uint8()
    redelivered = bits & 1 != 0
    exchange = try reader.shortString()
    routingKey = try reader.shortString()
    messageCount = try reader.uint32()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint64(deliveryTag)
    writer.bits(redelivered)
    writer.shortString(exchange)
    writer.shortString(routingKey)
    writer.uint32(messageCount)
  }
}
