// ClientChannel: one client's connection: requests out, answers to their callers, and word of its end.

import MillraceBase
import MillraceIO
import MillraceKafkaProtocol
import MillraceSimulation

/// A connection that speaks Kafka's protocol as a client.
final class ClientChannel {
  private let connection: SimulatedClientConnection
  private var input: [UInt8] = []
  private var waiting = Deque<(correlation: Int32, take: (Bytes) -> String?)>()
  private var nextCorrelation: Int32 = 1
  private var onEnd: (() -> Void)?
  private let onProblem: (String) -> Void
  /// Asked for each answer that has arrived: true loses it, and the connection with it.
  var losesAnswer: () -> Bool = { false }
  /// Changes each answer, to test the tests.
  var sabotage: (Bytes) -> Bytes = { $0 }

  /// Connects to the machine; `onEnd` hears once that the connection has ended or could not be made.
  init(
    _ world: SimulatedWorld, to address: SocketAddress, onProblem: @escaping (String) -> Void,
    onEnd: @escaping () -> Void
  ) {
    connection = world.network.connect(to: address)
    self.onProblem = onProblem
    self.onEnd = onEnd
    connection.onReceive = { [weak self] bytes in self?.received(bytes) }
    connection.onClose = { [weak self] _ in self?.end() }
  }

  /// Sends a request; `completion` gets the answer, or is never called when the connection ends before.
  func send<Request: KafkaRequest>(
    _ request: Request, version: Int16, completion: @escaping (Request.Response) -> Void
  ) {
    let correlation = nextCorrelation
    nextCorrelation += 1
    waiting.append(
      (
        correlation,
        { frame in
          do throws(DecodingError) {
            let (echo, response) = try KafkaFrame.decodeResponse(to: Request.self, version: version, from: frame)
            guard echo == correlation else { return "answer \(echo) came instead of \(correlation)" }
            completion(response)
            return nil
          } catch {
            return "an answer to \(Request.api) version \(version) cannot be read: \(error)"
          }
        }
      ))
    for piece in KafkaFrame.request(request, version: version, correlationID: correlation, clientID: "simulated") {
      connection.write(piece)
    }
  }

  /// Cuts the connection, so that nothing sent on it arrives later.
  func cut() {
    let told = onEnd
    onEnd = nil
    waiting = Deque()
    connection.cut()
    connection.close()
    told?()
  }

  /// Turns away from the connection: what was sent still arrives, and nobody hears the answers.
  func leave(open time: Duration, in world: SimulatedWorld) {
    let told = onEnd
    onEnd = nil
    waiting = Deque()
    connection.onReceive = nil
    connection.onClose = nil
    let connection = connection
    world.schedule(after: time) { connection.close() }
    told?()
  }

  /// Drops the connection without a word to anyone.
  func abandon() {
    onEnd = nil
    waiting = Deque()
    connection.onReceive = nil
    connection.onClose = nil
    connection.close()
  }

  private func end() {
    let told = onEnd
    onEnd = nil
    waiting = Deque()
    told?()
  }

  private func received(_ bytes: Bytes) {
    bytes.withBuffer { input += $0 }
    while onEnd != nil, input.count >= 4 {
      let size = input[..<4].reduce(0) { $0 << 8 | Int($1) }
      guard input.count >= 4 + size else { return }
      let frame = sabotage(Bytes(Array(input[4..<(4 + size)])))
      input.removeFirst(4 + size)
      if losesAnswer() { return cut() }
      guard let next = waiting.first else { return onProblem("an answer came that nobody waited for") }
      waiting.removeFirst()
      if let problem = next.take(frame) { onProblem(problem) }
    }
  }
}
