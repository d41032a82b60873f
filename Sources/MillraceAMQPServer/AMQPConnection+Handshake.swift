// AMQPConnection+Handshake: from the protocol header to an open connection, and the connection's own methods.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceIO

/// What a client says that it can do.
struct ClientCapabilities {
  /// It wants to hear that a queue of its consumers was deleted.
  var cancelNotify = false
  /// It wants to hear that publishers have to wait.
  var blocked = false
  /// It wants to hear that it was not let in.
  var authenticationFailureClose = false

  init() {}

  init(_ clientProperties: AMQPFieldTable) {
    guard let table = clientProperties["capabilities"]?.table else { return }
    cancelNotify = table["consumer_cancel_notify"]?.bool ?? false
    blocked = table["connection.blocked"]?.bool ?? false
    authenticationFailureClose = table["authentication_failure_close"]?.bool ?? false
  }
}

extension AMQPConnection {
  static let offeredChannelMax: UInt16 = 2047
  static let offeredFrameMax: UInt32 = 131_072
  /// Source: RabbitMQ 4.1; 4,096 before, and in the specification.
  static let leastFrameMax: UInt32 = 8192
  static let offeredHeartbeat: UInt16 = 60
  /// Time for everything up to an open connection. Source: RabbitMQ, `handshake_timeout`.
  static let handshakeTime = Duration.seconds(10)

  /// The version that clients take the server for: they choose the semantics of RabbitMQ 4 by it.
  static let announcedVersion = "4.3.0"

  static let serverProperties: AMQPFieldTable = [
    "capabilities": [
      "publisher_confirms": true, "exchange_exchange_bindings": true, "basic.nack": true,
      "consumer_cancel_notify": true, "connection.blocked": true, "consumer_priorities": true,
      "authentication_failure_close": true, "per_consumer_qos": true, "direct_reply_to": true,
    ],
    "cluster_name": "millrace",
    "product": "Millrace",
    "version": .string(announcedVersion),
    "platform": "Swift",
    "information": "AMQP 0-9-1 as RabbitMQ 4 speaks it",
  ]

  /// The connection is there and counted: its time runs.
  func begin() {
    timer = reactor.schedule(after: AMQPConnection.handshakeTime) { [self] in
      server.logger.logRarely(
        .info, "amqp", "connection closed", "it was not open in time",
        ["peer": connection.remoteAddress.description], now: reactor.now)
      end()
    }
    throttle()
  }

  func takeHeader(_ unread: Bytes, _ position: inout Int, _ needed: inout Int) {
    switch ProtocolHeader.judge(unread[position..<unread.count]) {
    case .incomplete: needed = ProtocolHeader.size
    case .accepted:
      position += ProtocolHeader.size
      state = .starting
      write(
        ConnectionStart(
          serverProperties: AMQPConnection.serverProperties,
          mechanisms: AuthenticationMechanism.offered(by: security).map(\.rawValue).joined(separator: " "),
          locales: "en_US"),
        channel: 0)
    case .refused(let reason):
      server.logger.logRarely(
        .info, "amqp", "connection closed", reason, ["peer": connection.remoteAddress.description], now: reactor.now)
      connection.write([ProtocolHeader.bytes])
      finish()
    }
  }

  /// A method on channel 0.
  func takeConnectionMethod(_ method: AMQPMethod) throws(AMQPError) {
    switch (state, method) {
    case (_, .connectionClose): clientCloses()
    case (_, .connectionCloseOk): finish()
    case (.starting, .connectionStartOk(let fields)): try authenticate(fields)
    case (.tuning, .connectionTuneOk(let fields)): try tune(fields)
    case (.opening, .connectionOpen(let fields)): try open(fields)
    case (.running, .connectionUpdateSecret(let fields)): try takeSecret(fields)
    default:
      throw AMQPError(.channelError, "unexpected method in connection state \(state)")
    }
  }

  /// The client is known: says what it may agree on.
  func tune() {
    state = .tuning
    write(
      ConnectionTune(
        channelMax: AMQPConnection.offeredChannelMax, frameMax: AMQPConnection.offeredFrameMax,
        heartbeat: AMQPConnection.offeredHeartbeat),
      channel: 0)
    flush()
  }

  private func tune(_ fields: ConnectionTuneOk) throws(AMQPError) {
    try check("channel_max", UInt32(fields.channelMax), 1...UInt32(AMQPConnection.offeredChannelMax))
    try check("frame_max", fields.frameMax, AMQPConnection.leastFrameMax...AMQPConnection.offeredFrameMax)
    channelMax = Int(fields.channelMax)
    frameMax = Int(fields.frameMax)
    writer.frameMax = frameMax
    heartbeat = .seconds(Int64(fields.heartbeat))
    state = .opening
  }

  /// 0, no limit, is above what is allowed. Source: `rabbit_reader:validate_negotiated_integer_value`.
  private func check(_ name: String, _ value: UInt32, _ range: ClosedRange<UInt32>) throws(AMQPError) {
    if value != 0, value < range.lowerBound {
      throw AMQPError(
        .notAllowed,
        "negotiated \(name) = \(value) is lower than the minimum allowed value (\(range.lowerBound))")
    }
    if value == 0 || value > range.upperBound {
      throw AMQPError(
        .notAllowed,
        "negotiated \(name) = \(value) is higher than the maximum allowed value (\(range.upperBound))")
    }
  }

  private func open(_ fields: ConnectionOpen) throws(AMQPError) {
    guard broker.queues.hasVirtualHost(fields.virtualHost) else {
      throw AMQPError(.notAllowed, "vhost \(fields.virtualHost) not found")
    }
    guard QueueAccess(session, broker.queues, in: fields.virtualHost).allowsVirtualHost() else {
      throw AMQPError(
        .notAllowed, "access to vhost '\(fields.virtualHost)' refused for user '\(session.principal.name)'")
    }
    virtualHost = fields.virtualHost
    state = .running
    timer?.cancel()
    timer = nil
    write(ConnectionOpenOk(), channel: 0)
    tick()
    pressure = broker.queues.pressure
    broker.queues.watchPressure(owner) { [weak self] in self?.pressureChanged($0) }
  }
}
