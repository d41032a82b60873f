// ChannelMethods: class 20, channel: opening, flow and end of a channel.

import MillraceBase

/// `channel.open`, from the client: opens the channel whose number the frame bears.
public struct ChannelOpen: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 20, methodID: 10)
  /// Reserved.
  public var outOfBand: String

  /// The method with these fields.
  public init(outOfBand: String = "") {
    self.outOfBand = outOfBand
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    outOfBand = try reader.shortText()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.shortText(outOfBand)
  }
}

/// `channel.open-ok`, from the server: says that the channel may be used.
public struct ChannelOpenOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 20, methodID: 11)
  /// Reserved.
  public var channelID: Bytes

  /// The method with these fields.
  public init(channelID: Bytes = Bytes()) {
    self.channelID = channelID
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    channelID = try reader.longBytes()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.longBytes(channelID)
  }
}

/// `channel.flow`, from either side: asks the peer to stop or to go on sending contents.
public struct ChannelFlow: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 20, methodID: 20)
  /// Whether contents may be sent.
  public var active: Bool

  /// The method with these fields.
  public init(active: Bool) {
    self.active = active
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let bits = try reader.uint8()
    active = bits & 1 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.bits(active)
  }
}

/// `channel.flow-ok`, from either side: says which of the two the peer now does.
public struct ChannelFlowOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 20, methodID: 21)
  /// Whether contents may be sent.
  public var active: Bool

  /// The method with these fields.
  public init(active: Bool) {
    self.active = active
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let bits = try reader.uint8()
    active = bits & 1 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.bits(active)
  }
}

/// `channel.close`, from either side: ends a channel, for good or because of an error.
public struct ChannelClose: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 20, methodID: 40)
  /// A reply code; see ``ReplyCode``.
  public var replyCode: UInt16
  /// Says what happened.
  public var replyText: String
  /// Class of the method at fault, or 0.
  public var classID: UInt16
  /// The method at fault, or 0.
  public var methodID: UInt16

  /// The method with these fields.
  public init(replyCode: UInt16, replyText: String = "", classID: UInt16, methodID: UInt16) {
    self.replyCode = replyCode
    self.replyText = replyText
    self.classID = classID
    self.methodID = methodID
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    replyCode = try reader.uint16()
    replyText = try reader.shortText()
    classID = try reader.uint16()
    methodID = try reader.uint16()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(replyCode)
    writer.shortText(replyText)
    writer.uint16(classID)
    writer.uint16(methodID)
  }
}

/// `channel.close-ok`, from either side: the last that is said on a channel until it is opened again.
public struct ChannelCloseOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 20, methodID: 41)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}
