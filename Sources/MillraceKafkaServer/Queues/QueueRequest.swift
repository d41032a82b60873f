// QueueRequest: what can be asked of queues, exchanges and bindings, and its bytes.
//
//    0 declare queue    name, flags (1 durable, 2 auto-delete), arguments; an empty name lets the server choose one
//    1 delete queue     name, flags (1 if unused, 2 if empty)
//    2 purge queue      name
//    3 list queues      optional name behind which the list begins
//    4 declare exchange name, type by name, flags (1 durable, 2 auto-delete, 4 internal), arguments
//    5 delete exchange  name, flags (1 if unused)
//    6 list exchanges   optional name behind which the list begins
//    7 bind             binding
//    8 unbind           binding
//    9 list bindings    optional cursor: exchange and number of its bindings that were listed, int64
//   10 publish          exchange, routing key bytes, delay int64 ms, 0 for none, format of the properties uint8,
//                       list of messages: properties bytes, body bytes
//   11 take             queue, most messages int32; they stay in flight with the connection until settled
//   12 settle           flags (1 acknowledge): all that was taken and not settled; without the flag it goes back
//   13 browse           queue, which uint8 (0 all, 1 ready, 2 waiting for a time), optional position, most messages int32
//   14 remove           queue, position
//   15 move             queue, optional target, most messages int64; without a target dead letters go back where they
//                       came from
//
// "Optional" is a flag, 1 when the value follows. A position is a lane, uint8, and an offset, int64.

import MillraceBase
import MillraceDelivery
import MillraceRouting

/// A request and the virtual host that it is about.
public struct QueueCall: Equatable, Sendable {
  /// The virtual host.
  public var virtualHost: String
  /// What is asked.
  public var request: QueueRequest

  /// A call.
  public init(_ request: QueueRequest, in virtualHost: String) {
    self.virtualHost = virtualHost
    self.request = request
  }
}

/// Where a list of bindings goes on.
public struct BindingCursor: Equatable, Sendable {
  /// The exchange whose bindings were listed last.
  public var exchange: String
  /// How many of them.
  public var count: Int64

  /// A place in the list.
  public init(exchange: String, count: Int64) {
    self.exchange = exchange
    self.count = count
  }
}

/// A message to be published.
public struct NewQueueMessage: Equatable, Sendable {
  /// Properties and headers.
  public var properties: Bytes
  /// The body.
  public var body: Bytes

  /// A message.
  public init(properties: Bytes, body: Bytes) {
    self.properties = properties
    self.body = body
  }
}

/// Messages for one exchange, under one key.
public struct QueuePublication: Equatable, Sendable {
  /// The exchange; empty for the default one, whose keys are names of queues.
  public var exchange: String
  /// The routing key.
  public var routingKey: Bytes
  /// Time in ms that they wait before they are delivered, 0 for none.
  public var delayMilliseconds: Int64
  /// How their properties are encoded: the code of a `MessageFormat`.
  public var format: UInt8
  /// At most ``QueueAPI/mostPublications``.
  public var messages: [NewQueueMessage]

  /// Messages.
  public init(
    exchange: String, routingKey: Bytes, delayMilliseconds: Int64 = 0, format: UInt8, messages: [NewQueueMessage]
  ) {
    self.exchange = exchange
    self.routingKey = routingKey
    self.delayMilliseconds = delayMilliseconds
    self.format = format
    self.messages = messages
  }
}

/// What can be asked.
public enum QueueRequest: Equatable, Sendable {
  /// Which messages are looked at.
  public enum Selection: UInt8, Sendable {
    /// Every one.
    case all = 0
    /// Those not in flight that wait for no time.
    case ready = 1
    /// Those that wait for a time.
    case scheduled = 2
  }

  case declareQueue(name: String, isDurable: Bool, isAutoDelete: Bool, arguments: RoutingTable)
  case deleteQueue(name: String, ifUnused: Bool, ifEmpty: Bool)
  case purgeQueue(name: String)
  case listQueues(after: String?)
  case declareExchange(
    name: String, type: String, isDurable: Bool, isAutoDelete: Bool, isInternal: Bool, arguments: RoutingTable)
  case deleteExchange(name: String, ifUnused: Bool)
  case listExchanges(after: String?)
  case bind(Binding)
  case unbind(Binding)
  case listBindings(after: BindingCursor?)
  case publish(QueuePublication)
  case take(queue: String, limit: Int32)
  case settle(isAcknowledged: Bool)
  case browse(queue: String, Selection, from: Position?, limit: Int32)
  case remove(queue: String, Position)
  case move(queue: String, to: String?, limit: Int64)
}

extension QueueCall {
  /// Writes the body of the request.
  public func encode(to writer: inout ByteWriter) {
    writer.text(virtualHost)
    switch request {
    case .declareQueue(let name, let isDurable, let isAutoDelete, let arguments):
      writer.uint8(0)
      writer.text(name)
      writer.flags(isDurable, isAutoDelete)
      writer.routingTable(arguments)
    case .deleteQueue(let name, let ifUnused, let ifEmpty):
      writer.uint8(1)
      writer.text(name)
      writer.flags(ifUnused, ifEmpty)
    case .purgeQueue(let name):
      writer.uint8(2)
      writer.text(name)
    case .listQueues(let after):
      writer.uint8(3)
      writer.optional(after) { $0.text($1) }
    case .declareExchange(let name, let type, let isDurable, let isAutoDelete, let isInternal, let arguments):
      writer.uint8(4)
      writer.text(name)
      writer.text(type)
      writer.flags(isDurable, isAutoDelete, isInternal)
      writer.routingTable(arguments)
    case .deleteExchange(let name, let ifUnused):
      writer.uint8(5)
      writer.text(name)
      writer.flags(ifUnused)
    case .listExchanges(let after):
      writer.uint8(6)
      writer.optional(after) { $0.text($1) }
    case .bind(let binding):
      writer.uint8(7)
      writer.binding(binding)
    case .unbind(let binding):
      writer.uint8(8)
      writer.binding(binding)
    case .listBindings(let after):
      writer.uint8(9)
      writer.optional(after) { $0.cursor($1) }
    case .publish(let publication):
      writer.uint8(10)
      publication.encode(to: &writer)
    case .take(let queue, let limit):
      writer.uint8(11)
      writer.text(queue)
      writer.int32(limit)
    case .settle(let isAcknowledged):
      writer.uint8(12)
      writer.flags(isAcknowledged)
    case .browse(let queue, let selection, let from, let limit):
      writer.uint8(13)
      writer.text(queue)
      writer.uint8(selection.rawValue)
      writer.optional(from) { $0.position($1) }
      writer.int32(limit)
    case .remove(let queue, let position):
      writer.uint8(14)
      writer.text(queue)
      writer.position(position)
    case .move(let queue, let target, let limit):
      writer.uint8(15)
      writer.text(queue)
      writer.optional(target) { $0.text($1) }
      writer.int64(limit)
    }
  }

  /// Reads the body of a request, to its end. Properties and bodies share its memory.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    virtualHost = try reader.text()
    request = try QueueRequest(from: &reader)
    try reader.expectEnd()
  }
}

extension QueueRequest {
  fileprivate init(from reader: inout ByteReader) throws(DecodingError) {
    let at = reader.position
    switch try reader.uint8() {
    case 0:
      let name = try reader.text()
      let flags = try reader.flags(2)
      self = .declareQueue(
        name: name, isDurable: flags[0], isAutoDelete: flags[1], arguments: try reader.routingTable())
    case 1:
      let name = try reader.text()
      let flags = try reader.flags(2)
      self = .deleteQueue(name: name, ifUnused: flags[0], ifEmpty: flags[1])
    case 2: self = .purgeQueue(name: try reader.text())
    case 3: self = .listQueues(after: try reader.optional { (reader) throws(DecodingError) in try reader.text() })
    case 4:
      let name = try reader.text()
      let type = try reader.text()
      let flags = try reader.flags(3)
      self = .declareExchange(
        name: name, type: type, isDurable: flags[0], isAutoDelete: flags[1], isInternal: flags[2],
        arguments: try reader.routingTable())
    case 5: self = .deleteExchange(name: try reader.text(), ifUnused: try reader.flag())
    case 6: self = .listExchanges(after: try reader.optional { (reader) throws(DecodingError) in try reader.text() })
    case 7: self = .bind(try reader.binding())
    case 8: self = .unbind(try reader.binding())
    case 9: self = .listBindings(after: try reader.optional { (reader) throws(DecodingError) in try reader.cursor() })
    case 10: self = .publish(try QueuePublication(from: &reader))
    case 11: self = .take(queue: try reader.text(), limit: try reader.int32())
    case 12: self = .settle(isAcknowledged: try reader.flag())
    case 13:
      let queue = try reader.text()
      guard let selection = Selection(rawValue: try reader.uint8()) else {
        throw DecodingError("a selection of messages that this program does not know", at: reader.position - 1)
      }
      let from = try reader.optional { (reader) throws(DecodingError) in try reader.place() }
      self = .browse(queue: queue, selection, from: from, limit: try reader.int32())
    case 14: self = .remove(queue: try reader.text(), try reader.place())
    case 15:
      let queue = try reader.text()
      let target = try reader.optional { (reader) throws(DecodingError) in try reader.text() }
      self = .move(queue: queue, to: target, limit: try reader.int64())
    case let operation: throw DecodingError("operation \(operation), which this program does not know", at: at)
    }
  }
}

extension QueuePublication {
  fileprivate func encode(to writer: inout ByteWriter) {
    writer.text(exchange)
    writer.bytes(routingKey)
    writer.int64(delayMilliseconds)
    writer.uint8(format)
    writer.uint32(UInt32(messages.count))
    for message in messages {
      writer.bytes(message.properties)
      writer.bytes(message.body)
    }
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingError) {
    exchange = try reader.text()
    routingKey = try reader.bytes()
    delayMilliseconds = try reader.int64()
    format = try reader.uint8()
    messages = try reader.list(ofSize: 8, atMost: QueueAPI.mostPublications) { (reader) throws(DecodingError) in
      NewQueueMessage(properties: try reader.bytes(), body: try reader.bytes())
    }
  }
}

extension ByteWriter {
  mutating func cursor(_ cursor: BindingCursor) {
    text(cursor.exchange)
    int64(cursor.count)
  }
}

extension ByteReader {
  mutating func cursor() throws(DecodingError) -> BindingCursor {
    BindingCursor(exchange: try text(), count: try int64())
  }
}
