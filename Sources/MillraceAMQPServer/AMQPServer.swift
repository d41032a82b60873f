// AMQPServer: AMQP 0-9-1 on a listener: accepts connections and owns what they share.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceIO

/// Serves AMQP 0-9-1 as RabbitMQ 4 speaks it, for one broker and on the broker's reactor.
public final class AMQPServer {
  let broker: Broker
  let logger: Logger
  /// Most bytes of a message's body.
  let largestMessage: UInt64
  /// Of the reactor's thread, for the quota of it.
  var processorTime: () -> Duration = { ProcessorTime.thread }
  /// What connections have unsent.
  var answers = AnswerBudget(size: 256 << 20)
  /// What clients have sent and the broker is not done with.
  private(set) lazy var gate = RequestGate(
    size: broker.settings.requestMemory, reactor: broker.reactor,
    connections: { [unowned self] in Array(connections.values) },
    spent: { [unowned self] in
      logger.logRarely(
        .warning, "amqp", "messages being received hold all the memory they may",
        "clients with large ones have to wait",
        ["queued.max.request.bytes": "\(requests.size)", "connections": "\(connections.count)"],
        now: broker.reactor.now)
    })
  private var isSweeping = false
  /// Channels with a consumer of direct replies, by the address that clients answer to.
  var replies: [ShortString: AMQPChannel] = [:]
  /// Of names that are made up in simulations and tests; nil takes each from the system, because whoever has seen some of
  /// a generator's numbers knows the next ones.
  private var random: SeededRandom?
  private var listeners: [any Listener] = []
  private var connections: [ObjectIdentifier: AMQPConnection] = [:]
  private var nextConnection: UInt64 = 1

  /// Time between two looks at all connections.
  static let sweepInterval = Duration.seconds(30)

  /// A server that listens nowhere yet. ``AMQPMessageFormat`` must have been registered with the broker's queues.
  /// - Parameter seed: of names that are made up, among them addresses that nobody may guess; nil takes the operating
  ///   system's entropy.
  public init(broker: Broker, logger: Logger, seed: UInt64? = nil) {
    self.broker = broker
    self.logger = logger
    largestMessage = UInt64(broker.settings.largestAMQPMessage)
    random = seed.map { SeededRandom(seed: $0) }
    broker.access.watch { [weak self] in self?.recheckLater() }
  }

  private var isRechecking = false

  /// Ends consumers whose clients may not read their queues any more, once for all changes of a turn.
  private func recheckLater() {
    guard !isRechecking, !connections.isEmpty else { return }
    isRechecking = true
    broker.reactor.atEndOfTurn { [weak self] in
      guard let self else { return }
      isRechecking = false
      for connection in connections.values.sorted(by: { $0.number < $1.number }) { connection.recheckConsumers() }
    }
  }

  /// Listens on one more address.
  /// - Parameter security: what clients must prove; nothing unless told.
  /// - Returns: the address with the port that was bound.
  public func listen(
    _ address: SocketAddress, security: ListenerSecurity = .open
  ) throws(IOError) -> SocketAddress {
    let listener = try broker.reactor.listen(address, tls: security.tls, logger: logger) { [unowned self] in
      self.accept($0, security)
    }
    listeners.append(listener)
    return listener.address
  }

  func accept(_ connection: any Connection, _ security: ListenerSecurity = .open) -> any ConnectionHandler {
    let handler = AMQPConnection(server: self, security: security, connection: connection, number: nextConnection)
    nextConnection += 1
    switch broker.admission.admit(
      handler, "amqp", from: connection.remoteAddress, isStranger: security.asksForIdentity)
    {
    case .admitted(let place): handler.place = place
    case .refused:
      handler.refuse()
      return handler
    }
    connections[ObjectIdentifier(handler)] = handler
    logger.log(
      .debug, "amqp", "connected",
      ["peer": connection.remoteAddress.description, "connection": "\(handler.number)"])
    handler.begin()
    sweepLater()
    return handler
  }

  func closed(_ connection: AMQPConnection) {
    guard connections.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return }
    if let place = connection.place { broker.admission.leave(place) }
    connection.place = nil
    gate.closed(connection, open: connections.count)
  }

  /// Open connections.
  public var connectionCount: Int { connections.count }

  var allConnections: [AMQPConnection] { Array(connections.values) }

  /// The memory of what clients have sent.
  var requests: RequestBudget { gate.budget }

  /// Publications since the start that were taken, and those that were refused (`basic.nack`); without those that queues in memory took
  /// from channels that ask for no confirms.
  public private(set) var publications: (taken: UInt64, refused: UInt64) = (0, 0)

  func countPublications(_ count: Int, isAccepted: Bool) {
    if isAccepted { publications.taken += UInt64(count) } else { publications.refused += UInt64(count) }
  }

  /// Bytes of publications that are held, and of answers and deliveries that are unsent.
  public var heldMemory: (requests: Int, answers: Int) { (requests.held, answers.held) }

  /// Bytes that clients have sent and the broker is not done with.
  public var heldBytes: Int { requests.held }

  /// Stops accepting; connections stay, so that answers under way still leave.
  public func stopAccepting() {
    for listener in listeners { listener.close() }
    listeners = []
  }

  /// Tells all clients that the server goes (320), takes nothing more from them, and closes their connections once that
  /// has been sent. To be called while the broker is open.
  /// - Parameter done: called when what was taken from them before is durable, or after ten seconds.
  public func close(_ done: @escaping () -> Void) {
    stopAccepting()
    for connection in connections.values.sorted(by: { $0.number < $1.number }) { connection.shutDown() }
    var isDone = false
    let end = {
      if isDone { return }
      isDone = true
      done()
    }
    broker.queues.whenDurable { _ in end() }
    // On a full disk what was settled may never find room; nobody was promised it, and it must not keep the program.
    broker.reactor.schedule(after: AMQPConnection.closingTime) { end() }
  }

  /// 22 letters, digits, dashes and underscores that were never given before and cannot be guessed.
  func token() -> String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    var text: [UInt8] = []
    for _ in 0..<2 {
      let bits = random?.next() ?? UInt64.random(in: .min ... .max)
      // 60 of the 64 bits and, so that the length stays, the last ones once more.
      for shift in [0, 6, 12, 18, 24, 30, 36, 42, 48, 54, 58] {
        text.append(alphabet[Int(truncatingIfNeeded: bits >> UInt64(shift)) & 63])
      }
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// Looks at all connections from time to time: those that do not move are ended, quiet ones give memory back.
  private func sweepLater() {
    guard !isSweeping, !connections.isEmpty else { return }
    isSweeping = true
    broker.reactor.schedule(after: AMQPServer.sweepInterval) { [weak self] in
      guard let self else { return }
      isSweeping = false
      for connection in connections.values.sorted(by: { $0.number < $1.number }) { connection.sweep() }
      sweepLater()
    }
  }
}
