// SocketConnection: one accepted socket: reading with back-pressure, gathered writing, orderly ends.
//
//   open ──────closeAfterWriting──────▶ finishing ──all sent──▶ lingering ──▶ closed
//     └───────── close / error ───────────┴──────────────────────────────────▶ closed
//
// The end of input is told to the handler, which closes after writing: at once, or when it has answered what it was asked. A
// peer's end is watched for while reading is paused, too, because a connection that waits would otherwise never hear of it.
//
// The handler hears connectionClosed when the connection leaves `open` or `finishing` for the last two, one turn later.
// Lingering: the sending side is shut down and input is read and dropped for a second, because closing a socket that has
// unread input makes the kernel reset the connection, which may destroy the answer that the peer has not read yet.

import CMillraceSystem
import Glibc
import MillraceBase

/// A connected socket on an ``EpollReactor``.
final class SocketConnection: Connection, EventSource {
  private enum State { case open, finishing, lingering, closed }

  let remoteAddress: SocketAddress
  let localAddress: SocketAddress
  private(set) var pendingWriteBytes = 0
  var handler: (any ConnectionHandler)?

  private let reactor: EpollReactor
  private let descriptor: Int32
  private var token: UInt64 = 0
  private var state = State.open
  private var input: InputBuffer
  /// What epoll watches for, as `MR_…` flags.
  private var watched = UInt32(MR_READABLE)
  /// Whether the descriptor is in the epoll set.
  private var isAttached = true
  private var isReading = true
  private var inputEnded = false
  /// The handler was told that the peer sends no more.
  private var isPeerFinished = false
  private var isOffering = false
  /// Pieces from `queueHead` on are still to be sent.
  private var queue: [Bytes] = []
  private var queueHead = 0
  private var isListedUnsent = false
  /// The handler wants to be called before the next sending.
  private var announcesSending = false
  private var waitsForRoom = false
  /// Bytes of input from which on the system tells of them.
  private var lowWater = 1
  private var deadline: Timer?

  /// With so much unsent, output is a backlog.
  private static let backlogBytes = 256 << 10
  /// Read from one connection in one turn, so that one fast peer does not starve the others.
  private static let readBytesPerTurn = 1 << 20
  /// Input that a large message still lacks wakes the reactor in pieces of this size, not at each packet.
  private static let largestLowWater = 256 << 10
  private static let leastLowWater = 32 << 10
  /// The end of a message is read as it comes. A system acknowledges what nobody reads up to 40 ms later, and a peer with Nagle's
  /// algorithm (librdkafka) keeps the last part of a segment back until then. Two of the largest segments, which loopback has.
  private static let promptTail = 128 << 10
  /// Sent to one connection before others get their turn.
  private static let sendBytesPerTurn = 8 << 20
  /// Output of this size is not held back until the end of the phase.
  private static let sendAtOnceBytes = 256 << 10
  private static let piecesPerCall = 128
  private static let finishingTime = Duration.seconds(30)
  private static let lingeringTime = Duration.seconds(1)

  init(_ descriptor: Int32, remote: SocketAddress, local: SocketAddress, reactor: EpollReactor) throws(IOError) {
    self.descriptor = descriptor
    self.reactor = reactor
    remoteAddress = remote
    localAddress = local
    input = InputBuffer(limit: reactor.inputLimit)
    token = try reactor.register(descriptor, watched, self, remote.description)
  }

  // MARK: Connection

  func write(_ pieces: [Bytes]) {
    guard state == .open else { return }
    reactor.requireOwner()
    // A peer that does not read: small pieces that wait must not keep the larger memory alive that they were made in.
    let isBehind = pendingWriteBytes >= SocketConnection.backlogBytes
    for piece in pieces where piece.count > 0 {
      queue.append(isBehind && piece.count <= 1024 ? piece.withBuffer { Bytes(copying: $0) } : piece)
      pendingWriteBytes += piece.count
    }
    guard pendingWriteBytes > 0, !waitsForRoom else { return }
    if pendingWriteBytes >= SocketConnection.sendAtOnceBytes {
      send()
    } else {
      listUnsent()
    }
  }

  func setReading(_ enabled: Bool) {
    guard state == .open, enabled != isReading else { return }
    reactor.requireOwner()
    isReading = enabled
    // Pausing is lazy: most pauses end before the next byte arrives, and then they cost no system call.
    if enabled {
      updateWatch()
      reactor.offerLater(self)
    }
  }

  func closeAfterWriting() {
    guard state == .open else { return }
    reactor.requireOwner()
    state = .finishing
    if pendingWriteBytes == 0 {
      leave(nil, lingering: !inputEnded)
      return
    }
    deadline = reactor.schedule(after: SocketConnection.finishingTime) { [self] in
      fail(IOError(.failed, operation: "send", subject: remoteAddress.description, reason: "the peer does not read"))
    }
    if !waitsForRoom { listUnsent() }
  }

  func callBeforeSending() -> Bool {
    guard state == .open else { return false }
    reactor.requireOwner()
    announcesSending = true
    listUnsent()
    return true
  }

  func close() {
    guard state == .open || state == .finishing else { return }
    reactor.requireOwner()
    leave(nil, lingering: false)
  }

  // MARK: Events

  func ready(_ flags: UInt32) {
    if state == .lingering {
      discardInput()
      return
    }
    if flags & UInt32(MR_WRITABLE) != 0 && waitsForRoom { sendMore() }
    guard flags & UInt32(MR_READABLE | MR_PEER_ENDED | MR_HANGUP) != 0 else { return }
    if flags & UInt32(MR_PEER_ENDED | MR_HANGUP) != 0 { peerFinished() }
    guard state == .open || state == .finishing else { return }
    if state == .open && isReading && !inputEnded {
      receive()
    } else if flags & UInt32(MR_HANGUP) != 0 {
      hungUpWhilePaused()
    } else {
      updateWatch()
    }
  }

  func reactorStops() {
    switch state {
    case .open, .finishing:
      if pendingWriteBytes > 0 { send() }
      if state == .open || state == .finishing { leave(nil, lingering: false) }
    case .lingering: release()
    case .closed: break
    }
  }

  /// Output collected in this phase goes out.
  func sendUnsent() {
    if announcesSending {
      announcesSending = false
      if state == .open { handler?.connectionSends() }
    }
    isListedUnsent = false
    if state == .open || state == .finishing, !waitsForRoom { send() }
  }

  /// Input that was left over before a pause is offered again.
  func offerBuffered() {
    guard state == .open && isReading && input.count > 0 else { return }
    offer()
    settleLowWater()
  }

  func notifyClosed(_ error: IOError?) {
    let told = handler
    handler = nil
    input = InputBuffer(limit: 0)
    told?.connectionClosed(error)
  }

  // MARK: Reading

  /// Tells the system how much input is worth a call. While a part of it is there nothing is lost by waiting: the message cannot be
  /// handled before its end, the end of input and errors are told at once, and the system wakes whoever waits when its memory is full.
  private func settleLowWater() {
    guard state == .open else { return }
    let spare = input.lacking - SocketConnection.promptTail
    let wanted = spare < SocketConnection.leastLowWater ? 1 : min(spare, SocketConnection.largestLowWater)
    guard wanted != lowWater, mr_set_receive_low_water(descriptor, Int32(wanted)) == 0 else { return }
    lowWater = wanted
  }

  private func receive() {
    receiveAll()
    settleLowWater()
  }

  private func receiveAll() {
    var budget = SocketConnection.readBytesPerTurn
    while isReading && state == .open && budget > 0 {
      let room = input.prepareRoom()
      if room.isEmpty {
        fail(
          IOError(
            .failed, operation: "receive", subject: remoteAddress.description,
            reason: "\(input.count) bytes of input wait, which is the limit"))
        return
      }
      let got = mr_receive(descriptor, room.baseAddress, room.count)
      if got == -Int(EAGAIN) { return }
      if got < 0 {
        fail(IOError.system(Int32(-got), "receive", remoteAddress.description))
        return
      }
      if got == 0 {
        endOfInput()
        return
      }
      input.received(got)
      offer()
      if got < room.count { return }
      if state == .open { input.grow() }
      budget -= got
    }
  }

  private func offer() {
    precondition(!isOffering, "input was offered to a handler that still works on some")
    isOffering = true
    handler?.connectionReceived(&input)
    isOffering = false
  }

  private func endOfInput() {
    // Reading may have been resumed in this very turn, so that what was left over waits to be offered again. Whoever pauses
    // for it comes back, and then finds the end once more.
    if input.count > 0 { offer() }
    guard state == .open, isReading else { return }
    inputEnded = true
    updateWatch()
    peerFinished()
    guard state == .open else { return }
    if handler?.connectionInputEnded() ?? true { closeAfterWriting() }
  }

  private func peerFinished() {
    guard state == .open, !isPeerFinished else { return }
    isPeerFinished = true
    handler?.connectionPeerFinished()
  }

  private func discardInput() {
    withUnsafeTemporaryAllocation(byteCount: 16 * 1024, alignment: 16) { room in
      for _ in 0..<16 {
        let got = mr_receive(descriptor, room.baseAddress, room.count)
        if got == -Int(EAGAIN) { return }
        if got <= 0 {
          release()
          return
        }
      }
    }
  }

  /// A hang-up is reported for as long as the descriptor is watched, whatever it is watched for.
  private func hungUpWhilePaused() {
    if pendingWriteBytes > 0 { send() }
    guard state == .open || state == .finishing, isAttached else { return }
    if inputEnded && state == .open {
      fail(IOError(.failed, operation: "wait", subject: remoteAddress.description, reason: "the peer is gone"))
      return
    }
    // Input may still be unread: reading resumes, and then finds it and the end; or writing finds the error.
    reactor.detach(descriptor)
    isAttached = false
  }

  // MARK: Writing

  private func listUnsent() {
    guard !isListedUnsent else { return }
    isListedUnsent = true
    reactor.sendLater(self)
  }

  /// After the system had no room for a while.
  private func sendMore() {
    send()
    if state == .open && pendingWriteBytes == 0 { handler?.connectionDrained() }
  }

  private func send() {
    var budget = SocketConnection.sendBytesPerTurn
    while queueHead < queue.count {
      let (sent, offered) = sendPieces()
      if sent < 0 && sent != -Int(EAGAIN) {
        fail(IOError.system(Int32(-sent), "send", remoteAddress.description))
        return
      }
      consume(max(0, sent))
      budget -= max(0, sent)
      if sent < offered || (budget <= 0 && queueHead < queue.count) {
        waitsForRoom = true
        updateWatch()
        return
      }
    }
    waitsForRoom = false
    if state == .finishing {
      leave(nil, lingering: !inputEnded)
    } else if watched & UInt32(MR_WRITABLE) != 0 {
      updateWatch()
    }
  }

  /// One gathered call. Returns what the system took (or −errno) and what it was offered.
  private func sendPieces() -> (sent: Int, offered: Int) {
    let count = min(queue.count - queueHead, SocketConnection.piecesPerCall)
    return withUnsafeTemporaryAllocation(of: mr_piece.self, capacity: count) { pieces in
      var offered = 0
      for index in 0..<count {
        let piece = queue[queueHead + index]
        pieces.initializeElement(at: index, to: mr_piece(base: piece.start, length: piece.count))
        offered += piece.count
      }
      return (mr_send_pieces(descriptor, pieces.baseAddress, Int32(count)), offered)
    }
  }

  private func consume(_ sent: Int) {
    pendingWriteBytes -= sent
    var rest = sent
    while rest > 0 {
      let first = queue[queueHead]
      if rest < first.count {
        queue[queueHead] = first[rest..<first.count]
        break
      }
      rest -= first.count
      queue[queueHead] = Bytes()
      queueHead += 1
    }
    if queueHead == queue.count {
      queue.removeAll(keepingCapacity: queue.count <= 1024)
      queueHead = 0
    } else if queueHead >= 1024 && 2 * queueHead >= queue.count {
      queue.removeFirst(queueHead)
      queueHead = 0
    }
  }

  // MARK: Ends

  private func updateWatch() {
    var wanted: UInt32 = 0
    if state == .lingering || (state == .open && isReading && !inputEnded) {
      wanted |= UInt32(MR_READABLE)
    } else if state == .open && !isPeerFinished {
      wanted |= UInt32(MR_PEER_ENDED)
    }
    if waitsForRoom { wanted |= UInt32(MR_WRITABLE) }
    // A pause takes effect when the first event comes that nobody wants (see `ready`).
    if isAttached && wanted == watched { return }
    let result = reactor.change(descriptor, token, wanted, attached: isAttached)
    if result < 0 {
      fail(IOError.system(-result, "watch", remoteAddress.description))
      return
    }
    isAttached = true
    watched = wanted
  }

  private func fail(_ error: IOError) {
    switch state {
    case .open, .finishing: leave(error, lingering: false)
    case .lingering: release()
    case .closed: break
    }
  }

  /// The end of the connection for its handler.
  private func leave(_ error: IOError?, lingering: Bool) {
    deadline?.cancel()
    deadline = nil
    queue = []
    queueHead = 0
    pendingWriteBytes = 0
    waitsForRoom = false
    reactor.notifyLater(self, error)
    guard lingering, mr_shutdown_write(descriptor) == 0 else {
      release()
      return
    }
    state = .lingering
    updateWatch()
    if state == .lingering {
      deadline = reactor.schedule(after: SocketConnection.lingeringTime) { [self] in release() }
    }
  }

  private func release() {
    guard state != .closed else { return }
    state = .closed
    deadline?.cancel()
    deadline = nil
    reactor.unregister(descriptor, token)
    mr_close(descriptor)
  }
}
