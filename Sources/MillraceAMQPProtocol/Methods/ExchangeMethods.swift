// ExchangeMethods: class 40, exchange: exchanges and their bindings.

import MillraceBase

/// `exchange.declare`, from the client: creates an exchange, or checks that one is as described.
public struct ExchangeDeclare: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 40, methodID: 10)
  /// Reserved: a ticket of AMQP 0-8; ignored.
  public var ticket: UInt16
  /// Name of the exchange; empty is the default exchange.
  public var exchange: String
  /// Kind of exchange, such as `direct`.
  public var type: String
  /// Whether to check only, and create nothing.
  public var passive: Bool
  /// Whether it outlives the server's process.
  public var durable: Bool
  /// Whether it goes when its last user has gone.
  public var autoDelete: Bool
  /// Whether clients may not publish to it.
  public var `internal`: Bool
  /// Whether no answer is wanted.
  public var noWait: Bool
  /// Further arguments.
  public var arguments: AMQPFieldTable

  /// The method with these fields.
  public init(
    exchange: String, type: String = "direct", passive: Bool = false, durable: Bool = false, autoDelete: Bool = false,
    internal: Bool = false, noWait: Bool = false, arguments: AMQPFieldTable = [:], ticket: UInt16 = 0
  ) {
    self.exchange = exchange
    self.type = type
    self.passive = passive
    self.durable = durable
    self.autoDelete = autoDelete
    self.internal = `internal`
    self.noWait = noWait
    self.arguments = arguments
    self.ticket = ticket
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    ticket = try reader.uint16()
    exchange = try reader.shortText()
    type = try reader.shortText()
    let bits = try reader.uint8()
    passive = bits & 1 != 0
    durable = bits & 2 != 0
    autoDelete = bits & 4 != 0
    self.internal = bits & 8 != 0
    noWait = bits & 16 != 0
    arguments = try reader.table()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(ticket)
    writer.shortText(exchange)
    writer.shortText(type)
    writer.bits(passive, durable, autoDelete, self.internal, noWait)
    writer.table(arguments)
  }
}

/// `exchange.declare-ok`, from the server: confirms it.
public struct ExchangeDeclareOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 40, methodID: 11)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}

/// `exchange.delete`, from the client: deletes an exchange.
public struct ExchangeDelete: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 40, methodID: 20)
  /// Reserved: a ticket of AMQP 0-8; ignored.
  public var ticket: UInt16
  /// Name of the exchange; empty is the default exchange.
  public var exchange: String
  /// Whether to refuse when it is used.
  public var ifUnused: Bool
  /// Whether no answer is wanted.
  public var noWait: Bool

  /// The method with these fields.
  public init(exchange: String, ifUnused: Bool = false, noWait: Bool = false, ticket: UInt16 = 0) {
    self.exchange = exchange
    self.ifUnused = ifUnused
    self.noWait = noWait
    self.ticket = ticket
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    ticket = try reader.uint16()
    exchange = try reader.shortText()
    let bits = try reader.uint8()
    ifUnused = bits & 1 != 0
    noWait = bits & 2 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(ticket)
    writer.shortText(exchange)
    writer.bits(ifUnused, noWait)
  }
}

/// `exchange.delete-ok`, from the server: confirms it.
public struct ExchangeDeleteOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 40, methodID: 21)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}

/// `exchange.bind`, from the client: binds an exchange to another (RabbitMQ extension).
public struct ExchangeBind: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 40, methodID: 30)
  /// Reserved: a ticket of AMQP 0-8; ignored.
  public var ticket: UInt16
  /// Exchange that receives.
  public var destination: String
  /// Exchange that is bound to.
  public var source: String
  /// The routing key.
  public var routingKey: String
  /// Whether no answer is wanted.
  public var noWait: Bool
  /// Further arguments.
  public var arguments: AMQPFieldTable

  /// The method with these fields.
  public init(
    destination: String, source: String, routingKey: String = "", noWait: Bool = false, arguments: AMQPFieldTable = [:],
    ticket: UInt16 = 0
  ) {
    self.destination = destination
    self.source = source
    self.routingKey = routingKey
    self.noWait = noWait
    self.arguments = arguments
    self.ticket = ticket
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    ticket = try reader.uint16()
    destination = try reader.shortText()
    source = try reader.shortText()
    routingKey = try reader.shortText()
    let bits = try reader.uint8()
    noWait = bits & 1 != 0
    arguments = try reader.table()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(ticket)
    writer.shortText(destination)
    writer.shortText(source)
    writer.shortText(routingKey)
    writer.bits(noWait)
    writer.table(arguments)
  }
}

/// `exchange.bind-ok`, from the server: confirms it.
public struct ExchangeBindOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 40, methodID: 31)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}

/// `exchange.unbind`, from the client: takes such a binding away (RabbitMQ extension).
public struct ExchangeUnbind: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 40, methodID: 40)
  /// Reserved: a ticket of AMQP 0-8; ignored.
  public var ticket: UInt16
  /// Exchange that receives.
  public var destination: String
  /// Exchange that is bound to.
  public var source: String
  /// The routing key.
  public var routingKey: String
  /// Whether no answer is wanted.
  public var noWait: Bool
  /// Further arguments.
  public var arguments: AMQPFieldTable

  /// The method with these fields.
  public init(
    destination: String, source: String, routingKey: String = "", noWait: Bool = false, arguments: AMQPFieldTable = [:],
    ticket: UInt16 = 0
  ) {
    self.destination = destination
    self.source = source
    self.routingKey = routingKey
    self.noWait = noWait
    self.arguments = arguments
    self.ticket = ticket
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    ticket = try reader.uint16()
    destination = try reader.shortText()
    source = try reader.shortText()
    routingKey = try reader.shortText()
    let bits = try reader.uint8()
    noWait = bits & 1 != 0
    arguments = try reader.table()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(ticket)
    writer.shortText(destination)
    writer.shortText(source)
    writer.shortText(routingKey)
    writer.bits(noWait)
    writer.table(arguments)
  }
}

/// `exchange.unbind-ok`, from the server: confirms it; its number, 51, is out of line on purpose.
public struct ExchangeUnbindOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 40, methodID: 51)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}
