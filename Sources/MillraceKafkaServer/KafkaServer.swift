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
  private var isWatchingUnfinished = false
  /// Processor time of the broker's thread so far.
  var processorTime: () -> Duration = { ProcessorTime.thread }
  /// Answers requests that are Millrace's own: live figures as JSON.
  private let customFigures: (() -> String)?
  private var listeners: [any Listener] = []
  private var connections: [ObjectIdentifier: KafkaConnection] = [:]
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
    guard connections.count < broker.settings.connections else {
      logger.logRarely(
        .warning, "kafka", "connection refused", "max.connections are open",
        ["peer": connection.remoteAddress.description, "max.connections": "\(broker.settings.connections)"],
        now: broker.reactor.now)
      connection.close()
      return handler
    }
    connections[ObjectIdentifier(handler)] = handler
    let address = connection.remoteAddress.host
    handler.mute(for: broker.quotas.chargeConnection(from: address, now: broker.reactor.now))
    logger.log(.debug, "kafka", "connected", ["peer": connection.remoteAddress.description, "connection": "\(number)"])
    return handler
  }

  func closed(_ connection: KafkaConnection) {
    connections[ObjectIdentifier(connection)] = nil
    if connection.isStarved, starved.count > 2 * connections.count {
      // Clients that come and go while nobody is woken must not pile up.
      var left = Deque<KafkaConnection>()
      while let one = starved.popFirst() { if !one.isOver { left.append(one) } }
      starved = left
    }
    sessions.end(connection: connection.number)
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
      watchUnfinished()
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

  private func watchUnfinished() {
    guard !isWatchingUnfinished else { return }
    isWatchingUnfinished = true
    broker.reactor.schedule(after: RequestBudget.checkInterval) { [self] in
      isWatchingUnfinished = false
      guard requestBudget.isSpent else { return }
      let unfinished = connections.values.filter { $0.unfinishedBytes > 0 }
      let expired = Set(
        requestBudget.expired(
          unfinished.map { ($0.number, $0.unfinishedSince, $0.unfinishedBytes) }, now: broker.reactor.now))
      for connection in unfinished where expired.contains(connection.number) {
        connection.refuse(
          "its request of \(connection.unfinishedBytes) bytes so far stays unfinished while others wait for the memory")
      }
      watchUnfinished()
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
  }
}
