// GoldenTests: what pika, pamqp and py-amqp encode, read field by field and written back byte for byte.

import MillraceAMQPProtocol
import MillraceBase
import Testing

private struct Golden {
  let encoder: String
  let kind: String
  let name: String
  var fields: [String: String] = [:]
  var bytes: [UInt8] = []
}

private let golden: [Golden] = {
  var all: [Golden] = []
  var fields = ""
  func finish() {
    guard !all.isEmpty else { return }
    for field in fields.split(separator: ";") {
      let parts = field.split(separator: "=").map(String.init)
      all[all.count - 1].fields[parts[0]] = parts[1]
    }
    fields = ""
  }
  for line in goldenFrames.split(separator: "\n") {
    if line.hasPrefix("    :") || line.hasPrefix("  :") {
      fields += line.drop { $0 == " " }.dropFirst()
    } else if line.hasPrefix("  ") {
      all[all.count - 1].bytes += bytes(hex: line.drop { $0 == " " })
    } else {
      finish()
      let words = line.split(separator: " ").map(String.init)
      all.append(Golden(encoder: words[0], kind: words[1], name: words[2]))
    }
  }
  finish()
  return all
}()

private func frame(_ bytes: [UInt8]) throws -> AMQPFrame {
  let progress = try AMQPFrame.read(Bytes(bytes), frameMax: 131_072)
  guard case .frame(let frame, let end) = progress else {
    Issue.record("\(progress) for \(hex(bytes))")
    throw AMQPError(.frameError, "no frame")
  }
  #expect(end == bytes.count)
  return frame
}

private func joined(_ pieces: [Bytes]) -> [UInt8] { pieces.flatMap(\.array) }

/// The fields of a method by their names in golden frames.
private func fields(of method: AMQPMethod) throws -> [String: String] {
  let payload = try #require(Mirror(reflecting: method).children.first).value
  var fields: [String: String] = [:]
  for child in Mirror(reflecting: payload).children {
    fields[snake(child.label ?? "")] = told(child.value)
  }
  return fields
}

@Test("golden: every method is read field by field and written back as clients encode it")
func goldenMethods() throws {
  var covered: [String: Int] = [:]
  for one in golden where one.kind == "method" {
    let frame = try frame(one.bytes)
    #expect(frame.kind == .method)
    let method = try AMQPMethod.decode(frame.payload)
    #expect(method.id.name == one.name)
    var found = try fields(of: method)
    found["channel"] = "\(frame.channel)"
    #expect(found == one.fields, "\(one.encoder) \(one.name)")
    var writer = FrameWriter()
    writer.write(method, channel: frame.channel)
    #expect(hex(joined(writer.take())) == hex(one.bytes), "\(one.encoder) \(one.name)")
    covered[one.name, default: 0] += 1
  }
  #expect(Set(covered.keys) == Set(MethodID.all.compactMap(\.name)))
  #expect(covered.count == 66 && covered.values.allSatisfy { $0 >= 3 })
}

@Test("golden: content headers are read property by property, passed on, and built again, as clients encode them")
func goldenProperties() throws {
  var encoders: Set<String> = []
  for one in golden where one.kind == "header" {
    encoders.insert(one.encoder)
    let frame = try frame(one.bytes)
    #expect(frame.kind == .header && frame.channel == 7)
    let header = try ContentHeader(decoding: frame.payload)
    let own = header.properties
    var found = ["channel": "7", "body_size": "\(header.bodySize)"]
    func note(_ name: String, _ value: Any?) { if let value { found[name] = told(value) } }
    note("content_type", own.contentType)
    note("content_encoding", own.contentEncoding)
    note("headers", try own.headers())
    note("delivery_mode", own.deliveryMode)
    note("priority", own.priority)
    note("correlation_id", own.correlationID)
    note("reply_to", own.replyTo)
    note("expiration", own.expiration)
    note("message_id", own.messageID)
    note("timestamp", own.timestamp)
    note("type", own.type)
    note("user_id", own.userID)
    note("app_id", own.appID)
    note("cluster_id", own.clusterID)
    #expect(found == one.fields, "\(one.encoder)")
    #expect(own.isPersistent == (found["delivery_mode"] == "2"))
    // Behind class, weight and size.
    #expect(hex(own.encoded) == hex(frame.payload[12..<frame.payload.count]))
    #expect(own.altered { _ in } == own)
    #expect(own.isEmpty == (one.fields.count == 2))
  }
  #expect(encoders == ["pika", "pamqp", "amqp"])
}

@Test("golden: each type that a client chooses for a table is read as what it was")
func goldenTables() throws {
  for one in golden where one.kind == "table" {
    let table = try AMQPFieldTable(encoded: Bytes(one.bytes))
    let who = Comment(rawValue: one.encoder)
    #expect(table["text"] == "größe", who)
    #expect(table["yes"] == true && table["no"] == false, who)
    #expect(table["small"]?.integer == 5 && table["negative"]?.integer == -5, who)
    #expect(table["wide"] == .int64(1 << 40) && table["low"] == .int64(-(1 << 62)), who)
    #expect(table["void"] == .void, who)
    #expect(table["decimal"] == .decimal(scale: 2, value: -1234), who)
    #expect(table["time"] == .timestamp(1_700_000_000), who)
    #expect(table["table"]?.table?["inner"]?.table?["deep"]?.integer == 1, who)
    let array = try #require(table["array"]?.array).map { $0 }
    #expect(array.count == 5 && array[0] == "a" && array[1].integer == 1 && array[2] == .void, who)
    #expect(array[3] == [true] && array[4] == ["k": "v"], who)
    switch one.encoder {
    case "pika": #expect(table["bytes"] == .binary(Bytes([0, 255])))
    case "pamqp": #expect(table["bytes"] == .binary(Bytes([0, 255])) && table["float"] == .float(1.5))
    default: #expect(table["bytes"] == .string(Bytes([0, 255])) && table["float"] == .double(1.5))
    }
    // A table made of the same values has the same bytes, but for the letter L, which py-amqp writes.
    let again = AMQPFieldTable(table.map { ($0.key.text, $0.value) })
    #expect(again.map(\.value) == table.map(\.value), who)
    #expect((again == table) == (one.encoder != "amqp"), who)
  }
  #expect(golden.filter { $0.kind == "table" }.count == 3)
}
