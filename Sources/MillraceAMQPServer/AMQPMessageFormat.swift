// AMQPMessageFormat: how the properties of AMQP messages lie in queues, and what a dead-lettered message says of its history.
//
// They lie there as in a content header: a word of flags, and the fields whose flags are set. The second bit from the right,
// which no client can set, says that the header `x-death` is the broker's own: what a client sends under that name is passed
// on, and is no history (RabbitMQ 4). It is taken away when the message goes out.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceRouting

/// The properties of AMQP 0-9-1. All functions are total: what cannot be read counts as not there.
public final class AMQPMessageFormat: MessageFormat, Sendable {
  /// The one there is.
  public static let shared = AMQPMessageFormat()

  /// Most entries of x-death; the oldest beyond them are forgotten.
  static let longestHistory = 128

  private init() {}

  /// The number under which messages are kept.
  public var code: UInt8 { 1 }

  /// Bit of the flags that says that `x-death` is the broker's own.
  private static let historyFlag: UInt8 = 2

  /// Properties as they go out.
  static func decode(_ encoded: Bytes) -> BasicProperties {
    do throws(DecodingError) {
      return try BasicProperties(decoding: encoded)
    } catch {
      return BasicProperties()
    }
  }

  /// Properties of which the broker need know nothing but `isPersistent` and `priority`; nil when they say more, or cannot
  /// be read.
  static func plain(_ encoded: Bytes) -> BasicProperties? {
    do throws(DecodingError) {
      let properties = try BasicProperties(decoding: encoded)
      return properties.saysMore ? nil : properties
    } catch {
      return nil
    }
  }

  static func headers(_ properties: BasicProperties) -> AMQPFieldTable? {
    do throws(AMQPError) {
      return try properties.headers()
    } catch {
      return nil
    }
  }

  /// The headers of a message, nil when there are none or they cannot be read.
  public static func headerTable(_ properties: BasicProperties) -> AMQPFieldTable? { headers(properties) }

  private static func hasHistory(_ encoded: Bytes) -> Bool { encoded.count >= 2 && encoded[1] & historyFlag != 0 }

  /// What the broker must know.
  public func facts(_ properties: Bytes) -> MessageFacts {
    PublishedProperties(accepted: AMQPMessageFormat.decode(properties)).facts
  }

  /// As a content header's properties that a client sends, save that nobody is asked who they are: without BCC, and
  /// without a history, which only the broker gives.
  public func published(_ properties: Bytes) throws(RoutingError) -> (properties: Bytes, facts: MessageFacts) {
    var decoded: BasicProperties
    do throws(DecodingError) {
      decoded = try BasicProperties(decoding: properties)
    } catch {
      throw RoutingError(.syntaxError, "properties: \(error)")
    }
    do throws(AMQPError) {
      let published = try PublishedProperties(decoded)
      if published.hasBlindCopies {
        decoded = decoded.with(headers: try decoded.headers()?.setting("BCC", to: nil))
      }
      return (decoded.encoded, published.facts)
    } catch {
      throw RoutingError(error.code == .syntaxError ? .syntaxError : .preconditionFailed, error.reason)
    }
  }

  /// The headers, for headers exchanges.
  public func headers(_ properties: Bytes) -> RoutingTable {
    AMQPMessageFormat.headers(AMQPMessageFormat.decode(properties)).map { RoutingTable($0) } ?? .empty
  }

  /// A header as text: a string as it is, a number in decimal, a bool as a word; nil for everything else.
  public func header(_ name: String, _ properties: Bytes) -> Bytes? {
    switch AMQPMessageFormat.headers(AMQPMessageFormat.decode(properties))?[name] {
    case .string(let bytes): bytes
    case .bool(let value): Bytes("\(value)")
    case let value?: value.integer.map { Bytes("\($0)") }
    case nil: nil
    }
  }

  /// A property as text.
  public func property(_ property: MessageProperty, _ properties: Bytes) -> Bytes? {
    let properties = AMQPMessageFormat.decode(properties)
    return switch property {
    case .correlationID: properties.correlationID?.bytes
    case .messageID: properties.messageID?.bytes
    case .timestamp: properties.timestamp.map { Bytes("\($0)") }
    }
  }

  // MARK: Deaths

  /// Queues and reasons of the message's history, the newest first.
  public func deaths(_ properties: Bytes) -> [(queue: String, reason: String)] {
    AMQPMessageFormat.history(properties).map { ($0["queue"]?.text ?? "", $0["reason"]?.text ?? "") }
  }

  /// Without the headers that ``deadLettered(_:_:)`` adds.
  public func withoutHistory(_ encoded: Bytes) -> Bytes {
    let properties = AMQPMessageFormat.decode(encoded)
    return properties.altered { builder in
      guard var headers = AMQPMessageFormat.headers(properties) else { return }
      for name in ["x-death"]
        + ["first", "last"].flatMap({ which in
          ["reason", "queue", "exchange"].map { "x-\(which)-death-\($0)" }
        })
      {
        headers = headers.setting(name, to: nil)
      }
      builder.encodedHeaders = headers.isEmpty ? nil : headers.encoded
    }.encoded
  }

  private static func history(_ encoded: Bytes) -> [AMQPFieldTable] {
    guard hasHistory(encoded), let array = headers(decode(encoded))?["x-death"]?.array else { return [] }
    return array.compactMap(\.table)
  }

  /// The properties of a message that leaves a queue for its dead-letter exchange. Source of the headers, their types and
  /// their order: RabbitMQ 4, `mc:record_death`, `mc_amqpl:death_table`.
  public func deadLettered(_ encoded: Bytes, _ death: MessageDeath) -> Bytes {
    let properties = AMQPMessageFormat.decode(encoded)
    var history = AMQPMessageFormat.history(encoded)
    let isFirst = history.isEmpty
    let known = history.firstIndex { $0["queue"]?.text == death.queue && $0["reason"]?.text == death.reason }
    if let known {
      let entry = history.remove(at: known)
      let count = entry["count"]?.integer ?? 0
      history.insert(entry.setting("count", to: .int64(count == .max ? count : count + 1)), at: 0)
    } else {
      history.insert(AMQPMessageFormat.entry(death, expiration: properties.expiration), at: 0)
      history.removeLast(max(0, history.count - AMQPMessageFormat.longestHistory))
    }
    var headers = AMQPMessageFormat.headers(properties) ?? AMQPFieldTable()
    if death.isKeyReplaced { headers = headers.setting("CC", to: nil) }
    headers = headers.setting("x-death", to: .array(AMQPFieldArray(history.map { .table($0) })))
    for which in isFirst ? ["first", "last"] : ["last"] {
      headers = headers.setting("x-\(which)-death-reason", to: .string(death.reason))
        .setting("x-\(which)-death-queue", to: .string(death.queue))
        .setting("x-\(which)-death-exchange", to: .string(death.exchange))
    }
    let altered = properties.altered {
      $0.expiration = nil
      $0.encodedHeaders = headers.encoded
    }
    return AMQPMessageFormat.withHistory(altered.encoded)
  }

  private static func entry(_ death: MessageDeath, expiration: ShortString?) -> AMQPFieldTable {
    var fields: [(String, AMQPValue)] = []
    if let expiration { fields.append(("original-expiration", .string(expiration.bytes))) }
    fields += [
      ("count", .int64(1)),
      ("reason", .string(death.reason)),
      ("queue", .string(death.queue)),
      ("time", .timestamp(UInt64(clamping: death.time.milliseconds / 1000))),
      ("exchange", .string(death.exchange)),
      ("routing-keys", .array(AMQPFieldArray(death.routingKeys.map { .string($0) }))),
    ]
    return AMQPFieldTable(fields)
  }

  private static func withHistory(_ encoded: Bytes) -> Bytes {
    var writer = ByteWriter(capacity: encoded.count)
    writer.uint8(encoded[0])
    writer.uint8(encoded[1] | historyFlag)
    encoded[2..<encoded.count].withBuffer { writer.copy($0) }
    return writer.finishJoined()
  }
}
