// CommandAssemblerTests: methods and contents from frames, and every frame that must not come.

import MillraceAMQPProtocol
import MillraceBase
import Testing

private let publish = BasicPublish(exchange: "e", routingKey: "k")

private func frames(_ write: (inout FrameWriter) -> Void) throws -> [AMQPFrame] {
  var out = FrameWriter(frameMax: 12)
  write(&out)
  let all = Bytes(out.take().flatMap(\.array))
  var frames: [AMQPFrame] = []
  var position = 0
  while case .frame(let frame, let end) = try AMQPFrame.read(all, at: position, frameMax: 0) {
    frames.append(frame)
    position = end
  }
  return frames
}

private func content(_ body: String) throws -> [AMQPFrame] {
  try frames { $0.publish(channel: 1, exchange: "e", routingKey: "k", body: ContentBody(Bytes(body))) }
}

private func refused(_ assembler: inout CommandAssembler, _ frame: AMQPFrame) -> AMQPError? {
  do throws(AMQPError) {
    _ = try assembler.receive(frame)
    return nil
  } catch {
    return error
  }
}

@Test("a content comes out with its last frame, its pieces in order and not copied")
func contents() throws {
  var assembler = CommandAssembler(largestBody: 10)
  for body in ["", "a", "abcd", "abcdefghij"] {
    let sent = try content(body)
    for frame in sent.dropLast() {
      #expect(try assembler.receive(frame) == .incomplete)
      #expect(assembler.isInsideContent)
    }
    let last = try #require(sent.last)
    guard case .content(let method, let header, let received) = try assembler.receive(last) else {
      Issue.record("no content")
      return
    }
    #expect(method == .basicPublish(publish) && header.bodySize == UInt64(body.utf8.count))
    #expect(received.joined.text == body && received == ContentBody(Bytes(body)))
    #expect(!assembler.isInsideContent)
    if body.count == 10 {
      #expect(received.rest.count == 2 && received.first.start == sent[2].payload.start)
      #expect(received.joined.start != received.first.start)
    }
  }
  let open = try frames { $0.write(ChannelOpen(), channel: 1) }
  #expect(try assembler.receive(open[0]) == .method(.channelOpen(ChannelOpen())))
}

@Test("a frame of another kind than must come next is unexpected, wherever it comes")
func unexpectedFrames() throws {
  let sent = try content("abcdef")
  for done in 0...3 {
    for wrong in [sent[0], sent[1], sent[2]] where wrong.kind != (done == 0 ? .method : done == 1 ? .header : .body) {
      var assembler = CommandAssembler(largestBody: 10)
      for frame in sent.prefix(done) { #expect(try assembler.receive(frame) == .incomplete) }
      let error = try #require(refused(&assembler, wrong))
      #expect(error.code == .unexpectedFrame)
      #expect(error.method == (done == 0 ? .none : BasicPublish.id))
      #expect(!assembler.isInsideContent)
    }
  }
}

@Test("more body than announced is a frame error; an empty body frame changes nothing")
func bodySizes() throws {
  let sent = try content("abcdef")
  var assembler = CommandAssembler(largestBody: 10)
  for frame in sent.prefix(2) { _ = try assembler.receive(frame) }
  #expect(try assembler.receive(AMQPFrame(.body, channel: 1, payload: Bytes())) == .incomplete)
  #expect(try assembler.receive(sent[2]) == .incomplete)
  let error = try #require(refused(&assembler, AMQPFrame(.body, channel: 1, payload: Bytes("xyz"))))
  #expect(error == AMQPError(.frameError, "content body frame exceeds remaining content size", BasicPublish.id))
}

@Test("a body larger than allowed is refused when it is announced, and ends the channel only")
func largestBody() throws {
  var assembler = CommandAssembler(largestBody: 5)
  let sent = try content("abcdef")
  _ = try assembler.receive(sent[0])
  let error = try #require(refused(&assembler, sent[1]))
  #expect(error.code == .preconditionFailed && error.code.severity == .channel)
  #expect(error.reason == "message size 6 is larger than configured max size 5")
  // A size near 2^64 is compared, not added to.
  let huge = Bytes([0, 60, 0, 0] + [UInt8](repeating: 255, count: 8) + [0, 0])
  var boundless = CommandAssembler(largestBody: .max)
  _ = try boundless.receive(sent[0])
  #expect(try boundless.receive(AMQPFrame(.header, channel: 1, payload: huge)) == .incomplete)
  #expect(try boundless.receive(sent[2]) == .incomplete)
}

@Test("a malformed header is refused with the method it belongs to")
func malformedHeader() throws {
  var assembler = CommandAssembler(largestBody: 5)
  _ = try assembler.receive(try content("a")[0])
  let error = try #require(refused(&assembler, AMQPFrame(.header, channel: 1, payload: Bytes([0, 60]))))
  #expect(error.code == .syntaxError && error.method == BasicPublish.id)
}

@Test("what is kept of an unfinished content is copied when it is small, once, and comes out unchanged")
func detached() throws {
  let properties = BasicProperties.build { $0.messageID = "m" }
  var out = FrameWriter(frameMax: 0)
  out.publish(
    channel: 1, exchange: "exchange", routingKey: "key", properties: properties, body: ContentBody(Bytes("abcdef")))
  let all = Bytes(out.take().flatMap(\.array))
  var sent: [AMQPFrame] = []
  var position = 0
  while case .frame(let frame, let end) = try AMQPFrame.read(all, at: position, frameMax: 0) {
    sent.append(frame)
    position = end
  }
  let large = Bytes([UInt8](repeating: 7, count: 100_000))
  let parts = [Bytes("abc"), large, Bytes("d")]
  var header = ByteWriter()
  header.uint32(60 << 16)
  header.uint64(100_004)
  properties.encoded.withBuffer { header.copy($0) }
  for detachments in 1...2 {
    var assembler = CommandAssembler(largestBody: .max)
    func detach() { for _ in 0..<detachments { assembler.detach() } }
    detach()
    _ = try assembler.receive(sent[0])
    detach()
    _ = try assembler.receive(AMQPFrame(.header, channel: 1, payload: header.finishJoined()))
    for part in parts.dropLast() {
      detach()
      _ = try assembler.receive(AMQPFrame(.body, channel: 1, payload: part))
    }
    detach()
    let last = try assembler.receive(AMQPFrame(.body, channel: 1, payload: parts[2]))
    guard case .content(.basicPublish(let fields), let content, let body) = last else {
      Issue.record("no content")
      return
    }
    #expect(fields.exchange == "exchange" && fields.routingKey == "key" && content.properties == properties)
    #expect(body == ContentBody(parts))
    // Small parts have memory of their own; the large one and what came since have not.
    #expect(fields.exchange.bytes.owner !== all.owner && body.first.start != parts[0].start)
    #expect(body.rest[0].start == large.start && body.rest[1].start == parts[2].start)
  }
  let whole = ContentBody(parts).detached
  #expect(whole == ContentBody(parts) && whole.rest[0].start == large.start && whole.rest[1].start != parts[2].start)
}
