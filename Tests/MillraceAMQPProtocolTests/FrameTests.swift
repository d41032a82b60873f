// FrameTests: protocol header and frames: in steps, at every cut, and what is refused.

import MillraceAMQPProtocol
import MillraceBase
import Testing

private func refused(_ bytes: [UInt8], frameMax: Int = 4096) -> AMQPError? {
  do throws(AMQPError) {
    _ = try AMQPFrame.read(Bytes(bytes), frameMax: frameMax)
    return nil
  } catch {
    return error
  }
}

@Test("the protocol header is accepted when complete, and awaited before, byte by byte")
func protocolHeader() {
  #expect(ProtocolHeader.bytes.array == [65, 77, 81, 80, 0, 0, 9, 1])
  for cut in 0..<8 { #expect(ProtocolHeader.judge(ProtocolHeader.bytes[0..<cut]) == .incomplete) }
  #expect(ProtocolHeader.judge(ProtocolHeader.bytes) == .accepted)
  #expect(ProtocolHeader.judge(Bytes(ProtocolHeader.bytes.array + [1, 0, 0])) == .accepted)
  // AMQP 0-9 is taken for 0-9-1, as by RabbitMQ.
  #expect(ProtocolHeader.judge(Bytes([65, 77, 81, 80, 1, 1, 0, 9])) == .accepted)
}

@Test("another protocol is refused as soon as it shows, and by name")
func otherProtocols() {
  #expect(ProtocolHeader.judge(Bytes([65, 77, 81, 80, 3, 1, 0, 0])) == .refused("AMQP 1.0 is not spoken here"))
  #expect(ProtocolHeader.judge(Bytes([65, 77, 81, 80, 1, 1, 8, 0])) == .refused("AMQP 1-1-8-0 is not spoken here"))
  #expect(ProtocolHeader.judge(Bytes([65, 77, 81, 80, 3])) == .incomplete)
  #expect(ProtocolHeader.judge(Bytes("GET / HTTP/1.1\r\n")) == .refused("an HTTP request"))
  #expect(ProtocolHeader.judge(Bytes([0x16, 3, 1])) == .refused("a TLS handshake"))
  #expect(ProtocolHeader.judge(Bytes([0, 0, 0, 35])) == .refused("not AMQP: [0, 0, 0, 35]"))
  #expect(ProtocolHeader.judge(Bytes("AX")) == .refused("not AMQP: [65, 88]"))
}

@Test("frames are read one behind the other, and at every cut the reader says how much it needs")
func framesInSteps() throws {
  let first: [UInt8] = [1, 0, 7, 0, 0, 0, 3, 10, 20, 30, 0xCE]
  let second: [UInt8] = [8, 0, 0, 0, 0, 0, 0, 0xCE]
  let both = Bytes(first + second)
  for cut in 0..<first.count {
    let progress = try AMQPFrame.read(both[0..<cut], frameMax: 4096)
    #expect(progress == .needs(cut < 7 ? 7 : 11))
  }
  let one = try AMQPFrame.read(both, frameMax: 4096)
  #expect(one == .frame(AMQPFrame(.method, channel: 7, payload: Bytes([10, 20, 30])), end: 11))
  let two = try AMQPFrame.read(both, at: 11, frameMax: 4096)
  #expect(two == .frame(AMQPFrame(.heartbeat, channel: 0, payload: Bytes()), end: 19))
  #expect(try AMQPFrame.read(both, at: 19, frameMax: 4096) == .needs(7))
  guard case .frame(let frame, _) = one else { return }
  #expect(frame.payload.start == both.start + 7, "a payload shares the memory that it was received in")
}

@Test("a frame larger than settled is refused by its header alone, 8 bytes of grace granted")
func frameMax() throws {
  func header(_ size: UInt32) -> [UInt8] { [3, 0, 1] + withUnsafeBytes(of: size.bigEndian) { Array($0) } }
  #expect(try AMQPFrame.read(Bytes(header(4096)), frameMax: 4096) == .needs(4104))
  let error = try #require(refused(header(4097)))
  #expect(error.code == .frameError)
  #expect(error.reason == "frame of type 3 on channel 1 is too large: a payload of 4097 bytes, 4088 are allowed")
  #expect(refused(header(.max))?.code == .frameError)
  // Without a limit, nothing is allocated for what is only announced.
  #expect(try AMQPFrame.read(Bytes(header(.max)), frameMax: 0) == .needs(Int(UInt32.max) + 8))
}

@Test("an unknown kind, a missing end, heartbeats with a payload or a channel, and content on channel 0 are refused")
func wrongFrames() {
  #expect(refused([4, 0, 0, 0, 0, 0, 0])?.code == .frameError)
  #expect(refused([0, 0, 0, 0, 0, 0, 0])?.reason == "unknown frame type 0 on channel 0")
  #expect(refused([65, 77, 81, 80, 0, 0, 9, 1])?.code == .frameError)
  let unended = refused([1, 0, 2, 0, 0, 0, 1, 5, 0xCD])
  #expect(unended?.code == .frameError)
  #expect(unended?.reason == "frame of type 1 on channel 2 with a payload of 1 bytes ends with 205 instead of 206")
  #expect(refused([8, 0, 0, 0, 0, 0, 1])?.code == .frameError)
  #expect(refused([8, 0, 1, 0, 0, 0, 0])?.code == .unexpectedFrame)
  #expect(refused([2, 0, 0, 0, 0, 0, 0])?.code == .unexpectedFrame)
  #expect(refused([3, 0, 0, 0, 0, 0, 0])?.code == .unexpectedFrame)
}

@Test("reply codes have RabbitMQ's names, and end what the specification says")
func replyCodes() {
  #expect(ReplyCode.allCases.count == 19)
  #expect(ReplyCode(rawValue: 404)?.name == "NOT_FOUND")
  #expect(ReplyCode.preconditionFailed.description == "406 PRECONDITION_FAILED")
  let soft = ReplyCode.allCases.filter { $0.severity == .channel }.map(\.rawValue)
  #expect(soft == [311, 312, 313, 403, 404, 405, 406])
  #expect(ReplyCode.allCases.filter { $0.severity == .none } == [.replySuccess])
  let names = """
    200 REPLY_SUCCESS, 311 CONTENT_TOO_LARGE, 312 NO_ROUTE, 313 NO_CONSUMERS, 320 CONNECTION_FORCED, 402
    INVALID_PATH, 403 ACCESS_REFUSED, 404 NOT_FOUND, 405 RESOURCE_LOCKED, 406 PRECONDITION_FAILED, 501 FRAME_ERROR,
    502 SYNTAX_ERROR, 503 COMMAND_INVALID, 504 CHANNEL_ERROR, 505 UNEXPECTED_FRAME, 506 RESOURCE_ERROR, 530
    NOT_ALLOWED, 540 NOT_IMPLEMENTED, 541 INTERNAL_ERROR
    """
  let words = names.split { $0 == "," || $0 == "\n" || $0 == " " }.map(String.init)
  #expect(ReplyCode.allCases.flatMap { ["\($0.rawValue)", $0.name] } == words)
}

@Test("a reply text has the code's name in front and at most 255 bytes, cut between characters")
func replyTexts() {
  let id = MethodID(classID: 50, methodID: 10)
  let error = AMQPError(.notFound, "no queue 'q' in vhost '/'", id)
  #expect(error.replyText == "NOT_FOUND - no queue 'q' in vhost '/'")
  let close = ChannelClose(error)
  #expect(close.replyCode == 404 && close.replyText == error.replyText && close.classID == 50 && close.methodID == 10)
  #expect(ConnectionClose(error).replyText == error.replyText)
  for pad in 0..<8 {
    let text = AMQPError(.notAllowed, String(repeating: "x", count: pad) + String(repeating: "日", count: 200)).replyText
    #expect(text.utf8.count <= 255 && text.utf8.count > 250 && text.hasSuffix("日..."))
  }
  let exact = AMQPError(.notAllowed, String(repeating: "y", count: 255 - "NOT_ALLOWED - ".utf8.count))
  #expect(exact.replyText.utf8.count == 255 && exact.replyText.hasSuffix("y"))
}
