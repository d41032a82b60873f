// MethodTests: every method with random fields, cut at every byte, with bytes behind it, and with numbers that are none.

import MillraceAMQPProtocol
import MillraceBase
import Testing

private func encoded(_ method: AMQPMethod) -> [UInt8] {
  var writer = ByteWriter()
  method.encode(to: &writer)
  return writer.finishJoined().array
}

private func refused(_ payload: [UInt8]) -> AMQPError? {
  do throws(AMQPError) {
    _ = try AMQPMethod.decode(Bytes(payload))
    return nil
  } catch {
    return error
  }
}

/// Bytes behind a method's number that are its fields, found by trying: zeros are valid for every type.
private func zeros(_ id: MethodID) throws -> AMQPMethod {
  let number = [UInt8(id.classID >> 8), UInt8(id.classID & 255), UInt8(id.methodID >> 8), UInt8(id.methodID & 255)]
  for count in 0..<64 {
    do throws(AMQPError) {
      return try AMQPMethod.decode(Bytes(number + [UInt8](repeating: 0, count: count)))
    } catch { continue }
  }
  Issue.record("\(id) is never read")
  throw AMQPError(.internalError, "\(id)")
}

/// A method whose fields are as random as its types allow: each stretch of zeros is tried with other bytes.
private func randomized(_ id: MethodID, _ random: inout SeededRandom) throws -> AMQPMethod {
  var payload = encoded(try zeros(id))
  var at = 4
  while at < payload.count {
    // A length that is raised takes as many bytes more; whatever is not accepted is taken back.
    var changed = payload
    let value = UInt8.random(in: 0...255, using: &random)
    changed[at] = value
    if refused(changed) != nil {
      let text = (0..<(value & 31)).map { _ in UInt8.random(in: 97...122, using: &random) }
      changed[at] = value & 31
      changed.insert(contentsOf: text, at: at + 1)
    }
    if refused(changed) == nil { payload = changed }
    at += 1
  }
  return try AMQPMethod.decode(Bytes(payload))
}

@Test("every method with random fields is the same when written and read again")
func everyMethodRoundTrip() throws {
  var random = SeededRandom(seed: 0x091)
  #expect(MethodID.all.count == 66 && Set(MethodID.all).count == 66)
  for id in MethodID.all {
    var different: Set<[UInt8]> = []
    for _ in 0..<8 {
      let method = try randomized(id, &random)
      #expect(method.id == id)
      let bytes = encoded(method)
      #expect(try AMQPMethod.decode(Bytes(bytes)) == method)
      #expect(try encoded(AMQPMethod.decode(Bytes(bytes))) == bytes)
      different.insert(bytes)
    }
    // Not vacuous: fields did change.
    let isEmpty = encoded(try zeros(id)).count == 4
    #expect(different.count > 1 || isEmpty, "\(id)")
  }
}

@Test("every method cut at every byte, or with a byte behind it, is refused with its own number")
func everyMethodCut() throws {
  var random = SeededRandom(seed: 0x092)
  for id in MethodID.all {
    let bytes = encoded(try randomized(id, &random))
    for cut in 0..<bytes.count {
      let error = try #require(refused(Array(bytes[0..<cut])), "\(id) cut at \(cut)")
      #expect(error.code == (cut < 4 ? .frameError : .syntaxError))
      #expect(error.method == (cut < 4 ? .none : id))
    }
    let longer = try #require(refused(bytes + [0]))
    #expect(longer.code == .syntaxError && longer.method == id)
    #expect(longer.reason == "\(id): 1 bytes follow the fields")
  }
}

@Test("an unknown class or method is not implemented: 540, with its numbers")
func unknownMethods() throws {
  for (classID, methodID) in [(0, 0), (60, 41), (61, 10), (50, 0), (65535, 65535), (10, 12)] as [(UInt16, UInt16)] {
    let id = MethodID(classID: classID, methodID: methodID)
    let error = try #require(
      refused([UInt8(classID >> 8), UInt8(classID & 255), UInt8(methodID >> 8), UInt8(methodID & 255), 1, 2]))
    #expect(error == AMQPError(.notImplemented, "no method class \(classID) method \(methodID)", id))
    #expect(id.name == nil && !id.hasContent)
  }
}

@Test("text that is not UTF-8 is refused where RabbitMQ looks, and kept where it does not")
func invalidText() throws {
  let declare: [UInt8] = [0, 50, 0, 10, 0, 0, 2, 0xC3, 0x28, 0, 0, 0, 0, 0]
  let error = try #require(refused(declare))
  #expect(error.code == .syntaxError)
  #expect(error.reason == "queue.declare: string of 2 bytes is not valid UTF-8 at byte 7")
  let publish: [UInt8] = [0, 60, 0, 40, 0, 0, 0, 2, 0xC3, 0x28, 3]
  guard case .basicPublish(let fields) = try AMQPMethod.decode(Bytes(publish)) else {
    Issue.record("not basic.publish")
    return
  }
  #expect(fields.routingKey.bytes.array == [0xC3, 0x28] && fields.mandatory && fields.immediate)
  #expect(encoded(.basicPublish(fields)) == publish)
}

@Test("bits are packed from the lowest on; spare ones are ignored")
func bits() throws {
  let declare = QueueDeclare(queue: "q", durable: true, noWait: true)
  #expect(encoded(.queueDeclare(declare)) == [0, 50, 0, 10, 0, 0, 1, 113, 0b10010, 0, 0, 0, 0])
  #expect(try AMQPMethod.decode(Bytes([0, 50, 0, 10, 0, 0, 1, 113, 0b11110010, 0, 0, 0, 0])) == .queueDeclare(declare))
  var exchange = ExchangeDeclare(exchange: "e")
  exchange.internal = true
  #expect(encoded(.exchangeDeclare(exchange))[15] == 0b01000)
}

@Test("a table in a method is checked with it, and an error says where it lies")
func tableInMethod() throws {
  let bad: [UInt8] = [0, 50, 0, 10, 0, 0, 1, 113, 0, 0, 0, 0, 4, 1, 97, 0x55, 0]
  #expect(refused(bad)?.reason == "queue.declare: unknown type 85 of a field's value at byte 15")
  let long: [UInt8] = [0, 50, 0, 10, 0, 0, 1, 113, 0, 0xFF, 0xFF, 0xFF, 0xFF, 1]
  #expect(refused(long)?.code == .syntaxError)
}

@Test("the methods with a content are as specified")
func methodsWithContent() {
  #expect(
    MethodID.all.filter(\.hasContent).compactMap(\.name)
      == ["basic.publish", "basic.return", "basic.deliver", "basic.get-ok"])
}
