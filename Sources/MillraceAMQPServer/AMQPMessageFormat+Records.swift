// AMQPMessageFormat+Records: properties and headers of AMQP as headers of a topic's record, and back.
//
//   amqp.content-type …     a property that is set, by its name in the specification: text, or a number in decimal
//   name                    a header of the application: text as it is, a number in decimal, true or false;
//                           everything else, and fractions that have no exact decimal text, as AMQP encodes it
//   amqp.header.amqp.name   the same for a name that begins with amqp.
//   amqp.types              the types of headers that are no text: name:letter, with = behind the letter when the value is
//                           as AMQP encodes it, separated by commas; in names % , : are written as %25 %2C %3A
//
// Records of others have none of the first and the last: their headers are texts, and one without a value is void.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceModel

extension AMQPMessageFormat {
  private static let prefix = "amqp."
  private static let escaped = "amqp.header."
  private static let typesName = "amqp.types"
  /// Most bytes of headers that a record's become; what is beyond is left out. A content header must fit into one frame, and
  /// few clients take larger ones than 128 KiB.
  private static let largestHeaders = 64 << 10

  // MARK: To a record

  /// Properties and headers as a record's headers.
  public func recordHeaders(_ properties: Bytes) -> [RecordHeader] {
    let properties = AMQPMessageFormat.decode(properties)
    if properties.isEmpty { return [] }
    var out: [RecordHeader] = []
    func add(_ name: String, _ value: Bytes?) { if let value { out.append(RecordHeader("amqp.\(name)", value)) } }
    add("content-type", properties.contentType?.bytes)
    add("content-encoding", properties.contentEncoding?.bytes)
    add("delivery-mode", properties.deliveryMode.map { Bytes("\($0)") })
    add("priority", properties.priority.map { Bytes("\($0)") })
    add("correlation-id", properties.correlationID?.bytes)
    add("reply-to", properties.replyTo?.bytes)
    add("expiration", properties.expiration?.bytes)
    add("message-id", properties.messageID?.bytes)
    add("timestamp", properties.timestamp.map { Bytes("\($0)") })
    add("type", properties.type?.bytes)
    add("user-id", properties.userID?.bytes)
    add("app-id", properties.appID?.bytes)
    add("cluster-id", properties.clusterID?.bytes)
    guard let headers = AMQPMessageFormat.headers(properties) else { return out }
    var types: [String] = []
    let names = headers.map(\.key.text)
    // Of several headers of one name each type is told, so that none is taken for another.
    let tellsAll = Set(names).count != names.count
    for (name, (_, value)) in zip(names, headers) {
      let isOwn = name.hasPrefix(AMQPMessageFormat.prefix)
      let (text, type) = AMQPMessageFormat.text(value)
      out.append(RecordHeader(isOwn ? AMQPMessageFormat.escaped + name : name, text))
      if type != "S" || tellsAll { types.append("\(AMQPMessageFormat.escape(name)):\(type)") }
    }
    // Headers without any in them are not the same as none.
    if !types.isEmpty || names.isEmpty {
      out.append(RecordHeader(AMQPMessageFormat.typesName, Bytes(types.joined(separator: ","))))
    }
    return out
  }

  /// A value in a record, and its type for `amqp.types`.
  private static func text(_ value: AMQPValue) -> (Bytes, String) {
    let letter = String(Unicode.Scalar(value.letter))
    switch value {
    case .string(let bytes): return (bytes, letter)
    case .bool(let value): return (Bytes("\(value)"), letter)
    case .timestamp(let seconds): return (Bytes("\(seconds)"), letter)
    case .float(let value) where Float("\(value)")?.bitPattern == value.bitPattern: return (Bytes("\(value)"), letter)
    case .double(let value) where Double("\(value)")?.bitPattern == value.bitPattern: return (Bytes("\(value)"), letter)
    default:
      if let number = value.integer { return (Bytes("\(number)"), letter) }
      // As in a table, without the type.
      let entry = AMQPFieldTable([("", value)]).encoded
      return (entry[2..<entry.count], letter + "=")
    }
  }

  // MARK: From a record

  /// Properties and headers of a record.
  public func properties(of record: Record) -> Bytes {
    var builder = BasicPropertiesBuilder()
    var types: [(name: String, type: String)]?
    for header in record.headers where header.key == AMQPMessageFormat.typesName {
      types = AMQPMessageFormat.types(header.value ?? Bytes())
    }
    var nextType = 0
    var hasHeaders = types?.isEmpty ?? false
    var headers: [(String, AMQPValue)] = []
    var room = AMQPMessageFormat.largestHeaders
    for header in record.headers where header.key != AMQPMessageFormat.typesName {
      if header.key.hasPrefix(AMQPMessageFormat.prefix), let value = header.value, builder.set(header.key, value) {
        continue
      }
      var name = header.key
      let isEscaped = name.hasPrefix(AMQPMessageFormat.escaped + AMQPMessageFormat.prefix)
      if isEscaped { name.removeFirst(AMQPMessageFormat.escaped.count) }
      guard name.utf8.count <= ShortString.limit else { continue }
      var type = "S"
      if let types, nextType < types.count, types[nextType].name == name {
        type = types[nextType].type
        nextType += 1
      }
      room -= name.utf8.count + (header.value?.count ?? 0) + 16
      if room < 0 { continue }
      hasHeaders = true
      headers.append((name, AMQPMessageFormat.value(header.value, type)))
    }
    if let key = record.key, ShortString(key) == nil || key.withBuffer({ String(validating: $0, as: UTF8.self) }) == nil
    {
      if key.count < room {
        headers.append(("x-record-key", .binary(key)))
        hasHeaders = true
      }
    }
    if hasHeaders { builder.encodedHeaders = AMQPFieldTable(headers).encoded }
    return builder.build().encoded
  }

  /// A header's value; what does not fit its type is text.
  private static func value(_ bytes: Bytes?, _ type: String) -> AMQPValue {
    guard let bytes else { return .void }
    let plain = AMQPValue.string(bytes)
    guard let letter = type.utf8.first, letter != UInt8(ascii: "S") else { return plain }
    if type.utf8.count == 2 {
      var entry = ByteWriter(capacity: bytes.count + 2)
      entry.uint8(0)
      entry.uint8(letter)
      entry.append(bytes)
      do throws(DecodingError) {
        for (_, value) in try AMQPFieldTable(encoded: entry.finishJoined()) { return value }
      } catch {
        return plain
      }
      return plain
    }
    return AMQPValue(text: bytes.text, letter: letter) ?? plain
  }

  private static func types(_ bytes: Bytes) -> [(name: String, type: String)] {
    bytes.text.split(separator: ",").compactMap { entry in
      let parts = entry.split(separator: ":", omittingEmptySubsequences: false)
      return parts.count == 2 ? (unescape(String(parts[0])), String(parts[1])) : nil
    }
  }

  private static func escape(_ name: String) -> String {
    guard name.utf8.contains(where: { $0 == 0x25 || $0 == 0x2C || $0 == 0x3A }) else { return name }
    var out = ""
    for scalar in name.unicodeScalars {
      switch scalar {
      case "%": out += "%25"
      case ",": out += "%2C"
      case ":": out += "%3A"
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out
  }

  private static func unescape(_ name: String) -> String {
    guard name.utf8.contains(UInt8(ascii: "%")) else { return name }
    var out = String.UnicodeScalarView()
    var rest = Substring(name).unicodeScalars
    while let scalar = rest.popFirst() {
      let code = String(String.UnicodeScalarView(rest.prefix(2)))
      guard scalar == "%", let meant = ["25": "%" as Unicode.Scalar, "2C": ",", "3A": ":"][code] else {
        out.append(scalar)
        continue
      }
      out.append(meant)
      rest = rest.dropFirst(2)
    }
    return String(out)
  }
}

extension AMQPValue {
  /// The letter of its type.
  fileprivate var letter: UInt8 {
    switch self {
    case .bool: UInt8(ascii: "t")
    case .int8: UInt8(ascii: "b")
    case .uint8: UInt8(ascii: "B")
    case .int16: UInt8(ascii: "s")
    case .uint16: UInt8(ascii: "u")
    case .int32: UInt8(ascii: "I")
    case .uint32: UInt8(ascii: "i")
    case .int64: UInt8(ascii: "l")
    case .float: UInt8(ascii: "f")
    case .double: UInt8(ascii: "d")
    case .decimal: UInt8(ascii: "D")
    case .timestamp: UInt8(ascii: "T")
    case .string: UInt8(ascii: "S")
    case .binary: UInt8(ascii: "x")
    case .array: UInt8(ascii: "A")
    case .table: UInt8(ascii: "F")
    case .void: UInt8(ascii: "V")
    }
  }

  /// A value of a type that has a text; nil when the text is no such value.
  fileprivate init?(text: String, letter: UInt8) {
    let value: AMQPValue? =
      switch letter {
      case UInt8(ascii: "t"): text == "true" ? .bool(true) : text == "false" ? .bool(false) : nil
      case UInt8(ascii: "b"): Int8(text).map { .int8($0) }
      case UInt8(ascii: "B"): UInt8(text).map { .uint8($0) }
      case UInt8(ascii: "s"): Int16(text).map { .int16($0) }
      case UInt8(ascii: "u"): UInt16(text).map { .uint16($0) }
      case UInt8(ascii: "I"): Int32(text).map { .int32($0) }
      case UInt8(ascii: "i"): UInt32(text).map { .uint32($0) }
      case UInt8(ascii: "l"): Int64(text).map { .int64($0) }
      case UInt8(ascii: "f"): Float(text).map { .float($0) }
      case UInt8(ascii: "d"): Double(text).map { .double($0) }
      case UInt8(ascii: "T"): UInt64(text).map { .timestamp($0) }
      default: nil
      }
    guard let value else { return nil }
    self = value
  }
}

extension BasicPropertiesBuilder {
  /// Sets a property by a record header's name.
  /// - Returns: false when it is none, or the value is none for it.
  fileprivate mutating func set(_ name: String, _ value: Bytes) -> Bool {
    func number<Number: FixedWidthInteger>(_ path: WritableKeyPath<BasicPropertiesBuilder, Number?>) -> Bool {
      guard let number = Number(value.text) else { return false }
      self[keyPath: path] = number
      return true
    }
    func text(_ path: WritableKeyPath<BasicPropertiesBuilder, ShortString?>) -> Bool {
      guard let text = ShortString(value) else { return false }
      self[keyPath: path] = text
      return true
    }
    switch name.dropFirst(5) {
    case "content-type": return text(\.contentType)
    case "content-encoding": return text(\.contentEncoding)
    case "delivery-mode": return number(\.deliveryMode)
    case "priority": return number(\.priority)
    case "correlation-id": return text(\.correlationID)
    case "reply-to": return text(\.replyTo)
    case "expiration": return text(\.expiration)
    case "message-id": return text(\.messageID)
    case "timestamp": return number(\.timestamp)
    case "type": return text(\.type)
    case "user-id": return text(\.userID)
    case "app-id": return text(\.appID)
    case "cluster-id": return text(\.clusterID)
    default: return false
    }
  }
}
