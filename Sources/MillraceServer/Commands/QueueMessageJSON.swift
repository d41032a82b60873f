// QueueMessageJSON: a message of a queue as a line of JSON.
//
//   {"position":"0:12","exchange":"","routingKey":"q","redelivered":false,"failures":0,"timestamp":1700000000000,
//    "due":1700000060000,"properties":{"contentType":"text/plain","headers":{"n":1},"deliveryMode":2, …},"body":"text"}
//
// `due` is there only while the message waits for a time, `inFlight` only while it is with a consumer. Properties that are
// not set are left out. A body that is not UTF-8 stands as base 64 under `body_base64`, and a header's text of that kind as
// an object with the member `base64`.

import MillraceAMQPProtocol
import MillraceBase
import MillraceKafkaServer

/// Writes messages as JSON.
enum QueueMessageJSON {
  /// One message as an object.
  static func text(_ message: QueueMessage) -> String {
    var json = JSONWriter()
    json.object { json in
      json.name("position")
      json.string(message.position.description)
      json.name("exchange")
      json.string(message.exchange)
      json.name("routingKey")
      json.string(message.routingKey)
      json.name("redelivered")
      json.bool(message.isRedelivered)
      json.name("failures")
      json.number(message.failures)
      json.name("timestamp")
      json.number(message.timestamp.milliseconds)
      if let due = message.due {
        json.name("due")
        json.number(due.milliseconds)
      }
      if message.isInFlight {
        json.name("inFlight")
        json.bool(true)
      }
      json.name("properties")
      write(message.properties, to: &json)
      if let text = message.body.withBuffer({ String(validating: $0, as: UTF8.self) }) {
        json.name("body")
        json.string(text)
      } else {
        json.name("body_base64")
        json.string(message.body.withBuffer { Base64.encode($0) })
      }
    }
    return json.text
  }

  private static func write(_ encoded: Bytes, to json: inout JSONWriter) {
    let properties: BasicProperties
    do throws(DecodingError) {
      properties = try BasicProperties(decoding: encoded)
    } catch {
      return json.object { _ in }
    }
    json.object { json in
      for (name, text) in [
        ("contentType", properties.contentType), ("contentEncoding", properties.contentEncoding),
        ("correlationId", properties.correlationID), ("replyTo", properties.replyTo),
        ("expiration", properties.expiration), ("messageId", properties.messageID), ("type", properties.type),
        ("userId", properties.userID), ("appId", properties.appID),
      ] {
        guard let text else { continue }
        json.name(name)
        json.string(text.text)
      }
      for (name, number) in [
        ("deliveryMode", properties.deliveryMode.map { UInt64($0) }),
        ("priority", properties.priority.map { UInt64($0) }), ("timestamp", properties.timestamp),
      ] {
        guard let number else { continue }
        json.name(name)
        json.number(number)
      }
      let headers: AMQPFieldTable?
      do throws(AMQPError) { headers = try properties.headers() } catch { headers = nil }
      guard let headers else { return }
      json.name("headers")
      write(headers, to: &json)
    }
  }

  private static func write(_ table: AMQPFieldTable, to json: inout JSONWriter) {
    json.object { json in
      for (key, value) in table {
        json.name(key.text)
        write(value, to: &json)
      }
    }
  }

  private static func write(_ value: AMQPValue, to json: inout JSONWriter) {
    switch value {
    case .void: json.null()
    case .bool(let value): json.bool(value)
    case .timestamp(let seconds): json.number(seconds)
    case .float, .double, .decimal: json.number(value.fraction ?? 0)
    case .string(let bytes), .binary(let bytes):
      if let text = bytes.withBuffer({ String(validating: $0, as: UTF8.self) }) { return json.string(text) }
      json.object { json in
        json.name("base64")
        json.string(bytes.withBuffer { Base64.encode($0) })
      }
    case .array(let values): json.array { json in for value in values { write(value, to: &json) } }
    case .table(let table): write(table, to: &json)
    case .int8, .uint8, .int16, .uint16, .int32, .uint32, .int64: json.number(value.integer ?? 0)
    }
  }
}
