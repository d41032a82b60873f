// AMQPServerWorld: a broker on a simulated machine, and clients whose every byte the test sees.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceLog
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceAMQPServer

/// A connection that a test plays: what the server writes is unsent until the test takes it.
final class PlayedAMQPConnection: Connection {
  var remoteAddress = SocketAddress(host: "127.0.0.1", port: 40_000)
  let localAddress = SocketAddress(host: "127.0.0.1", port: 5672)
  private(set) var pendingWriteBytes = 0
  private(set) var isReading = true
  private(set) var isClosing = false
  /// Everything is sent at once.
  var sendsAtOnce = true
  private var output: [UInt8] = []
  private var input = InputBuffer(limit: 101 << 20)
  private var isInputEnded = false
  var handler: (any ConnectionHandler)?

  func write(_ pieces: [Bytes]) {
    for piece in pieces {
      piece.withBuffer { output += $0 }
      if !sendsAtOnce { pendingWriteBytes += piece.count }
    }
  }
  func setReading(_ enabled: Bool) { isReading = enabled }
  func closeAfterWriting() { isClosing = true }
  func close() { isClosing = true }

  /// What the server has written since this was asked last.
  func takeOutput() -> [UInt8] {
    defer { output = [] }
    return output
  }

  /// The system takes what had to wait.
  func drain() {
    pendingWriteBytes = 0
    handler?.connectionDrained()
  }

  /// Offers bytes; all at once or one by one.
  func receive(_ bytes: [UInt8], piecewise: Bool = false) {
    for part in piecewise ? bytes.map({ [$0] }) : [bytes] {
      var rest = part[...]
      while !rest.isEmpty {
        let room = input.prepareRoom()
        let count = min(room.count, rest.count)
        Array(rest.prefix(count)).withUnsafeBytes {
          room.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<count]))
        }
        input.received(count)
        rest = rest.dropFirst(count)
        if count == room.count { input.grow() }
      }
      offer()
    }
  }

  /// What a reactor does when reading goes on.
  func offer() { if !isClosing, isReading, input.count > 0 { handler?.connectionReceived(&input) } }

  /// The peer sends no more.
  func end() {
    if !isInputEnded { handler?.connectionPeerFinished() }
    offer()
    guard isReading, !isClosing, !isInputEnded else { return }
    isInputEnded = true
    if handler?.connectionInputEnded() ?? true { closeAfterWriting() }
  }

  /// The connection is gone.
  func lose() {
    isClosing = true
    handler?.connectionClosed(nil)
    handler = nil
  }

  var unreadBytes: Int { input.count }
}

/// Frames as clients make them.
func frames(channel: UInt16 = 1, _ methods: [AMQPMethod]) -> [UInt8] {
  var writer = FrameWriter(frameMax: 131_072)
  for method in methods { writer.write(method, channel: channel) }
  return writer.take().flatMap(\.array)
}

/// A publication as clients make it.
func publication(
  channel: UInt16 = 1, exchange: ShortString = "", key: ShortString, mandatory: Bool = false, body: [UInt8] = [7],
  properties: BasicProperties = BasicProperties()
) -> [UInt8] {
  var writer = FrameWriter(frameMax: 131_072)
  writer.publish(
    channel: channel, exchange: exchange, routingKey: key, mandatory: mandatory, properties: properties,
    body: ContentBody(Bytes(body)))
  return writer.take().flatMap(\.array)
}

/// A broker and its server, with virtual host `/`.
final class AMQPServerWorld {
  let world = SimulatedWorld(seed: 1)
  let broker: Broker
  let server: AMQPServer

  init(_ settings: [String: String] = [:]) throws {
    var chosen = BrokerSettings()
    for (name, value) in settings { try chosen.set(name, value) }
    broker = try Broker(
      log: LogConfiguration(directory: "/data"), settings: chosen, fileSystem: SimulatedFileSystem(world: world),
      reactor: SimulatedReactor(world: world, name: "broker"), writer: SimulatedExecutor(world: world),
      background: SimulatedExecutor(world: world), logger: .silent, seed: 1)
    broker.queues.register(AMQPMessageFormat.shared)
    server = AMQPServer(broker: broker, logger: .silent, seed: 1)
  }

  deinit { world.tearDown() }

  func connect() -> AMQPClient { AMQPClient(self) }

  /// A client whose connection is open, with channel 1.
  func open(
    heartbeat: UInt16 = 0, frameMax: UInt32 = 131_072, channels: ClosedRange<UInt16> = 1...1, name: String? = nil
  ) throws -> AMQPClient {
    let client = connect()
    client.send(ProtocolHeader.bytes.array)
    client.send(channel: 0, [.connectionStartOk(AMQPClient.login("guest", name: name))])
    client.send(
      channel: 0,
      [
        .connectionTuneOk(ConnectionTuneOk(channelMax: 2047, frameMax: frameMax, heartbeat: heartbeat)),
        .connectionOpen(ConnectionOpen()),
      ])
    for channel in channels { client.send(channel: channel, [.channelOpen(ChannelOpen())]) }
    let expected = 3 + channels.count
    try #require(world.run { client.commands.count >= expected }, "\(client.names)")
    client.commands.removeAll()
    return client
  }
}

/// A client: what it receives, put together.
final class AMQPClient {
  let connection = PlayedAMQPConnection()
  let world: AMQPServerWorld
  private var unread = Bytes()
  private var assemblers: [UInt16: CommandAssembler] = [:]
  private(set) var heartbeats = 0
  /// What came, in order, and was not taken out.
  var commands: [(channel: UInt16, method: AMQPMethod, body: String)] = []
  /// The properties of all messages that came.
  private(set) var properties: [BasicProperties] = []

  init(_ world: AMQPServerWorld, _ security: ListenerSecurity = .open) {
    self.world = world
    connection.handler = world.server.accept(connection, security)
  }

  static func login(
    _ password: String,
    capabilities: AMQPFieldTable = [
      "authentication_failure_close": true, "consumer_cancel_notify": true, "connection.blocked": true,
    ], name: String? = nil
  ) -> ConnectionStartOk {
    let capabilities = AMQPValue.table(capabilities)
    return ConnectionStartOk(
      clientProperties: name.map { ["capabilities": capabilities, "connection_name": .string($0)] }
        ?? ["capabilities": capabilities], mechanism: "PLAIN", response: Bytes("\0guest\0\(password)"))
  }

  func send(_ bytes: [UInt8], piecewise: Bool = false) {
    connection.receive(bytes, piecewise: piecewise)
    read()
  }

  func send(channel: UInt16 = 1, _ methods: [AMQPMethod]) { send(frames(channel: channel, methods)) }

  /// Takes what the server wrote.
  func read() {
    unread = Bytes(unread.array + connection.takeOutput())
    if unread.count == 8, unread == ProtocolHeader.bytes { return }
    var position = 0
    while case .frame(let frame, let end) = try? AMQPFrame.read(unread, at: position, frameMax: 0) {
      position = end
      if frame.kind == .heartbeat {
        heartbeats += 1
        continue
      }
      switch try? assemblers[frame.channel, default: CommandAssembler(largestBody: .max)].receive(frame) {
      case .method(let method): commands.append((frame.channel, method, ""))
      case .content(let method, let header, let body):
        commands.append((frame.channel, method, body.joined.text))
        properties.append(header.properties)
      case .incomplete: break
      case nil: Issue.record("the server wrote what cannot be read")
      }
    }
    unread = unread[position..<unread.count]
  }

  /// Bytes that are no whole frame.
  var rest: Bytes { unread }

  /// The names of what came.
  var names: [String] { commands.map { $0.method.id.description } }

  /// Runs events until so many commands have come, and takes them out.
  @discardableResult
  func wait(_ count: Int = 1) throws -> [AMQPMethod] {
    try #require(
      world.world.run {
        self.connection.offer()
        self.read()
        return self.commands.count >= count
      }, "\(names)")
    defer { commands.removeAll() }
    return commands.map(\.method)
  }

  /// Lets a time pass.
  func pass(_ time: Duration) {
    world.world.run(for: time)
    connection.offer()
    read()
  }
}
