// SocketConnectionTests: real sockets on loopback: echo, bulk, back-pressure and every kind of end.

import CMillraceSystem
import Dispatch
import Foundation
import MillraceBase
import Synchronization
import Testing

@testable import MillraceIO

/// Sends everything back.
private func echo(_ connection: any Connection, _ handler: ClosureHandler) {
  handler.received = { [unowned connection] input in connection.write([input.take(input.count)]) }
}

/// Bytes that differ from place to place.
private func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
  var random = SeededRandom(seed: seed)
  var out: [UInt8] = []
  out.reserveCapacity(count + 8)
  while out.count < count { withUnsafeBytes(of: random.next()) { out += $0 } }
  return Array(out.prefix(count))
}

@Test("what is sent comes back, on IPv4 and IPv6, with both ends' addresses known")
func echoWorks() throws {
  try withReactor { reactor in
    let addresses = reactor.call {
      ["127.0.0.1", "::1"].compactMap { host -> SocketAddress? in
        do throws(IOError) {
          return try reactor.listen(SocketAddress(host: host, port: 0)) { connection in
            let handler = ClosureHandler()
            echo(connection, handler)
            #expect(connection.remoteAddress.host == host)
            #expect(connection.localAddress.host == host && connection.localAddress.port != 0)
            return handler
          }.address
        } catch {
          // A machine without IPv6 has no ::1.
          return nil
        }
      }
    }
    #expect(!addresses.isEmpty)
    for address in addresses {
      let client = try Client(address)
      defer { client.close() }
      try client.send(Array("hello".utf8))
      #expect(try client.receiveExactly(5) == Array("hello".utf8))
    }
  }
}

@Test("thousands of small framed messages arrive whole and in order, however they were cut")
func smallMessages() throws {
  let count = 20_000
  let ledger = Ledger()
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      handler.received = { [unowned connection] input in
        while let length = input.peekInt32(), input.count >= Int(length) + 4 {
          connection.write([input.take(Int(length) + 4)])
          ledger.add("messages")
        }
      }
    }
    let client = try Client(address)
    defer { client.close() }
    var stream = ByteWriter()
    var random = SeededRandom(seed: 7)
    for index in 0..<count {
      let padding = Int.random(in: 0..<60, using: &random)
      stream.int32(Int32(4 + padding))
      stream.int32(Int32(index))
      for _ in 0..<padding { stream.uint8(UInt8(truncatingIfNeeded: index)) }
    }
    let sent = stream.finishJoined().array
    let sender = Thread {
      var at = 0
      var cuts = SeededRandom(seed: 8)
      while at < sent.count {
        let next = min(sent.count, at + Int.random(in: 1...5000, using: &cuts))
        do { try client.send(Array(sent[at..<next])) } catch { Issue.record(error) }
        at = next
      }
    }
    sender.start()
    #expect(try client.receiveExactly(sent.count) == sent)
    #expect(ledger["messages"] == count)
  }
}

@Test("100 MB go through and come back unchanged")
func bulkEcho() throws {
  let block = pattern(1 << 20)
  let blocks = 100
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      echo(connection, handler)
      let inner = handler.received
      handler.received = { [unowned connection, unowned handler] input in
        inner(&input)
        if connection.pendingWriteBytes > 4 << 20 { connection.setReading(false) }
        handler.drained = { connection.setReading(true) }
      }
    }
    let client = try Client(address)
    defer { client.close() }
    let sender = Thread {
      for _ in 0..<blocks { do { try client.send(block) } catch { Issue.record(error) } }
    }
    sender.start()
    for index in 0..<blocks {
      let got = try client.receiveExactly(block.count)
      #expect(got == block, "block \(index)")
    }
  }
}

@Test("a slow reader's output waits within the bound that the handler sets, by not reading on")
func backPressureBoundsMemory() throws {
  let ledger = Ledger()
  let bound = 1 << 20
  let total = 64 << 20
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      handler.received = { [unowned connection] input in
        connection.write([input.take(input.count)])
        ledger.raise("pending", to: connection.pendingWriteBytes)
        if connection.pendingWriteBytes > bound {
          ledger.add("pauses")
          connection.setReading(false)
        }
      }
      handler.drained = { [unowned connection] in connection.setReading(true) }
    }
    let client = try Client(address)
    defer { client.close() }
    let block = pattern(1 << 20, seed: 3)
    let sender = Thread {
      for _ in 0..<(total / block.count) { do { try client.send(block) } catch { Issue.record(error) } }
      ledger.add("sent")
    }
    sender.start()
    ledger.wait("pauses", atLeast: 1)
    // The client does not read, so all buffers between are full now, and the sender is stuck.
    #expect(ledger["sent"] == 0)
    var got = 0
    while got < total {
      let more = try client.receive(1 << 20)
      #expect(!more.isEmpty)
      if more.isEmpty { break }
      got += more.count
    }
    #expect(got == total)
    #expect(ledger["pending"] <= bound + (1 << 20))
  }
}

@Test("a paused connection hears nothing more, and hears it all on resume, also what was buffered")
func pauseHoldsInput() throws {
  let ledger = Ledger()
  let held = Mutex<ReactorBound<any Connection>?>(nil)
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      held.withLock { $0 = ReactorBound(connection, on: reactor) }
      handler.received = { [unowned connection] input in
        ledger.add("calls")
        _ = input.take(1)
        if ledger["calls"] == 1 { connection.setReading(false) }
        if ledger["calls"] == 2 { _ = input.take(input.count) }
        if ledger["calls"] == 2 { ledger.add("resumed") }
      }
    }
    let client = try Client(address)
    defer { client.close() }
    try client.send([1, 2, 3])
    ledger.wait("calls", atLeast: 1)
    try client.send([4])
    for _ in 0..<20 { reactor.call {} }
    #expect(ledger["calls"] == 1)
    reactor.call { held.withLock { $0 }?.take().setReading(true) }
    ledger.wait("resumed", atLeast: 1)
    ledger.wait("calls", atLeast: 3)
  }
}

@Test("a client that closes its sending half still gets its answers, then the end")
func halfClose() throws {
  let ledger = Ledger()
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      echo(connection, handler)
      handler.closed = { error in
        ledger.add("closed")
        if error != nil { ledger.add("errors") }
      }
    }
    let client = try Client(address)
    defer { client.close() }
    let sent = pattern(3 << 20)
    let sender = Thread {
      do { try client.send(sent) } catch { Issue.record(error) }
      client.shutdownWrite()
    }
    sender.start()
    #expect(try client.receiveToEnd() == sent)
    ledger.wait("closed", atLeast: 1)
    #expect(ledger["errors"] == 0)
  }
}

@Test("a client that has closed its sending half gets answers that are made later")
func lateAnswers() throws {
  let ledger = Ledger()
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      handler.received = { _ = $0.take($0.count) }
      handler.inputEnded = { [unowned connection] in
        ledger.add("ended")
        #expect(ledger["finished"] == 1)
        reactor.schedule(after: .milliseconds(50)) {
          connection.write([Bytes("late")])
          connection.closeAfterWriting()
        }
        return false
      }
      handler.peerFinished = { ledger.add("finished") }
      handler.closed = { error in
        #expect(error == nil)
        ledger.add("closed")
      }
    }
    let client = try Client(address)
    defer { client.close() }
    try client.send(pattern(100_000))
    client.shutdownWrite()
    #expect(try client.receiveToEnd() == Array("late".utf8))
    ledger.wait("closed", atLeast: 1)
    #expect(ledger["ended"] == 1 && ledger["finished"] == 1)
  }
}

@Test("the end of a peer is told while reading is paused, and what it sent before is still there")
func endWhilePaused() throws {
  let ledger = Ledger()
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      handler.received = { [unowned connection] input in
        let size = input.count
        if ledger["received"] == 0 { connection.setReading(false) }
        _ = input.take(size)
        ledger.add("received", size)
      }
      handler.peerFinished = { [unowned connection] in
        ledger.add("finished")
        let early = ledger["received"]
        reactor.schedule(after: .milliseconds(50)) {
          #expect(ledger["received"] == early, "nothing is read meanwhile")
          connection.setReading(true)
        }
      }
      handler.inputEnded = {
        ledger.add("ended")
        return true
      }
      handler.closed = { _ in ledger.add("closed") }
    }
    let client = try Client(address)
    try client.send([1])
    ledger.wait("received", atLeast: 1)
    try client.send(pattern(50_000))
    // Turns in which the reactor finds the bytes, and that nobody wants them: it no longer watches for any.
    for _ in 0..<3 { reactor.call {} }
    client.shutdownWrite()
    ledger.wait("closed", atLeast: 1)
    #expect(ledger["received"] == 50_001 && ledger["finished"] == 1 && ledger["ended"] == 1)
    client.close()
  }
}

@Test("a peer that resets the connection while its handler owes it answers is found out at once")
func resetAfterTheEnd() throws {
  let ledger = Ledger()
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      handler.received = { [unowned connection] input in
        _ = input.take(input.count)
        connection.write([Bytes("answer")])
      }
      handler.inputEnded = {
        ledger.add("ended")
        return false
      }
      handler.closed = { error in
        if error != nil { ledger.add("lost") }
      }
    }
    let client = try Client(address)
    try client.send([1])
    client.shutdownWrite()
    ledger.wait("ended", atLeast: 1)
    // Unread input makes the kernel send a reset.
    client.close()
    ledger.wait("lost", atLeast: 1)
  }
}

@Test("closing after writing sends everything first, although unread input would reset the connection")
func closeAfterWritingSendsAll() throws {
  let answer = pattern(8 << 20, seed: 5)
  let bytes = Bytes(answer)
  let ledger = Ledger()
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      handler.received = { [unowned connection] input in
        _ = input.take(input.count)
        connection.write([bytes])
        connection.closeAfterWriting()
        connection.write([Bytes("too late")])
        #expect(ledger["closed"] == 0)
      }
      handler.closed = { error in
        #expect(error == nil)
        ledger.add("closed")
      }
    }
    let client = try Client(address)
    defer { client.close() }
    try client.send(pattern(1 << 20))
    #expect(try client.receiveToEnd() == answer)
    ledger.wait("closed", atLeast: 1)
    for _ in 0..<10 { reactor.call {} }
    #expect(ledger["closed"] == 1)
  }
}

@Test("closing inside the handler, also while output waits, tells the handler once and in a later turn")
func closeInsideHandler() throws {
  let ledger = Ledger()
  let bytes = Bytes(pattern(16 << 20))
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      let inside = Mutex(false)
      handler.received = { [unowned connection] input in
        inside.withLock { $0 = true }
        _ = input.take(input.count)
        connection.write([bytes])
        #expect(connection.pendingWriteBytes > 0)
        connection.close()
        connection.close()
        connection.closeAfterWriting()
        connection.setReading(false)
        #expect(connection.pendingWriteBytes == 0)
        inside.withLock { $0 = false }
      }
      handler.closed = { error in
        #expect(error == nil)
        #expect(inside.withLock { !$0 })
        ledger.add("closed")
      }
    }
    let client = try Client(address)
    defer { client.close() }
    try client.send([1])
    ledger.wait("closed", atLeast: 1)
    for _ in 0..<10 { reactor.call {} }
    #expect(ledger["closed"] == 1)
  }
}

@Test("a peer that vanishes while output waits is reported once, with the error")
func peerVanishesWhileWriting() throws {
  let ledger = Ledger()
  let bytes = Bytes(pattern(32 << 20))
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      handler.received = { [unowned connection] input in
        _ = input.take(input.count)
        connection.setReading(false)
        connection.write([bytes])
        ledger.add("wrote")
      }
      handler.closed = { error in
        ledger.add("closed")
        if error != nil { ledger.add("errors") }
      }
    }
    let client = try Client(address)
    try client.send([1])
    ledger.wait("wrote", atLeast: 1)
    // Unread input on the client's side makes the kernel reset the connection.
    client.close()
    ledger.wait("closed", atLeast: 1)
    #expect(ledger["closed"] == 1)
    #expect(ledger["errors"] == 1)
  }
}

@Test("a hang-up on a paused connection does not spin, and is reported on resume after the input before it")
func hangUpWhilePausedDoesNotSpin() throws {
  let ledger = Ledger()
  let held = Mutex<ReactorBound<any Connection>?>(nil)
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      held.withLock { $0 = ReactorBound(connection, on: reactor) }
      connection.setReading(false)
      handler.received = { input in ledger.add("bytes", input.take(input.count).count) }
      handler.closed = { _ in ledger.add("closed") }
      connection.write([Bytes("unread by the client")])
      ledger.add("accepted")
    }
    let client = try Client(address)
    try client.send([1, 2, 3])
    ledger.wait("accepted", atLeast: 1)
    reactor.call {}
    usleep(20_000)
    client.close()
    let before = reactor.call { ProcessorTime.thread }
    usleep(200_000)
    let spent = reactor.call { ProcessorTime.thread } - before
    #expect(spent < .milliseconds(50), "the reactor used \(spent) of processor time in 200 ms of waiting")
    #expect(ledger["closed"] == 0)
    reactor.call { held.withLock { $0 }?.take().setReading(true) }
    ledger.wait("closed", atLeast: 1)
    #expect(ledger["bytes"] == 3)
  }
}

@Test("a handler that leaves more than the limit unread loses its connection, with the reason")
func inputLimitEnds() throws {
  let ledger = Ledger()
  let reason = Mutex("")
  try withReactor(inputLimit: 100_000) { reactor in
    let address = reactor.serve { _, handler in
      handler.received = { input in ledger.raise("unread", to: input.count) }
      handler.closed = { error in
        reason.withLock { $0 = error?.reason ?? "" }
        ledger.add("closed")
      }
    }
    let client = try Client(address)
    defer { client.close() }
    let sender = Thread {
      // The connection is reset while this sends.
      do { try client.send(pattern(1 << 20)) } catch { ledger.add("refused") }
    }
    sender.start()
    ledger.wait("closed", atLeast: 1)
    #expect(ledger["unread"] == 100_000)
    #expect(reason.withLock { $0 } == "100000 bytes of input wait, which is the limit")
  }
}

@Test("when descriptors run out, accepting pauses and says so, and goes on when there are some again")
func acceptPausesWithoutDescriptors() async throws {
  // In a process of its own, because it takes every descriptor.
  await #expect(processExitsWith: .success) {
    let lines = Mutex<[String]>([])
    let ledger = Ledger()
    try withReactor(logger: Logger(minimum: .warning) { _, line in lines.withLock { $0.append(line) } }) { reactor in
      let address = reactor.serve { _, _ in ledger.add("accepted") }
      var limit = rlimit()
      getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      limit.rlim_cur = 64
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      var client: Client? = nil
      var hoard: [Int32] = []
      while true {
        let descriptor = mr_eventfd()
        if descriptor < 0 { break }
        hoard.append(descriptor)
      }
      // One descriptor for the client, none for the server.
      mr_close(hoard.removeLast())
      client = try Client(address)
      // On a busy machine the reactor may take its time.
      let first = MonotonicTime.now + .seconds(60)
      while lines.withLock({ $0.isEmpty }) {
        precondition(MonotonicTime.now < first, "never said so")
        usleep(1000)
      }
      let before = reactor.call { ProcessorTime.thread }
      usleep(300_000)
      let spent = reactor.call { ProcessorTime.thread } - before
      precondition(spent < .milliseconds(100), "spun for \(spent)")
      precondition(ledger["accepted"] == 0, "accepted without a descriptor")
      precondition(lines.withLock { $0.count } == 1, "log: \(lines.withLock { $0 })")
      for descriptor in hoard { mr_close(descriptor) }
      let end = MonotonicTime.now + .seconds(60)
      while ledger["accepted"] == 0 {
        precondition(MonotonicTime.now < end, "never accepted")
        usleep(1000)
      }
      client?.close()
    }
  }
}

@Test("small answers to a peer that does not read hold their own size, not the memory that they were made in")
func smallAnswersOfABacklog() throws {
  let ledger = Ledger()
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      handler.received = { [unowned connection] input in
        _ = input.take(input.count)
        /// Whether the memory of an answer is still held once it was written.
        func isHeld() -> Bool {
          weak var memory: Chunk?
          do {
            let chunk = Chunk(capacity: 64 << 10)
            chunk.base.initializeMemory(as: UInt8.self, repeating: 9, count: 100)
            memory = chunk
            connection.write([chunk.bytes(0..<100)])
          }
          return memory != nil
        }
        // Far more than the sockets' buffers take.
        connection.write([Bytes(pattern(32 << 20))])
        for _ in 0..<100 where isHeld() { ledger.add("held") }
        ledger.add("answered")
      }
    }
    let client = try Client(address)
    defer { client.close() }
    try client.send([1])
    ledger.wait("answered", atLeast: 1)
    #expect(ledger["held"] == 0)
    // All of them come, in order, once the peer reads.
    #expect(try client.receiveExactly(32 << 20) == pattern(32 << 20))
    #expect(try client.receiveExactly(10_000) == Array(repeating: 9, count: 10_000))
  }
}

@Test("a large message in small packets wakes its reader now and then, what follows it at once, and the end always")
func largeMessagesInSmallPackets() throws {
  let ledger = Ledger()
  try withReactor { reactor in
    let address = reactor.serve { connection, handler in
      handler.received = { [unowned connection] input in
        ledger.add("wakes")
        while let length = input.peekInt32() {
          guard input.count >= Int(length) + 4 else {
            ledger.raise("seen", to: input.count)
            input.expect(Int(length) + 4, isOnePiece: true)
            return
          }
          connection.write([input.take(Int(length) + 4)])
        }
      }
      handler.inputEnded = {
        ledger.add("ends")
        return true
      }
      handler.closed = { _ in ledger.add("closed") }
    }
    let client = try Client(address)
    defer { client.close() }
    func message(_ length: Int) -> [UInt8] {
      withUnsafeBytes(of: Int32(length).bigEndian) { Array($0) } + pattern(length)
    }
    let large = message(1_000_000)
    var at = 0
    while at < large.count {
      // What nobody reads is acknowledged late, so that the last part before a pause is read without what follows.
      if at > large.count - 10_000 && ledger["seen"] < at { ledger.wait("seen", atLeast: at) }
      let next = min(large.count, at + 2000)
      try client.send(Array(large[at..<next]))
      at = next
      usleep(300)
    }
    #expect(try client.receiveExactly(large.count) == large)
    // 500 packets: of 1 MB the first packet, which says how much will come, pieces of 256 KiB, and the last 160 KiB as they come.
    #expect((2...120).contains(ledger["wakes"]), "\(ledger["wakes"])")
    // A small one after it, byte by byte.
    let small = message(3)
    for byte in small { try client.send([byte]) }
    #expect(try client.receiveExactly(small.count) == small)
    // The end in the middle of a message is told, and so is a large one whose end comes with it.
    try client.send(large + Array(large[..<70_000]))
    client.shutdownWrite()
    #expect(try client.receiveToEnd() == large)
    ledger.wait("closed", atLeast: 1)
    #expect(ledger["ends"] == 1)
  }
}
