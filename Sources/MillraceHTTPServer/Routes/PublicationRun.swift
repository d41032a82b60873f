// PublicationRun: the messages of one request on their way into queues.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceRouting

/// Publishes messages, and tells what became of each when all are settled. Kept alive by what it waits for.
final class PublicationRun {
  /// What may become of a message: every queue that it goes to has it; it went to no queue; a queue is full.
  static let outcomes = ["confirmed", "unroutable", "refused"]

  private var publisher: QueuePublisher?
  private var results: [String] = []
  private let completion: (Result<[String], RoutingError>) -> Void
  private var problem: RoutingError?
  private var open = 0
  private var isWhole = false

  init(_ queues: QueueBroker, _ completion: @escaping (Result<[String], RoutingError>) -> Void) {
    self.completion = completion
    publisher = QueuePublisher(queues) { tags, isAccepted in self.told(tags, isAccepted) }
  }

  /// Publishes one message.
  /// - Returns: false when it was refused as a whole; nothing more is to be published then.
  func publish(_ publication: Publication) -> Bool {
    guard let publisher else { return false }
    do throws(RoutingError) {
      let count = try publisher.publish(publication, tag: UInt64(results.count + 1))
      results.append(count == 0 ? "unroutable" : "confirmed")
      if count > 0 { open += 1 }
      return true
    } catch {
      problem = error
      return false
    }
  }

  /// Nothing more is published.
  func end() {
    isWhole = true
    finishWhenTold()
  }

  private func told(_ tags: [UInt64], _ isAccepted: Bool) {
    open -= tags.count
    if !isAccepted { for tag in tags { results[Int(tag) - 1] = "refused" } }
    finishWhenTold()
  }

  private func finishWhenTold() {
    guard isWhole, open == 0, publisher != nil else { return }
    publisher = nil
    completion(problem.map { .failure($0) } ?? .success(results))
  }

  /// The format in which messages of clients over HTTP lie in queues: AMQP's.
  static func format(_ broker: Broker) throws(HTTPProblem) -> any MessageFormat {
    guard let format = broker.queues.format(1) else {
      throw HTTPProblem(.unavailable, "no-format", "the server knows no format of messages")
    }
    return format
  }

  /// Publishes what a request of this API brings, as JSON or as one message's body, and answers it.
  static func publish(_ call: HTTPCall, exchange: String, routingKey: String) throws(HTTPProblem) {
    let broker = call.broker
    let format = try format(broker)
    let host = call.virtualHost
    var publications: [Publication] = []
    func add(_ body: Bytes, _ properties: Bytes, key: String, delay: Int64) throws(HTTPProblem) {
      let limit = broker.settings.largestAMQPMessage
      guard body.count <= limit else {
        throw HTTPProblem(
          .contentTooLarge, "message-too-large", "a body of \(body.count) bytes; amqp.max.message.size is \(limit)")
      }
      let (kept, facts) = try QueueRoutes.routing { () throws(RoutingError) in try format.published(properties) }
      var one = Publication(
        virtualHost: host, exchange: Bytes(exchange), routingKey: Bytes(key), format: format, properties: kept,
        body: body, facts: facts)
      if delay > 0 {
        one.notBefore = Timestamp(milliseconds: broker.reactor.wallClock.milliseconds + delay)
      }
      publications.append(one)
    }
    if call.isJSON {
      for (index, value) in (try call.json()?["messages"]?.array ?? []).enumerated() {
        let pointer = "/messages/\(index)"
        let properties = try PropertyNames.own.read(value["properties"], at: "\(pointer)/properties", deliveryMode: 2)
        try add(
          try body(value, pointer), properties, key: value["routingKey"]?.string ?? routingKey,
          delay: value["delayMilliseconds"]?.integer ?? 0)
      }
    } else {
      var properties: JSONValue?
      if let type = call.head["content-type"], type.utf8.count <= 255 {
        properties = .object([JSONValue.Member("contentType", .string(type))])
      }
      try add(call.body, try PropertyNames.own.read(properties, at: "", deliveryMode: 2), key: routingKey, delay: 0)
    }
    try QueueRoutes.routing { () throws(RoutingError) in
      try broker.queues.checkPublish(to: exchange, in: host)
    }
    let run = PublicationRun(broker.queues) { result in
      switch result {
      case .failure(let error): call.fail(HTTPProblem(error))
      case .success(let outcomes):
        call.answerObject(.created) { json in
          json.name("outcomes")
          json.array { json in for outcome in outcomes { json.string(outcome) } }
        }
      }
    }
    for publication in publications { if !run.publish(publication) { break } }
    run.end()
  }

  private static func body(_ value: JSONValue, _ pointer: String) throws(HTTPProblem) -> Bytes {
    if let encoded = value["bodyBase64"]?.string {
      guard value["body"] == nil, let bytes = Base64.decode(encoded) else {
        throw HTTPProblem(
          .badRequest, "invalid-value", "base 64 is expected here, without `body` beside it",
          at: "\(pointer)/bodyBase64")
      }
      return bytes
    }
    switch value["body"] {
    case nil, .null?: return Bytes()
    case .string(let text)?: return Bytes(text)
    case let other?:
      var json = JSONWriter()
      other.write(to: &json)
      return Bytes(json.bytes)
    }
  }
}
