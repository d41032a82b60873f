// WholePublicationTests: what is read in one go is what frame by frame gives, and all else is left to that.

import MillraceAMQPProtocol
import MillraceBase
import Testing

/// Exchange, key, whether mandatory, properties, body and end of the publication at `position`, frame by frame.
private func framewise(
  _ bytes: Bytes, _ position: Int, frameMax: Int
) -> (exchange: Bytes, key: Bytes, isMandatory: Bool, properties: Bytes, body: Bytes, end: Int)? {
  var assembler = CommandAssembler(largestBody: 1 << 20)
  var at = position
  do throws(AMQPError) {
    while case .frame(let frame, let end) = try AMQPFrame.read(bytes, at: at, frameMax: frameMax) {
      at = end
      switch try assembler.receive(frame) {
      case .incomplete: continue
      case .content(.basicPublish(let fields), let header, let body) where !fields.immediate:
        return (
          fields.exchange.bytes, fields.routingKey.bytes, fields.mandatory, header.properties.encoded, body.joined, at
        )
      default: return nil
      }
    }
  } catch {
    return nil
  }
  return nil
}

private func agrees(_ bytes: Bytes, _ position: Int, frameMax: Int) -> Bool {
  guard let found = WholePublication.read(bytes, at: position, frameMax: frameMax) else { return true }
  let properties = readable(bytes[found.properties])
  // Properties are not checked when they are read in one go; whoever uses them does that.
  guard let expected = framewise(bytes, position, frameMax: frameMax) else { return properties == nil }
  return bytes[found.exchange] == expected.exchange && bytes[found.routingKey] == expected.key
    && found.isMandatory == expected.isMandatory && found.end == expected.end && bytes[found.body] == expected.body
    && properties == expected.properties
}

private func readable(_ properties: Bytes) -> Bytes? {
  do throws(DecodingError) {
    return try BasicProperties(decoding: properties).encoded
  } catch {
    return nil
  }
}

private func publication(
  exchange: ShortString = "", key: ShortString = "queue", mandatory: Bool = false, immediate: Bool = false,
  properties: BasicProperties = BasicProperties(), body: String = "0123456789", frameMax: Int = 0
) -> Bytes {
  var out = FrameWriter(frameMax: frameMax)
  out.publish(
    channel: 3, exchange: exchange, routingKey: key, mandatory: mandatory, immediate: immediate, properties: properties,
    body: ContentBody(Bytes(body)))
  return Bytes(out.take().flatMap(\.array))
}

private var persistent: BasicProperties {
  var builder = BasicPropertiesBuilder()
  builder.deliveryMode = 2
  builder.contentType = "text/plain"
  return builder.build()
}

@Test("a publication whose frames are there is read in one go, wherever it begins")
func wholePublications() throws {
  for (exchange, key, mandatory, properties) in [
    ("" as ShortString, "queue" as ShortString, false, BasicProperties()), ("amq.topic", "", true, persistent),
    ("e", "a.b.c", false, persistent),
  ] {
    let one = publication(exchange: exchange, key: key, mandatory: mandatory, properties: properties)
    let all = Bytes([1, 2, 3] + one.array + one.array)
    for position in [3, 3 + one.count] {
      let found = try #require(WholePublication.read(all, at: position, frameMax: 4096))
      #expect(found.channel == 3 && found.end == position + one.count && found.isMandatory == mandatory)
      #expect(all[found.exchange] == exchange.bytes && all[found.routingKey] == key.bytes)
      #expect(all[found.properties] == properties.encoded && all[found.body].text == "0123456789")
    }
  }
}

@Test("what is cut off, cut into frames, empty, immediate, large or something else is left to go frame by frame")
func noWholePublications() {
  let whole = publication(properties: persistent)
  for count in 0..<whole.count { #expect(WholePublication.read(whole[0..<count], at: 0, frameMax: 0) == nil) }
  func isFound(_ bytes: Bytes, frameMax: Int = 0) -> Bool {
    WholePublication.read(bytes, at: 0, frameMax: frameMax) != nil
  }
  #expect(isFound(whole))
  #expect(!isFound(publication(body: "")))
  #expect(!isFound(publication(immediate: true)))
  #expect(!isFound(publication(body: "0123456789", frameMax: 16)))
  #expect(isFound(publication(body: String(repeating: "x", count: WholePublication.largestBody))))
  #expect(!isFound(publication(body: String(repeating: "x", count: WholePublication.largestBody + 1))))
  #expect(!isFound(publication(body: String(repeating: "x", count: 5000)), frameMax: 4096))
  var ack = FrameWriter(frameMax: 0)
  ack.ack(channel: 3, deliveryTag: 1, multiple: false)
  #expect(!isFound(Bytes(ack.take().flatMap(\.array) + whole.array)))
}

@Test("whatever byte is changed, it is read as frame by frame or not at all")
func agreesFrameByFrame() {
  for properties in [BasicProperties(), persistent] {
    let whole = publication(exchange: "e", key: "key", properties: properties, body: "body").array
    for index in whole.indices {
      let near = [whole[index] &- 1, whole[index] &+ 1, whole[index] ^ 0x80]
      for value in [0, 1, 2, 3, 4, 8, 16, 40, 60, AMQPFrame.end, 255] + near {
        var changed = whole
        changed[index] = value
        for frameMax in [0, 4096] {
          #expect(agrees(Bytes(changed), 0, frameMax: frameMax), "byte \(index) is \(value), frame_max \(frameMax)")
        }
      }
    }
  }
}
