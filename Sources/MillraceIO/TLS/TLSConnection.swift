// TLSConnection: TLS between a connection and its handler: to the one a handler, to the other a connection.
//
//   handler ──write──▶ plain ──encrypt──▶ lower connection          open ───closeAfterWriting──▶ finishing ──all encrypted──▶ leaving
//   handler ◀─offer── upper ◀──decrypt── lower's input                └──────── close / failure ─────┴───────────────────────▶ leaving
//
// Reading: ciphertext stays in the lower connection's buffer until it is decrypted, straight into the upper one. A pause is
// passed down, so at most one read's worth waits as ciphertext, a record inside OpenSSL, and what the handler leaves above.
// A peer that ends its sending without TLS's own word for it may have been cut off: whole input is still offered, then the
// connection closes with an error. What comes after that word is dropped.
//
// Writing (TLSConnection+Writing): plain pieces are collected until the lower connection sends, and encrypted only while it
// has less than 256 KiB unsent, so a peer that does not read holds pieces, not copies of them.
//
// The lower connection tells of its end in a later turn; only then does the handler hear of it, once and last.

import MillraceBase

/// A connection that speaks TLS, server side, over another of the same reactor. All members belong to the reactor's thread.
public final class TLSConnection: Connection, ConnectionHandler {
  enum State { case open, finishing, leaving }

  let lower: any Connection
  let session: TLSSession
  let reactor: any Reactor
  private let context: TLSContext
  private let logger: Logger
  /// Who is offered the plain text. Set once, when the connection is made; gone once it has heard `connectionClosed`.
  var handler: (any ConnectionHandler)?

  var state = State.open
  /// The handshake is done.
  private(set) var isSecured = false
  /// What was agreed on; nil until the handshake is done.
  public private(set) var security: ConnectionSecurity?
  /// What the handler is told in place of the lower connection's reason.
  private var failure: IOError?
  private var deadline: Timer?

  private var input: InputBuffer
  private var records = TLSRecords()
  private var isReading = true
  private var isOffering = false
  private var isOfferDue = false
  private var hasReceived = false
  /// The peer said that it sends no more.
  private var isInputOver = false
  /// The lower connection has offered all there was.
  private var isLowerOver = false
  private var isEndTold = false
  private var isPeerFinishedTold = false

  // Writing.
  var plain = PieceQueue()
  var isCollecting = false
  /// The lower connection has a backlog, or others have their turn: encrypting goes on later, without being asked.
  var isStopped = false
  var isContinuing = false
  var isSettling = false
  /// Output had to wait, so that the handler is to hear when it is gone.
  var owesDrained = false

  private static let finishingTime = Duration.seconds(30)

  /// A connection whose handshake begins with the peer's first bytes. It becomes the handler of `lower`.
  init(over lower: any Connection, context: TLSContext, reactor: any Reactor, logger: Logger) {
    self.lower = lower
    self.context = context
    self.reactor = reactor
    self.logger = logger
    session = context.makeSession()
    input = InputBuffer(limit: reactor.inputLimit)
  }

  // MARK: Connection

  /// The peer.
  public var remoteAddress: SocketAddress { lower.remoteAddress }
  /// The address the peer connected to.
  public var localAddress: SocketAddress { lower.localAddress }
  /// Plain bytes that were not encrypted yet, and ciphertext that the system has not taken.
  public var pendingWriteBytes: Int { state == .leaving ? 0 : plain.count + lower.pendingWriteBytes }

  /// Queues the pieces; they are sent once the handshake is done.
  public func write(_ pieces: [Bytes]) {
    guard state == .open else { return }
    collect(pieces)
  }

  /// Stops or resumes offering, and reading below.
  public func setReading(_ enabled: Bool) {
    guard state == .open, enabled != isReading else { return }
    isReading = enabled
    // The handshake goes on while its future user is busy.
    if isSecured && !isInputOver { lower.setReading(enabled) }
    if enabled && isSecured { offerLater() }
  }

  /// Sends what is queued, then TLS's word for the end, then closes.
  public func closeAfterWriting() {
    guard state == .open else { return }
    if !isSecured && plain.count == 0 {
      leave(nil)
      return
    }
    state = .finishing
    deadline = reactor.schedule(after: TLSConnection.finishingTime) { [self] in
      leave(error("the peer does not read"), dropping: true)
    }
    guard isSecured else { return }
    lower.setReading(false)
    announce()
  }

  /// Drops what is queued and closes.
  public func close() {
    guard state != .leaving else { return }
    leave(nil, dropping: true)
  }

  // MARK: ConnectionHandler, for the lower connection

  /// Ciphertext arrived.
  public func connectionReceived(_ ciphertext: inout InputBuffer) {
    hasReceived = true
    let all = ciphertext.unread
    session.pipe.provide(all)
    if !isSecured && state != .leaving { shakeHands() }
    if isSecured && state == .open { deliver() }
    // Nobody wants what comes after the end.
    let left = state == .open && !isInputOver ? session.pipe.inputCount : 0
    session.pipe.withdraw()
    records.pass(ciphertext.take(all.count - left))
    if isSecured && state == .open && isReading && left == 0 {
      ciphertext.await(records.bytesBefore(input.lacking))
    }
    settleInput()
  }

  /// The peer's sending side is shut, or the peer is gone.
  public func connectionPeerFinished() { tellPeerFinished() }

  /// There is no more ciphertext.
  public func connectionInputEnded() -> Bool {
    isLowerOver = true
    if !isSecured {
      let reason = hasReceived ? "the peer ended the connection during the handshake" : "the peer sent nothing"
      handshakeFailed(reason, isWorthALine: hasReceived)
      return true
    }
    if state == .open { offerBuffered() }
    // It is closed from here, when the handler wants it.
    return false
  }

  /// The lower connection's backlog is gone.
  public func connectionDrained() { lowerDrained() }

  /// The lower connection sends.
  public func connectionSends() {
    isCollecting = false
    encrypt()
    settleDrained()
  }

  /// The lower connection is gone.
  public func connectionClosed(_ error: IOError?) {
    if !isSecured && failure == nil && hasReceived { context.handshakeEnded(well: false) }
    state = .leaving
    deadline?.cancel()
    deadline = nil
    session.end()
    plain.removeAll()
    input = InputBuffer(limit: 0)
    let told = handler
    handler = nil
    told?.connectionClosed(failure ?? error)
  }

  // MARK: The handshake

  private func shakeHands() {
    let outcome = session.handshake()
    flush()
    switch outcome {
    case .needsInput: return
    case .ended: handshakeFailed("the peer ended it", isWorthALine: true)
    case .failed(let reason): handshakeFailed(reason, isWorthALine: true)
    case .done:
      isSecured = true
      security = session.security
      context.handshakeEnded(well: true)
      if state == .finishing || !isReading { lower.setReading(false) }
      if plain.count > 0 || state == .finishing { announce() }
    }
  }

  private func handshakeFailed(_ reason: String, isWorthALine: Bool) {
    guard state != .leaving else { return }
    if isWorthALine {
      context.handshakeEnded(well: false)
      logger.logRarely(
        .warning, "io", "TLS handshake failed", reason, ["peer": remoteAddress.description], key: remoteAddress.host,
        now: reactor.now)
    }
    leave(error("handshake: \(reason)"))
  }

  // MARK: Reading

  /// Decrypts and offers until the input is used up or the handler pauses.
  private func deliver() {
    while state == .open && isReading && !isInputOver {
      let room = input.prepareRoom()
      if room.isEmpty {
        leave(error("\(input.count) bytes of input wait, which is the limit"))
        return
      }
      let (count, outcome) = session.read(into: room)
      if count > 0 {
        input.received(count)
        offer()
      }
      switch outcome {
      case .done: if state == .open { input.grow() }
      case .needsInput:
        // Refusals to renegotiate, answers to updates of keys.
        flush()
        return
      case .ended:
        isInputOver = true
        tellPeerFinished()
      case .failed(let reason):
        guard state != .leaving else { return }
        logger.logRarely(
          .warning, "io", "a TLS connection failed", reason, ["peer": remoteAddress.description],
          key: remoteAddress.host, now: reactor.now)
        leave(error(reason))
      }
    }
  }

  private func offer() {
    precondition(!isOffering, "input was offered to a handler that still works on some")
    isOffering = true
    handler?.connectionReceived(&input)
    isOffering = false
  }

  private func offerLater() {
    guard !isOfferDue else { return }
    isOfferDue = true
    reactor.atEndOfTurn { [self] in
      isOfferDue = false
      offerBuffered()
    }
  }

  /// Offers what was left over before a pause, what OpenSSL holds of a record, and then the end if it was reached.
  private func offerBuffered() {
    guard state == .open && isReading else { return }
    if input.count > 0 { offer() }
    deliver()
    settleInput()
  }

  /// Tells the handler of the end, once all was offered.
  private func settleInput() {
    guard state == .open, isReading, isSecured, !isEndTold, isInputOver || isLowerOver else { return }
    // What a handler left over when it paused, and it reads again.
    if isOfferDue && input.count > 0 {
      offer()
      guard state == .open, isReading else { return }
    }
    isEndTold = true
    guard isInputOver else {
      leave(error("the peer ended the connection without closing TLS: input may have been cut off"), dropping: true)
      return
    }
    tellPeerFinished()
    guard state == .open else { return }
    if handler?.connectionInputEnded() ?? true { closeAfterWriting() }
  }

  private func tellPeerFinished() {
    guard state == .open, !isPeerFinishedTold else { return }
    isPeerFinishedTold = true
    handler?.connectionPeerFinished()
  }

  // MARK: Ends

  func error(_ reason: String) -> IOError { TLSError(.connection, remoteAddress.description, reason).asIOError }

  /// Hands what OpenSSL has written to the lower connection.
  func flush() {
    let output = session.pipe.takeOutput()
    if !output.isEmpty { lower.write(output) }
  }

  /// The end for the handler, which hears of it when the lower connection is gone. Alerts that OpenSSL has written still leave.
  func leave(_ error: IOError?, dropping: Bool = false) {
    guard state != .leaving else { return }
    failure = failure ?? error
    state = .leaving
    deadline?.cancel()
    deadline = nil
    plain.removeAll()
    if dropping {
      lower.close()
    } else {
      flush()
      lower.closeAfterWriting()
    }
  }
}
