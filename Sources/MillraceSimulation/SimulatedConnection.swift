// SimulatedConnection: the machine's end of a simulated connection, with the rules of the real one.

import MillraceBase
import MillraceIO

/// A connection as a handler on a ``SimulatedReactor`` sees it.
final class SimulatedConnection: Connection {
  private enum State { case open, finishing, closed }

  let remoteAddress: SocketAddress
  let localAddress: SocketAddress
  private(set) var pendingWriteBytes = 0
  var handler: (any ConnectionHandler)?

  private let link: SimulatedNetwork.Link
  private let reactor: SimulatedReactor
  private var state = State.open
  private var isReading = true
  private var isReceiving = false
  private var hadToWait = false
  private var inputEnded = false
  private var isPeerFinished = false
  private var input = InputBuffer(limit: 101 << 20)
  private var queue: [Bytes] = []

  init(_ link: SimulatedNetwork.Link, remote: SocketAddress, local: SocketAddress, reactor: SimulatedReactor) {
    self.link = link
    self.reactor = reactor
    remoteAddress = remote
    localAddress = local
    link.toServer.onReadable = { [self] in reactor.enqueue { self.receive() } }
    link.toClient.onRoom = { [self] in reactor.enqueue { self.sendMore() } }
    // What arrived before this end was made.
    reactor.enqueue { self.receive() }
  }

  func write(_ pieces: [Bytes]) {
    guard state == .open else { return }
    for piece in pieces where piece.count > 0 {
      queue.append(piece)
      pendingWriteBytes += piece.count
    }
    if !hadToWait { send() }
  }

  func setReading(_ enabled: Bool) {
    guard state == .open, enabled != isReading else { return }
    isReading = enabled
    if enabled {
      reactor.enqueue { [self] in
        if state == .open && isReading && input.count > 0 { offer() }
        receive()
      }
    }
  }

  func closeAfterWriting() {
    guard state == .open else { return }
    state = .finishing
    if queue.isEmpty { leave(nil) }
  }

  func close() {
    if state != .closed { leave(nil) }
  }

  /// The machine has ended: nobody is told.
  func discard() {
    state = .closed
    handler = nil
    queue = []
    letGo()
  }

  /// Breaks the circle of references with the link.
  private func letGo() {
    link.toServer.onReadable = {}
    link.toClient.onRoom = {}
  }

  private func receive() {
    guard state == .open || state == .finishing else { return }
    if link.toServer.isBroken || link.toClient.isBroken {
      leave(IOError(.failed, operation: "receive", subject: remoteAddress.description, number: 104, reason: "reset"))
      return
    }
    if state == .open && !isPeerFinished && link.toServer.endHasArrived {
      isPeerFinished = true
      handler?.connectionPeerFinished()
    }
    while state == .open && isReading && link.toServer.arrived > 0 {
      let room = input.prepareRoom()
      precondition(!room.isEmpty, "a handler left \(input.count) bytes unread")
      let got = link.toServer.read(into: room)
      input.received(got)
      if got == room.count { input.grow() }
      offer()
    }
    if state == .open && isReading && !inputEnded && link.toServer.hasEnded { endOfInput() }
  }

  private func endOfInput() {
    if input.count > 0 { offer() }
    guard state == .open, isReading else { return }
    inputEnded = true
    if handler?.connectionInputEnded() ?? true { closeAfterWriting() }
  }

  private func offer() {
    precondition(!isReceiving, "input was offered to a handler that still works on some")
    isReceiving = true
    handler?.connectionReceived(&input)
    isReceiving = false
  }

  private func send() {
    var sent = 0
    for piece in queue {
      let taken = piece.withBuffer { link.toClient.write($0) }
      pendingWriteBytes -= taken
      if taken < piece.count {
        queue[sent] = piece[taken..<piece.count]
        hadToWait = true
        break
      }
      sent += 1
    }
    queue.removeFirst(sent)
    if queue.isEmpty && state == .finishing { leave(nil) }
  }

  private func sendMore() {
    guard state == .open || state == .finishing else { return }
    if link.toClient.isBroken {
      receive()
      return
    }
    hadToWait = false
    send()
    if !hadToWait && state == .open { handler?.connectionDrained() }
  }

  private func leave(_ error: IOError?) {
    state = .closed
    queue = []
    pendingWriteBytes = 0
    letGo()
    link.toServer.abandon()
    link.toClient.end()
    reactor.world.network.remove(link)
    // The handler is kept until it was told, and this end by this job.
    reactor.enqueue { [self] in
      let told = handler
      handler = nil
      told?.connectionClosed(error)
    }
  }
}
