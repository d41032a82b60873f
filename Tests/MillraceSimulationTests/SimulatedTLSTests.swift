// SimulatedTLSTests: TLS over the simulated network, which cuts and delays as it likes, on the simulated reactor.

import Foundation
import MillraceBase
import Testing

@testable import MillraceIO
@testable import MillraceSimulation

private let address = SocketAddress(host: "127.0.0.1", port: 9093)

/// Sends back what comes, and reads no further while much waits.
private final class EchoHandler: ConnectionHandler {
  private unowned let connection: any Connection
  private let closed: (IOError?) -> Void
  private let mostPending: (Int) -> Void

  init(_ connection: any Connection, mostPending: @escaping (Int) -> Void, closed: @escaping (IOError?) -> Void) {
    self.connection = connection
    self.mostPending = mostPending
    self.closed = closed
  }

  func connectionReceived(_ input: inout InputBuffer) {
    connection.write([input.take(input.count)])
    mostPending(connection.pendingWriteBytes)
    if connection.pendingWriteBytes > 8192 { connection.setReading(false) }
  }
  func connectionDrained() { connection.setReading(true) }
  func connectionClosed(_ error: IOError?) { closed(error) }
}

/// A client of the simulated network that speaks TLS.
private final class SecureClient {
  let socket: SimulatedClientConnection
  private let session: TLSSession
  private(set) var isSecured = false
  private(set) var received: [UInt8] = []
  private(set) var end: TLSSession.Outcome?

  init(_ socket: SimulatedClientConnection, _ context: OpenSSLContext) {
    self.socket = socket
    session = TLSSession(.client, context)
    socket.onReceive = { [unowned self] bytes in
      session.pipe.provide(bytes)
      work()
    }
    work()
  }

  func write(_ bytes: [UInt8]) {
    #expect(bytes.withUnsafeBytes { session.write($0) } == .done)
    flush()
  }

  func sayEnd() {
    session.sayEnd()
    flush()
  }

  private func work() {
    if !isSecured { isSecured = session.handshake() == .done }
    let room = Chunk(capacity: 20_000)
    while isSecured {
      let (count, outcome) = session.read(into: UnsafeMutableRawBufferPointer(start: room.base, count: 20_000))
      received += UnsafeRawBufferPointer(start: room.base, count: count)
      if outcome == .done { continue }
      if outcome != .needsInput { end = outcome }
      break
    }
    flush()
  }

  private func flush() { for piece in session.pipe.takeOutput() { socket.write(piece) } }
}

private func message(_ count: Int, seed: UInt64) -> [UInt8] {
  var random = SeededRandom(seed: seed)
  return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
}

@Test("with TLS, too, bytes arrive whole and in order, a reader that stops holds the writer up, and ends are told once")
func networkKeepsBytesWithTLS() throws {
  let folder = FileManager.default.temporaryDirectory.appending(path: "millrace-tls-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { _ = try? FileManager.default.removeItem(at: folder) }
  let authority = try CertificateMaker(new: CertificatePlan(.authority, commonName: "Simulated", days: 1))
  for (name, bytes) in [("server.pem", authority.own.certificate), ("server.key", authority.own.key)] {
    try Data(bytes.array).write(to: folder.appending(path: name))
  }
  let context = try TLSContext(
    TLSConfiguration(
      certificateFile: folder.appending(path: "server.pem").path, keyFile: folder.appending(path: "server.key").path))
  let clientContext = try OpenSSLContext(.client, minimum: .tls12, protocols: [])
  for seed in UInt64(0)..<10 {
    let world = SimulatedWorld(seed: seed)
    let reactor = SimulatedReactor(world: world, name: "server")
    var pending = 0
    var ends: [String] = []
    _ = try reactor.listen(address, tls: context, logger: .silent) { connection in
      EchoHandler(
        connection, mostPending: { pending = max(pending, $0) },
        closed: { ends.append($0 == nil ? "closed" : "failed") })
    }
    let clients = (0..<3).map { _ in SecureClient(world.network.connect(to: address), clientContext) }
    world.run(for: .seconds(10))
    #expect(clients.allSatisfy { $0.isSecured }, "seed \(seed)")
    let sent = clients.indices.map { message(600_000, seed: seed * 10 + UInt64($0)) }
    clients[0].socket.isReading = false
    for (client, bytes) in zip(clients, sent) { client.write(bytes) }
    world.run(for: .seconds(60))
    #expect(clients[1].received == sent[1] && clients[2].received == sent[2], "seed \(seed)")
    #expect(clients[0].received == [] && clients[0].socket.pendingWriteBytes > 0, "seed \(seed): no back-pressure")
    #expect(pending < 1 << 19, "seed \(seed): \(pending) bytes waited")
    clients[0].socket.isReading = true
    clients[0].sayEnd()
    // One leaves without TLS's word for it.
    clients[1].socket.close()
    world.run(for: .seconds(60))
    #expect(clients[0].received == sent[0] && clients[0].end == .ended && clients[0].socket.isClosed, "seed \(seed)")
    #expect(ends.sorted() == ["closed", "failed"], "seed \(seed)")
    #expect(world.network.connectionCount == 1)
    world.tearDown()
  }
}
