// AMQPSession: one connection with one channel, as a client of AMQP 0-9-1 has it.

import MillraceAMQPProtocol
import MillraceBase
import MillraceIO
import MillraceSimulation

/// A connection that speaks AMQP as a client. Its channel is open from the beginning: what opens it is sent in one go.
final class AMQPSession {
  static let channel: UInt16 = 1

  /// Counts up over all of a run.
  let number: Int
  /// The machine's life that it is with, as of the first answer: what was on its way when that ended still arrives.
  private(set) var machine = 0
  private let world: SimulatedWorld
  private let connection: SimulatedClientConnection
  /// When the server wrote the command that came last.
  private(set) var sentAt = MonotonicTime(nanoseconds: 0)
  private var receivedCount = 0
  private var writer = FrameWriter(frameMax: 131_072)
  private var input: [UInt8] = []
  private var assembler = CommandAssembler(largestBody: 1 << 20)
  /// Why the server ended it; nil when it did not.
  private(set) var refusal: (code: UInt16, text: String)?
  private(set) var isOver = false
  private var onEnd: (() -> Void)?
  /// Hears all that comes over the channel.
  var onCommand: (AMQPMethod, BasicProperties, Bytes) -> Void = { _, _, _ in }
  /// What came cannot be read.
  var onProblem: (String) -> Void = { _ in }
  /// Asked for each command that has arrived: true loses it, and the connection with it.
  var losesAnswer: () -> Bool = { false }

  /// Connects; `onEnd` hears once that the connection is over.
  init(_ world: SimulatedWorld, to address: SocketAddress, number: Int, onEnd: @escaping () -> Void) {
    self.number = number
    self.onEnd = onEnd
    self.world = world
    connection = world.network.connect(to: address)
    connection.onReceive = { [weak self] in self?.received($0) }
    connection.onClose = { [weak self] _ in self?.end() }
    connection.write(ProtocolHeader.bytes)
    writer.write(ConnectionStartOk(clientProperties: [:], response: Bytes("\0guest\0guest")), channel: 0)
    writer.write(ConnectionTuneOk(channelMax: 16, frameMax: 131_072), channel: 0)
    writer.write(ConnectionOpen(), channel: 0)
    writer.write(ChannelOpen(), channel: AMQPSession.channel)
    flush()
  }

  private func flush() { for piece in writer.take() { connection.write(piece) } }

  func send<Method: AMQPMethodFields>(_ method: Method, channel: UInt16 = AMQPSession.channel) {
    writer.write(method, channel: channel)
    flush()
  }

  func publish(_ body: Bytes, to exchange: String, _ key: String, _ properties: BasicProperties) {
    writer.publish(
      channel: AMQPSession.channel, exchange: ShortString(exchange) ?? "", routingKey: ShortString(key) ?? "",
      mandatory: true, properties: properties, body: ContentBody(body))
    flush()
  }

  /// Cuts the connection, so that nothing sent on it arrives later.
  func cut() {
    connection.cut()
    connection.close()
    end()
  }

  /// Turns away: what was sent still arrives.
  func leave() {
    connection.close()
    end()
  }

  /// Drops the connection without a word to anyone.
  func abandon() {
    onEnd = nil
    isOver = true
    connection.onReceive = nil
    connection.onClose = nil
    connection.close()
  }

  private func end() {
    isOver = true
    let told = onEnd
    onEnd = nil
    told?()
  }

  private func received(_ bytes: Bytes) {
    bytes.withBuffer { input += $0 }
    if receivedCount == 0 { machine = world.machine }
    receivedCount += bytes.count
    let start = receivedCount - input.count
    let unread = Bytes(input)
    var position = 0
    do throws(AMQPError) {
      while !isOver, case .frame(let frame, let next) = try AMQPFrame.read(unread, at: position, frameMax: 131_072) {
        position = next
        sentAt = connection.writtenAt(start + next - 1)
        if frame.kind == .heartbeat { continue }
        guard frame.channel != 0 else {
          ofConnection(try AMQPMethod.decode(frame.payload))
          continue
        }
        switch try assembler.receive(frame) {
        case .incomplete: break
        case .method(let method): take(method, BasicProperties(), Bytes())
        case .content(let method, let header, let body): take(method, header.properties, body.joined)
        }
      }
    } catch {
      onProblem("what the server sent cannot be read: \(error)")
      cut()
    }
    input.removeFirst(min(position, input.count))
  }

  private func take(_ method: AMQPMethod, _ properties: BasicProperties, _ body: Bytes) {
    if losesAnswer() { return cut() }
    guard case .channelClose(let close) = method else { return onCommand(method, properties, body) }
    refusal = (close.replyCode, close.replyText)
    send(ChannelCloseOk())
    leave()
  }

  private func ofConnection(_ method: AMQPMethod) {
    switch method {
    case .connectionClose(let close):
      refusal = (close.replyCode, close.replyText)
      send(ConnectionCloseOk(), channel: 0)
      leave()
    case .connectionCloseOk: onCommand(method, BasicProperties(), Bytes())
    default: break
    }
  }
}
