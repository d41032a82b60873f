// TLSWorld: a TLS connection over a played one, on a reactor that turns by hand, and a peer that speaks TLS in memory.

import COpenSSL
import MillraceBase
import MillraceSimulation
import Testing

@testable import MillraceIO

/// One TLS connection of a server, with its peer.
final class TLSWorld {
  let reactor = PlayedReactor()
  let lower: PlayedConnection
  let connection: TLSConnection
  let handler = ClosureHandler()
  /// The peer's end.
  let peer: TLSSession
  /// What the handler was offered and took.
  var received: [UInt8] = []
  /// What the peer has decrypted.
  var peerReceived: [UInt8] = []
  /// What the peer's session came to: nil while it works.
  var peerOutcome: TLSSession.Outcome?
  var isPeerSecured = false
  /// Names of what the handler was told, but for input.
  var told: [String] = []

  init(
    _ server: TLSContext, _ client: OpenSSLContext, calls: Bool = true, inputLimit: Int = 101 << 20
  ) {
    reactor.inputLimit = inputLimit
    lower = PlayedConnection(calls: calls, inputLimit: inputLimit)
    connection = TLSConnection(over: lower, context: server, reactor: reactor, logger: .silent)
    peer = TLSSession(.client, client)
    lower.handler = connection
    connection.handler = handler
    reactor.sendUnsent = { [unowned lower] in lower.sendUnsent() }
    handler.received = { [unowned self] in received += $0.take($0.count).array }
    handler.drained = { [unowned self] in told.append("drained") }
    handler.peerFinished = { [unowned self] in told.append("peer finished") }
    handler.inputEnded = { [unowned self] in
      told.append("input ended")
      return true
    }
    handler.closed = { [unowned self] in told.append($0 == nil ? "closed" : "failed") }
  }

  /// What the peer has to say, as ciphertext.
  func peerOutput() -> [UInt8] {
    if !isPeerSecured { work() }
    return peer.pipe.takeOutput().flatMap(\.array)
  }

  /// Lets the peer work on what the server has sent.
  func work() {
    let sent = lower.sent
    lower.sent = []
    peer.pipe.provide(Bytes(sent))
    if !isPeerSecured {
      switch peer.handshake() {
      case .done: isPeerSecured = true
      case .needsInput: break
      case let other: peerOutcome = other
      }
    }
    let room = Chunk(capacity: 20_000)
    while isPeerSecured {
      let (count, outcome) = peer.read(into: UnsafeMutableRawBufferPointer(start: room.base, count: 20_000))
      peerReceived += UnsafeRawBufferPointer(start: room.base, count: count)
      if outcome == .done { continue }
      if outcome != .needsInput { peerOutcome = outcome }
      break
    }
    peer.pipe.withdraw()
  }

  /// Carries ciphertext both ways, in reads of at most `size`, until both ends are quiet.
  func exchange(size: Int = .max) {
    for _ in 0..<10_000 {
      let output = peerOutput()
      let isQuiet = output.isEmpty && lower.sent.isEmpty && reactor.isIdle && !lower.announces
      if isQuiet && lower.end == .none { return }
      reactor.turn { lower.arrive(output, size: size) }
      work()
      lower.settle()
      if lower.handler == nil && lower.sent.isEmpty { return }
    }
    Issue.record("the two ends never become quiet")
  }

  /// The peer sends `bytes`.
  func peerWrite(_ bytes: [UInt8]) {
    let outcome = bytes.withUnsafeBytes { peer.write($0) }
    #expect(outcome == .done)
  }
}

/// Contexts of both sides, made once, because making them reads files.
final class TLSContexts {
  let files: Certificates
  let server: TLSContext
  let client: OpenSSLContext
  let client12: OpenSSLContext

  init() throws {
    files = try Certificates()
    server = try TLSContext(files.configuration())
    let authorities = try PEMFiles(files: LinuxFileSystem()).certificates(files.path("ca.pem"), .badAuthority)
    func make() throws -> OpenSSLContext {
      let context = try OpenSSLContext(.client, minimum: .tls12, protocols: [])
      try context.trust(authorities)
      SSL_CTX_set_verify(context.pointer, SSL_VERIFY_PEER, nil)
      return context
    }
    client = try make()
    client12 = try make()
    try #require(SSL_CTX_ctrl(client12.pointer, SSL_CTRL_SET_MAX_PROTO_VERSION, Int(TLS1_2_VERSION), nil) == 1)
  }

  func world(_ is12: Bool = false, calls: Bool = true, inputLimit: Int = 101 << 20) -> TLSWorld {
    TLSWorld(server, is12 ? client12 : client, calls: calls, inputLimit: inputLimit)
  }

  /// One whose handshake is done.
  func securedWorld(_ is12: Bool = false, calls: Bool = true, inputLimit: Int = 101 << 20) -> TLSWorld {
    let world = world(is12, calls: calls, inputLimit: inputLimit)
    world.exchange()
    #expect(world.isPeerSecured && world.connection.security?.version == (is12 ? "TLSv1.2" : "TLSv1.3"))
    return world
  }
}
