// SimulatedWorldTests: reactors, executors and network in virtual time, the same for the same seed.

import MillraceBase
import MillraceIO
import Testing

@testable import MillraceSimulation

private final class ClosureHandler: ConnectionHandler {
  var received: (inout InputBuffer) -> Void = { _ = $0.take($0.count) }
  var drained: () -> Void = {}
  var closed: (IOError?) -> Void = { _ in }
  var peerFinished: () -> Void = {}
  var inputEnded: () -> Bool = { true }
  func connectionPeerFinished() { peerFinished() }
  func connectionInputEnded() -> Bool { inputEnded() }
  func connectionReceived(_ input: inout InputBuffer) { received(&input) }
  func connectionDrained() { drained() }
  func connectionClosed(_ error: IOError?) { closed(error) }
}

/// What jobs write down. Safety: one thread.
private final class Journal: @unchecked Sendable {
  var lines: [String] = []
}

private let address = SocketAddress(host: "127.0.0.1", port: 9092)

@Test("a reactor keeps the order of jobs, timers and ends of turns in virtual time")
func reactorKeepsOrder() {
  for seed in UInt64(0)..<50 {
    let world = SimulatedWorld(seed: seed)
    let reactor = SimulatedReactor(world: world, name: "a")
    let other = SimulatedReactor(world: world, name: "b")
    let journal = Journal()
    let start = world.now
    #expect(reactor.isCurrent)
    for delay in [3, 1, 2, 1] {
      reactor.schedule(after: .seconds(delay)) {
        #expect(world.now - start >= .seconds(delay) && world.now - start < .milliseconds(delay * 1000 + 1))
        #expect(reactor.isCurrent && !other.isCurrent)
        journal.lines.append("\(delay)")
      }
    }
    reactor.schedule(after: .seconds(1)) { journal.lines.append("cancelled") }.cancel()
    reactor.submit {
      reactor.atEndOfTurn {
        journal.lines.append("end")
        reactor.atEndOfTurn { journal.lines.append("next end") }
        reactor.submit { journal.lines.append("next job") }
      }
      journal.lines.append("job")
    }
    world.run(for: .seconds(10))
    #expect(journal.lines == ["job", "end", "next job", "next end", "1", "1", "2", "3"], "seed \(seed)")
    #expect(world.now - start == .seconds(10))
    world.tearDown()
  }
}

@Test("the wall clock jumps; the monotonic clock does not")
func wallClockJumps() {
  let world = SimulatedWorld(seed: 1)
  let before = (world.now, world.wallClock)
  world.jumpWallClock(by: .seconds(-3600))
  #expect(world.now == before.0)
  #expect(world.wallClock.milliseconds == before.1.milliseconds - 3_600_000)
}

@Test("an executor's jobs overlap in any order, but one thread keeps it")
func executorOverlaps() {
  var orders: Set<[String]> = []
  for seed in UInt64(0)..<50 {
    for threads in [1, 3] {
      let world = SimulatedWorld(seed: seed)
      let executor = SimulatedExecutor(world: world, threads: threads)
      let journal = Journal()
      for index in 0..<4 { executor.submit { journal.lines.append("\(index)") } }
      world.run(for: .seconds(1))
      if threads == 1 {
        #expect(journal.lines == ["0", "1", "2", "3"])
      } else {
        #expect(journal.lines.sorted() == ["0", "1", "2", "3"])
        // The fourth starts only when one of the three before it is done.
        #expect(journal.lines[0] != "3")
        orders.insert(journal.lines)
      }
    }
  }
  #expect(orders.count > 5)
}

@Test("after a crash the machine's events never run, the clients' do after the restart")
func crashEndsTheMachine() {
  let world = SimulatedWorld(seed: 9)
  let reactor = SimulatedReactor(world: world, name: "a")
  let executor = SimulatedExecutor(world: world)
  let journal = Journal()
  reactor.submit { journal.lines.append("job") }
  reactor.schedule(after: .seconds(1)) { journal.lines.append("timer") }
  executor.submit { journal.lines.append("executor") }
  world.schedule(after: .seconds(2)) { journal.lines.append("client") }
  world.crash()
  world.run(for: .seconds(10))
  #expect(journal.lines == [])
  world.restart()
  let next = SimulatedReactor(world: world, name: "a")
  next.submit { journal.lines.append("new job") }
  world.run(for: .seconds(10))
  #expect(journal.lines == ["new job", "client"])
}

/// An echo server; pauses reading while more than 8 KiB wait.
private func serveEcho(_ world: SimulatedWorld, _ journal: Journal, mostPending: @escaping (Int) -> Void = { _ in })
  throws
{
  let reactor = SimulatedReactor(world: world, name: "server")
  _ = try reactor.listen(address) { connection in
    let handler = ClosureHandler()
    handler.received = { [unowned connection] input in
      #expect(reactor.isCurrent)
      connection.write([input.take(input.count)])
      mostPending(connection.pendingWriteBytes)
      if connection.pendingWriteBytes > 8192 { connection.setReading(false) }
    }
    handler.drained = { [unowned connection] in connection.setReading(true) }
    handler.closed = { journal.lines.append($0 == nil ? "closed" : "reset") }
    return handler
  }
}

private func message(_ count: Int, seed: UInt64) -> [UInt8] {
  var random = SeededRandom(seed: seed)
  var words: [UInt64] = []
  while words.count * 8 < count { words.append(random.next()) }
  return words.withUnsafeBytes { [UInt8](UnsafeRawBufferPointer(rebasing: $0[..<count])) }
}

@Test("bytes arrive whole and in order, in pieces, and a reader that stops holds the writer up")
func networkKeepsBytes() throws {
  for seed in UInt64(0)..<20 {
    let world = SimulatedWorld(seed: seed)
    let journal = Journal()
    var pending = 0
    try serveEcho(world, journal) { pending = max(pending, $0) }
    let clients = (0..<3).map { _ in world.network.connect(to: address) }
    let sent = clients.indices.map { message(1_000_000, seed: seed * 10 + UInt64($0)) }
    clients[0].isReading = false
    for (client, bytes) in zip(clients, sent) { client.write(Bytes(bytes)) }
    world.run(for: .seconds(60))
    #expect(clients[1].received == sent[1] && clients[2].received == sent[2], "seed \(seed)")
    #expect(clients[0].received == [] && clients[0].pendingWriteBytes > 0, "seed \(seed): no back-pressure")
    #expect(pending < 1 << 19, "seed \(seed): \(pending) bytes waited")
    clients[0].isReading = true
    clients[0].shutdownWrite()
    clients[1].close()
    world.run(for: .seconds(60))
    #expect(clients[0].received == sent[0] && clients[0].isClosed && clients[0].closeError == nil, "seed \(seed)")
    #expect(journal.lines == ["closed", "closed"], "seed \(seed)")
    #expect(world.network.connectionCount == 1)
    world.tearDown()
  }
}

@Test("a client's end is told while reading is paused, then its input is, then the end of that; answers may come later")
func endOfInput() throws {
  for seed in UInt64(0)..<30 {
    let world = SimulatedWorld(seed: seed)
    let journal = Journal()
    let reactor = SimulatedReactor(world: world, name: "server")
    var received = 0
    _ = try reactor.listen(address) { connection in
      let handler = ClosureHandler()
      connection.setReading(false)
      handler.received = { received += $0.take($0.count).count }
      handler.peerFinished = { [unowned connection] in
        journal.lines.append("finished")
        reactor.schedule(after: .seconds(1)) {
          #expect(received == 0)
          connection.setReading(true)
        }
      }
      handler.inputEnded = { [unowned connection] in
        journal.lines.append("ended after \(received)")
        reactor.schedule(after: .seconds(1)) {
          connection.write([Bytes("late")])
          connection.closeAfterWriting()
        }
        return false
      }
      handler.closed = { journal.lines.append($0 == nil ? "closed" : "reset") }
      return handler
    }
    let client = world.network.connect(to: address)
    client.write(Bytes(message(3000, seed: seed)))
    client.shutdownWrite()
    world.run(for: .seconds(10))
    #expect(journal.lines == ["finished", "ended after 3000", "closed"], "seed \(seed)")
    #expect(client.received == Array("late".utf8) && client.isClosed && client.closeError == nil, "seed \(seed)")
    world.tearDown()
  }
}

@Test("connections are refused without a listener, cut on demand, and reset by a restart")
func connectionsEnd() throws {
  for seed in UInt64(0)..<30 {
    let world = SimulatedWorld(seed: seed)
    let journal = Journal()
    let refused = world.network.connect(to: address)
    world.run(for: .seconds(1))
    #expect(refused.isClosed && refused.closeError?.operation == "connect")
    try serveEcho(world, journal)
    let clients = (0..<2).map { _ in world.network.connect(to: address) }
    var told = 0
    for client in clients {
      client.onClose = { if $0 != nil { told += 1 } }
      client.write(Bytes("hello"))
    }
    world.run(for: .seconds(1))
    clients[0].cut()
    world.run(for: .seconds(1))
    #expect(clients[0].isClosed && told == 1 && journal.lines == ["reset"], "seed \(seed)")
    #expect(!clients[1].isClosed && clients[1].received == Array("hello".utf8))
    world.restart()
    world.run(for: .seconds(1))
    #expect(clients[1].isClosed && told == 2 && journal.lines == ["reset"], "seed \(seed)")
  }
}

@Test("closing after writing delivers everything before the end, closing drops what the network has not taken")
func closingRules() throws {
  for seed in UInt64(0)..<30 {
    for orderly in [true, false] {
      let world = SimulatedWorld(seed: seed)
      let journal = Journal()
      let reactor = SimulatedReactor(world: world, name: "server")
      let answer = Bytes(message(500_000, seed: seed))
      _ = try reactor.listen(address) { connection in
        let handler = ClosureHandler()
        handler.received = { [unowned connection] input in
          _ = input.take(input.count)
          connection.write([answer])
          if orderly { connection.closeAfterWriting() } else { connection.close() }
          connection.write([Bytes("late")])
          journal.lines.append("handled")
        }
        handler.closed = { _ in journal.lines.append("closed") }
        return handler
      }
      let client = world.network.connect(to: address)
      client.write(Bytes("x"))
      world.run(for: .seconds(10))
      #expect(journal.lines == ["handled", "closed"])
      #expect(client.isClosed && client.closeError == nil)
      #expect(orderly ? client.received == answer.array : client.received.count < answer.count)
    }
  }
}

/// Everything at once: echo, disk, executor, cuts and a crash. Returns what was seen and the trace.
private func scenario(seed: UInt64) throws -> (hash: UInt64, events: Int, seen: [String]) {
  let world = SimulatedWorld(seed: seed)
  let journal = Journal()
  let disk = SimulatedFileSystem(world: world)
  world.network.cutProbability = 0.002
  world.crashAfterOperations(60)
  for machine in 0..<2 {
    let system = machine == 0 ? disk : disk.reopen()
    let executor = SimulatedExecutor(world: world)
    let reactor = SimulatedReactor(world: world, name: "server")
    do {
      let file = try system.open("log", [.read, .write, .create])
      try system.syncDirectory("/")
      _ = try reactor.listen(address) { connection in
        let handler = ClosureHandler()
        handler.received = { [unowned connection] input in
          let bytes = input.take(input.count)
          let back = ReactorBound(connection as any Connection, on: reactor)
          executor.submit {
            do throws(IOError) {
              try bytes.withBuffer { buffer throws(IOError) in try file.write(buffer, at: try file.size()) }
              try file.flush()
              reactor.submit { back.take().write([bytes]) }
            } catch {
              journal.lines.append("\(error)")
            }
          }
        }
        handler.closed = { journal.lines.append("closed \(String(describing: $0))") }
        return handler
      }
    } catch {
      journal.lines.append("\(error)")
    }
    let clients = (0..<4).map { _ in world.network.connect(to: address) }
    for (index, client) in clients.enumerated() { client.write(Bytes(message(60_000, seed: UInt64(index)))) }
    world.run(for: .seconds(2))
    for client in clients { journal.lines.append("\(client.received.count) \(Bytes(client.received).crc32c)") }
    if machine == 0 { world.restart() }
  }
  for (path, bytes) in disk.contents() { journal.lines.append("\(path) \(bytes.count) \(Bytes(bytes).crc32c)") }
  world.tearDown()
  return (world.traceHash, world.eventCount, journal.lines)
}

@Test("the same seed gives the same run, to the last event; another seed another")
func sameSeedSameRun() throws {
  var hashes: Set<UInt64> = []
  for seed in UInt64(0)..<20 {
    let first = try scenario(seed: seed)
    let second = try scenario(seed: seed)
    #expect(first.hash == second.hash && first.events == second.events && first.seen == second.seen, "seed \(seed)")
    #expect(first.events > 100)
    hashes.insert(first.hash)
  }
  #expect(hashes.count == 20)
}

@Test("a world that was torn down is given back, with its disks")
func tornDownWorldIsFreed() throws {
  weak var world: SimulatedWorld?
  do {
    let made = SimulatedWorld(seed: 1)
    world = made
    let disk = SimulatedFileSystem(world: made)
    let file = try disk.open("/f", [.write, .create])
    try file.write(UnsafeRawBufferPointer(start: nil, count: 0), at: 0)
    made.schedule(after: .seconds(1)) { _ = made.now }
    made.tearDown()
  }
  #expect(world == nil)
}

/// Keeps a timer and an executor, whose jobs keep it.
private final class Worker: @unchecked Sendable {
  // Safety: as its world, used by one thread.
  private let executor: SimulatedExecutor
  private var timer: MillraceIO.Timer?

  init(_ world: SimulatedWorld) {
    let reactor = SimulatedReactor(world: world, name: "a")
    executor = SimulatedExecutor(world: world, threads: 1)
    timer = reactor.schedule(after: .seconds(1)) { [self] in timer = nil }
    for _ in 0..<3 { executor.submit { [self] in timer?.cancel() } }
  }
}

/// Whether a worker that only its own jobs keep is still there.
private func begin(in world: SimulatedWorld) -> () -> Bool {
  let worker = Worker(world)
  return { [weak worker] in worker != nil }
}

@Test("who keeps timers and jobs that wait is given back with the world, and with a machine that has ended")
func waitersAreFreed() {
  let world = SimulatedWorld(seed: 1)
  let first = begin(in: world)
  #expect(first())
  world.restart()
  // The job that ran ends in vain.
  world.run(for: .seconds(1))
  #expect(!first())
  let second = begin(in: world)
  #expect(second())
  world.tearDown()
  #expect(!second())
}

@Test("a client whose connection is open when the world is torn down is given back")
func openClientIsFreed() throws {
  weak var client: SimulatedClientConnection?
  let world = SimulatedWorld(seed: 1)
  do {
    _ = try SimulatedReactor(world: world, name: "a").listen(address) { _ in ClosureHandler() }
    let made = world.network.connect(to: address)
    client = made
    world.run(for: .seconds(1))
    #expect(world.network.connectionCount == 1)
  }
  #expect(client != nil)
  world.tearDown()
  #expect(client == nil)
}
