// OutputMessage: what a job puts into a message queue, and the record as which a commit carries it.
//
//   value     the body
//   headers   amqp.delivery-mode, amqp.priority and so on: properties, as records of topics have them; then the message's own

import MillraceBase
import MillraceModel

/// A message for a queue.
public struct OutputMessage: Sendable {
  /// The header that holds the key of a value that has one.
  public static let keyHeader = "x-record-key"

  /// What it says; the queue does not look at it.
  public var body: Bytes
  /// Higher ones are delivered first, in a queue with priorities.
  public var priority: UInt8?
  /// Time after which it is no longer delivered; at most 2³² − 1 ms.
  public var expiresAfter: Duration?
  /// The application's name of it, by which a queue with deduplication recognises it. At most 255 bytes, as all texts here.
  public var messageID: String?
  /// Names the request that this answers.
  public var correlationID: String?
  /// Queue for the answer.
  public var replyTo: String?
  /// MIME type of the body.
  public var contentType: String?
  /// Kind of message.
  public var type: String?
  /// Headers, in order: texts. Names that begin with `amqp.` are properties.
  public var headers: [RecordHeader]

  /// A message.
  public init(
    _ body: Bytes, headers: [RecordHeader] = [], priority: UInt8? = nil, expiresAfter: Duration? = nil,
    messageID: String? = nil
  ) {
    self.body = body
    self.headers = headers
    self.priority = priority
    self.expiresAfter = expiresAfter
    self.messageID = messageID
  }

  /// A message of text.
  public init(_ text: String) { self.init(Bytes(text)) }

  /// A message with the bytes of a value, copied, and with its key.
  init(_ value: some BytesRepresentable, key: (some BytesRepresentable)?) {
    self.init(OutputMessage.copy(value))
    if let key { headers = [RecordHeader(OutputMessage.keyHeader, OutputMessage.copy(key))] }
  }

  /// A message with value, headers and key of a record, copied.
  init(_ record: InputRecord) {
    self.init(record.value.copy, headers: record.headers)
    if record.keyBuffer.baseAddress != nil {
      headers.append(RecordHeader(OutputMessage.keyHeader, record.key.copy))
    }
  }

  private static func copy(_ value: some BytesRepresentable) -> Bytes {
    var copy = Bytes()
    value.withBytes { copy = Bytes(copying: $0) }
    return copy
  }

  /// The record that stands for it in a batch.
  func record(at time: Timestamp) -> Record {
    var all: [RecordHeader] = []
    all.reserveCapacity(headers.count + 2)
    func add(_ name: String, _ value: String?) {
      if let value { all.append(RecordHeader("amqp." + name, Bytes(value))) }
    }
    // Queues that jobs write are durable, and so is what is written there.
    if !headers.contains(where: { $0.key == "amqp.delivery-mode" }) { add("delivery-mode", "2") }
    add("content-type", contentType)
    add("priority", priority.map { "\($0)" })
    add("correlation-id", correlationID)
    add("reply-to", replyTo)
    add("expiration", expiresAfter.map { "\(min(max(0, $0.inMilliseconds), Int64(UInt32.max)))" })
    add("message-id", messageID)
    add("type", type)
    return Record(value: body, headers: all + headers, timestamp: time)
  }
}
