// AccessMethods: class 30, access: a relic of AMQP 0-8.

import MillraceBase

/// `access.request`, from the client: asks for a ticket; a relic of AMQP 0-8 that old clients still send.
public struct AccessRequest: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 30, methodID: 10)
  /// Ignored.
  public var realm: String
  /// Ignored.
  public var exclusive: Bool
  /// Ignored.
  public var passive: Bool
  /// Ignored.
  public var active: Bool
  /// Ignored.
  public var write: Bool
  /// Ignored.
  public var read: Bool

  /// The method with these fields.
  public init(
    realm: String = "/data", exclusive: Bool = false, passive: Bool = true, active: Bool = true, write: Bool = true,
    read: Bool = true
  ) {
    self.realm = realm
    self.exclusive = exclusive
    self.passive = passive
    self.active = active
    self.write = write
    self.read = read
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    realm = try reader.shortText()
    let bits = try reader.uint8()
    exclusive = bits & 1 != 0
    passive = bits & 2 != 0
    active = bits & 4 != 0
    write = bits & 8 != 0
    read = bits & 16 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.shortText(realm)
    writer.bits(exclusive, passive, active, write, read)
  }
}

/// `access.request-ok`, from the server: grants it.
public struct AccessRequestOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 30, methodID: 11)
  /// Reserved: a ticket of AMQP 0-8; ignored.
  public var ticket: UInt16

  /// The method with these fields.
  public init(ticket: UInt16 = 1) {
    self.ticket = ticket
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    ticket = try reader.uint16()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(ticket)
  }
}
