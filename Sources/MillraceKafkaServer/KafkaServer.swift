// KafkaServer: Kafka's protocol on a listener: accepts connections and translates their requests into calls of the broker.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceKafkaProtocol

/// A listener, as its connections see it.
struct KafkaListener: Sendable {
  /// What clients must prove.
  var security: ListenerSecurity
  /// What they are told to connect to; nil tells each the address it has connected to.
  var advertised: SocketAddress?

  /// Asks for nothing.
  static let open = KafkaListener(security: .open, advertised: nil)
}

/// Serves Kafka's protocol for one broker, on the broker's reactor.
public final class KafkaServer {
  /// The id under which this node is known to clients.
  public static let nodeID: Int32 = 0

  let broker: Broker
  let logger: Logger
  /// What clients are told to connect to; nil tells each the address it has connected to.
  let advertised: SocketAddress?
  var sessions: FetchSessions
  var shareSessions: ShareSessions
  var budget = AnswerBudget(size: 256 << 20)
  /// What requests hold.
  private(set) lazy var gate = RequestGate(
    size: broker.settings.requestMemory, reactor: broker.reactor,
    connections: { [unowned self] in Array(connections.values) },
    spent: { [unowned self] in
      logger.logRarely(
        .warning, "kafka", "requests hold all the memory they may", "clients with large ones have to wait",
        ["queued.max.request.bytes": "\(requestBudget.size)", "connections": "\(connections.count)"],
        now: broker.reactor.now)
    })
  private var isWatchingIdle = false
  /// Processor time of the broker's thread so far.
  var processorTime: () -> Duration = { ProcessorTime.thread }
  /// Answers requests that are Millrace's own: live figures as JSON.
  private let customFigures: (() -> String)?
  private var listeners: [any Listener] = []
  private var connections: [ObjectIdentifier: KafkaConnection] = [:]
  /// Connections that are not served and will be closed soon, because their address makes too many. They do not count.
  private var turnedAway: [ObjectIdentifier: KafkaConnection] = [:]
  /// Beyond so many they are closed at once.
  private static let mostTurnedAway = 1000
  private var nextConnection: UInt64 = 1

  /// A server that listens nowhere yet.
  /// - Parameter figures: makes the JSON text that `millrace stats` shows; nil shows the broker's figures.
  public init(
    broker: Broker, logger: Logger, advertised: SocketAddress? = nil, figures: (() -> String)? = nil
  ) {
    self.broker = broker
    self.logger = logger
    self.advertised = advertised
    customFigures = figures
    // Other ids at each start; with a simulated clock the same ones in each run.
    let seed =
      UInt64(bitPattern: broker.reactor.wallClock.milliseconds) ^ UInt64(bitPattern: broker.reactor.now.nanoseconds)
    sessions = FetchSessions(limit: broker.settings.fetchSessions, seed: seed)
    shareSessions = ShareSessions(limit: broker.settings.shareSessions)
    broker.groups.classicCodec = KafkaConsumerCodec()
    broker.memory.onChange.append { [weak self] in
      guard let self else { return }
      for connection in connections.values.sorted(by: { $0.number < $1.number }) { connection.throttle() }
    }
    broker.shares.onMemberGone = { [weak self] in self?.shareSessions.end(group: $0, memberID: $1) }
  }

  /// Listens on one more address.
  /// - Parameters:
  ///   - security: what clients must prove; nothing unless told.
  ///   - advertised: what clients of this listener are told to connect to; nil as the server was told.
  /// - Returns: the address with the port that was bound.
  public func listen(
    _ address: SocketAddress, security: ListenerSecurity = .open, advertised: SocketAddress? = nil
  ) throws(IOError) -> SocketAddress {
    let door = KafkaListener(security: security, advertised: advertised ?? self.advertised)
    let listener = try broker.reactor.listen(address, tls: security.tls, logger: logger) { [unowned self] in
      self.accept($0, door)
    }
    listeners.append(listener)
    return listener.address
  }

  func accept(_ connection: any Connection, _ listener: KafkaListener = .open) -> any ConnectionHandler {
    let number = nextConnection
    nextConnection += 1
    let handler = KafkaConnection(server: self, listener: listener, connection: connection, number: number)
    switch broker.admission.admit(
      handler, "kafka", from: connection.remoteAddress, isStranger: listener.security.asksForIdentity)
    {
    case .admitted(let place): handler.place = place
    case .refused(after: let wait):
      let isHeld = wait > .zero && turnedAway.count < KafkaServer.mostTurnedAway
      if isHeld { turnedAway[ObjectIdentifier(handler)] = handler }
      handler.turnAway(after: isHeld ? wait : .zero)
      return handler
    }
    connections[ObjectIdentifier(handler)] = handler
    logger.log(.debug, "kafka", "connected", ["peer": connection.remoteAddress.description, "connection": "\(number)"])
    watchIdle()
    handler.beginAuthentication()
    // Nothing is read while requests hold far more than they should.
    handler.throttle()
    return handler
  }

  func closed(_ connection: KafkaConnection) {
    if turnedAway.removeValue(forKey: ObjectIdentifier(connection)) != nil { return }
    connections[ObjectIdentifier(connection)] = nil
    if let place = connection.place { broker.admission.leave(place) }
    connection.place = nil
    gate.closed(connection, open: connections.count)
    sessions.end(connection: connection.number)
    for session in shareSessions.end(connection: connection.number) {
      broker.shares.release(session.memberID, of: session.group, isDelivered: true)
    }
  }

  /// Closes connections that nobody uses, a quarter of their time late at most: they would keep others out in the end.
  private func watchIdle() {
    guard !isWatchingIdle, !connections.isEmpty else { return }
    isWatchingIdle = true
    broker.reactor.schedule(after: min(broker.settings.longestIdleTime / 4, .seconds(60))) { [weak self] in
      guard let self else { return }
      isWatchingIdle = false
      let idle = connections.values.filter { $0.isIdle(for: broker.settings.longestIdleTime) }
      for connection in idle.sorted(by: { $0.number < $1.number }) {
        logger.log(.debug, "kafka", "idle connection closed", ["connection": "\(connection.number)"])
        connection.finish()
      }
      watchIdle()
    }
  }

  /// The memory of requests.
  var requestBudget: RequestBudget { gate.budget }

  func figures() -> String { customFigures?() ?? broker.figures(connections: connectionCount) }

  /// Requests that were answered since the start: those that were refused, at least in part, because of the storage, and the others.
  public internal(set) var requests: (served: UInt64, refused: UInt64) = (0, 0)

  /// Bytes of requests that are held, and of answers that are unsent.
  public var heldMemory: (requests: Int, answers: Int) { (gate.budget.held, budget.held) }

  /// Open connections.
  public var connectionCount: Int { connections.count }

  /// Says why a partition was refused, not for every request while a disk is full or a client keeps trying.
  func complain(_ message: StaticString, _ error: BrokerError, topic: String, partition: Int32, connection: UInt64) {
    let isStorage = error.code == .storage
    logger.logRarely(
      isStorage ? .error : .info, "kafka", message, "",
      ["topic": topic, "partition": "\(partition)", "connection": "\(connection)", "error": error.description],
      key: isStorage ? "storage" : "\(error.code) \(topic) \(partition)", now: broker.reactor.now)
  }

  /// Stops accepting; connections stay, so that answers under way still leave.
  public func stopAccepting() {
    for listener in listeners { listener.close() }
    listeners = []
  }

  /// Closes all connections once what they were answered has been sent.
  public func close() {
    stopAccepting()
    for connection in connections.values { connection.finish() }
    for connection in turnedAway.values { connection.finish() }
  }
}
