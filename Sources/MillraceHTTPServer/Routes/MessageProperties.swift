// MessageProperties: the properties of messages between AMQP's bytes and JSON, under this API's names and under RabbitMQ's.

import MillraceAMQPProtocol
import MillraceBase

/// Under which names properties stand in JSON.
enum PropertyNames {
  /// `contentType`
  case own
  /// `content_type`, as RabbitMQ's management API has it.
  case rabbit

  private static let texts:
    [(
      own: String, rabbit: String, get: @Sendable (BasicProperties) -> ShortString?,
      set: @Sendable (inout BasicPropertiesBuilder, ShortString) -> Void
    )] = [
      ("contentType", "content_type", { $0.contentType }, { $0.contentType = $1 }),
      ("contentEncoding", "content_encoding", { $0.contentEncoding }, { $0.contentEncoding = $1 }),
      ("correlationId", "correlation_id", { $0.correlationID }, { $0.correlationID = $1 }),
      ("replyTo", "reply_to", { $0.replyTo }, { $0.replyTo = $1 }),
      ("expiration", "expiration", { $0.expiration }, { $0.expiration = $1 }),
      ("messageId", "message_id", { $0.messageID }, { $0.messageID = $1 }),
      ("type", "type", { $0.type }, { $0.type = $1 }),
      ("userId", "user_id", { $0.userID }, { $0.userID = $1 }),
      ("appId", "app_id", { $0.appID }, { $0.appID = $1 }),
      ("clusterId", "cluster_id", { $0.clusterID }, { $0.clusterID = $1 }),
    ]

  private func name(_ own: String, _ rabbit: String) -> String { self == .own ? own : rabbit }

  static let schema = HTTPSchema.object(
    texts.map { .optional($0.own, .text(0...255)) } + [
      .optional(
        "deliveryMode", .integer(1...2), "2 for a message that survives a restart (the default), 1 for another."),
      .optional("priority", .integer(0...255)), .optional("timestamp", .count, "Seconds since 1970."),
      .optional("headers", .map(.anything)),
    ])

  /// The properties that an object stands for, encoded; checked against ``schema`` before where the names are own.
  /// - Throws: 400 for a value of another kind, or one that is too long.
  func read(_ json: JSONValue?, at pointer: String, deliveryMode: UInt8?) throws(HTTPProblem) -> Bytes {
    var builder = BasicPropertiesBuilder()
    builder.deliveryMode = deliveryMode
    func wrong(_ name: String, _ expected: String) -> HTTPProblem {
      HTTPProblem(.badRequest, "invalid-value", "\(expected) is expected", at: "\(pointer)/\(name)")
    }
    if case .object(let members)? = json {
      for member in members {
        if let known = PropertyNames.texts.first(where: { name($0.own, $0.rabbit) == member.name }) {
          guard let text = member.value.string ?? member.value.integer.map({ "\($0)" }),
            let short = ShortString(text)
          else { throw wrong(member.name, "a string of at most \(ShortString.limit) bytes") }
          known.set(&builder, short)
          continue
        }
        switch member.name {
        case name("deliveryMode", "delivery_mode"):
          guard let mode = member.value.integer, mode == 1 || mode == 2 else { throw wrong(member.name, "1 or 2") }
          builder.deliveryMode = UInt8(mode)
        case "priority":
          guard let priority = member.value.integer.flatMap({ UInt8(exactly: $0) }) else {
            throw wrong(member.name, "a whole number from 0 to 255")
          }
          builder.priority = priority
        case "timestamp":
          guard let time = member.value.integer.flatMap({ UInt64(exactly: $0) }) else {
            throw wrong(member.name, "a whole number of seconds")
          }
          builder.timestamp = time
        case "headers":
          guard case .object(let headers) = member.value else { throw wrong(member.name, "an object") }
          for header in headers where ShortString(header.name) == nil {
            throw wrong("headers/\(header.name.prefix(32))", "a name of at most \(ShortString.limit) bytes")
          }
          let table = AMQPFieldTable(headers.map { ($0.name, AMQPValue($0.value)) })
          builder.encodedHeaders = table.isEmpty ? nil : table.encoded
        default:
          throw HTTPProblem(
            .badRequest, "unknown-member", "there is no property \"\(member.name)\"", at: "\(pointer)/\(member.name)")
        }
      }
    }
    return builder.build().encoded
  }

  /// Writes properties as an object; what is not set is left out.
  func write(_ encoded: Bytes, to json: inout JSONWriter) {
    let properties: BasicProperties
    do throws(DecodingError) {
      properties = try BasicProperties(decoding: encoded)
    } catch {
      return json.object { _ in }
    }
    json.object { json in
      for one in PropertyNames.texts {
        guard let text = one.get(properties) else { continue }
        json.name(name(one.own, one.rabbit))
        json.string(text.text)
      }
      if let mode = properties.deliveryMode {
        json.name(name("deliveryMode", "delivery_mode"))
        json.number(mode)
      }
      if let priority = properties.priority {
        json.name("priority")
        json.number(priority)
      }
      if let time = properties.timestamp {
        json.name("timestamp")
        json.number(time)
      }
      let headers: AMQPFieldTable?
      do throws(AMQPError) { headers = try properties.headers() } catch { headers = nil }
      guard let headers else { return }
      json.name("headers")
      headers.write(to: &json)
    }
  }
}
