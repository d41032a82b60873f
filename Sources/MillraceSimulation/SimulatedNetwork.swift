// SimulatedNetwork: who listens where, and the connections between clients and the machine.

import MillraceBase
import MillraceIO

/// The network of a world.
public final class SimulatedNetwork {
  /// Two pipes and the two who use them.
  final class Link {
    let toServer: SimulatedPipe
    let toClient: SimulatedPipe
    weak var server: SimulatedConnection?
    init(world: SimulatedWorld) {
      toServer = SimulatedPipe(world: world)
      toClient = SimulatedPipe(world: world)
    }
  }

  private unowned let world: SimulatedWorld
  private var listeners: [SocketAddress: SimulatedListener] = [:]
  private var links: [Link] = []
  private var nextPort: UInt16 = 40_000
  /// Chance of each delivery to find the connection cut instead.
  public var cutProbability = 0.0
  /// Chance of each delivery to be held up, for up to ``longestStall``: a connection that is partitioned for a while.
  public var stallProbability = 0.0
  /// The longest time that a delivery is held up.
  public var longestStall = Duration.milliseconds(300)
  /// Deliveries held up so far.
  public private(set) var stallCount = 0

  init(world: SimulatedWorld) { self.world = world }

  /// Connects a client to `address`. The connection is made, or refused, a little later; bytes may be written at once.
  public func connect(to address: SocketAddress) -> SimulatedClientConnection {
    nextPort = nextPort == .max ? 40_000 : nextPort + 1
    let own = SocketAddress(host: address.host.contains(":") ? "::1" : "127.0.0.1", port: nextPort)
    let link = Link(world: world)
    let client = SimulatedClientConnection(world: world, address: own, link: link)
    world.schedule(after: world.randomDelay(.microseconds(10) ... .milliseconds(2))) { [self] in
      guard let listener = listeners[address], !world.isCrashed else {
        client.refuse(IOError(.failed, operation: "connect", subject: address.description, reason: "refused"))
        return
      }
      links.append(link)
      listener.connected(link, from: own)
    }
    return client
  }

  /// Cuts every connection there is.
  public func cutAll() {
    for link in links {
      link.toServer.breakOff()
      link.toClient.breakOff()
    }
    links = []
  }

  /// Connections between the machine and clients.
  public var connectionCount: Int { links.count }

  func listen(
    _ address: SocketAddress, on reactor: SimulatedReactor, accept: @escaping (any Connection) -> any ConnectionHandler
  ) throws(IOError) -> any Listener {
    var bound = address
    if address.port == 0 {
      var port: UInt16 = 30_000
      while listeners[SocketAddress(host: address.host, port: port)] != nil { port += 1 }
      bound = SocketAddress(host: address.host, port: port)
    }
    if listeners[bound] != nil {
      throw IOError(.addressInUse, operation: "listen", subject: bound.description, reason: "in use")
    }
    let listener = SimulatedListener(bound, reactor: reactor, network: self, accept: accept)
    listeners[bound] = listener
    return listener
  }

  func closed(_ address: SocketAddress) { listeners[address] = nil }

  func remove(_ link: Link) { links.removeAll { $0 === link } }

  func decidesToCut() -> Bool {
    cutProbability > 0 && Double.random(in: 0..<1, using: &world.random) < cutProbability
  }

  /// How long the present delivery is held up; nil for not at all.
  func decidesToStall() -> Duration? {
    guard stallProbability > 0, Double.random(in: 0..<1, using: &world.random) < stallProbability else { return nil }
    stallCount += 1
    world.note("delivery held up", 0)
    return world.randomDelay(.zero...longestStall)
  }

  func cut(_ pipe: SimulatedPipe) {
    guard let link = links.first(where: { $0.toServer === pipe || $0.toClient === pipe }) else {
      pipe.breakOff()
      return
    }
    cut(link)
  }

  func cut(_ link: Link) {
    world.note("connection cut", 0)
    link.toServer.breakOff()
    link.toClient.breakOff()
    remove(link)
  }

  /// The machine is gone: its ends fall silent, its clients' connections are reset.
  func machineEnded() {
    listeners = [:]
    for link in links {
      link.server?.discard()
      link.toServer.breakOff()
      link.toClient.breakOff()
    }
    links = []
  }

  func tearDown() {
    for link in links {
      link.server?.discard()
      link.toServer.onRoom = {}
      link.toClient.onReadable = {}
    }
    machineEnded()
  }
}

/// A simulated listening socket.
final class SimulatedListener: Listener {
  let address: SocketAddress
  private let reactor: SimulatedReactor
  private unowned let network: SimulatedNetwork
  private let accept: (any Connection) -> any ConnectionHandler
  private var isOpen = true

  init(
    _ address: SocketAddress, reactor: SimulatedReactor, network: SimulatedNetwork,
    accept: @escaping (any Connection) -> any ConnectionHandler
  ) {
    self.address = address
    self.reactor = reactor
    self.network = network
    self.accept = accept
  }

  func close() {
    guard isOpen else { return }
    isOpen = false
    network.closed(address)
  }

  func connected(_ link: SimulatedNetwork.Link, from peer: SocketAddress) {
    reactor.enqueue { [self] in
      guard isOpen else {
        network.cut(link)
        return
      }
      let connection = SimulatedConnection(link, remote: peer, local: address, reactor: reactor)
      link.server = connection
      connection.handler = accept(connection)
    }
  }
}
