// PropertiesTests: content headers and properties: presence, cuts, flag words, alteration, and expiration.

import MillraceAMQPProtocol
import MillraceBase
import Testing

private let all = BasicProperties.build {
  $0.contentType = "text/plain"
  $0.contentEncoding = "utf-8"
  $0.encodedHeaders = (["h": 1, "x-death": [["count": 1]]] as AMQPFieldTable).encoded
  $0.deliveryMode = 2
  $0.priority = 9
  $0.correlationID = "c"
  $0.replyTo = "r"
  $0.expiration = "60000"
  $0.messageID = "m"
  $0.timestamp = 1_700_000_000
  $0.type = "t"
  $0.userID = "guest"
  $0.appID = "a"
  $0.clusterID = ""
}

private func refused(_ encoded: [UInt8]) -> DecodingError? {
  do throws(DecodingError) {
    _ = try BasicProperties(decoding: Bytes(encoded))
    return nil
  } catch {
    return error
  }
}

private func refusedHeader(_ payload: [UInt8]) -> AMQPError? {
  do throws(AMQPError) {
    _ = try ContentHeader(decoding: Bytes(payload))
    return nil
  } catch {
    return error
  }
}

@Test("each of the fourteen properties is found whatever others are there")
func everyPresence() throws {
  for chosen in 0..<(1 << 14) {
    func pick<Value>(_ bit: Int, _ value: Value?) -> Value? { chosen & 1 << bit != 0 ? value : nil }
    var builder = BasicPropertiesBuilder()
    builder.contentType = pick(0, all.contentType)
    builder.contentEncoding = pick(1, all.contentEncoding)
    builder.encodedHeaders = pick(2, all.encodedHeaders)
    builder.deliveryMode = pick(3, all.deliveryMode)
    builder.priority = pick(4, all.priority)
    builder.correlationID = pick(5, all.correlationID)
    builder.replyTo = pick(6, all.replyTo)
    builder.expiration = pick(7, all.expiration)
    builder.messageID = pick(8, all.messageID)
    builder.timestamp = pick(9, all.timestamp)
    builder.type = pick(10, all.type)
    builder.userID = pick(11, all.userID)
    builder.appID = pick(12, all.appID)
    builder.clusterID = pick(13, all.clusterID)
    let built = builder.build()
    let read = try BasicProperties(decoding: built.encoded)
    guard
      read == built, read.contentType == builder.contentType, read.contentEncoding == builder.contentEncoding,
      read.encodedHeaders == builder.encodedHeaders, read.deliveryMode == builder.deliveryMode,
      read.priority == builder.priority, read.correlationID == builder.correlationID, read.replyTo == builder.replyTo,
      read.expiration == builder.expiration, read.messageID == builder.messageID, read.timestamp == builder.timestamp,
      read.type == builder.type, read.userID == builder.userID, read.appID == builder.appID,
      read.clusterID == builder.clusterID, read.isEmpty == (chosen == 0)
    else {
      Issue.record("properties \(chosen)")
      return
    }
  }
}

@Test("properties cut at every byte, or with a byte behind them, are refused")
func everyPropertiesCut() throws {
  let bytes = all.encoded.array
  for cut in 0..<bytes.count { #expect(refused(Array(bytes[0..<cut])) != nil, "cut at \(cut)") }
  #expect(refused(bytes) == nil)
  #expect(refused(bytes + [0])?.reason == "1 bytes follow the properties")
  // Headers that announce more than there is.
  #expect(refused([0x20, 0, 0xFF, 0xFF, 0xFF, 0xFF]) == DecodingError("property 3 of 14 is cut off", at: 2))
}

@Test("further words of flags are read and not passed on; properties in them are unknown")
func flagWords() throws {
  let read = try BasicProperties(decoding: Bytes([0x10, 0x01, 0, 1, 0, 0, 2]))
  #expect(read.deliveryMode == 2)
  #expect(read.encoded.array == [0x10, 0, 2])
  #expect(refused([0x10, 0x01, 0x80, 0, 2, 0])?.reason == "flags 32768 of unknown properties")
  #expect(refused([0x10, 0x01, 2])?.reason == "flags of properties are cut off")
  // The unused bit is ignored, as by RabbitMQ.
  #expect(try BasicProperties(decoding: Bytes([0x10, 0x02, 1])).encoded.array == [0x10, 0, 1])
}

@Test("what was received is passed on without a copy, headers unread")
func sharedProperties() throws {
  // The headers are no table; only who asks for them learns it.
  let received = Bytes([0x30, 0, 0, 0, 0, 2, 9, 9, 2])
  let read = try BasicProperties(decoding: received)
  #expect(read.encoded.start == received.start && read.isPersistent)
  #expect(throws: AMQPError.self) { try read.headers() }
  do throws(AMQPError) {
    _ = try read.headers()
  } catch {
    #expect(error.code == .syntaxError)
  }
  #expect(read.altered { $0.priority = 1 }.encodedHeaders?.array == [9, 9])
}

@Test("altering some properties keeps the others")
func altering() throws {
  let headers = try #require(try all.headers()).setting("x-first-death-queue", to: "q")
  let altered = all.altered {
    $0.encodedHeaders = headers.encoded
    $0.expiration = nil
  }
  #expect(try altered.headers() == headers && altered.expiration == nil)
  #expect(altered.contentType == "text/plain" && altered.clusterID == "" && altered.timestamp == 1_700_000_000)
  let bare = altered.with(headers: nil).altered { $0.expiration = "60000" }
  #expect(bare.encodedHeaders == nil && bare != all)
  #expect(try bare.with(headers: all.headers()) == all)
  #expect(BasicProperties().isEmpty && BasicProperties().encoded.array == [0, 0])
}

@Test("an expiration is a decimal number of milliseconds, or precondition failed")
func expiration() throws {
  #expect(try all.expirationMilliseconds() == 60000)
  #expect(try BasicProperties().expirationMilliseconds() == nil)
  for text in ["", "-1", "+1", "1.5", "x", " 1", "9223372036854775808"] {
    let properties = BasicProperties.build { $0.expiration = ShortString(text) }
    do throws(AMQPError) {
      _ = try properties.expirationMilliseconds()
      Issue.record("'\(text)' was accepted")
    } catch {
      #expect(error.code == .preconditionFailed && error.reason.contains("'\(text)'"))
    }
  }
  #expect(try BasicProperties.build { $0.expiration = "0" }.expirationMilliseconds() == 0)
}

@Test("a content header of another class or weight is unexpected, a malformed one a syntax error")
func contentHeaders() throws {
  let head: [UInt8] = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]
  let header = try ContentHeader(decoding: Bytes(head + all.encoded.array))
  #expect(header == ContentHeader(bodySize: 256, properties: all))
  for cut in 0..<(head.count + 2) { #expect(refusedHeader(Array((head + [0, 0])[0..<cut]))?.code == .syntaxError) }
  #expect(refusedHeader([0, 50] + head[2...] + [0, 0])?.code == .unexpectedFrame)
  #expect(refusedHeader([0, 60, 0, 1] + head[4...] + [0, 0])?.code == .unexpectedFrame)
  #expect(
    refusedHeader(head + [0x80, 0, 5, 1])?.reason == "content header: property 1 of 14 is cut off at byte 14")
}
