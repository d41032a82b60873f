// PlayedConnection: one end of a connection without a network: bytes arrive, and are sent, when somebody says so.

import MillraceBase
import MillraceIO

/// A connection that is played by hand: what it is given to send, and what it offers to its handler.
public final class PlayedConnection: Connection {
  /// How its user has ended it.
  public enum End {
    /// Not yet.
    case none
    /// What was written still leaves.
    case afterWriting
    /// At once.
    case dropped
  }

  /// The peer.
  public let remoteAddress = SocketAddress(host: "192.0.2.1", port: 4711)
  /// Where the peer has connected to.
  public let localAddress = SocketAddress(host: "192.0.2.2", port: 9092)
  /// Who is offered what arrives; gone once it has heard of the end.
  public var handler: (any ConnectionHandler)?
  /// What the system has taken.
  public var sent: [UInt8] = []
  /// What the system still takes; it is all that a slow reader leaves.
  public var room = Int.max
  /// Whether it calls before it sends, as a socket does, or leaves that to the end of the turn.
  public let calls: Bool
  /// Written, and not taken by the system.
  public private(set) var pendingWriteBytes = 0
  /// The most that this ever was.
  public private(set) var mostPending = 0
  /// What its user has asked for.
  public private(set) var isReading = true
  /// How its user has ended it.
  public private(set) var end = End.none
  private var queue: [Bytes] = []
  /// It calls its handler before it sends next.
  public private(set) var announces = false
  private var waits = false
  private var isOver = false
  private var input: InputBuffer
  /// Sent by the peer, not read yet.
  private var arrived: [UInt8] = []
  /// Bytes that have arrived, and that nobody has taken.
  public var unread: Int { arrived.count + input.count }
  /// Bytes before which its user does not need to be woken; 0 when each counts.
  package var lacking: Int { input.lacking }

  /// A connection without a handler.
  public init(calls: Bool, inputLimit: Int) {
    self.calls = calls
    input = InputBuffer(limit: inputLimit)
  }

  /// Queues pieces for the end of the phase; a lot is sent at once.
  public func write(_ pieces: [Bytes]) {
    guard end == .none else { return }
    queue += pieces
    pendingWriteBytes += pieces.reduce(0) { $0 + $1.count }
    mostPending = max(mostPending, pendingWriteBytes)
    if pendingWriteBytes >= 256 << 10 && !waits { send() }
  }

  /// Stops or resumes offering.
  public func setReading(_ enabled: Bool) { isReading = enabled }
  /// Ends it once all was sent.
  public func closeAfterWriting() { if end == .none { end = .afterWriting } }
  /// Ends it now.
  public func close() {
    end = .dropped
    queue = []
    pendingWriteBytes = 0
  }
  /// Whether it will call its handler before it sends.
  public func callBeforeSending() -> Bool {
    announces = calls
    return calls
  }

  /// The end of a phase: what is queued is sent.
  public func sendUnsent() {
    if announces {
      announces = false
      handler?.connectionSends()
    }
    if !waits { send() }
  }

  /// The system takes `count` bytes more.
  public func makeRoom(_ count: Int) {
    room = room == .max ? .max : room + count
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
  public func arrive(_ bytes: some Sequence<UInt8>, size: Int = .max) {
    arrived += bytes
    offer(size)
  }

  /// Offers what has arrived, by reads of at most `size` bytes.
  public func offer(_ size: Int = .max) {
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
  public func finish() {
    isOver = true
    handler?.connectionPeerFinished()
    offer()
  }

  /// Tells of the end, once what is to be sent was taken.
  public func settle() {
    guard end == .dropped || end == .afterWriting && pendingWriteBytes == 0 || error != nil else { return }
    if end == .none { end = .dropped }
    let told = handler
    handler = nil
    told?.connectionClosed(error)
  }
  /// Why it broke; nil as long as it has not.
  public var error: IOError?
}
