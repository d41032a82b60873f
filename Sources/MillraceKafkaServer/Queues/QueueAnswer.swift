// QueueAnswer: what a request for queues, exchanges and bindings is answered, and its bytes.
//
//    0 refused    AMQP's reply code uint16, its name, what is wrong
//    1 done
//    2 declared   name, messages that are ready int64, consumers int32
//    3 count      int64: messages that were removed, moved or acknowledged
//    4 queues     list: name, type, flags (1 durable, 2 exclusive, 4 auto-delete), arguments, and int64 each: length, its
//                 bytes, in flight, delayed, consumers; then a flag, 1 when there are more
//    5 exchanges  list, then a flag, 1 when there are more
//    6 bindings   list, then an optional cursor as in the request
//    7 published  list of uint8 in the order of the messages (0 confirmed, 1 went to no queue, 2 refused by a queue), then an
//                 optional refusal as in 0, of the message behind them; those behind that were not looked at
//    8 messages   list, then int64: messages left in the queue, −1 when that is not known; optional position to go on at
//
// Message: position, flags (1 in flight, 2 redelivered), failed deliveries int32, time in ms before which it is not
// delivered int64, −1 for none, time in ms when it entered int64, exchange, routing key, format of the properties uint8,
// properties bytes, body bytes.

import MillraceBase
import MillraceDelivery
import MillraceModel
import MillraceRouting

/// Why something was not done.
public struct QueueRefusal: Equatable, Sendable {
  /// AMQP 0-9-1's reply code.
  public var code: UInt16
  /// Its name, as `NOT_FOUND`.
  public var name: String
  /// What is wrong, with the names and values.
  public var message: String

  /// A refusal.
  public init(code: UInt16, name: String, message: String) {
    self.code = code
    self.name = name
    self.message = message
  }

  init(_ error: RoutingError) {
    self.init(code: error.code.replyCode, name: error.code.name, message: error.message)
  }
}

/// A queue in a list.
public struct QueueEntry: Equatable, Sendable {
  /// Its name.
  public var name: String
  /// `classic` or `quorum`.
  public var type: String
  /// The log keeps it.
  public var isDurable: Bool
  /// It belongs to a connection.
  public var isExclusive: Bool
  /// It goes with its last consumer.
  public var isAutoDelete: Bool
  /// As they were declared.
  public var arguments: RoutingTable
  /// Messages that are not in flight.
  public var length: Int64
  /// Bytes of those.
  public var lengthBytes: Int64
  /// Delivered and not settled.
  public var inFlight: Int64
  /// Of `length`: known to wait for a time.
  public var delayed: Int64
  /// Consumers that are pushed to.
  public var consumers: Int64

  /// A queue without messages.
  public init(name: String, type: String, arguments: RoutingTable = .empty) {
    self.name = name
    self.type = type
    self.arguments = arguments
    (isDurable, isExclusive, isAutoDelete) = (false, false, false)
    (length, lengthBytes, inFlight, delayed, consumers) = (0, 0, 0, 0, 0)
  }
}

/// A message in a queue.
public struct QueueMessage: Equatable, Sendable {
  /// Where it is.
  public var position: Position
  /// Delivered and not settled.
  public var isInFlight: Bool
  /// It was delivered before.
  public var isRedelivered: Bool
  /// Deliveries of it that failed.
  public var failures: Int32
  /// Time on the wall clock before which it is not delivered; nil when it waits for none.
  public var due: Timestamp?
  /// When it entered the queue.
  public var timestamp: Timestamp
  /// The exchange that it was published to.
  public var exchange: String
  /// The routing key that it was published with.
  public var routingKey: String
  /// How `properties` are encoded.
  public var format: UInt8
  /// Properties and headers.
  public var properties: Bytes
  /// The body.
  public var body: Bytes

  /// A message.
  public init(position: Position, timestamp: Timestamp, format: UInt8, properties: Bytes, body: Bytes) {
    self.position = position
    self.timestamp = timestamp
    self.format = format
    self.properties = properties
    self.body = body
    (isInFlight, isRedelivered, failures, due) = (false, false, 0, nil)
    (exchange, routingKey) = ("", "")
  }
}

/// What became of a message that was published.
public enum PublicationOutcome: UInt8, Sendable {
  /// Every queue that it goes to has it, durably where the queue is durable.
  case confirmed = 0
  /// It went to no queue.
  case unroutable = 1
  /// A queue is full and refuses what comes.
  case refused = 2
}

/// An answer.
public enum QueueAnswer: Equatable, Sendable {
  case refused(QueueRefusal)
  case done
  case declared(name: String, messages: Int64, consumers: Int32)
  case count(Int64)
  case queues([QueueEntry], isMore: Bool)
  case exchanges([Exchange], isMore: Bool)
  case bindings([Binding], next: BindingCursor?)
  case published([PublicationOutcome], problem: QueueRefusal?)
  case messages([QueueMessage], left: Int64, next: Position?)

  /// Writes the body of the response.
  public func encode(to writer: inout ByteWriter) {
    switch self {
    case .refused(let refusal):
      writer.uint8(0)
      refusal.encode(to: &writer)
    case .done: writer.uint8(1)
    case .declared(let name, let messages, let consumers):
      writer.uint8(2)
      writer.text(name)
      writer.int64(messages)
      writer.int32(consumers)
    case .count(let count):
      writer.uint8(3)
      writer.int64(count)
    case .queues(let queues, let isMore):
      writer.uint8(4)
      writer.uint32(UInt32(queues.count))
      for queue in queues { queue.encode(to: &writer) }
      writer.flags(isMore)
    case .exchanges(let exchanges, let isMore):
      writer.uint8(5)
      writer.uint32(UInt32(exchanges.count))
      for exchange in exchanges { writer.exchange(exchange) }
      writer.flags(isMore)
    case .bindings(let bindings, let next):
      writer.uint8(6)
      writer.uint32(UInt32(bindings.count))
      for binding in bindings { writer.binding(binding) }
      writer.optional(next) { $0.cursor($1) }
    case .published(let outcomes, let problem):
      writer.uint8(7)
      writer.uint32(UInt32(outcomes.count))
      for outcome in outcomes { writer.uint8(outcome.rawValue) }
      writer.optional(problem) { $1.encode(to: &$0) }
    case .messages(let messages, let left, let next):
      writer.uint8(8)
      writer.uint32(UInt32(messages.count))
      for message in messages { message.encode(to: &writer) }
      writer.int64(left)
      writer.optional(next) { $0.position($1) }
    }
  }

  /// Reads the body of a response. Bodies and properties of messages share its memory.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let at = reader.position
    switch try reader.uint8() {
    case 0: self = .refused(try QueueRefusal(from: &reader))
    case 1: self = .done
    case 2: self = .declared(name: try reader.text(), messages: try reader.int64(), consumers: try reader.int32())
    case 3: self = .count(try reader.int64())
    case 4:
      let queues = try reader.list(ofSize: 53) { (reader) throws(DecodingError) in try QueueEntry(from: &reader) }
      self = .queues(queues, isMore: try reader.flag())
    case 5:
      let exchanges = try reader.list(ofSize: 13) { (reader) throws(DecodingError) in try reader.exchange() }
      self = .exchanges(exchanges, isMore: try reader.flag())
    case 6:
      let bindings = try reader.list(ofSize: 17) { (reader) throws(DecodingError) in try reader.binding() }
      self = .bindings(bindings, next: try reader.optional { (reader) throws(DecodingError) in try reader.cursor() })
    case 7:
      let outcomes = try reader.list(ofSize: 1) { (reader) throws(DecodingError) in
        guard let outcome = PublicationOutcome(rawValue: try reader.uint8()) else {
          throw DecodingError("an outcome that this program does not know", at: reader.position - 1)
        }
        return outcome
      }
      self = .published(
        outcomes,
        problem: try reader.optional { (reader) throws(DecodingError) in try QueueRefusal(from: &reader) })
    case 8:
      let messages = try reader.list(ofSize: 47) { (reader) throws(DecodingError) in
        try QueueMessage(from: &reader)
      }
      let left = try reader.int64()
      self = .messages(
        messages, left: left, next: try reader.optional { (reader) throws(DecodingError) in try reader.place() })
    case let kind: throw DecodingError("answer of kind \(kind), which this program does not know", at: at)
    }
  }
}

extension QueueRefusal {
  fileprivate func encode(to writer: inout ByteWriter) {
    writer.uint16(code)
    writer.text(name)
    writer.text(message)
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingError) {
    code = try reader.uint16()
    name = try reader.text()
    message = try reader.text()
  }
}

extension QueueEntry {
  func encode(to writer: inout ByteWriter) {
    writer.text(name)
    writer.text(type)
    writer.flags(isDurable, isExclusive, isAutoDelete)
    writer.routingTable(arguments)
    for number in [length, lengthBytes, inFlight, delayed, consumers] { writer.int64(number) }
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingError) {
    name = try reader.text()
    type = try reader.text()
    let flags = try reader.flags(3)
    (isDurable, isExclusive, isAutoDelete) = (flags[0], flags[1], flags[2])
    arguments = try reader.routingTable()
    length = try reader.int64()
    lengthBytes = try reader.int64()
    inFlight = try reader.int64()
    delayed = try reader.int64()
    consumers = try reader.int64()
  }
}

extension QueueMessage {
  fileprivate func encode(to writer: inout ByteWriter) {
    writer.position(position)
    writer.flags(isInFlight, isRedelivered)
    writer.int32(failures)
    writer.int64(due?.milliseconds ?? -1)
    writer.int64(timestamp.milliseconds)
    writer.text(exchange)
    writer.text(routingKey)
    writer.uint8(format)
    writer.bytes(properties)
    writer.bytes(body)
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingError) {
    position = try reader.place()
    let flags = try reader.flags(2)
    (isInFlight, isRedelivered) = (flags[0], flags[1])
    failures = try reader.int32()
    let time = try reader.int64()
    due = time < 0 ? nil : Timestamp(milliseconds: time)
    timestamp = Timestamp(milliseconds: try reader.int64())
    exchange = try reader.text()
    routingKey = try reader.text()
    format = try reader.uint8()
    properties = try reader.bytes()
    body = try reader.bytes()
  }
}
