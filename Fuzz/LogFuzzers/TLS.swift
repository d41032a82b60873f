// TLS: what a stranger, or somebody on the way, sends to a server's TLS connection, before and after a handshake.
//
// The first byte chooses: 1, the handshake is done first; 2, at most TLS 1.2; 4, clients are asked for a certificate; 8, the connection
// below does not call before it sends; 16 and 32, the sizes of reads. Then one step after another, each a byte and what it needs.
// The peer is OpenSSL's client. Whatever is done to what it sends, the handler gets a beginning of what the peer has written, and nothing
// else; and it hears of the end, once and last.

import COpenSSL
import FuzzHarness
import FuzzStorage
import MillraceBase
import MillraceSimulation

@testable import MillraceIO

/// Contexts of both sides, made once.
private struct Contexts {
  let server: TLSContext
  let asking: TLSContext
  let client: OpenSSLContext

  static let shared: Contexts = {
    do throws(TLSError) {
      return try Contexts()
    } catch {
      preconditionFailure("\(error)")
    }
  }()

  init() throws(TLSError) {
    let authority = try CertificateMaker(new: CertificatePlan(.authority, commonName: "authority", days: 2))
    let pair = try authority.issue(CertificatePlan(.server, commonName: "localhost", hosts: ["localhost"], days: 2))
    let disk = SimulatedFileSystem(world: SimulatedWorld(seed: 1), capacity: 1 << 20)
    write(
      [
        ("/tls/ca.pem", authority.own.certificate.array), ("/tls/server.pem", pair.certificate.array),
        ("/tls/server.key", pair.key.array),
      ], to: disk)
    func context(_ clients: TLSConfiguration.ClientCertificates) throws(TLSError) -> TLSContext {
      try TLSContext(
        TLSConfiguration(
          certificateFile: "/tls/server.pem", keyFile: "/tls/server.key",
          clientAuthorityFile: clients == .none ? nil : "/tls/ca.pem", clientCertificates: clients,
          applicationProtocols: ["http/1.1"]), files: disk)
    }
    server = try context(.none)
    asking = try context(.requested)
    client = try OpenSSLContext(.client, minimum: .tls12, protocols: ["http/1.1"])
  }
}

/// Who is offered the plain text.
private final class Receiver: ConnectionHandler {
  var received: [UInt8] = []
  private(set) var isClosed = false

  private func isToldNothing() { precondition(!isClosed, "told of something after the end") }

  func connectionReceived(_ input: inout InputBuffer) {
    isToldNothing()
    received += input.take(input.count).array
  }
  func connectionPeerFinished() { isToldNothing() }
  func connectionInputEnded() -> Bool {
    isToldNothing()
    return true
  }
  func connectionDrained() { isToldNothing() }
  func connectionClosed(_ error: IOError?) {
    isToldNothing()
    isClosed = true
  }
}

/// One connection of a server, and its peer.
private final class Stage {
  let reactor = PlayedReactor()
  let lower: PlayedConnection
  let connection: TLSConnection
  let receiver = Receiver()
  let peer: TLSSession
  private let readSize: Int
  private var isPeerSecured = false
  private var isPeerOver = false
  /// What the peer has written, and what the server has.
  private(set) var peerWrote: [UInt8] = []
  private(set) var serverWrote: [UInt8] = []
  private(set) var peerReceived: [UInt8] = []

  init(_ options: Int) {
    reactor.inputLimit = 64 << 10
    readSize = [Int.max, 1000, 7, 1][options >> 4 & 3]
    lower = PlayedConnection(calls: options & 8 == 0, inputLimit: reactor.inputLimit)
    let contexts = Contexts.shared
    connection = TLSConnection(
      over: lower, context: options & 4 == 0 ? contexts.server : contexts.asking, reactor: reactor, logger: .silent)
    peer = TLSSession(.client, contexts.client)
    if options & 2 != 0 {
      _ = peer.withSSL { SSL_ctrl($0, SSL_CTRL_SET_MAX_PROTO_VERSION, Int(TLS1_2_VERSION), nil) }
    }
    lower.handler = connection
    connection.handler = receiver
    reactor.sendUnsent = { [unowned lower] in lower.sendUnsent() }
    if options & 1 != 0 {
      for _ in 0..<4 { arrive(peerOutput()) }
      precondition(connection.isSecured && isPeerSecured, "an honest handshake fails")
    }
  }

  /// Bytes arrive, and the peer gets what the server says to that.
  func arrive(_ bytes: [UInt8]) {
    reactor.turn { lower.arrive(bytes, size: readSize) }
    work()
    lower.settle()
  }

  /// Ciphertext that the peer wants to send.
  func peerOutput() -> [UInt8] {
    if !isPeerSecured { work() }
    return peer.pipe.takeOutput().flatMap(\.array)
  }

  private func work() {
    peer.pipe.provide(Bytes(lower.sent))
    lower.sent = []
    defer { peer.pipe.withdraw() }
    guard !isPeerOver else { return }
    if !isPeerSecured {
      let outcome = peer.handshake()
      isPeerSecured = outcome == .done
      isPeerOver = outcome != .done && outcome != .needsInput
    }
    let room = Chunk(capacity: TLSRules.recordBytes)
    while isPeerSecured {
      let (count, outcome) = peer.read(into: UnsafeMutableRawBufferPointer(start: room.base, count: room.capacity))
      peerReceived += UnsafeRawBufferPointer(start: room.base, count: count)
      if outcome == .done { continue }
      isPeerOver = outcome != .needsInput
      return
    }
  }

  func peerWrites(_ bytes: [UInt8]) {
    guard isPeerSecured, !isPeerOver, !bytes.isEmpty else { return }
    peerWrote += bytes
    _ = bytes.withUnsafeBytes { peer.write($0) }
  }

  func serverWrites(_ bytes: [UInt8]) {
    guard connection.state == .open, !receiver.isClosed else { return }
    serverWrote += bytes
    connection.write([Bytes(bytes)])
  }

  /// What holds at every moment.
  func check() {
    precondition(peerWrote.starts(with: receiver.received), "the handler was given what nobody has written")
    precondition(serverWrote.starts(with: peerReceived), "the peer was given what the server has not written")
    precondition(lower.unread <= reactor.inputLimit + (64 << 10) || !lower.isReading, "\(lower.unread) bytes wait")
  }

  /// The peer goes; a connection does not outlive that by much.
  func end() {
    if !receiver.isClosed { connection.setReading(true) }
    reactor.turn { lower.finish() }
    lower.makeRoom(1 << 30)
    for _ in 0..<3 { arrive([]) }
    reactor.advance(.seconds(60))
    arrive([])
    check()
    precondition(receiver.isClosed, "the connection outlives its peer")
  }
}

/// Steps of strangers and peers.
let tlsConnection = FuzzTarget(
  name: "tls-connection", allowance: 4 << 20, limit: .milliseconds(300),
  seeds: {
    var seeds: [[UInt8]] = []
    for options in [0, 2, 4, 8, 16, 32, 48] as [UInt8] {
      // An honest handshake in one go, with lines both ways and an end.
      let steps: [[UInt8]] = [
        [1], [1], [1], [2, 0, 5], Array("hello".utf8), [1], [4, 0, 5], Array("world".utf8), [6], [1],
      ]
      seeds.append([options] + steps.flatMap { $0 })
      seeds.append([options | 1] + steps.flatMap { $0 })
      seeds.append([options | 1, 2, 0, 5] + Array("hello".utf8) + [3, 0, 7, 1, 5, 5, 9, 1])
      seeds.append([options | 1, 7, 1, 8, 1, 4, 0, 3, 1, 2, 3, 10, 1, 11])
    }
    // A stranger's beginnings: the peer's own hello, whole and cut, and other protocols.
    let hello = Stage(0).peerOutput()
    seeds.append([0, 0, UInt8(hello.count >> 8), UInt8(hello.count & 255)] + hello)
    seeds.append([16, 0, 0, 100] + hello)
    for text in ["GET / HTTP/1.1\r\n\r\n", "AMQP\u{0}\u{0}\u{9}\u{1}"] {
      seeds.append([0, 0, 0, 20] + Array(text.utf8))
    }
    return seeds
  }
) { input in
  var choices = Choices(input)
  let stage = Stage(choices.byte())
  // Each step costs an exchange between two sessions.
  for _ in 0..<200 where !choices.isEmpty {
    switch choices.byte() % 12 {
    case 0: stage.arrive(choices.bytes(choices.number(below: 1 << 16)).array)
    case 1: stage.arrive(stage.peerOutput())
    case 2: stage.peerWrites(choices.bytes(choices.number(below: 1 << 16)).array)
    case 3:
      // Somebody on the way changes, drops, or repeats.
      var bytes = stage.peerOutput()
      let place = choices.number(below: 1 << 16)
      let mask = UInt8(choices.byte())
      guard !bytes.isEmpty else { break }
      if mask == 0 { bytes.removeSubrange((place % bytes.count)...) } else { bytes[place % bytes.count] ^= mask }
      stage.arrive(bytes)
      if mask == 255 { stage.arrive(bytes) }
    case 4: stage.serverWrites(choices.bytes(choices.number(below: 1 << 16)).array)
    case 5: if !stage.receiver.isClosed { stage.connection.setReading(choices.byte() % 2 == 0) }
    case 6: stage.peer.sayEnd()
    case 7: _ = stage.peer.withSSL { SSL_version($0) == TLS1_3_VERSION ? SSL_key_update($0, 1) : SSL_renegotiate($0) }
    case 8: stage.reactor.advance(.seconds(choices.byte()))
    case 9: stage.reactor.turn { stage.lower.finish() }
    case 10: if !stage.receiver.isClosed { stage.connection.closeAfterWriting() }
    default:
      stage.lower.room = choices.number(below: 1 << 16)
    }
    stage.check()
  }
  stage.end()
}
