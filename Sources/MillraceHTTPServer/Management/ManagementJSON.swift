// ManagementJSON: queues, exchanges, bindings and messages as RabbitMQ's management API writes them.

import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceHTTPProtocol
import MillraceRouting

enum ManagementJSON {
  static let node = "millrace@localhost"

  static func write(_ queue: QueueDescription, to json: inout JSONWriter) {
    json.object { json in
      json.name("name")
      json.string(queue.declaration.name)
      json.name("vhost")
      json.string(queue.declaration.virtualHost)
      json.name("type")
      json.string(queue.arguments.type.rawValue)
      json.name("state")
      json.string("running")
      json.name("node")
      json.string(node)
      for (name, flag) in [
        ("durable", queue.isDurable), ("auto_delete", queue.declaration.isAutoDelete),
        ("exclusive", queue.declaration.isExclusive),
      ] {
        json.name(name)
        json.bool(flag)
      }
      json.name("arguments")
      queue.declaration.arguments.write(to: &json)
      for (name, number) in [
        ("messages", Int64(queue.length + queue.inFlight)), ("messages_ready", Int64(queue.length)),
        ("messages_unacknowledged", Int64(queue.inFlight)), ("message_bytes_ready", queue.lengthBytes),
        ("consumers", Int64(queue.consumers)),
      ] {
        json.name(name)
        json.number(number)
      }
      json.name("policy")
      json.null()
    }
  }

  static func write(_ exchange: Exchange, _ host: String, to json: inout JSONWriter) {
    json.object { json in
      json.name("name")
      json.string(exchange.name)
      json.name("vhost")
      json.string(host)
      json.name("type")
      json.string(exchange.type.rawValue)
      for (name, flag) in [
        ("durable", exchange.isDurable), ("auto_delete", exchange.isAutoDelete), ("internal", exchange.isInternal),
      ] {
        json.name(name)
        json.bool(flag)
      }
      json.name("arguments")
      exchange.arguments.write(to: &json)
    }
  }

  /// What names a binding among those of the same source and destination: `~` for no key, else the key, and behind a tilde a
  /// hash where there are arguments. Source: RabbitMQ, `rabbit_mgmt_format:pack_binding_props`; the hash is our own.
  static func propertiesKey(_ binding: Binding) -> String {
    let key = binding.key.count == 0 ? "~" : HTTPTarget.encoded(binding.key.text)
    guard !binding.arguments.isEmpty else { return key }
    var json = JSONWriter()
    binding.arguments.write(to: &json)
    return "\(binding.key.count == 0 ? "" : key)~\(String(Bytes(json.bytes).crc32c, radix: 36))"
  }

  static func write(_ binding: Binding, _ host: String, to json: inout JSONWriter) {
    json.object { json in
      for (name, text) in [
        ("source", binding.source), ("vhost", host), ("destination", binding.destination.name),
        ("destination_type", binding.destination.kind), ("routing_key", binding.key.text),
        ("properties_key", propertiesKey(binding)),
      ] {
        json.name(name)
        json.string(text)
      }
      json.name("arguments")
      binding.arguments.write(to: &json)
    }
  }

  static func write(
    _ delivery: Delivery, left: Int, asBase64: Bool, truncate: Int?, to json: inout JSONWriter
  ) {
    let message = delivery.message
    json.object { json in
      json.name("payload_bytes")
      json.number(message.body.count)
      json.name("redelivered")
      json.bool(delivery.isRedelivered)
      json.name("exchange")
      json.string(message.exchange)
      json.name("routing_key")
      json.string(message.routingKey)
      json.name("message_count")
      json.number(left)
      json.name("properties")
      PropertyNames.rabbit.write(message.properties, to: &json)
      let body = truncate.map { message.body[0..<min($0, message.body.count)] } ?? message.body
      let text = asBase64 ? nil : body.withBuffer { String(validating: $0, as: UTF8.self) }
      json.name("payload")
      json.string(text ?? body.withBuffer { Base64.encode($0) })
      json.name("payload_encoding")
      json.string(text == nil ? "base64" : "string")
    }
  }
}
