// QueueMethods: class 50, queue: queues and their bindings.

import MillraceBase

/// `queue.declare`, from the client: creates a queue, or checks that one is as described.
public struct QueueDeclare: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 50, methodID: 10)
  /// Reserved: a ticket of AMQP 0-8; ignored.
  public var ticket: UInt16
  /// Name of the queue; empty is, by the method, a name to be chosen or the channel's last queue.
  public var queue: String
  /// Whether to check only, and create nothing.
  public var passive: Bool
  /// Whether it outlives the server's process.
  public var durable: Bool
  /// Whether it belongs to this connection and goes with it.
  public var exclusive: Bool
  /// Whether it goes when its last user has gone.
  public var autoDelete: Bool
  /// Whether no answer is wanted.
  public var noWait: Bool
  /// Further arguments.
  public var arguments: AMQPFieldTable

  /// The method with these fields.
  public init(
    queue: String = "", passive: Bool = false, durable: Bool = false, exclusive: Bool = false, autoDelete: Bool = false,
    noWait: Bool = false, arguments: AMQPFieldTable = [:], ticket: UInt16 = 0
  ) {
    self.queue = queue
    self.passive = passive
    self.durable = durable
    self.exclusive = exclusive
    self.autoDelete = autoDelete
    self.noWait = noWait
    self.arguments = arguments
    self.ticket = ticket
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    ticket = try reader.uint16()
    queue = try reader.shortText()
    let bits = try reader.uint8()
    passive = bits & 1 != 0
    durable = bits & 2 != 0
    exclusive = bits & 4 != 0
    autoDelete = bits & 8 != 0
    noWait = bits & 16 != 0
    arguments = try reader.table()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(ticket)
    writer.shortText(queue)
    writer.bits(passive, durable, exclusive, autoDelete, noWait)
    writer.table(arguments)
  }
}

/// `queue.declare-ok`, from the server: confirms it, with the name if the server chose it.
public struct QueueDeclareOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 50, methodID: 11)
  /// Name of the queue; empty is, by the method, a name to be chosen or the channel's last queue.
  public var queue: String
  /// Number of messages.
  public var messageCount: UInt32
  /// Number of consumers.
  public var consumerCount: UInt32

  /// The method with these fields.
  public init(queue: String, messageCount: UInt32, consumerCount: UInt32) {
    self.queue = queue
    self.messageCount = messageCount
    self.consumerCount = consumerCount
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    queue = try reader.shortText()
    messageCount = try reader.uint32()
    consumerCount = try reader.uint32()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.shortText(queue)
    writer.uint32(messageCount)
    writer.uint32(consumerCount)
  }
}

/// `queue.bind`, from the client: binds a queue to an exchange.
public struct QueueBind: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 50, methodID: 20)
  /// Reserved: a ticket of AMQP 0-8; ignored.
  public var ticket: UInt16
  /// Name of the queue; empty is, by the method, a name to be chosen or the channel's last queue.
  public var queue: String
  /// Name of the exchange; empty is the default exchange.
  public var exchange: String
  /// The routing key.
  public var routingKey: String
  /// Whether no answer is wanted.
  public var noWait: Bool
  /// Further arguments.
  public var arguments: AMQPFieldTable

  /// The method with these fields.
  public init(
    queue: String = "", exchange: String, routingKey: String = "", noWait: Bool = false,
    arguments: AMQPFieldTable = [:], ticket: UInt16 = 0
  ) {
    self.queue = queue
    self.exchange = exchange
    self.routingKey = routingKey
    self.noWait = noWait
    self.arguments = arguments
    self.ticket = ticket
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    ticket = try reader.uint16()
    queue = try reader.shortText()
    exchange = try reader.shortText()
    routingKey = try reader.shortText()
    let bits = try reader.uint8()
    noWait = bits & 1 != 0
    arguments = try reader.table()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(ticket)
    writer.shortText(queue)
    writer.shortText(exchange)
    writer.shortText(routingKey)
    writer.bits(noWait)
    writer.table(arguments)
  }
}

/// `queue.bind-ok`, from the server: confirms it.
public struct QueueBindOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 50, methodID: 21)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}

/// `queue.purge`, from the client: drops all messages of a queue that are ready.
public struct QueuePurge: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 50, methodID: 30)
  /// Reserved: a ticket of AMQP 0-8; ignored.
  public var ticket: UInt16
  /// Name of the queue; empty is, by the method, a name to be chosen or the channel's last queue.
  public var queue: String
  /// Whether no answer is wanted.
  public var noWait: Bool

  /// The method with these fields.
  public init(queue: String = "", noWait: Bool = false, ticket: UInt16 = 0) {
    self.queue = queue
    self.noWait = noWait
    self.ticket = ticket
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    ticket = try reader.uint16()
    queue = try reader.shortText()
    let bits = try reader.uint8()
    noWait = bits & 1 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(ticket)
    writer.shortText(queue)
    writer.bits(noWait)
  }
}

/// `queue.purge-ok`, from the server: says how many they were.
public struct QueuePurgeOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 50, methodID: 31)
  /// Number of messages.
  public var messageCount: UInt32

  /// The method with these fields.
  public init(messageCount: UInt32) {
    self.messageCount = messageCount
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    messageCount = try reader.uint32()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint32(messageCount)
  }
}

/// `queue.delete`, from the client: deletes a queue.
public struct QueueDelete: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 50, methodID: 40)
  /// Reserved: a ticket of AMQP 0-8; ignored.
  public var ticket: UInt16
  /// Name of the queue; empty is, by the method, a name to be chosen or the channel's last queue.
  public var queue: String
  /// Whether to refuse when it is used.
  public var ifUnused: Bool
  /// Whether to refuse when it holds messages.
  public var ifEmpty: Bool
  /// Whether no answer is wanted.
  public var noWait: Bool

  /// The method with these fields.
  public init(
    queue: String = "", ifUnused: Bool = false, ifEmpty: Bool = false, noWait: Bool = false, ticket: UInt16 = 0
  ) {
    self.queue = queue
    self.ifUnused = ifUnused
    self.ifEmpty = ifEmpty
    self.noWait = noWait
    self.ticket = ticket
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    ticket = try reader.uint16()
    queue = try reader.shortText()
    let bits = try reader.uint8()
    ifUnused = bits & 1 != 0
    ifEmpty = bits & 2 != 0
    noWait = bits & 4 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(ticket)
    writer.shortText(queue)
    writer.bits(ifUnused, ifEmpty, noWait)
  }
}

/// `queue.delete-ok`, from the server: says how many messages went with it.
public struct QueueDeleteOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 50, methodID: 41)
  /// Number of messages.
  public var messageCount: UInt32

  /// The method with these fields.
  public init(messageCount: UInt32) {
    self.messageCount = messageCount
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    messageCount = try reader.uint32()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint32(messageCount)
  }
}

/// `queue.unbind`, from the client: takes a binding away.
public struct QueueUnbind: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 50, methodID: 50)
  /// Reserved: a ticket of AMQP 0-8; ignored.
  public var ticket: UInt16
  /// Name of the queue; empty is, by the method, a name to be chosen or the channel's last queue.
  public var queue: String
  /// Name of the exchange; empty is the default exchange.
  public var exchange: String
  /// The routing key.
  public var routingKey: String
  /// Further arguments.
  public var arguments: AMQPFieldTable

  /// The method with these fields.
  public init(
    queue: String = "", exchange: String, routingKey: String = "", arguments: AMQPFieldTable = [:], ticket: UInt16 = 0
  ) {
    self.queue = queue
    self.exchange = exchange
    self.routingKey = routingKey
    self.arguments = arguments
    self.ticket = ticket
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    ticket = try reader.uint16()
    queue = try reader.shortText()
    exchange = try reader.shortText()
    routingKey = try reader.shortText()
    arguments = try reader.table()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(ticket)
    writer.shortText(queue)
    writer.shortText(exchange)
    writer.shortText(routingKey)
    writer.table(arguments)
  }
}

/// `queue.unbind-ok`, from the server: confirms it.
public struct QueueUnbindOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 50, methodID: 51)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}
