// ConfirmMethods: class 85, confirm: publisher confirms.

import MillraceBase

/// `confirm.select`, from the client: asks for an acknowledgement of everything published on the channel (RabbitMQ
/// extension).
public struct ConfirmSelect: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 85, methodID: 10)
  /// Whether no answer is wanted.
  public var noWait: Bool

  /// The method with these fields.
  public init(noWait: Bool = false) {
    self.noWait = noWait
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let bits = try reader.uint8()
    noWait = bits & 1 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.bits(noWait)
  }
}

/// `confirm.select-ok`, from the server: confirms it.
public struct ConfirmSelectOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 85, methodID: 11)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}
