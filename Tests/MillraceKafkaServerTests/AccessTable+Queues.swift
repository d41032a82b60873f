// AccessTable+Queues: Millrace's own requests on Kafka's port: the live figures, and queues, exchanges and bindings.

import MillraceAMQPProtocol
import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceKafkaProtocol
import MillraceModel
import MillraceRouting
import MillraceSecurity
import Testing

@testable import MillraceKafkaServer

extension AdminClient {
  /// Asks for queues, in virtual host `/`.
  func ask(_ request: QueueRequest) throws -> QueueAnswer {
    let (id, frame) = try ask { correlationID in
      QueueAPI.request(QueueCall(request, in: "/"), correlationID: correlationID, clientID: "test")
    }
    let (correlationID, answer) = try QueueAPI.answer(ofResponse: frame)
    try #require(correlationID == id)
    return answer
  }

  /// Asks, and expects to be served.
  fileprivate func make(_ request: QueueRequest) throws {
    let answer = try ask(request)
    if case .refused(let refusal) = answer { Issue.record("\(request): \(refusal)") }
  }
}

extension AccessTable {
  static var own: [AccessRow] {
    let figures = AccessRow(.figures, "", needs: [[.cluster(.describe)]]) { _ in
      { client in
        switch try FiguresAPI.answer(ofResponse: try client.ask { FiguresAPI.request(correlationID: $0) }.frame) {
        case .figures: .served
        case .refused: .refused(.clusterAuthorizationFailed)
        }
      }
    }
    return [figures] + queues + exchanges + messages
  }

  private static func declaration(_ name: String, _ arguments: RoutingTable = .empty) -> QueueRequest {
    .declareQueue(name: name, isDurable: true, isAutoDelete: false, arguments: arguments)
  }

  private static func declaration(exchange name: String, _ arguments: RoutingTable = .empty) -> QueueRequest {
    .declareExchange(
      name: name, type: "fanout", isDurable: true, isAutoDelete: false, isInternal: false, arguments: arguments)
  }

  /// A row whose request is the same whatever was prepared.
  private static func row(
    _ note: String, _ request: QueueRequest, _ needs: [AccessNeed]..., after prepared: QueueRequest...
  ) -> AccessRow {
    AccessRow(.queues(number(request)), note, needs: needs) { client in
      if client.world.broker.queues.format(1) == nil { client.world.broker.queues.register(AMQPMessageFormat.shared) }
      for one in prepared { try client.make(one) }
      return { client in reply(try client.ask(request)) }
    }
  }

  /// The number of a request's operation.
  static func number(_ request: QueueRequest) -> UInt8 {
    var writer = ByteWriter(capacity: 64)
    QueueCall(request, in: "/").encode(to: &writer)
    // Behind a length of four bytes and `/`.
    return writer.finish().flatMap(\.array)[5]
  }

  private static func reply(_ answer: QueueAnswer) -> AccessReply {
    switch answer {
    case .refused(let refusal):
      return refusal.code == 403 && refusal.message.contains("refused for user 'ANONYMOUS'")
        ? .queuesRefused : .failed("\(refusal)")
    case .published(let outcomes, let problem):
      if let problem { return problem.code == 403 ? .queuesRefused : .failed("\(problem)") }
      return outcomes == [.confirmed] ? .served : .failed("\(outcomes)")
    case .queues(let queues, _): return queues.isEmpty ? .hidden : .served
    case .exchanges(let exchanges, _): return exchanges.contains { $0.name == "e" } ? .served : .hidden
    case .bindings(let bindings, _): return bindings.isEmpty ? .hidden : .served
    case .messages(let messages, _, _): return messages.count == 1 ? .served : .failed("\(messages.count) messages")
    case .count(let count): return count == 1 || count == 0 ? .served : .failed("\(count)")
    case .done, .declared: return .served
    }
  }

  private static func publication(exchange: String = "", _ key: String = "q") -> QueueRequest {
    .publish(
      QueuePublication(
        exchange: exchange, routingKey: Bytes(key), format: 1,
        messages: [NewQueueMessage(properties: persistent, body: Bytes([7]))]))
  }

  private static let persistent = BasicProperties.build { $0.deliveryMode = 2 }.encoded
  private static let binding = Binding(source: "e", destination: .queue("q"), key: "k")
  private static let exchangeBinding = Binding(source: "e", destination: .exchange("f"), key: "k")

  private static var queues: [AccessRow] {
    [
      row("declare queue", declaration("q"), [.queue(.create)]),
      row("declare queue, its name left to the server", declaration(""), [.queue(.create, QueueAccess.serverNamed)]),
      row(
        "declare queue, with a dead-letter exchange", declaration("q", ["x-dead-letter-exchange": .string(Bytes("e"))]),
        [.queue(.create), .queue(.read), .exchange(.write)]),
      row(
        "declare queue, dead letters to a topic",
        declaration(
          "q", ["x-dead-letter-exchange": .string(Bytes("")), "x-dead-letter-routing-key": .string(Bytes("t"))]),
        [.queue(.create), .queue(.read), .exchange(.write, QueueAccess.defaultExchange), needOfTopic(.write)]),
      row(
        "declare queue, of type stream", declaration("new", ["x-queue-type": .string(Bytes("stream"))]),
        [needOfTopic(.create, "new")], [.cluster(.create, .queuesRefused)]),
      row(
        "delete queue", .deleteQueue(name: "q", ifUnused: false, ifEmpty: false), [.queue(.delete)],
        after: declaration("q")),
      row("delete queue, a topic", .deleteQueue(name: "t", ifUnused: false, ifEmpty: false), [needOfTopic(.delete)]),
      row("purge queue", .purgeQueue(name: "q"), [.queue(.read)], after: declaration("q"), publication()),
      row("list queues", .listQueues(after: nil), [.queue(.describe, hides: true)], after: declaration("q")),
    ]
  }

  /// What a queue's name stands for may be a topic.
  private static func needOfTopic(_ operation: AccessOperation, _ name: String = "t") -> AccessNeed {
    AccessNeed.topic(operation, name).told(.queuesRefused)
  }

  private static var exchanges: [AccessRow] {
    [
      row("declare exchange", declaration(exchange: "e"), [.exchange(.create)]),
      row(
        "declare exchange, with an alternate exchange",
        declaration(exchange: "e", ["alternate-exchange": .string(Bytes("f"))]),
        [.exchange(.create), .exchange(.read), .exchange(.write, "f")]),
      row(
        "delete exchange", .deleteExchange(name: "e", ifUnused: false), [.exchange(.delete)],
        after: declaration(exchange: "e")),
      row(
        "list exchanges", .listExchanges(after: nil), [.exchange(.describe, hides: true)],
        after: declaration(exchange: "e")),
      row(
        "bind", .bind(binding), [.queue(.write), .exchange(.read)], after: declaration("q"),
        declaration(exchange: "e")),
      row(
        "bind, an exchange", .bind(exchangeBinding), [.exchange(.write, "f"), .exchange(.read)],
        after: declaration(exchange: "e"), declaration(exchange: "f")),
      row(
        "bind, a topic", .bind(Binding(source: "e", destination: .queue("t"), key: "k")),
        [needOfTopic(.write), .exchange(.read)], after: declaration(exchange: "e")),
      row(
        "unbind", .unbind(binding), [.queue(.write), .exchange(.read)], after: declaration("q"),
        declaration(exchange: "e"), .bind(binding)),
      row(
        "list bindings", .listBindings(after: nil),
        [.exchange(.describe, hides: true), .queue(.describe, hides: true)], after: declaration("q"),
        declaration(exchange: "e"), .bind(binding)),
    ]
  }

  private static var messages: [AccessRow] {
    let position = Position(lane: 0, offset: 0)
    return [
      row(
        "publish", publication(exchange: "e", "k"), [.exchange(.write)], after: declaration("q"),
        declaration(exchange: "e"), .bind(binding)),
      row(
        "publish, to a queue by name", publication(), [.exchange(.write, QueueAccess.defaultExchange)],
        after: declaration("q")),
      row(
        "publish, to a topic by name", publication("t"),
        [.exchange(.write, QueueAccess.defaultExchange), needOfTopic(.write)]),
      row("take", .take(queue: "q", limit: 1), [.queue(.read)], after: declaration("q"), publication()),
      row("settle", .settle(isAcknowledged: true), []),
      row(
        "browse", .browse(queue: "q", .all, from: nil, limit: 1), [.queue(.read)], after: declaration("q"),
        publication()),
      row("remove", .remove(queue: "q", position), [.queue(.read)], after: declaration("q"), publication()),
      row(
        "move", .move(queue: "q", to: "other", limit: 1), [.queue(.read), .queue(.write, "other")],
        after: declaration("q"), declaration("other"), publication()),
    ]
  }
}

extension AccessTable {
  /// Whether there is an operation on queues of this number: the fields of one are read, or found missing, behind it.
  static func isKnown(_ number: UInt8) -> Bool {
    var reader = ByteReader(Bytes([0, 0, 0, 1, UInt8(ascii: "/"), number]))
    do throws(DecodingError) {
      _ = try QueueCall(from: &reader)
      return true
    } catch {
      return error.position > 5
    }
  }
}
