// BasicPropertiesBuilder: makes properties, or alters some of a message's and keeps the rest.

import MillraceBase

/// The fourteen properties as fields to be set. Headers that are not set anew keep their bytes and are not decoded.
public struct BasicPropertiesBuilder: Sendable {
  /// MIME type.
  public var contentType: ShortString?
  /// MIME encoding.
  public var contentEncoding: ShortString?
  /// The headers as they travel, without the length in front; must be a table's `encoded` or a message's own.
  public var encodedHeaders: Bytes?
  /// 1 for transient, 2 for persistent.
  public var deliveryMode: UInt8?
  /// Higher is first.
  public var priority: UInt8?
  /// Names the request that this answers.
  public var correlationID: ShortString?
  /// Queue for the answer.
  public var replyTo: ShortString?
  /// Milliseconds to live, in decimal.
  public var expiration: ShortString?
  /// The application's name of the message.
  public var messageID: ShortString?
  /// Seconds since the epoch.
  public var timestamp: UInt64?
  /// Kind of message.
  public var type: ShortString?
  /// The user who publishes.
  public var userID: ShortString?
  /// The application that publishes.
  public var appID: ShortString?
  /// Reserved.
  public var clusterID: ShortString?

  /// No properties.
  public init() {}

  /// Those of `properties`.
  public init(_ properties: BasicProperties) {
    contentType = properties.contentType
    contentEncoding = properties.contentEncoding
    encodedHeaders = properties.encodedHeaders
    deliveryMode = properties.deliveryMode
    priority = properties.priority
    correlationID = properties.correlationID
    replyTo = properties.replyTo
    expiration = properties.expiration
    messageID = properties.messageID
    timestamp = properties.timestamp
    type = properties.type
    userID = properties.userID
    appID = properties.appID
    clusterID = properties.clusterID
  }

  /// The properties, in memory of their own.
  public func build() -> BasicProperties {
    let texts = [
      contentType, contentEncoding, correlationID, replyTo, expiration, messageID, type, userID, appID, clusterID,
    ]
    let size = 16 + (encodedHeaders?.count ?? 0) + texts.reduce(0) { $0 + 1 + ($1?.count ?? 0) }
    var writer = ByteWriter(capacity: size)
    let flags = self.flags
    writer.uint16(flags)
    if let contentType { writer.shortString(contentType) }
    if let contentEncoding { writer.shortString(contentEncoding) }
    if let encodedHeaders { writer.longBytes(encodedHeaders) }
    if let deliveryMode { writer.uint8(deliveryMode) }
    if let priority { writer.uint8(priority) }
    if let correlationID { writer.shortString(correlationID) }
    if let replyTo { writer.shortString(replyTo) }
    if let expiration { writer.shortString(expiration) }
    if let messageID { writer.shortString(messageID) }
    if let timestamp { writer.uint64(timestamp) }
    if let type { writer.shortString(type) }
    if let userID { writer.shortString(userID) }
    if let appID { writer.shortString(appID) }
    if let clusterID { writer.shortString(clusterID) }
    return BasicProperties(checked: writer.finishJoined(), flags: flags)
  }

  private var flags: UInt16 {
    var flags: UInt16 = 0
    func set(_ field: BasicProperties.Field, _ isThere: Bool) { if isThere { flags |= field.flag } }
    set(.contentType, contentType != nil)
    set(.contentEncoding, contentEncoding != nil)
    set(.headers, encodedHeaders != nil)
    set(.deliveryMode, deliveryMode != nil)
    set(.priority, priority != nil)
    set(.correlationID, correlationID != nil)
    set(.replyTo, replyTo != nil)
    set(.expiration, expiration != nil)
    set(.messageID, messageID != nil)
    set(.timestamp, timestamp != nil)
    set(.type, type != nil)
    set(.userID, userID != nil)
    set(.appID, appID != nil)
    set(.clusterID, clusterID != nil)
    return flags
  }
}

extension BasicProperties {
  /// Properties made by setting fields.
  public static func build(_ set: (inout BasicPropertiesBuilder) -> Void) -> BasicProperties {
    var builder = BasicPropertiesBuilder()
    set(&builder)
    return builder.build()
  }

  /// These properties with some of them changed; the others keep their bytes.
  public func altered(_ change: (inout BasicPropertiesBuilder) -> Void) -> BasicProperties {
    var builder = BasicPropertiesBuilder(self)
    change(&builder)
    return builder.build()
  }

  /// These properties with other headers, or none.
  public func with(headers: AMQPFieldTable?) -> BasicProperties { altered { $0.encodedHeaders = headers?.encoded } }
}
