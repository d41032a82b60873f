// KafkaClient: one blocking connection to a server: requests out, answers in, in the versions that both sides speak.

import MillraceBase
import MillraceIO
import MillraceKafkaProtocol
import MillraceKafkaServer
import MillraceSecurity

/// A client of one server, for commands that do one thing at a time.
///
/// A Millrace server leads all partitions and coordinates all groups itself, so that one connection does for everything.
/// After an error other than a refusal the connection is closed; the next request makes a new one.
final class KafkaClient {
  /// Where the server is.
  let address: ServerAddress
  /// How long to wait for a connection, and for an answer that the server does not hold back on purpose.
  let timeout: Duration
  let security: ClientSecurity
  private let interruption: Interruption?
  private var socket: (any BlockingStream)?
  private var versions: [ApiVersionsResponse.ApiVersion] = []
  private var nextCorrelationID: Int32 = 1
  /// Counts connections, so that nobody waits on a new one for the answer to a request of an older one.
  private var connection = 0

  private static let name = "millrace"
  /// Largest answer that is taken, in bytes.
  private static let largestAnswer = 256 << 20
  /// How often a wait looks for a signal.
  private static let slice = Duration.milliseconds(50)

  /// A client; it connects with its first request.
  init(
    _ address: ServerAddress, security: ClientSecurity = .none, timeout: Duration = .seconds(10),
    interruption: Interruption? = nil
  ) {
    self.address = address
    self.security = security
    self.timeout = timeout
    self.interruption = interruption
  }

  /// A request under way.
  struct Pending<Request: KafkaRequest> {
    fileprivate let connection: Int
    fileprivate let correlationID: Int32
    fileprivate let version: Int16
  }

  /// Sends a request and waits for its answer.
  /// - Parameters:
  ///   - extra: how long the server may hold the answer back.
  ///   - isInterruptible: a signal ends the wait.
  func call<Request: KafkaRequest>(
    _ request: Request, extra: Duration = .zero, isInterruptible: Bool = false
  ) throws(ClientError) -> Request.Response {
    try receive(try send(request), extra: extra, isInterruptible: isInterruptible)
  }

  /// Sends a request; its answer is to be received in the order of the requests.
  func send<Request: KafkaRequest>(_ request: Request) throws(ClientError) -> Pending<Request> {
    let socket = try connected()
    guard let version = highestVersion(Request.api) else {
      throw ClientError(.malformed, "the server at \(address) does not know \(Request.api) as this program does")
    }
    return try send(request, version: version, over: socket)
  }

  private func send<Request: KafkaRequest>(
    _ request: Request, version: Int16, over socket: any BlockingStream
  ) throws(ClientError) -> Pending<Request> {
    let pending = Pending<Request>(connection: connection, correlationID: nextCorrelationID, version: version)
    nextCorrelationID &+= 1
    try transfer { () throws(IOError) in
      try socket.send(
        KafkaFrame.request(
          request, version: version, correlationID: pending.correlationID, clientID: KafkaClient.name))
    }
    return pending
  }

  /// Waits for the answer of a request.
  func receive<Request: KafkaRequest>(
    _ pending: Pending<Request>, extra: Duration = .zero, isInterruptible: Bool = false
  ) throws(ClientError) -> Request.Response {
    guard pending.connection == connection else {
      throw ClientError(.lost, "the connection to \(address) was closed before the answer came")
    }
    let frame = try receiveFrame(extra: extra, isInterruptible: isInterruptible)
    do throws(DecodingError) {
      let (correlationID, body) = try KafkaFrame.decodeResponse(
        to: Request.self, version: pending.version, from: frame)
      guard correlationID == pending.correlationID else {
        throw DecodingError("answer \(correlationID) instead of \(pending.correlationID)", at: 0)
      }
      return body
    } catch {
      throw malformed(error)
    }
  }

  /// The version in which requests of an API are sent; connects when that has not happened yet.
  func version(of api: APIKey) throws(ClientError) -> Int16 {
    _ = try connected()
    return highestVersion(api) ?? 0
  }

  /// The last versions in which topics have names; later ones speak of them by their ids only.
  private static let lastWithNames: [APIKey: Int16] = [.produce: 12, .offsetCommit: 9, .offsetFetch: 9]

  private func highestVersion(_ api: APIKey) -> Int16? {
    guard let common = api.commonVersion(with: versions) else { return nil }
    return min(common, KafkaClient.lastWithNames[api] ?? common)
  }

  /// The server's live figures as JSON.
  func figures() throws(ClientError) -> String {
    let frame = try own("figures", isInterruptible: true) { FiguresAPI.request(correlationID: $0) }
    let answer: FiguresAPI.Answer
    do throws(DecodingError) {
      answer = try FiguresAPI.answer(ofResponse: frame)
    } catch {
      throw malformed(error)
    }
    switch answer {
    case .figures(let json): return json
    case .refused(let reason): throw ClientError(.refused(.clusterAuthorizationFailed), reason)
    }
  }

  /// Asks for queues, exchanges or bindings.
  /// - Parameters:
  ///   - extra: how long the server may take beyond what it takes to answer.
  ///   - isInterruptible: a signal ends the wait.
  func queues(
    _ call: QueueCall, extra: Duration = .zero, isInterruptible: Bool = true
  ) throws(ClientError) -> QueueAnswer {
    var sent: Int32 = 0
    let frame = try own("queues", extra: extra, isInterruptible: isInterruptible) { correlationID in
      sent = correlationID
      return QueueAPI.request(call, correlationID: correlationID, clientID: KafkaClient.name)
    }
    let answer: QueueAnswer
    do throws(DecodingError) {
      let (correlationID, body) = try QueueAPI.answer(ofResponse: frame)
      guard correlationID == sent else {
        throw DecodingError("answer \(correlationID) instead of \(sent)", at: 0)
      }
      answer = body
    } catch {
      throw malformed(error)
    }
    if case .refused(let refusal) = answer {
      throw ClientError(.denied(refusal.code), "\(refusal.name) - \(refusal.message)")
    }
    return answer
  }

  /// Sends a request that is Millrace's own, and receives its answer's frame.
  private func own(
    _ what: String, extra: Duration = .zero, isInterruptible: Bool, _ request: (Int32) -> [Bytes]
  ) throws(ClientError) -> Bytes {
    let socket = try connected()
    let correlationID = nextCorrelationID
    nextCorrelationID &+= 1
    let frame = request(correlationID)
    try transfer { () throws(IOError) in try socket.send(frame) }
    do throws(ClientError) {
      return try receiveFrame(extra: extra, isInterruptible: isInterruptible)
    } catch {
      guard error.code == .lost else { throw error }
      throw ClientError(.lost, "\(error.description) (only a Millrace server has \(what))")
    }
  }

  /// Ends the connection.
  func close() { socket = nil }

  // MARK: The connection

  private func connected() throws(ClientError) -> any BlockingStream {
    if let socket { return socket }
    var mechanism = SaslMechanism.scramSHA512
    // At most once for each mechanism that there is.
    for _ in SaslMechanism.allCases {
      let opened = try secured(try connect())
      socket = opened
      connection += 1
      // Version 3 is the oldest that every broker of the last years knows.
      let answer = try ask(
        ApiVersionsRequest(clientSoftwareName: KafkaClient.name, clientSoftwareVersion: "1"), version: 3)
      guard answer.errorCode == .none || answer.errorCode == .unsupportedVersion else {
        close()
        throw ClientError.refused(answer.errorCode, "connecting to \(address)")
      }
      versions = answer.apiKeys
      guard let other = try logIn(by: mechanism) else { return opened }
      close()
      mechanism = other
    }
    throw ClientError(.unreachable, "\(address) offers mechanisms that it does not take")
  }

  /// Asks over the connection there is, while it is being made ready for others.
  func ask<Request: KafkaRequest>(_ request: Request, version: Int16) throws(ClientError) -> Request.Response {
    guard let socket else { throw ClientError(.lost, "the connection to \(address) is closed") }
    return try receive(try send(request, version: version, over: socket))
  }

  private func connect() throws(ClientError) -> BlockingSocket {
    let hosts = address.host == "localhost" ? "" : ServerAddress.machineHosts()
    var problem = "no address"
    for candidate in address.candidates(hosts: hosts) {
      do throws(IOError) {
        return try BlockingSocket(connectingTo: candidate, timeout: timeout)
      } catch {
        problem = error.reason.prefix(1).lowercased() + error.reason.dropFirst()
      }
    }
    throw ClientError(.unreachable, "cannot reach \(address): \(problem); is `millrace serve` running?")
  }

  private func transfer<Value>(_ body: () throws(IOError) -> Value) throws(ClientError) -> Value {
    do throws(IOError) {
      return try body()
    } catch {
      close()
      throw ClientError(.lost, "the connection to \(address) is lost: \(error.reason)")
    }
  }

  private func malformed(_ error: DecodingError) -> ClientError {
    close()
    return ClientError(.malformed, "the answer of \(address) cannot be read: \(error)")
  }

  private func receiveFrame(extra: Duration, isInterruptible: Bool) throws(ClientError) -> Bytes {
    guard let socket else { throw ClientError(.lost, "the connection to \(address) is closed") }
    var wait = Wait(deadline: .now + timeout + extra, isInterruptible: isInterruptible)
    let prefix = try receive(4, over: socket, &wait)
    let size = Int(Int32(bigEndian: prefix.withBuffer { $0.loadUnaligned(as: Int32.self) }))
    guard size >= 4, size <= KafkaClient.largestAnswer else {
      throw malformed(DecodingError("an answer of \(size) bytes", at: 0))
    }
    return try receive(size, over: socket, &wait)
  }

  private struct Wait {
    var deadline: MonotonicTime
    var isInterruptible: Bool
  }

  /// Receives exactly `count` bytes. Memory follows what has come, not what was announced.
  private func receive(
    _ count: Int, over socket: any BlockingStream, _ wait: inout Wait
  ) throws(ClientError) -> Bytes {
    var chunk = Chunk(capacity: min(count, 1 << 20))
    var held = 0
    while held < count {
      try awaitInput(socket, &wait)
      if held == chunk.capacity {
        let larger = Chunk(capacity: min(count, 2 * chunk.capacity))
        larger.base.copyMemory(from: chunk.base, byteCount: held)
        chunk = larger
      }
      let room = UnsafeMutableRawBufferPointer(
        start: chunk.base + held, count: min(count, chunk.capacity) - held)
      let got = try transfer { () throws(IOError) in try socket.receive(into: room) }
      guard got > 0 else {
        close()
        throw ClientError(.lost, "\(address) closed the connection")
      }
      held += got
    }
    return chunk.bytes(0..<count)
  }

  /// Waits for something to receive, looking for a signal now and then.
  private func awaitInput(_ socket: any BlockingStream, _ wait: inout Wait) throws(ClientError) {
    while true {
      if try transfer({ () throws(IOError) in try socket.waitReadable(KafkaClient.slice) }) { return }
      if wait.isInterruptible, interruption?.isRequested == true {
        close()
        throw ClientError(.interrupted, "interrupted")
      }
      if MonotonicTime.now > wait.deadline {
        close()
        throw ClientError(.lost, "\(address) did not answer in time")
      }
    }
  }
}
