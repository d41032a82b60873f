// KafkaServer: Kafka's protocol on a listener: accepts connections and translates their requests into calls of the broker.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceKafkaProtocol

/// Serves Kafka's protocol for one broker, on the broker's reactor.
public final class KafkaServer {
  /// The id under which this node is known to clients.
  public static let nodeID: Int32 = 0

  let broker: Broker
  let logger: Logger
  /// What clients are told to connect to; nil tells each the address it has connected to.
  let advertised: SocketAddress?
  var sessions: FetchSessions
  var budget = AnswerBudget(size: 256 << 20)
  private(set) var requestBudget: RequestBudget
  /// Connections that wait until requests hold less, in the order of their coming.
  private var starved = Deque<KafkaConnection>()
  private var isWaking = false
  private var isWatchingInput = false
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
    requestBudget = RequestBudget(size: broker.settings.requestMemory)
    // Other ids at each start; with a simulated clock the same ones in each run.
    let seed =
      UInt64(bitPattern: broker.reactor.wallClock.milliseconds) ^ UInt64(bitPattern: broker.reactor.now.nanoseconds)
    sessions = FetchSessions(limit: broker.settings.fetchSessions, seed: seed)
    broker.groups.classicCodec = KafkaConsumerCodec()
  }

  /// Listens on one more address.
  /// - Returns: the address with the port that was bound.
  public func listen(_ address: SocketAddress) throws(IOError) -> SocketAddress {
    let listener = try broker.reactor.listen(address) { [unowned self] in self.accept($0) }
    listeners.append(listener)
    return listener.address
  }

  func accept(_ connection: any Connection) -> any ConnectionHandler {
    let number = nextConnection
    nextConnection += 1
    let handler = KafkaConnection(server: self, connection: connection, number: number)
    let address = connection.remoteAddress.host
    let wait = broker.quotas.chargeConnection(from: address, now: broker.reactor.now)
    guard wait == .zero else {
      logger.logRarely(
        .info, "kafka", "connection turned away", "connection_creation_rate", ["peer": address], key: address,
        now: broker.reactor.now)
      let isHeld = turnedAway.count < KafkaServer.mostTurnedAway
      if isHeld { turnedAway[ObjectIdentifier(handler)] = handler }
      handler.turnAway(after: isHeld ? wait : .zero)
      return handler
    }
    guard connections.count < broker.settings.connections else {
      logger.logRarely(
        .warning, "kafka", "connection refused", "max.connections are open",
        ["peer": connection.remoteAddress.description, "max.connections": "\(broker.settings.connections)"],
        now: broker.reactor.now)
      connection.close()
      return handler
    }
    connections[ObjectIdentifier(handler)] = handler
    logger.log(.debug, "kafka", "connected", ["peer": connection.remoteAddress.description, "connection": "\(number)"])
    watchIdle()
    // Nothing is read while requests hold far more than they should.
    handler.throttle()
    return handler
  }

  func closed(_ connection: KafkaConnection) {
    if turnedAway.removeValue(forKey: ObjectIdentifier(connection)) != nil { return }
    connections[ObjectIdentifier(connection)] = nil
    if connection.isStarved, starved.count > 2 * connections.count {
      // Clients that come and go while nobody is woken must not pile up.
      var left = Deque<KafkaConnection>()
      while let one = starved.popFirst() { if !one.isOver { left.append(one) } }
      starved = left
    }
    sessions.end(connection: connection.number)
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

  // MARK: Memory of requests

  /// Counts what requests hold; lets connections read on that had to wait, as far as there is room.
  func requestsChanged(by bytes: Int) {
    guard requestBudget.change(by: bytes) else { return }
    if requestBudget.isSpent {
      logger.logRarely(
        .warning, "kafka", "requests hold all the memory they may", "clients with large ones have to wait",
        ["queued.max.request.bytes": "\(requestBudget.size)", "connections": "\(connections.count)"],
        now: broker.reactor.now)
      watchInput()
    } else {
      wakeStarved()
    }
  }

  /// Remembers a connection that is not read from because the budget is spent.
  func starve(_ connection: KafkaConnection) {
    guard !connection.isStarved else { return }
    connection.isStarved = true
    starved.append(connection)
  }

  /// At the end of the turn, because a connection that reads on may be in the middle of its input.
  private func wakeStarved() {
    guard !isWaking, !starved.isEmpty else { return }
    isWaking = true
    broker.reactor.atEndOfTurn { [self] in wakeSome() }
  }

  private func wakeSome() {
    isWaking = false
    var openings = requestBudget.openings
    while openings > 0, let connection = starved.popFirst() {
      connection.isStarved = false
      connection.throttle()
      openings = min(openings - 1, requestBudget.openings)
    }
    guard !requestBudget.isSpent, !starved.isEmpty else { return }
    // The others follow when these have been read from, and were counted.
    isWaking = true
    broker.reactor.schedule(after: .milliseconds(1)) { [self] in wakeSome() }
  }

  private func watchInput() {
    guard !isWatchingInput else { return }
    isWatchingInput = true
    broker.reactor.schedule(after: RequestBudget.checkInterval) { [self] in
      isWatchingInput = false
      guard requestBudget.isSpent else { return }
      var staying: [UInt64: (connection: KafkaConnection, hold: KafkaConnection.Hold)] = [:]
      for connection in connections.values {
        if let hold = connection.hold { staying[connection.number] = (connection, hold) }
      }
      let expired = requestBudget.expired(
        staying.values.map { ($0.connection.number, $0.connection.inputSince, $0.connection.inputBytes) },
        now: broker.reactor.now)
      for number in expired {
        if let (connection, hold) = staying[number] { connection.giveUp(hold) }
      }
      watchInput()
    }
  }

  func figures() -> String { customFigures?() ?? broker.figures(connections: connectionCount) }

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
