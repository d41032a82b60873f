// HTTPWorld: a broker and its HTTP server on a simulated machine, and clients whose every byte the test sees.

import Foundation
import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceLog
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceHTTPServer

/// A connection that a test plays: what the server writes is unsent until the test takes it.
final class PlayedConnection: Connection {
  var remoteAddress = SocketAddress(host: "127.0.0.1", port: 40_000)
  let localAddress = SocketAddress(host: "127.0.0.1", port: 8080)
  private(set) var pendingWriteBytes = 0
  private(set) var isReading = true
  private(set) var isClosing = false
  var sendsAtOnce = true
  private var output: [UInt8] = []
  private var input = InputBuffer(limit: 32 << 20)
  var handler: (any ConnectionHandler)?

  func write(_ pieces: [Bytes]) {
    guard !isClosing else { return }
    for piece in pieces {
      piece.withBuffer { output += $0 }
      if !sendsAtOnce { pendingWriteBytes += piece.count }
    }
  }
  func setReading(_ enabled: Bool) { isReading = enabled }
  func closeAfterWriting() { isClosing = true }
  func close() { isClosing = true }

  func takeOutput() -> [UInt8] {
    defer { output = [] }
    return output
  }

  func drain() {
    pendingWriteBytes = 0
    handler?.connectionDrained()
  }

  func receive(_ bytes: [UInt8]) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let room = input.prepareRoom()
      let count = min(room.count, rest.count)
      guard count > 0 else { return }
      Array(rest.prefix(count)).withUnsafeBytes {
        room.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<count]))
      }
      input.received(count)
      rest = rest.dropFirst(count)
      if count == room.count { input.grow() }
    }
    offer()
  }

  /// What a reactor does when reading goes on.
  func offer() { if !isClosing, isReading, input.count > 0 { handler?.connectionReceived(&input) } }

  func end() {
    handler?.connectionPeerFinished()
    offer()
    if isReading, !isClosing, handler?.connectionInputEnded() ?? true { closeAfterWriting() }
  }

  func lose() {
    isClosing = true
    handler?.connectionClosed(nil)
    handler = nil
  }
}

/// A response as a client reads it.
struct Response {
  var status: Int
  var fields: [String: String]
  var body: String

  var json: [String: Any] {
    (try? JSONSerialization.jsonObject(with: Data(body.utf8))) as? [String: Any] ?? [:]
  }
}

/// A broker and its server.
final class HTTPWorld {
  let world = SimulatedWorld(seed: 1)
  let broker: Broker
  let server: HTTPServer
  /// Whom connections believe; nil for a listener that asks for nothing.
  var authenticator: (any HTTPAuthenticator)?

  init(_ settings: [String: String] = [:]) throws {
    var chosen = BrokerSettings()
    for (name, value) in settings { try chosen.set(name, value) }
    broker = try Broker(
      log: LogConfiguration(directory: "/data"), settings: chosen, fileSystem: SimulatedFileSystem(world: world),
      reactor: SimulatedReactor(world: world, name: "broker"), writer: SimulatedExecutor(world: world),
      background: SimulatedExecutor(world: world), logger: .silent, seed: 1)
    broker.queues.register(AMQPMessageFormat.shared)
    server = HTTPServer(broker: broker, logger: .silent)
  }

  deinit { world.tearDown() }

  func connect(from host: String = "127.0.0.1") -> HTTPClient { HTTPClient(self, host) }

  /// A topic that is durable.
  func topic(_ name: String, partitions: Int = 1) throws {
    var made = false
    broker.createTopic(name, partitions: partitions) { made = (try? $0.get()) != nil }
    #expect(world.run(until: { made }))
  }
}

/// A client.
final class HTTPClient {
  let world: HTTPWorld
  let connection = PlayedConnection()
  private var held: [UInt8] = []

  init(_ world: HTTPWorld, _ host: String) {
    self.world = world
    connection.remoteAddress = SocketAddress(host: host, port: 40_000)
    connection.handler = world.server.accept(connection, world.authenticator)
  }

  /// Sends text as it is.
  func send(_ text: String) { connection.receive([UInt8](text.utf8)) }

  /// Runs the machine until a response is there as a whole.
  func response(to method: String = "GET") -> Response? {
    var found: Response?
    _ = world.world.run(until: { [self] in
      connection.offer()
      held += connection.takeOutput()
      found = parse(method)
      return found != nil || connection.isClosing
    })
    held += connection.takeOutput()
    return found ?? parse(method)
  }

  /// Runs the machine for a time, and tells all that came.
  func output(after time: Duration = .milliseconds(100)) -> String {
    world.world.run(for: time)
    held += connection.takeOutput()
    defer { held = [] }
    return String(decoding: held, as: UTF8.self)
  }

  private func parse(_ method: String) -> Response? {
    let text = String(decoding: held, as: UTF8.self)
    guard let end = text.range(of: "\r\n\r\n") else { return nil }
    let lines = text[..<end.lowerBound].components(separatedBy: "\r\n")
    let status = Int(lines[0].split(separator: " ")[1]) ?? 0
    var fields: [String: String] = [:]
    for line in lines.dropFirst() {
      let parts = line.components(separatedBy: ": ")
      fields[parts[0].lowercased()] = parts.dropFirst().joined(separator: ": ")
    }
    var rest = text[end.upperBound...]
    var body = ""
    if fields["transfer-encoding"] == "chunked", method != "HEAD" {
      while true {
        guard let line = rest.range(of: "\r\n"), let size = Int(rest[..<line.lowerBound], radix: 16) else { return nil }
        let chunk = rest[line.upperBound...].utf8.prefix(size)
        guard chunk.count == size, rest[line.upperBound...].utf8.count >= size + 2 else { return nil }
        body += String(Substring(chunk))
        rest = Substring(rest[line.upperBound...].utf8.dropFirst(size + 2))
        if size == 0 { break }
      }
    } else if let length = fields["content-length"].flatMap({ Int($0) }), method != "HEAD" {
      guard rest.utf8.count >= length else { return nil }
      body = String(Substring(rest.utf8.prefix(length)))
      rest = Substring(rest.utf8.dropFirst(length))
    }
    held = [UInt8](rest.utf8)
    return Response(status: status, fields: fields, body: body)
  }

  /// Asks and waits for the answer.
  func ask(_ method: String, _ path: String, _ body: String? = nil, fields: String = "") -> Response? {
    let type = body == nil || fields.lowercased().contains("content-type") ? "" : "Content-Type: application/json\r\n"
    send(
      "\(method) \(path) HTTP/1.1\r\nHost: localhost:8080\r\n\(type)\(fields)"
        + (body.map { "Content-Length: \($0.utf8.count)\r\n\r\n\($0)" } ?? "\r\n"))
    return response(to: method)
  }
}
