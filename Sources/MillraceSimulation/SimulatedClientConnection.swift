// SimulatedClientConnection: a client's end of a simulated connection, for tests to write and receive bytes.

import MillraceBase
import MillraceIO

/// A client outside the simulated machine. Its callbacks run as events of the world and survive the machine's crashes.
public final class SimulatedClientConnection {
  /// The client's address, as the server sees it.
  public let address: SocketAddress
  /// Everything received so far, unless ``onReceive`` is set.
  public private(set) var received: [UInt8] = []
  /// Whether the connection has ended, one way or another.
  public private(set) var isClosed = false
  /// Why it ended; nil when the server closed it in order, or the client did.
  public private(set) var closeError: IOError?
  /// Bytes written that the network has not taken yet.
  public var pendingWriteBytes: Int { queue.count - head }
  /// When the server wrote the byte at `position` of all that it sends: it may have been held up, and be old news.
  public func writtenAt(_ position: Int) -> MonotonicTime { link.toClient.writtenAt(position) }
  /// Receives bytes as they arrive.
  public var onReceive: ((Bytes) -> Void)?
  /// Hears once that the connection has ended.
  public var onClose: ((IOError?) -> Void)?
  /// False makes this a client that does not read, until it is set again.
  public var isReading = true {
    didSet { if isReading && !oldValue { world.schedule(after: .zero) { [self] in receive() } } }
  }

  private let world: SimulatedWorld
  private let link: SimulatedNetwork.Link
  private var queue: [UInt8] = []
  private var head = 0
  private var isEnding = false

  init(world: SimulatedWorld, address: SocketAddress, link: SimulatedNetwork.Link) {
    self.world = world
    self.address = address
    self.link = link
    link.toClient.onReadable = { [self] in receive() }
    link.toServer.onRoom = { [self] in send() }
  }

  /// Queues bytes to be sent. No-op once closed.
  public func write(_ bytes: Bytes) {
    guard !isClosed, !isEnding else { return }
    bytes.withBuffer { queue += $0 }
    send()
  }

  /// Takes out what was received so far.
  public func takeReceived() -> [UInt8] {
    defer { received = [] }
    return received
  }

  /// Ends the sending half after what is queued.
  public func shutdownWrite() {
    isEnding = true
    send()
  }

  /// Closes at once: what is queued is lost.
  public func close() {
    if !isClosed { finish(nil) }
  }

  /// Cuts the connection: both ends get an error.
  public func cut() { world.network.cut(link) }

  func refuse(_ error: IOError) {
    if !isClosed { finish(error) }
  }

  private func receive() {
    guard !isClosed else { return }
    if link.toClient.isBroken || link.toServer.isBroken {
      finish(IOError(.failed, operation: "receive", subject: "\(address)", number: 104, reason: "reset"))
      return
    }
    while isReading && !isClosed && link.toClient.arrived > 0 {
      let chunk = Chunk(capacity: link.toClient.arrived)
      let got = link.toClient.read(into: UnsafeMutableRawBufferPointer(start: chunk.base, count: chunk.capacity))
      let bytes = chunk.bytes(0..<got)
      world.note("client received", UInt64(bytes.crc32c))
      if let onReceive { onReceive(bytes) } else { bytes.withBuffer { received += $0 } }
    }
    if isReading && !isClosed && link.toClient.hasEnded { finish(nil) }
  }

  private func send() {
    guard !isClosed else { return }
    if link.toServer.isBroken {
      receive()
      return
    }
    if head < queue.count {
      head += queue.withUnsafeBytes { link.toServer.write(UnsafeRawBufferPointer(rebasing: $0[head...])) }
      if head == queue.count {
        queue = []
        head = 0
      } else if head > 1 << 16 {
        queue.removeFirst(head)
        head = 0
      }
    }
    if isEnding && head == queue.count { link.toServer.end() }
  }

  private func finish(_ error: IOError?) {
    isClosed = true
    closeError = error
    queue = []
    head = 0
    link.toServer.end()
    link.toServer.onRoom = {}
    link.toClient.abandon()
    let told = onClose
    onClose = nil
    onReceive = nil
    told?(error)
  }
}
