// AMQP: what a client's connection sends, method payloads, tables and properties of AMQP 0-9-1.

import FuzzHarness
import MillraceAMQPProtocol
import MillraceBase

/// What a connection receives: protocol header, frames, and what each channel makes of them; the first byte says how large
/// frames may be.
let amqpFrames = FuzzTarget(name: "amqp-frames") { input in
  var choices = Choices(input)
  let frameMax = choices.byte() << 6
  let stream = choices.rest()
  _ = ProtocolHeader.judge(stream)
  // Whole streams begin with the header, mutated ones need not.
  var position = stream.count >= 8 && stream[0] == UInt8(ascii: "A") ? 8 : 0
  var channels: [UInt16: CommandAssembler] = [:]
  do throws(AMQPError) {
    while case .frame(let frame, let end) = try AMQPFrame.read(stream, at: position, frameMax: frameMax) {
      precondition(end > position && end <= stream.count, "a frame from \(position) to \(end) of \(stream.count)")
      if let whole = WholePublication.read(stream, at: position, frameMax: frameMax) {
        precondition(whole.end > end && whole.end <= stream.count, "a publication from \(position) to \(whole.end)")
        precondition(whole.properties.lowerBound > end && whole.body.upperBound < whole.end, "\(whole)")
      }
      position = end
      guard frame.kind != .heartbeat else { continue }
      var assembler = channels[frame.channel] ?? CommandAssembler(largestBody: 1 << 20)
      channels[frame.channel] = nil
      let output: CommandAssembler.Output
      do throws(AMQPError) {
        output = try assembler.receive(frame)
      } catch {
        checkReply(error)
        output = .incomplete
      }
      if assembler.isInsideContent { channels[frame.channel] = assembler }
      switch output {
      case .incomplete: break
      case .method(let method): recodeMethod(method)
      case .content(let method, let header, let body):
        recodeMethod(method)
        passOn(header, body)
      }
    }
  } catch {
    checkReply(error)
  }
}

/// The payload of a method frame.
let amqpMethods = FuzzTarget(
  name: "amqp-methods",
  seeds: {
    MethodID.all.map { id in
      [0, UInt8(id.classID), 0, UInt8(id.methodID)] + [UInt8](repeating: 0, count: 24)
    }
  }
) { payload in
  do throws(AMQPError) {
    recodeMethod(try AMQPMethod.decode(payload))
  } catch {
    checkReply(error)
  }
}

/// A table without the length in front.
let amqpTables = FuzzTarget(name: "amqp-tables") { content in
  do throws(DecodingError) {
    recodeTable(try AMQPFieldTable(encoded: content))
  } catch {
    precondition(error.position <= content.count, "position \(error.position) of \(content.count)")
  }
}

/// The payload of a content header.
let amqpContentHeaders = FuzzTarget(name: "amqp-content-headers") { payload in
  do throws(AMQPError) {
    passOn(try ContentHeader(decoding: payload), ContentBody())
  } catch {
    checkReply(error)
  }
}

/// What every error must be fit for: to be sent.
private func checkReply(_ error: AMQPError) {
  precondition(error.code != .replySuccess && error.replyText.utf8.count <= 255, "\(error)")
  recodeMethod(.connectionClose(ConnectionClose(error)))
}

private func recodeMethod(_ method: AMQPMethod) {
  func encoded(_ method: AMQPMethod) -> Bytes {
    var writer = ByteWriter()
    method.encode(to: &writer)
    return writer.finishJoined()
  }
  let bytes = encoded(method)
  do throws(AMQPError) {
    let again = try AMQPMethod.decode(bytes)
    precondition(again == method && encoded(again) == bytes, "\(method.id) changes when written and read again")
  } catch {
    preconditionFailure("\(method.id) was accepted, written, and refused: \(error)")
  }
}

/// Walks over all values; puts the table into another, and another value into it.
private func recodeTable(_ table: AMQPFieldTable) {
  _ = table["x-message-ttl"]?.integer
  precondition(walk(table) <= table.encoded.count, "more values than bytes")
  let outer = AMQPFieldTable([("k", .table(table))])
  precondition(outer["k"]?.table == table, "a table inside another changes")
  let changed = table.setting("x-death", to: [["count": 1]])
  do throws(DecodingError) {
    let again = try AMQPFieldTable(encoded: changed.encoded)
    precondition(again == changed && again["x-death"]?.array != nil, "a changed table is read as another")
    precondition(walk(again.setting("x-death", to: nil)) <= walk(table), "taking a value away adds some")
  } catch {
    preconditionFailure("a table was accepted, changed, and refused: \(error)")
  }
}

/// The number of values at every depth.
private func walk(_ table: AMQPFieldTable) -> Int { table.reduce(0) { $0 + walk($1.value) } }

private func walk(_ value: AMQPValue) -> Int {
  switch value {
  case .table(let table): 1 + walk(table)
  case .array(let values): values.reduce(1) { $0 + walk($1) }
  default: 1
  }
}

/// Delivers a content as the server would, and reads it as a client.
private func passOn(_ header: ContentHeader, _ body: ContentBody) {
  let properties = header.properties
  do throws(AMQPError) {
    _ = try properties.expirationMilliseconds()
    if let headers = try properties.headers() { recodeTable(headers) }
  } catch {
    checkReply(error)
  }
  precondition(properties.altered { _ in } == properties, "properties change when built anew")
  var out = FrameWriter(frameMax: 4096)
  out.deliver(
    channel: 1, consumerTag: "c", deliveryTag: 1, redelivered: false, exchange: "e", routingKey: "k",
    properties: properties, body: body)
  var writer = ByteWriter()
  for piece in out.take() { writer.append(piece) }
  let stream = writer.finishJoined()
  var assembler = CommandAssembler(largestBody: .max)
  var position = 0
  do throws(AMQPError) {
    while case .frame(let frame, let end) = try AMQPFrame.read(stream, at: position, frameMax: 0) {
      position = end
      if case .content(_, let again, let received) = try assembler.receive(frame) {
        precondition(again.properties == properties && received == body, "a content changes on its way")
        precondition(position == stream.count, "frames behind a content")
        return
      }
    }
  } catch {
    preconditionFailure("a content was accepted, delivered, and refused: \(error)")
  }
  preconditionFailure("a content was delivered as a part of itself")
}
