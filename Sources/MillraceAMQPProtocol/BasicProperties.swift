// BasicProperties: the fourteen properties of a message, kept as the bytes that were received.
//
//   uint16 flags, then the fields whose flags are set, in this order, from the highest bit:
//
//   15 content-type      shortstr     8 expiration   shortstr: milliseconds in decimal
//   14 content-encoding  shortstr     7 message-id   shortstr
//   13 headers           table        6 timestamp    uint64: seconds
//   12 delivery-mode     uint8        5 type         shortstr
//   11 priority          uint8        4 user-id      shortstr
//   10 correlation-id    shortstr     3 app-id       shortstr
//    9 reply-to          shortstr     2 cluster-id   shortstr: reserved
//
// Bit 1 is unused. Bit 0 says that another word of flags follows, for which there are no properties; such words are read
// and left out when passed on, because most clients do not expect them. Source: specification, 4.2.6.1.

import MillraceBase

/// The properties of a message, as they travel in its content header. Passing them on copies no field and decodes no
/// headers; each accessor walks over the fields in front of its own.
///
/// Equality is that of the bytes.
public struct BasicProperties: Equatable, Sendable {
  /// Flags and fields as they travel, with one word of flags.
  public let encoded: Bytes
  /// The word of flags.
  let flags: UInt16

  /// One of the fourteen, by its number from the highest flag.
  enum Field: Int {
    case contentType, contentEncoding, headers, deliveryMode, priority, correlationID, replyTo, expiration, messageID
    case timestamp, type, userID, appID, clusterID

    var flag: UInt16 { 0x8000 >> UInt16(rawValue) }
  }

  /// No properties.
  public init() { self.init(checked: BasicProperties.none, flags: 0) }

  init(checked encoded: Bytes, flags: UInt16) {
    self.encoded = encoded
    self.flags = flags
  }

  private static let none = Bytes([0, 0])
  private static var telling: UInt16 {
    Field.headers.flag | Field.replyTo.flag | Field.expiration.flag | Field.messageID.flag | Field.userID.flag
  }
  private static let continuation: UInt16 = 1

  /// Checks that the fields are there as a whole and nothing behind them, and shares the bytes. What the headers hold is
  /// not looked at, nor whether text is UTF-8.
  /// - Parameter encoded: flags and fields: what follows the size in a content header.
  /// - Complexity: O(1); copies only when there is more than one word of flags.
  public init(decoding encoded: Bytes) throws(DecodingError) {
    guard encoded.count >= 2 else {
      throw DecodingError("properties of \(encoded.count) bytes hold no flags", at: encoded.count)
    }
    var word = BasicProperties.word(encoded, 0)
    let flags = word & ~3
    var offset = 2
    while word & BasicProperties.continuation != 0 {
      guard offset + 2 <= encoded.count else { throw DecodingError("flags of properties are cut off", at: offset) }
      word = BasicProperties.word(encoded, offset)
      guard word & ~BasicProperties.continuation == 0 else {
        throw DecodingError("flags \(word) of unknown properties", at: offset)
      }
      offset += 2
    }
    let start = offset
    var rest = flags
    while rest != 0 {
      let number = rest.leadingZeroBitCount
      guard let field = Field(rawValue: number),
        let end = BasicProperties.end(of: field, at: offset, in: encoded)
      else {
        throw DecodingError("property \(number + 1) of 14 is cut off", at: offset)
      }
      offset = end
      rest &= ~(0x8000 >> UInt16(number))
    }
    guard offset == encoded.count else {
      throw DecodingError("\(encoded.count - offset) bytes follow the properties", at: offset)
    }
    if start == 2 && BasicProperties.word(encoded, 0) == flags {
      self.init(checked: encoded, flags: flags)
    } else {
      var writer = ByteWriter(capacity: 2 + encoded.count - start)
      writer.uint16(flags)
      encoded[start..<encoded.count].withBuffer { writer.copy($0) }
      self.init(checked: writer.finishJoined(), flags: flags)
    }
  }

  private static func word(_ bytes: Bytes, _ offset: Int) -> UInt16 {
    bytes.withBuffer { UInt16(bigEndian: $0.loadUnaligned(fromByteOffset: offset, as: UInt16.self)) }
  }

  /// The position behind a field that begins at `offset`; nil when that lies behind the end.
  private static func end(of field: Field, at offset: Int, in bytes: Bytes) -> Int? {
    let end: Int
    switch field {
    case .deliveryMode, .priority: end = offset + 1
    case .timestamp: end = offset + 8
    case .headers:
      guard offset + 4 <= bytes.count else { return nil }
      end =
        offset + 4
        + Int(bytes.withBuffer { UInt32(bigEndian: $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) })
    default:
      guard offset < bytes.count else { return nil }
      end = offset + 1 + Int(bytes[offset])
    }
    return end <= bytes.count ? end : nil
  }

  /// Where a field lies, its length included; nil when it is not there.
  func range(of field: Field) -> Range<Int>? {
    guard flags & field.flag != 0 else { return nil }
    var rest = flags
    var offset = 2
    while rest != 0 {
      let number = rest.leadingZeroBitCount
      guard let current = Field(rawValue: number),
        let end = BasicProperties.end(of: current, at: offset, in: encoded)
      else { preconditionFailure("properties that were checked are cut off at \(offset)") }
      if current == field { return offset..<end }
      offset = end
      rest &= ~current.flag
    }
    return nil
  }

  /// The same properties in memory of their own.
  public var detached: BasicProperties {
    BasicProperties(checked: encoded.withBuffer { Bytes(copying: $0) }, flags: flags)
  }

  private func octet(_ field: Field) -> UInt8? { range(of: field).map { encoded[$0.lowerBound] } }

  private func shortString(_ field: Field) -> ShortString? {
    range(of: field).map { ShortString(checked: encoded[($0.lowerBound + 1)..<$0.upperBound]) }
  }
}

extension BasicProperties {
  /// Whether any of them tells a server what to do with the message, delivery mode and priority aside: headers, reply-to,
  /// expiration, message-id, user-id.
  public var saysMore: Bool {
    flags & BasicProperties.telling != 0
  }
  /// Whether there are none.
  public var isEmpty: Bool { flags == 0 }
  /// MIME type.
  public var contentType: ShortString? { shortString(.contentType) }
  /// MIME encoding.
  public var contentEncoding: ShortString? { shortString(.contentEncoding) }
  /// The headers as they travel, without the length in front and not checked.
  public var encodedHeaders: Bytes? { range(of: .headers).map { encoded[($0.lowerBound + 4)..<$0.upperBound] } }
  /// 1 for transient, 2 for persistent; other numbers are passed on, and are transient.
  public var deliveryMode: UInt8? { octet(.deliveryMode) }
  /// Whether the message shall outlive the server's process.
  public var isPersistent: Bool { deliveryMode == 2 }
  /// Higher is first.
  public var priority: UInt8? { octet(.priority) }
  /// Names the request that this answers.
  public var correlationID: ShortString? { shortString(.correlationID) }
  /// Queue for the answer.
  public var replyTo: ShortString? { shortString(.replyTo) }
  /// Milliseconds to live, in decimal; see ``expirationMilliseconds()``.
  public var expiration: ShortString? { shortString(.expiration) }
  /// The application's name of the message.
  public var messageID: ShortString? { shortString(.messageID) }
  /// Seconds since the epoch.
  public var timestamp: UInt64? {
    range(of: .timestamp).map { range in
      encoded.withBuffer { UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: range.lowerBound, as: UInt64.self)) }
    }
  }
  /// Kind of message.
  public var type: ShortString? { shortString(.type) }
  /// The user who publishes; servers refuse another than that of the connection.
  public var userID: ShortString? { shortString(.userID) }
  /// The application that publishes.
  public var appID: ShortString? { shortString(.appID) }
  /// Reserved.
  public var clusterID: ShortString? { shortString(.clusterID) }

  /// The headers, checked anew at each call; nil when there are none.
  /// - Throws: 502 when they are malformed.
  /// - Complexity: O(bytes of the headers), no allocation.
  public func headers() throws(AMQPError) -> AMQPFieldTable? {
    guard let content = encodedHeaders else { return nil }
    do throws(DecodingError) {
      return try AMQPFieldTable(encoded: content)
    } catch {
      throw AMQPError(.syntaxError, "headers: \(error)")
    }
  }

  /// Milliseconds to live; nil when there is no expiration.
  /// - Throws: 406, as RabbitMQ, when it is not a decimal number from 0 to 2^63 - 1.
  public func expirationMilliseconds() throws(AMQPError) -> Int64? {
    guard let text = expiration else { return nil }
    // Int64 would take a sign as well.
    guard let value = Int64(text.text), text.bytes[0] != UInt8(ascii: "+"), text.bytes[0] != UInt8(ascii: "-") else {
      throw AMQPError(.preconditionFailed, "invalid expiration '\(text)': not a number of milliseconds")
    }
    return value
  }
}
