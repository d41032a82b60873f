// ServerWorld: a broker on a simulated machine, and connections to it whose every write the test sees.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceKafkaProtocol
import MillraceLog
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceKafkaServer

/// A connection that a test plays: what it writes is unsent until the test takes it.
final class PlayedConnection: Connection {
  let remoteAddress = SocketAddress(host: "127.0.0.1", port: 40_000)
  let localAddress = SocketAddress(host: "127.0.0.1", port: 9092)
  private(set) var pendingWriteBytes = 0
  private(set) var isReading = true
  private(set) var isClosing = false
  /// Writes after the connection was told to close.
  private(set) var lateWrites = 0
  private var output: [UInt8] = []
  private var input = InputBuffer(limit: 101 << 20)
  private var isPeerFinished = false
  private var isInputEnded = false
  var handler: (any ConnectionHandler)?

  func write(_ pieces: [Bytes]) {
    if isClosing { lateWrites += 1 }
    for piece in pieces {
      piece.withBuffer { output += $0 }
      pendingWriteBytes += piece.count
    }
  }
  func setReading(_ enabled: Bool) { isReading = enabled }
  /// Bytes before which its user does not need to be woken; 0 when each counts.
  var lacking: Int { input.lacking }
  func closeAfterWriting() { isClosing = true }
  func close() { isClosing = true }

  /// The system takes everything, without a word to the handler, as when it never had to wait.
  func flush() { pendingWriteBytes = 0 }

  /// The system takes one byte more.
  func flushOne() { pendingWriteBytes -= 1 }

  /// Offers bytes, and what was left over; all at once or one by one.
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
  func offer() { if !isClosing, isReading { handler?.connectionReceived(&input) } }

  /// The peer sends no more: told at once, and the end of input when the handler reads, as a reactor does.
  func end() {
    if !isPeerFinished, !isClosing {
      isPeerFinished = true
      handler?.connectionPeerFinished()
    }
    offer()
    guard isReading, !isClosing, !isInputEnded else { return }
    isInputEnded = true
    if handler?.connectionInputEnded() ?? true { closeAfterWriting() }
  }

  var unreadBytes: Int { input.count }

  /// All bytes that were written.
  var written: [UInt8] { output }

  /// Correlation ids of the answers so far, in order; and the last answer's frame.
  var answers: (ids: [Int32], last: Bytes) {
    var ids: [Int32] = []
    var last = Bytes()
    var at = 0
    while at + 8 <= output.count {
      func number(_ at: Int) -> Int32 { output[at..<(at + 4)].reduce(0) { $0 << 8 | Int32($1) } }
      let size = Int(number(at))
      ids.append(number(at + 4))
      last = Bytes(Array(output[(at + 4)..<(at + 4 + size)]))
      at += 4 + size
    }
    return (ids, last)
  }

  func last<Request: KafkaRequest>(_ type: Request.Type, _ version: Int16) throws -> Request.Response {
    try KafkaFrame.decodeResponse(to: type, version: version, from: answers.last).body
  }
}

/// A broker and its server, with topic `t` of two partitions.
final class ServerWorld {
  let world: SimulatedWorld
  let broker: Broker
  let server: KafkaServer
  private var nextNumber: UInt64 = 1

  init(
    settings: BrokerSettings = BrokerSettings(), _ configure: (inout LogConfiguration) -> Void = { _ in }
  ) throws {
    world = SimulatedWorld(seed: 1)
    var configuration = LogConfiguration(directory: "/data")
    configure(&configuration)
    let reactor = SimulatedReactor(world: world, name: "broker")
    broker = try Broker(
      log: configuration, settings: settings, fileSystem: SimulatedFileSystem(world: world), reactor: reactor,
      writer: SimulatedExecutor(world: world), background: SimulatedExecutor(world: world), logger: .silent, seed: 1)
    server = KafkaServer(broker: broker, logger: .silent)
    try createTopic()
  }

  deinit { world.tearDown() }

  func createTopic() throws {
    var made = false
    broker.createTopic("t", partitions: 2) { result in
      if case .success = result { made = true }
    }
    try #require(world.run { made })
  }

  func deleteTopic() throws {
    var isGone = false
    broker.deleteTopic(try #require(broker.topic("t"))) { _ in isGone = true }
    try #require(world.run { isGone })
  }

  func connect() -> (PlayedConnection, KafkaConnection) {
    let connection = PlayedConnection()
    let handler = KafkaConnection(server: server, listener: .open, connection: connection, number: nextNumber)
    nextNumber += 1
    connection.handler = handler
    return (connection, handler)
  }

  /// A connection as the listener hands it over, counted by the server.
  func accept() -> PlayedConnection {
    let connection = PlayedConnection()
    connection.handler = server.accept(connection)
    return connection
  }

  /// Runs events until the connection has had so many answers.
  func wait(_ connection: PlayedConnection, answers: Int) throws {
    try #require(world.run { connection.answers.ids.count >= answers }, "\(connection.answers.ids)")
  }
}

/// A request's bytes.
func frame<Request: KafkaRequest>(_ request: Request, _ version: Int16, _ correlation: Int32) -> [UInt8] {
  var bytes: [UInt8] = []
  for piece in KafkaFrame.request(request, version: version, correlationID: correlation, clientID: "test") {
    piece.withBuffer { bytes += $0 }
  }
  return bytes
}

/// A produce request with one record of `size` bytes for partition 0 of `t`.
func produce(_ size: Int = 10, acks: Int16 = -1, topic: String = "t") -> ProduceRequest {
  var builder = RecordBatchBuilder()
  builder.append(
    Record(value: Bytes(Array(repeating: 7, count: size)), timestamp: Timestamp(milliseconds: 1)))
  var request = ProduceRequest()
  request.acks = acks
  request.timeoutMilliseconds = 1000
  request.topicData = [.init(name: topic, partitionData: [.init(index: 0, records: builder.finish())])]
  return request
}
