// PublishedProperties: what a message's properties ask of the broker, and what is wrong with them.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker

/// What the broker must know of a message's properties.
struct PublishedProperties {
  private(set) var facts = MessageFacts()
  /// There is a header BCC, which nobody is to see.
  private(set) var hasBlindCopies = false

  /// Reads the properties of a message that is published.
  /// - Throws: as RabbitMQ, 406 for an expiration that is no number of milliseconds and for CC and BCC that are no arrays;
  ///   502 for headers that cannot be read.
  init(_ properties: BasicProperties) throws(AMQPError) {
    if properties.isEmpty { return }
    facts.timeToLive = try properties.expirationMilliseconds()
    readPlain(properties)
    guard let headers = try properties.headers() else { return }
    try read(headers) { (name: String, value: AMQPValue) throws(AMQPError) -> Void in
      throw AMQPError(
        .preconditionFailed, "invalid message: the header \(name) must be an array, not a \(value.typeName)")
    }
  }

  /// Reads the properties of a message that was accepted before; what makes no sense is left out.
  init(accepted properties: BasicProperties) {
    if properties.isEmpty { return }
    readPlain(properties)
    do throws(AMQPError) {
      facts.timeToLive = try properties.expirationMilliseconds()
    } catch {
      facts.timeToLive = nil
    }
    let headers: AMQPFieldTable?
    do throws(AMQPError) { headers = try properties.headers() } catch { headers = nil }
    if let headers { read(headers) { _, _ in } }
  }

  private mutating func readPlain(_ properties: BasicProperties) {
    facts.isPersistent = properties.isPersistent
    facts.priority = properties.priority ?? 0
    facts.messageID = properties.messageID?.bytes
  }

  private mutating func read<Failure: Error>(
    _ headers: AMQPFieldTable, problem: (String, AMQPValue) throws(Failure) -> Void
  ) throws(Failure) {
    var hasCopies = false
    for (key, value) in headers {
      if !hasCopies, key == "CC" {
        hasCopies = true
        try addKeys("CC", value, problem)
      } else if !hasBlindCopies, key == "BCC" {
        hasBlindCopies = true
        try addKeys("BCC", value, problem)
      } else if facts.delay == nil, key == "x-delay", let delay = value.integer, delay > 0 {
        facts.delay = delay
      }
    }
  }

  /// Values that are no strings are no keys, as in RabbitMQ.
  private mutating func addKeys<Failure: Error>(
    _ name: String, _ value: AMQPValue, _ problem: (String, AMQPValue) throws(Failure) -> Void
  ) throws(Failure) {
    guard let values = value.array else { return try problem(name, value) }
    for case .string(let key) in values { facts.extraKeys.append(key) }
  }
}

extension AMQPValue {
  /// RabbitMQ's name of the type.
  var typeName: String {
    switch self {
    case .bool: "bool"
    case .int8: "byte"
    case .uint8: "unsignedbyte"
    case .int16: "short"
    case .uint16: "unsignedshort"
    case .int32: "signedint"
    case .uint32: "unsignedint"
    case .int64: "long"
    case .float: "float"
    case .double: "double"
    case .decimal: "decimal"
    case .timestamp: "timestamp"
    case .string: "longstr"
    case .binary: "binary"
    case .array: "array"
    case .table: "table"
    case .void: "void"
    }
  }
}
