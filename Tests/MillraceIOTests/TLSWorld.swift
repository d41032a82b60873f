// TLSWorld: a TLS connection over a played one, on a reactor that turns by hand, and a peer that speaks TLS in memory.

import COpenSSL
import MillraceBase
import Testing

@testable import MillraceIO

/// A reactor whose turns and clock are driven by a test.
///
/// Safety: used on the test's thread only.
final class ManualReactor: Reactor, @unchecked Sendable {
  var inputLimit = 101 << 20
  private(set) var now = MonotonicTime(nanoseconds: 0)
  private var endOfTurn: [() -> Void] = []
  private var timers: [MillraceIO.Timer] = []
  /// Sends at the end of each phase, as an epoll reactor does.
  var sendUnsent: () -> Void = {}

  var wallClock: Timestamp { Timestamp(milliseconds: 0) }
  var clocks: ClockReading { .now }
  var isCurrent: Bool { true }
  var isIdle: Bool { endOfTurn.isEmpty }

  func submit(_ job: @escaping @Sendable () -> Void) { preconditionFailure("nothing here is submitted") }
  func atEndOfTurn(_ job: @escaping () -> Void) { endOfTurn.append(job) }
  func schedule(after delay: Duration, _ job: @escaping () -> Void) -> MillraceIO.Timer {
    let timer = MillraceIO.Timer(deadline: now + delay, job: job)
    timers.append(timer)
    return timer
  }
  func listen(_ address: SocketAddress, accept: @escaping (any Connection) -> any ConnectionHandler)
    throws(IOError) -> any Listener
  {
    throw IOError(.unsupported, operation: "listen", subject: "a played reactor", reason: "it has no sockets")
  }

  /// One turn, whose event is `body`.
  func turn(_ body: () -> Void = {}) {
    body()
    sendUnsent()
    let due = endOfTurn
    endOfTurn = []
    for job in due { job() }
    sendUnsent()
  }

  func advance(_ delay: Duration) {
    now = now + delay
    turn { for timer in timers where timer.deadline <= now { timer.fire() } }
  }
}

/// The connection below: what it is given to send, and what it offers.
final class PlayedLower: Connection {
  enum End { case none, afterWriting, dropped }

  let remoteAddress = SocketAddress(host: "192.0.2.1", port: 4711)
  let localAddress = SocketAddress(host: "192.0.2.2", port: 9092)
  var handler: (any ConnectionHandler)?
  /// What the system has taken.
  var sent: [UInt8] = []
  /// What the system still takes; it is all that a slow reader leaves.
  var room = Int.max
  /// Whether it calls before it sends, as a socket does, or leaves that to the end of the turn.
  let calls: Bool
  private(set) var pendingWriteBytes = 0
  private(set) var mostPending = 0
  private(set) var isReading = true
  private(set) var end = End.none
  private var queue: [Bytes] = []
  private(set) var announces = false
  private var waits = false
  private var isOver = false
  private var input: InputBuffer
  /// Sent by the peer, not read yet.
  private var arrived: [UInt8] = []
  var unread: Int { arrived.count + input.count }

  init(calls: Bool, inputLimit: Int) {
    self.calls = calls
    input = InputBuffer(limit: inputLimit)
  }

  func write(_ pieces: [Bytes]) {
    guard end == .none else { return }
    queue += pieces
    pendingWriteBytes += pieces.reduce(0) { $0 + $1.count }
    mostPending = max(mostPending, pendingWriteBytes)
    if pendingWriteBytes >= 256 << 10 && !waits { send() }
  }

  func setReading(_ enabled: Bool) { isReading = enabled }
  func closeAfterWriting() { if end == .none { end = .afterWriting } }
  func close() {
    end = .dropped
    queue = []
    pendingWriteBytes = 0
  }
  func callBeforeSending() -> Bool {
    announces = calls
    return calls
  }

  func sendUnsent() {
    if announces {
      announces = false
      handler?.connectionSends()
    }
    if !waits { send() }
  }

  /// The system takes `count` bytes more.
  func makeRoom(_ count: Int) {
    room += count
    guard waits else { return }
    send()
    if pendingWriteBytes == 0 && end == .none { handler?.connectionDrained() }
  }

  private func send() {
    while let first = queue.first, room > 0 {
      let part = min(room, first.count)
      sent += first[0..<part].array
      room = room == .max ? .max : room - part
      pendingWriteBytes -= part
      queue[0] = first[part..<first.count]
      if queue[0].isEmpty { queue.removeFirst() }
    }
    waits = !queue.isEmpty
  }

  /// Bytes arrive, and are offered by reads of at most `size`.
  func arrive(_ bytes: some Sequence<UInt8>, size: Int = .max) {
    arrived += bytes
    offer(size)
  }

  func offer(_ size: Int = .max) {
    if end == .none, isReading, input.count > 0 { handler?.connectionReceived(&input) }
    var at = 0
    while at < arrived.count, end == .none, isReading {
      let room = input.prepareRoom()
      let part = min(size, room.count, arrived.count - at)
      precondition(part > 0, "the lower input is full: \(input.count)")
      arrived.withUnsafeBytes { room.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[at..<(at + part)])) }
      input.received(part)
      at += part
      handler?.connectionReceived(&input)
    }
    arrived.removeFirst(at)
    if isOver && isReading && end == .none && arrived.isEmpty { endInput() }
  }

  private var isEndTold = false
  private func endInput() {
    guard !isEndTold else { return }
    if input.count > 0 { handler?.connectionReceived(&input) }
    guard end == .none, isReading else { return }
    isEndTold = true
    if handler?.connectionInputEnded() ?? true { closeAfterWriting() }
  }

  /// The peer shuts its sending side.
  func finish() {
    isOver = true
    handler?.connectionPeerFinished()
    offer()
  }

  /// Tells of the end, once what is to be sent was taken.
  func settle() {
    guard end == .dropped || end == .afterWriting && pendingWriteBytes == 0 || error != nil else { return }
    if end == .none { end = .dropped }
    let told = handler
    handler = nil
    told?.connectionClosed(error)
  }
  var error: IOError?
}

/// One TLS connection of a server, with its peer.
final class TLSWorld {
  let reactor = ManualReactor()
  let lower: PlayedLower
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
    lower = PlayedLower(calls: calls, inputLimit: inputLimit)
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
