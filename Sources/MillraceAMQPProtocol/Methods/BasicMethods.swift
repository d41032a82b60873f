// BasicMethods: class 60, basic: publishing, consuming and acknowledging.

import MillraceBase

/// `basic.qos`, from the client: limits how much may be delivered before it is acknowledged.
public struct BasicQos: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 10)
  /// Most bytes unacknowledged; 0 is no limit. Servers refuse others.
  public var prefetchSize: UInt32
  /// Most deliveries unacknowledged; 0 is no limit.
  public var prefetchCount: UInt16
  /// RabbitMQ: false limits each new consumer of the channel, true the channel.
  public var global: Bool

  /// The method with these fields.
  public init(prefetchSize: UInt32 = 0, prefetchCount: UInt16 = 0, global: Bool = false) {
    self.prefetchSize = prefetchSize
    self.prefetchCount = prefetchCount
    self.global = global
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    prefetchSize = try reader.uint32()
    prefetchCount = try reader.uint16()
    let bits = try reader.uint8()
    global = bits & 1 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint32(prefetchSize)
    writer.uint16(prefetchCount)
    writer.bits(global)
  }
}

/// `basic.qos-ok`, from the server: confirms it.
public struct BasicQosOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 11)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}

/// `basic.consume`, from the client: starts a consumer.
public struct BasicConsume: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 20)
  /// Reserved: a ticket of AMQP 0-8; ignored.
  public var ticket: UInt16
  /// Name of the queue; empty is, by the method, a name to be chosen or the channel's last queue.
  public var queue: String
  /// Names the consumer on its channel.
  public var consumerTag: String
  /// Ignored, as in RabbitMQ.
  public var noLocal: Bool
  /// Whether deliveries count as acknowledged at once.
  public var noAck: Bool
  /// Whether it shall be the queue's only consumer.
  public var exclusive: Bool
  /// Whether no answer is wanted.
  public var noWait: Bool
  /// Further arguments.
  public var arguments: AMQPFieldTable

  /// The method with these fields.
  public init(
    queue: String = "", consumerTag: String = "", noLocal: Bool = false, noAck: Bool = false, exclusive: Bool = false,
    noWait: Bool = false, arguments: AMQPFieldTable = [:], ticket: UInt16 = 0
  ) {
    self.queue = queue
    self.consumerTag = consumerTag
    self.noLocal = noLocal
    self.noAck = noAck
    self.exclusive = exclusive
    self.noWait = noWait
    self.arguments = arguments
    self.ticket = ticket
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    ticket = try reader.uint16()
    queue = try reader.shortText()
    consumerTag = try reader.shortText()
    let bits = try reader.uint8()
    noLocal = bits & 1 != 0
    noAck = bits & 2 != 0
    exclusive = bits & 4 != 0
    noWait = bits & 8 != 0
    arguments = try reader.table()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(ticket)
    writer.shortText(queue)
    writer.shortText(consumerTag)
    writer.bits(noLocal, noAck, exclusive, noWait)
    writer.table(arguments)
  }
}

/// `basic.consume-ok`, from the server: confirms it, with the tag if the server chose it.
public struct BasicConsumeOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 21)
  /// Names the consumer on its channel.
  public var consumerTag: String

  /// The method with these fields.
  public init(consumerTag: String) {
    self.consumerTag = consumerTag
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    consumerTag = try reader.shortText()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.shortText(consumerTag)
  }
}

/// `basic.cancel`, from either side: ends a consumer; from the server, because its queue is gone (RabbitMQ extension).
public struct BasicCancel: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 30)
  /// Names the consumer on its channel.
  public var consumerTag: String
  /// Whether no answer is wanted.
  public var noWait: Bool

  /// The method with these fields.
  public init(consumerTag: String, noWait: Bool = false) {
    self.consumerTag = consumerTag
    self.noWait = noWait
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    consumerTag = try reader.shortText()
    let bits = try reader.uint8()
    noWait = bits & 1 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.shortText(consumerTag)
    writer.bits(noWait)
  }
}

/// `basic.cancel-ok`, from either side: confirms it.
public struct BasicCancelOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 31)
  /// Names the consumer on its channel.
  public var consumerTag: String

  /// The method with these fields.
  public init(consumerTag: String) {
    self.consumerTag = consumerTag
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    consumerTag = try reader.shortText()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.shortText(consumerTag)
  }
}

/// `basic.get`, from the client: asks for one message.
public struct BasicGet: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 70)
  /// Reserved: a ticket of AMQP 0-8; ignored.
  public var ticket: UInt16
  /// Name of the queue; empty is, by the method, a name to be chosen or the channel's last queue.
  public var queue: String
  /// Whether deliveries count as acknowledged at once.
  public var noAck: Bool

  /// The method with these fields.
  public init(queue: String = "", noAck: Bool = false, ticket: UInt16 = 0) {
    self.queue = queue
    self.noAck = noAck
    self.ticket = ticket
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    ticket = try reader.uint16()
    queue = try reader.shortText()
    let bits = try reader.uint8()
    noAck = bits & 1 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(ticket)
    writer.shortText(queue)
    writer.bits(noAck)
  }
}

/// `basic.get-empty`, from the server: says that there is none.
public struct BasicGetEmpty: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 72)
  /// Reserved.
  public var clusterId: String

  /// The method with these fields.
  public init(clusterId: String = "") {
    self.clusterId = clusterId
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    clusterId = try reader.shortText()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.shortText(clusterId)
  }
}

/// `basic.ack`, from either side: acknowledges deliveries; from the server, confirms publishing (RabbitMQ extension).
public struct BasicAck: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 80)
  /// Number on its channel.
  public var deliveryTag: UInt64
  /// Whether all up to this number are meant.
  public var multiple: Bool

  /// The method with these fields.
  public init(deliveryTag: UInt64 = 0, multiple: Bool = false) {
    self.deliveryTag = deliveryTag
    self.multiple = multiple
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    deliveryTag = try reader.uint64()
    let bits = try reader.uint8()
    multiple = bits & 1 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint64(deliveryTag)
    writer.bits(multiple)
  }
}

/// `basic.reject`, from the client: refuses one delivery.
public struct BasicReject: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 90)
  /// Number on its channel.
  public var deliveryTag: UInt64
  /// Whether to deliver again rather than to drop or dead-letter.
  public var requeue: Bool

  /// The method with these fields.
  public init(deliveryTag: UInt64, requeue: Bool = true) {
    self.deliveryTag = deliveryTag
    self.requeue = requeue
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    deliveryTag = try reader.uint64()
    let bits = try reader.uint8()
    requeue = bits & 1 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint64(deliveryTag)
    writer.bits(requeue)
  }
}

/// `basic.recover-async`, from the client: asks for redelivery of what is not acknowledged; not answered.
public struct BasicRecoverAsync: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 100)
  /// Whether to deliver again rather than to drop or dead-letter.
  public var requeue: Bool

  /// The method with these fields.
  public init(requeue: Bool = false) {
    self.requeue = requeue
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let bits = try reader.uint8()
    requeue = bits & 1 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.bits(requeue)
  }
}

/// `basic.recover`, from the client: asks for redelivery of what is not acknowledged.
public struct BasicRecover: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 110)
  /// Whether to deliver again rather than to drop or dead-letter.
  public var requeue: Bool

  /// The method with these fields.
  public init(requeue: Bool = false) {
    self.requeue = requeue
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let bits = try reader.uint8()
    requeue = bits & 1 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.bits(requeue)
  }
}

/// `basic.recover-ok`, from the server: confirms it.
public struct BasicRecoverOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 111)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}

/// `basic.nack`, from either side: refuses deliveries; from the server, says that publishing failed (RabbitMQ
/// extension).
public struct BasicNack: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 60, methodID: 120)
  /// Number on its channel.
  public var deliveryTag: UInt64
  /// Whether all up to this number are meant.
  public var multiple: Bool
  /// Whether to deliver again rather than to drop or dead-letter.
  public var requeue: Bool

  /// The method with these fields.
  public init(deliveryTag: UInt64 = 0, multiple: Bool = false, requeue: Bool = true) {
    self.deliveryTag = deliveryTag
    self.multiple = multiple
    self.requeue = requeue
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    deliveryTag = try reader.uint64()
    let bits = try reader.uint8()
    multiple = bits & 1 != 0
    requeue = bits & 2 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint64(deliveryTag)
    writer.bits(multiple, requeue)
  }
}
