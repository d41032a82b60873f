// QueueMessage: a message to be published, and how it goes to the broker: as AMQP clients would publish it.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker

/// A message for a queue.
public struct QueueMessage: Sendable {
  /// What it says; the queue does not look at it. At most about 32 MiB.
  public var body: Bytes
  /// Headers by name, of at most 255 bytes.
  public var headers: [String: QueueValue]
  /// Higher ones are delivered first, in a queue with priorities.
  public var priority: UInt8
  /// Time after which it is no longer delivered, counted from when it may be; at most 2³² − 1 ms.
  public var expiresAfter: Duration?
  /// Time that it waits before it may be delivered.
  public var delay: Duration?
  /// Time before which it is not delivered. With a delay the later one counts.
  public var notBefore: Timestamp?
  /// The application's name of it, by which a queue with deduplication recognises it. At most 255 bytes, as all texts here.
  public var messageID: String?
  /// Of the messages with one key at most one is in flight, in a queue with a group header, which holds it.
  public var key: String?
  /// Names the request that this answers.
  public var correlationID: String?
  /// Queue for the answer.
  public var replyTo: String?
  /// MIME type of the body.
  public var contentType: String?
  /// Kind of message.
  public var type: String?

  /// A message.
  public init(
    _ body: Bytes, headers: [String: QueueValue] = [:], priority: UInt8 = 0, expiresAfter: Duration? = nil,
    delay: Duration? = nil, notBefore: Timestamp? = nil, messageID: String? = nil, key: String? = nil
  ) {
    self.body = body
    self.headers = headers
    self.priority = priority
    self.expiresAfter = expiresAfter
    self.delay = delay
    self.notBefore = notBefore
    self.messageID = messageID
    self.key = key
  }

  /// A message of text.
  public init(_ text: String) { self.init(Bytes(text)) }

  /// There is nothing beside the body.
  var isPlain: Bool {
    headers.isEmpty && priority == 0 && expiresAfter == nil && delay == nil && notBefore == nil && messageID == nil
      && key == nil && correlationID == nil && replyTo == nil && contentType == nil && type == nil
  }

  /// Time on the wall clock before which it is not delivered.
  var due: Timestamp? {
    guard let delay else { return notBefore }
    let (sum, overflow) = Timestamp.now.milliseconds.addingReportingOverflow(max(0, delay.inMilliseconds))
    let due = Timestamp(milliseconds: overflow ? .max : sum)
    return max(due, notBefore ?? due)
  }
}

extension DirectMessage {
  /// What it counts against limits of what is under way.
  var sizeUnderWay: Int { body.count + properties.count + 128 }

  /// Properties that say nothing but whether the message is to survive a restart.
  private static let persistentProperties = forEver(BasicProperties.build { $0.deliveryMode = 2 }.encoded)
  private static let transientProperties = forEver(BasicProperties.build { $0.deliveryMode = 1 }.encoded)

  /// Bytes that nobody owns: threads that pass on messages would fight for the owner's reference count.
  private static func forEver(_ bytes: Bytes) -> Bytes {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes.count, alignment: 8)
    bytes.withBuffer { memory.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    return Bytes(owner: nil, start: memory, count: bytes.count)
  }

  /// A message that says nothing beside its body.
  init(plain body: Bytes, isPersistent: Bool) {
    self.init(
      body: DirectMessage.detached(body),
      properties: isPersistent ? DirectMessage.persistentProperties : DirectMessage.transientProperties,
      isPersistent: isPersistent)
  }

  /// - Throws: `.invalidArgument` for what AMQP has no form for, and for a key without a group header to hold it.
  init(_ message: QueueMessage, isPersistent: Bool, groupHeader: String?) throws(MillraceError) {
    self.init(plain: message.body, isPersistent: isPersistent)
    if message.isPlain { return }
    var facts = MessageFacts()
    facts.isPersistent = isPersistent
    facts.priority = message.priority
    if let life = message.expiresAfter {
      let milliseconds = life.inMilliseconds
      guard (0...Int64(UInt32.max)).contains(milliseconds) else {
        throw MillraceError(
          .invalidArgument, "a message that expires after \(milliseconds) ms; 0 to 2^32 - 1 are allowed")
      }
      facts.timeToLive = milliseconds
    }
    var headers = message.headers
    if let key = message.key {
      guard let groupHeader else {
        throw MillraceError(.invalidArgument, "a message with key '\(key)' for a queue without a group header")
      }
      headers[groupHeader] = .text(key)
    }
    var builder = BasicPropertiesBuilder()
    builder.deliveryMode = isPersistent ? 2 : 1
    builder.contentType = try DirectMessage.short("content type", message.contentType)
    builder.correlationID = try DirectMessage.short("correlation id", message.correlationID)
    builder.replyTo = try DirectMessage.short("reply queue", message.replyTo)
    builder.messageID = try DirectMessage.short("message id", message.messageID)
    builder.type = try DirectMessage.short("type", message.type)
    builder.expiration = facts.timeToLive.flatMap { ShortString("\($0)") }
    if message.priority > 0 { builder.priority = message.priority }
    if !headers.isEmpty { builder.encodedHeaders = try QueueValue.table(headers).encoded }
    properties = builder.build().encoded
    facts.messageID = builder.messageID?.bytes
    extra = Extra(facts, notBefore: message.due)
  }

  private static func short(_ name: String, _ text: String?) throws(MillraceError) -> ShortString? {
    guard let text else { return nil }
    guard let short = ShortString(text) else {
      throw MillraceError(.invalidArgument, "a \(name) of \(text.utf8.count) bytes; 255 are allowed")
    }
    return short
  }

  /// The body in memory that it does not keep alive for little.
  private static func detached(_ body: Bytes) -> Bytes {
    if body.isEmpty { return Bytes() }
    if let kept = body.keptMemory, kept <= 4 * body.count { return body }
    return body.withBuffer { Bytes(copying: $0) }
  }
}

/// What a publication names its queue by.
struct QueueAddress: Sendable {
  let virtualHost: String
  let name: String
  let key: Bytes
  let format: any MessageFormat

  init(virtualHost: String, name: String, format: any MessageFormat) {
    self.virtualHost = virtualHost
    self.name = name
    key = Bytes(name)
    self.format = format
  }

  /// A message for the queue as it goes through the default exchange.
  func publication(_ message: DirectMessage) -> Publication {
    message.publication(to: key, in: virtualHost, format: format)
  }
}
