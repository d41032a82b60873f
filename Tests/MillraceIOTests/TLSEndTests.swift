// TLSEndTests: how connections with TLS end: by either side, in the middle of everything, once.

import COpenSSL
import MillraceBase
import Testing

@testable import MillraceIO

@Test("a peer that closes TLS is heard to the end, and gets the answer that is owed")
func halfClosed() throws {
  let contexts = try TLSContexts()
  for is12 in [false, true] {
    let world = contexts.securedWorld(is12)
    world.handler.inputEnded = { [unowned world] in
      world.told.append("input ended")
      return false
    }
    world.peerWrite([1, 2, 3])
    world.peer.sayEnd()
    world.exchange()
    #expect(world.received == [1, 2, 3])
    #expect(world.told == ["peer finished", "input ended"])
    // What comes after the end is dropped.
    world.reactor.turn { world.lower.arrive(tlsPattern(1000)) }
    world.reactor.turn { world.lower.finish() }
    #expect(world.lower.end == .none && world.told.count == 2)
    world.connection.write([Bytes([4, 5])])
    world.connection.closeAfterWriting()
    world.connection.write([Bytes([6])])
    world.exchange()
    #expect(world.peerReceived == [4, 5])
    #expect(world.peerOutcome == .ended, "TLS was closed properly")
    #expect(world.lower.end == .afterWriting)
    #expect(world.told == ["peer finished", "input ended", "closed"])
  }
}

@Test("a handler that answers at once is closed for when its peer has closed TLS")
func closedByThePeer() throws {
  let contexts = try TLSContexts()
  let world = contexts.securedWorld()
  world.handler.received = { [unowned world] in world.connection.write([$0.take($0.count)]) }
  world.peerWrite([1, 2, 3])
  world.peer.sayEnd()
  world.exchange()
  #expect(world.peerReceived == [1, 2, 3] && world.peerOutcome == .ended)
  #expect(world.told == ["peer finished", "input ended", "closed"])
}

@Test("a connection that is cut off offers what came whole, and ends with an error, once")
func truncated() throws {
  let contexts = try TLSContexts()
  for cut in [0, 1, 10, 25] {
    let world = contexts.securedWorld()
    world.peerWrite([1, 2, 3])
    world.reactor.turn { world.lower.arrive(world.peerOutput()) }
    world.peerWrite([4, 5, 6])
    world.reactor.turn { world.lower.arrive(world.peerOutput().prefix(cut)) }
    world.reactor.turn { world.lower.finish() }
    world.lower.settle()
    world.reactor.turn()
    #expect(world.received == (cut == 25 ? [1, 2, 3, 4, 5, 6] : [1, 2, 3]))
    #expect(world.told == ["peer finished", "failed"])
  }
}

@Test("a handler that is paused hears of a cut only when it has read what came before")
func truncatedWhilePaused() throws {
  let contexts = try TLSContexts()
  let world = contexts.securedWorld()
  world.connection.setReading(false)
  world.peerWrite([1, 2, 3])
  world.reactor.turn { world.lower.arrive(world.peerOutput()) }
  world.reactor.turn { world.lower.finish() }
  #expect(world.told == ["peer finished"] && world.lower.end == .none)
  world.reactor.turn { world.connection.setReading(true) }
  world.reactor.turn { world.lower.offer() }
  world.lower.settle()
  #expect(world.received == [1, 2, 3])
  #expect(world.told == ["peer finished", "failed"])
}

@Test("an end that arrives while the handler pauses in the middle of the last input is told when it resumes")
func endDuringAPause() throws {
  let contexts = try TLSContexts()
  for isCut in [false, true] {
    let world = contexts.securedWorld()
    world.handler.received = { [unowned world] input in
      world.received += input.take(1).array
      if world.received.count < 3 { world.connection.setReading(false) }
    }
    world.peerWrite([1, 2, 3])
    if !isCut { world.peer.sayEnd() }
    world.reactor.turn {
      world.lower.arrive(world.peerOutput())
      world.lower.finish()
    }
    for _ in 0..<4 {
      world.reactor.turn { world.connection.setReading(true) }
      world.reactor.turn { world.lower.offer() }
    }
    world.exchange()
    #expect(world.received == [1, 2, 3])
    #expect(world.told == (isCut ? ["peer finished", "failed"] : ["peer finished", "input ended", "closed"]))
  }
}

@Test("closing during the handshake, before and after its first bytes, closes below, and the handler hears of it once")
func closedDuringTheHandshake() throws {
  let contexts = try TLSContexts()
  for bytes in [0, 3, 100, .max] {
    for afterWriting in [false, true] {
      let world = contexts.world()
      let hello = world.peerOutput()
      world.reactor.turn { world.lower.arrive(hello.prefix(bytes)) }
      if afterWriting { world.connection.closeAfterWriting() } else { world.connection.close() }
      #expect(world.lower.end == (afterWriting ? .afterWriting : .dropped))
      #expect(world.told.isEmpty)
      world.exchange()
      #expect(world.told == ["closed"] && world.received.isEmpty)
      world.connection.close()
      world.connection.write([Bytes([1])])
      #expect(world.connection.pendingWriteBytes == 0)
    }
  }
}

@Test("a peer that leaves during the handshake is an error, told once")
func peerLeavesDuringTheHandshake() throws {
  let contexts = try TLSContexts()
  for bytes in [0, 3, .max] {
    let world = contexts.world()
    world.reactor.turn { world.lower.arrive(world.peerOutput().prefix(bytes)) }
    world.reactor.turn { world.lower.finish() }
    world.exchange()
    #expect(world.told == ["peer finished", "failed"] && world.received.isEmpty)
  }
}

@Test("what is written before the handshake is sent after it, and closing waits for that, but not for ever")
func writtenBeforeTheHandshake() throws {
  let contexts = try TLSContexts()
  let world = contexts.world()
  world.connection.write([Bytes([1, 2])])
  world.connection.closeAfterWriting()
  #expect(world.lower.end == .none)
  world.exchange()
  #expect(world.peerReceived == [1, 2] && world.peerOutcome == .ended && world.told == ["closed"])

  let silent = contexts.world()
  silent.connection.write([Bytes([1, 2])])
  silent.connection.closeAfterWriting()
  silent.reactor.advance(.seconds(31))
  silent.lower.settle()
  #expect(silent.told == ["failed"] && silent.lower.end == .dropped)
}

@Test("a handler may close, close after writing, or pause and resume while it is offered input")
func closesWhileOffered() throws {
  let contexts = try TLSContexts()
  for way in ["close", "close after writing", "toggle"] {
    let world = contexts.securedWorld()
    world.handler.received = { [unowned world] input in
      world.received += input.take(min(input.count, 10)).array
      world.connection.write([Bytes([9])])
      switch way {
      case "close": world.connection.close()
      case "close after writing": world.connection.closeAfterWriting()
      default:
        world.connection.setReading(false)
        world.connection.setReading(true)
      }
    }
    // More than is decrypted at once.
    world.peerWrite(tlsPattern(way == "toggle" ? 100 : 100_000))
    world.exchange()
    switch way {
    case "close": #expect(world.received.count == 10 && world.peerReceived.isEmpty && world.told == ["closed"])
    case "close after writing":
      #expect(world.received.count == 10 && world.peerReceived == [9] && world.peerOutcome == .ended)
      #expect(world.told == ["closed"])
    default:
      for _ in 0..<10 { world.reactor.turn() }
      #expect(world.received == tlsPattern(100))
    }
  }
}

@Test("a large answer and the end after it reach a slow reader; a peer that never reads is given up")
func closingASlowReader() throws {
  let contexts = try TLSContexts()
  for reads in [true, false] {
    let world = contexts.securedWorld()
    world.lower.room = 10_000
    let message = tlsPattern(1 << 20)
    world.reactor.turn {
      world.connection.write([Bytes(message)])
      world.connection.closeAfterWriting()
    }
    #expect(world.lower.end == .none)
    if reads {
      for _ in 0..<200 where world.lower.handler != nil {
        world.reactor.turn { world.lower.makeRoom(10_000) }
        world.work()
        world.lower.settle()
      }
      #expect(world.peerReceived == message && world.peerOutcome == .ended && world.told == ["closed"])
    } else {
      world.reactor.advance(.seconds(31))
      world.lower.settle()
      #expect(world.told == ["failed"] && world.lower.end == .dropped)
    }
  }
}

@Test("an error below is told once, with its reason")
func errorBelow() throws {
  let contexts = try TLSContexts()
  let world = contexts.securedWorld()
  var reasons: [String] = []
  world.handler.closed = { reasons.append($0?.reason ?? "none") }
  world.connection.write([Bytes([1])])
  world.lower.error = IOError(.failed, operation: "receive", subject: "peer", reason: "reset")
  world.lower.settle()
  world.reactor.turn()
  #expect(reasons == ["reset"])
}

@Test("keys are renewed after so many records, and a peer may renew its own as often as it likes")
func keysAreRenewed() throws {
  let contexts = try TLSContexts()
  let world = contexts.securedWorld()
  world.connection.session.recordsBetweenKeys = 3
  for number in 0..<20 {
    world.connection.write([Bytes([UInt8(number)])])
    _ = world.peer.withSSL {
      SSL_key_update($0, number % 2 == 0 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED)
    }
    world.peerWrite([UInt8(number)])
    world.exchange()
  }
  #expect(world.peerReceived == Array(0..<20) && world.received == Array(0..<20))
  #expect(world.told.allSatisfy { $0 == "drained" })
}

@Test("a peer that wants to renegotiate is refused, and its connection goes on or ends, but never waits")
func renegotiation() throws {
  let contexts = try TLSContexts()
  let world = contexts.securedWorld(true)
  _ = world.peer.withSSL { SSL_renegotiate($0) }
  _ = world.peer.handshake()
  world.exchange()
  // OpenSSL's client takes the refusal for the end.
  #expect(world.peerOutcome != nil || world.told.isEmpty)
  if case .failed(let reason)? = world.peerOutcome { #expect(reason.contains("no renegotiation")) }
}
