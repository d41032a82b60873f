// TLSConnectionTests: the contract of a connection, kept with TLS in between: every split, back-pressure, every kind of end.

import COpenSSL
import MillraceBase
import Testing

@testable import MillraceIO

@Test("every size of reads brings handshake and input through, in both versions, with calls before sending and without")
func everyReadSize() throws {
  let contexts = try TLSContexts()
  let messages = [1, 2, 100, 16_383, 16_384, 16_385, 40_000].map { tlsPattern($0, seed: UInt64($0)) }
  for is12 in [false, true] {
    for calls in [false, true] {
      for size in [1, 2, 3, 5, 7, 64, 1000, 16_384, .max] {
        let world = contexts.world(is12, calls: calls)
        world.exchange(size: size)
        for message in messages {
          world.peerWrite(message)
          if message.count == 100 { world.exchange(size: size) }
          world.connection.write([Bytes(message), Bytes()])
        }
        world.exchange(size: size)
        #expect(world.received == messages.flatMap(\.self), "reads of \(size)")
        #expect(world.peerReceived == messages.flatMap(\.self), "reads of \(size)")
        #expect(world.connection.pendingWriteBytes == 0)
        #expect(world.connection.security?.version == (is12 ? "TLSv1.2" : "TLSv1.3"))
      }
    }
  }
}

@Test("two records may be cut anywhere")
func everyCut() throws {
  let contexts = try TLSContexts()
  for is12 in [false, true] {
    var cut = 1
    while true {
      let world = contexts.securedWorld(is12)
      world.peerWrite(tlsPattern(60))
      world.peerWrite(tlsPattern(40, seed: 2))
      let output = world.peerOutput()
      world.reactor.turn { world.lower.arrive(output[..<cut]) }
      world.reactor.turn { world.lower.arrive(output[cut...]) }
      #expect(world.received == tlsPattern(60) + tlsPattern(40, seed: 2))
      cut += 1
      if cut == output.count { break }
    }
  }
}

@Test("ciphertext that was changed anywhere ends the connection with an error, and no wrong plain text is ever offered")
func corruption() throws {
  let contexts = try TLSContexts()
  let message = tlsPattern(300)
  for is12 in [false, true] {
    var at = 0
    while true {
      let world = contexts.securedWorld(is12)
      for start in stride(from: 0, to: 300, by: 100) { world.peerWrite(Array(message[start..<(start + 100)])) }
      var output = world.peerOutput()
      guard at < output.count else { break }
      output[at] ^= UInt8(1 << (at % 8))
      world.reactor.turn { world.lower.arrive(output) }
      // A length that grew waits for more; the end then comes too early.
      if world.lower.end == .none { world.reactor.turn { world.lower.finish() } }
      world.lower.settle()
      #expect(world.told.last == "failed" && world.told.count { $0 == "failed" || $0 == "closed" } == 1, "byte \(at)")
      #expect(message.starts(with: world.received) && world.received.count <= 200, "byte \(at)")
      at += 7
    }
  }
}

@Test("a handshake that was changed, cut or made up ends with an error or waits; it neither traps nor offers anything")
func corruptHandshakes() throws {
  let contexts = try TLSContexts()
  let seed = UInt64.random(in: .min ... .max)
  var random = SeededRandom(seed: seed)
  for round in 0..<300 {
    let world = contexts.world(round % 2 == 0)
    for _ in 0..<4 {
      var output = world.peerOutput()
      if output.isEmpty { break }
      for _ in 0..<Int.random(in: 0...2, using: &random) {
        output[Int.random(in: 0..<output.count, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
      }
      if Int.random(in: 0..<4, using: &random) == 0 { output.removeLast(output.count / 2) }
      world.reactor.turn { world.lower.arrive(output, size: Int.random(in: 1...600, using: &random)) }
      world.work()
    }
    if world.connection.security == nil { world.reactor.turn { world.lower.finish() } }
    world.lower.settle()
    #expect(world.received.isEmpty, "seed \(seed)")
    #expect(world.told.count { $0 == "failed" || $0 == "closed" } <= 1, "seed \(seed)")
    if world.connection.security == nil { #expect(world.told.last == "failed", "seed \(seed), round \(round)") }
  }
}

@Test("a slow reader holds a bounded amount of ciphertext, and its handler is told once that all is gone")
func slowReader() throws {
  let contexts = try TLSContexts()
  for calls in [false, true] {
    let world = contexts.securedWorld(calls: calls)
    let message = tlsPattern(6 << 20)
    world.lower.room = 100_000
    world.reactor.turn { world.connection.write([Bytes(message)]) }
    #expect(world.connection.pendingWriteBytes > message.count - 200_000)
    var steps = 0
    while world.peerReceived.count < message.count && steps < 1000 {
      world.reactor.turn { world.lower.makeRoom(100_000) }
      world.work()
      steps += 1
      if world.peerReceived.count < message.count { #expect(world.told.isEmpty) }
    }
    world.reactor.turn {}
    #expect(world.peerReceived == message)
    #expect(world.lower.mostPending < 520 << 10)
    #expect(world.told == ["drained"], "calls before sending: \(calls)")
    #expect(world.connection.pendingWriteBytes == 0)
  }
}

@Test("a fast reader gets a large answer over several turns, so that others have theirs, and then the handler is told")
func largeAnswer() throws {
  let contexts = try TLSContexts()
  let world = contexts.securedWorld()
  let message = tlsPattern(20 << 20)
  world.reactor.turn { world.connection.write([Bytes(message)]) }
  #expect(world.connection.pendingWriteBytes > 8 << 20)
  world.exchange()
  #expect(world.peerReceived == message)
  #expect(world.told == ["drained"])
}

@Test("what has not left by the end of the turn is told of when it is gone, as the protocol servers count on")
func drainedIsToldOf() throws {
  let contexts = try TLSContexts()
  for calls in [false, true] {
    let world = contexts.securedWorld(calls: calls)
    var wasPending = false
    world.reactor.turn {
      world.connection.write([Bytes([1, 2, 3])])
      world.reactor.atEndOfTurn { wasPending = world.connection.pendingWriteBytes > 0 }
    }
    world.exchange()
    #expect(world.peerReceived == [1, 2, 3])
    // A connection that is called before sending has sent by then, as one without TLS has.
    #expect(!calls || !wasPending)
    if wasPending { #expect(world.told == ["drained"]) } else { #expect(world.told.allSatisfy { $0 == "drained" }) }
  }
}

@Test("small answers of one turn share a record")
func smallAnswersShareARecord() throws {
  let contexts = try TLSContexts()
  for calls in [false, true] {
    let world = contexts.securedWorld(calls: calls)
    world.reactor.turn {
      for number in 0..<100 { world.connection.write([Bytes([UInt8](repeating: UInt8(number), count: 10))]) }
    }
    #expect(world.lower.sent.count < 1000 + TLSRules.recordOverhead)
    world.work()
    #expect(world.peerReceived == (0..<100).flatMap { [UInt8](repeating: UInt8($0), count: 10) })
  }
}

@Test("a handler that pauses stops reading below, and is offered what was left when it resumes")
func backPressure() throws {
  let contexts = try TLSContexts()
  let world = contexts.securedWorld()
  var offers = 0
  world.handler.received = { [unowned world] input in
    offers += 1
    if offers == 1 {
      world.connection.setReading(false)
      world.received += input.take(100).array
    } else {
      world.received += input.take(input.count).array
    }
  }
  let message = tlsPattern(300_000)
  world.peerWrite(message)
  world.reactor.turn { world.lower.arrive(world.peerOutput(), size: 50_000) }
  #expect(offers == 1 && world.received.count == 100 && !world.lower.isReading)
  #expect(world.lower.unread > 200_000)
  world.reactor.turn { world.lower.finish() }
  #expect(world.told == ["peer finished"])
  world.reactor.turn { world.connection.setReading(true) }
  #expect(world.lower.isReading && offers == 2)
  world.reactor.turn { world.lower.offer(50_000) }
  #expect(world.received == message)
}

@Test("a pause before the handshake does not hold it up, and nothing is offered until the handler reads")
func pausedBeforeTheHandshake() throws {
  let contexts = try TLSContexts()
  let world = contexts.world()
  world.connection.setReading(false)
  world.exchange()
  #expect(world.isPeerSecured && world.connection.security != nil && !world.lower.isReading)
  world.peerWrite([1, 2, 3])
  world.exchange()
  #expect(world.received.isEmpty)
  world.reactor.turn { world.connection.setReading(true) }
  world.reactor.turn { world.lower.offer() }
  #expect(world.received == [1, 2, 3])
}

@Test("a message that is larger than the input limit ends the connection with an error")
func inputLimit() throws {
  let contexts = try TLSContexts()
  let world = contexts.securedWorld(inputLimit: 50_000)
  world.handler.received = { _ in }
  world.peerWrite(tlsPattern(60_000))
  world.exchange()
  #expect(world.told == ["failed"])
}

@Test("of a large message over TLS all is awaited that must still come, but for what encryption adds, and never more")
func awaitedInput() throws {
  let contexts = try TLSContexts()
  let message = tlsPattern(500_000)
  for is12 in [false, true] {
    for records in [500_000, 16_384, 1000] {
      let world = contexts.securedWorld(is12)
      var isKnown = false
      world.handler.received = { [unowned world] input in
        isKnown = true
        if input.count < message.count {
          input.expect(message.count, isOnePiece: true)
        } else {
          world.received += input.take(input.count).array
        }
      }
      for start in stride(from: 0, to: message.count, by: records) {
        world.peerWrite(Array(message[start..<min(message.count, start + records)]))
      }
      let output = world.peerOutput()
      var random = SeededRandom(seed: UInt64(records))
      var at = 0
      var mostAwaited = 0
      while at < output.count {
        let next = min(output.count, at + Int.random(in: 1...9000, using: &random))
        world.reactor.turn { world.lower.arrive(Array(output[at..<next])) }
        at = next
        mostAwaited = max(mostAwaited, world.lower.lacking)
        // A record has a header of 5 bytes, and a tag, a nonce or a kind, and padding, in all some 30.
        let slack = (output.count - at) - world.lower.lacking
        let most = 40 * (message.count / min(records, 16_384) + 2)
        #expect(slack >= 0 && (slack <= most || !isKnown), "\(slack) at \(at)")
      }
      #expect(world.received == message)
      #expect(world.lower.lacking == 0)
      #expect(mostAwaited > 480_000, "\(mostAwaited)")
    }
  }
}

@Test("what begins as no record is awaited byte by byte")
func strayInput() {
  var records = TLSRecords()
  records.pass(Bytes([0x80, 0x2e, 1, 3, 3, 0, 0x15]))
  #expect(records.bytesBefore(100_000) == 0)
  records = TLSRecords()
  for byte: UInt8 in [23, 3, 3, 0x40, 0x11] { records.pass(Bytes([byte])) }
  #expect(records.bytesBefore(0) == 0x4011 && records.bytesBefore(0x4012) == 0x4012)
  records.pass(Bytes([UInt8](repeating: 23, count: 0x4011)))
  #expect(records.bytesBefore(0) == 0 && records.bytesBefore(7) == 7)
}
