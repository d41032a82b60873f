// ConnectionMethods: class 10, connection: handshake, limits and end of a connection.

import MillraceBase

/// `connection.start`, from the server: offers protocol version, properties and mechanisms to a client whose protocol
/// header was accepted.
public struct ConnectionStart: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 10)
  /// Major version: 0.
  public var versionMajor: UInt8
  /// Minor version: 9.
  public var versionMinor: UInt8
  /// What the server is and can do.
  public var serverProperties: AMQPFieldTable
  /// SASL mechanisms, separated by spaces.
  public var mechanisms: String
  /// Locales, separated by spaces.
  public var locales: String

  /// The method with these fields.
  public init(
    versionMajor: UInt8 = 0, versionMinor: UInt8 = 9, serverProperties: AMQPFieldTable, mechanisms: String = "PLAIN",
    locales: String = "en_US"
  ) {
    self.versionMajor = versionMajor
    self.versionMinor = versionMinor
    self.serverProperties = serverProperties
    self.mechanisms = mechanisms
    self.locales = locales
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    versionMajor = try reader.uint8()
    versionMinor = try reader.uint8()
    serverProperties = try reader.table()
    mechanisms = try reader.longText()
    locales = try reader.longText()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint8(versionMajor)
    writer.uint8(versionMinor)
    writer.table(serverProperties)
    writer.longText(mechanisms)
    writer.longText(locales)
  }
}

/// `connection.start-ok`, from the client: chooses a mechanism and begins to authenticate.
public struct ConnectionStartOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 11)
  /// What the client is and can do.
  public var clientProperties: AMQPFieldTable
  /// The mechanism chosen.
  public var mechanism: String
  /// What the mechanism says; holds secrets, so log nothing of it.
  public var response: Bytes
  /// The locale chosen.
  public var locale: String

  /// The method with these fields.
  public init(
    clientProperties: AMQPFieldTable, mechanism: String = "PLAIN", response: Bytes, locale: String = "en_US"
  ) {
    self.clientProperties = clientProperties
    self.mechanism = mechanism
    self.response = response
    self.locale = locale
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    clientProperties = try reader.table()
    mechanism = try reader.shortText()
    response = try reader.longBytes()
    locale = try reader.shortText()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.table(clientProperties)
    writer.shortText(mechanism)
    writer.longBytes(response)
    writer.shortText(locale)
  }
}

/// `connection.secure`, from the server: asks the client for more, in mechanisms that take several steps.
public struct ConnectionSecure: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 20)
  /// What the mechanism asks.
  public var challenge: Bytes

  /// The method with these fields.
  public init(challenge: Bytes) {
    self.challenge = challenge
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    challenge = try reader.longBytes()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.longBytes(challenge)
  }
}

/// `connection.secure-ok`, from the client: answers a challenge.
public struct ConnectionSecureOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 21)
  /// What the mechanism says; holds secrets, so log nothing of it.
  public var response: Bytes

  /// The method with these fields.
  public init(response: Bytes) {
    self.response = response
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    response = try reader.longBytes()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.longBytes(response)
  }
}

/// `connection.tune`, from the server: proposes limits; 0 means no limit of the server's own.
public struct ConnectionTune: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 30)
  /// Highest channel number; 0 is no limit.
  public var channelMax: UInt16
  /// Largest frame in bytes, header and end included; 0 is no limit.
  public var frameMax: UInt32
  /// Seconds between heartbeats; 0 is none.
  public var heartbeat: UInt16

  /// The method with these fields.
  public init(channelMax: UInt16 = 0, frameMax: UInt32 = 0, heartbeat: UInt16 = 0) {
    self.channelMax = channelMax
    self.frameMax = frameMax
    self.heartbeat = heartbeat
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    channelMax = try reader.uint16()
    frameMax = try reader.uint32()
    heartbeat = try reader.uint16()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(channelMax)
    writer.uint32(frameMax)
    writer.uint16(heartbeat)
  }
}

/// `connection.tune-ok`, from the client: settles the limits; neither may exceed what was proposed.
public struct ConnectionTuneOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 31)
  /// Highest channel number; 0 is no limit.
  public var channelMax: UInt16
  /// Largest frame in bytes, header and end included; 0 is no limit.
  public var frameMax: UInt32
  /// Seconds between heartbeats; 0 is none.
  public var heartbeat: UInt16

  /// The method with these fields.
  public init(channelMax: UInt16 = 0, frameMax: UInt32 = 0, heartbeat: UInt16 = 0) {
    self.channelMax = channelMax
    self.frameMax = frameMax
    self.heartbeat = heartbeat
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    channelMax = try reader.uint16()
    frameMax = try reader.uint32()
    heartbeat = try reader.uint16()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.uint16(channelMax)
    writer.uint32(frameMax)
    writer.uint16(heartbeat)
  }
}

/// `connection.open`, from the client: opens a virtual host.
public struct ConnectionOpen: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 40)
  /// Name of the virtual host.
  public var virtualHost: String
  /// Reserved.
  public var capabilities: String
  /// Reserved.
  public var insist: Bool

  /// The method with these fields.
  public init(virtualHost: String = "/", capabilities: String = "", insist: Bool = false) {
    self.virtualHost = virtualHost
    self.capabilities = capabilities
    self.insist = insist
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    virtualHost = try reader.shortText()
    capabilities = try reader.shortText()
    let bits = try reader.uint8()
    insist = bits & 1 != 0
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.shortText(virtualHost)
    writer.shortText(capabilities)
    writer.bits(insist)
  }
}

/// `connection.open-ok`, from the server: says that the connection may be used.
public struct ConnectionOpenOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 41)
  /// Reserved.
  public var knownHosts: String

  /// The method with these fields.
  public init(knownHosts: String = "") {
    self.knownHosts = knownHosts
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    knownHosts = try reader.shortText()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.shortText(knownHosts)
  }
}

/// `connection.close`, from either side: ends the connection, for good or because of an error.
public struct ConnectionClose: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 50)
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

/// `connection.close-ok`, from either side: the last that is said on a connection.
public struct ConnectionCloseOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 51)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}

/// `connection.blocked`, from the server: says that publishing is not read for now (RabbitMQ extension).
public struct ConnectionBlocked: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 60)
  /// Says why.
  public var reason: String

  /// The method with these fields.
  public init(reason: String = "") {
    self.reason = reason
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    reason = try reader.shortText()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.shortText(reason)
  }
}

/// `connection.unblocked`, from the server: says that publishing is read again (RabbitMQ extension).
public struct ConnectionUnblocked: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 61)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}

/// `connection.update-secret`, from the client: replaces the credentials of an open connection (RabbitMQ extension).
public struct ConnectionUpdateSecret: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 70)
  /// The new secret; log nothing of it.
  public var newSecret: Bytes
  /// Says why.
  public var reason: String

  /// The method with these fields.
  public init(newSecret: Bytes, reason: String) {
    self.newSecret = newSecret
    self.reason = reason
  }

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    newSecret = try reader.longBytes()
    reason = try reader.shortText()
  }

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {
    writer.longBytes(newSecret)
    writer.shortText(reason)
  }
}

/// `connection.update-secret-ok`, from the server: accepts the new credentials.
public struct ConnectionUpdateSecretOk: AMQPMethodFields {
  /// Its number.
  public static let id = MethodID(classID: 10, methodID: 71)

  /// The method with these fields.
  public init() {}

  /// Reads the fields that follow the method's number.
  public init(from reader: inout ByteReader) throws(DecodingError) {}

  /// Writes the fields that follow the method's number.
  public func encode(to writer: inout ByteWriter) {}
}
