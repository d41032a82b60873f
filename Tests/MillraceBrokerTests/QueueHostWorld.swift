// QueueHostWorld: queues of a broker on a simulated machine, with a client that notes what it gets.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceModel
import MillraceRouting
import Testing

@testable import MillraceBroker

/// Properties as text, `name=value` separated by semicolons.
final class TextFormat: MessageFormat {
  let code: UInt8 = 200

  static func fields(_ properties: Bytes) -> [(name: String, value: String)] {
    properties.text.split(separator: ";").compactMap { field in
      let parts = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      return parts.count == 2 ? (String(parts[0]), String(parts[1])) : nil
    }
  }

  func text(_ name: String, _ properties: Bytes) -> String? {
    TextFormat.fields(properties).first { $0.name == name }?.value
  }

  func facts(_ properties: Bytes) -> MessageFacts {
    var facts = MessageFacts()
    facts.isPersistent = true
    facts.priority = text("priority", properties).flatMap { UInt8($0) } ?? 0
    facts.timeToLive = text("ttl", properties).flatMap { Int64($0) }
    facts.delay = text("delay", properties).flatMap { Int64($0) }
    facts.messageID = text("id", properties).map { Bytes($0) }
    return facts
  }

  func published(_ properties: Bytes) throws(RoutingError) -> (properties: Bytes, facts: MessageFacts) {
    (properties, facts(properties))
  }

  func headers(_ properties: Bytes) -> RoutingTable {
    RoutingTable(TextFormat.fields(properties).map { RoutingTable.Field($0.name, .string($0.value)) })
  }

  func header(_ name: String, _ properties: Bytes) -> Bytes? { text(name, properties).map { Bytes($0) } }

  func property(_ property: MessageProperty, _ properties: Bytes) -> Bytes? { nil }

  func deadLettered(_ properties: Bytes, _ death: MessageDeath) -> Bytes {
    let kept = TextFormat.fields(properties).filter { $0.name != "ttl" }.map { "\($0.name)=\($0.value)" }
    return Bytes((["death=\(death.queue):\(death.reason)"] + kept).joined(separator: ";"))
  }

  func recordHeaders(_ properties: Bytes) -> [RecordHeader] {
    TextFormat.fields(properties).map { RecordHeader($0.name, Bytes($0.value)) }
  }

  func properties(of record: Record) -> Bytes {
    Bytes(record.headers.map { "\($0.key)=\($0.value?.text ?? "")" }.joined(separator: ";"))
  }

  func deaths(_ properties: Bytes) -> [(queue: String, reason: String)] {
    TextFormat.fields(properties).filter { $0.name == "death" }.map {
      let parts = $0.value.split(separator: ":")
      return (String(parts[0]), String(parts[1]))
    }
  }
}

extension TextFormat {
  func withoutHistory(_ properties: Bytes) -> Bytes {
    let kept = TextFormat.fields(properties).filter { $0.name != "death" }.map { "\($0.name)=\($0.value)" }
    return Bytes(kept.joined(separator: ";"))
  }
}

/// What a consumer got.
final class DeliveryNotes: DeliverySink {
  var deliveries: [(delivery: Delivery, consumer: QueueConsumer)] = []
  var ends: [QueueConsumer.EndReason] = []

  func deliver(_ delivery: Delivery, to consumer: QueueConsumer) { deliveries.append((delivery, consumer)) }
  func ended(_ consumer: QueueConsumer, _ reason: QueueConsumer.EndReason) { ends.append(reason) }

  var bodies: [String] { deliveries.map { $0.delivery.message.body.text } }
  var properties: [String] { deliveries.map { $0.delivery.message.properties.text } }

  /// Settles the first delivery of `body` that was noted, and forgets it.
  func settle(_ body: String, _ settlement: Settlement) throws {
    let index = try #require(deliveries.firstIndex { $0.delivery.message.body.text == body })
    let (delivery, consumer) = deliveries.remove(at: index)
    #expect(consumer.settle(delivery.position, settlement))
  }

  func acknowledgeAll() {
    for (delivery, consumer) in deliveries { #expect(consumer.settle(delivery.position, .acknowledge)) }
    deliveries = []
  }
}

final class QueueHostWorld {
  let machine: AdminWorld
  let format = TextFormat()
  var owner = QueueOwner(name: "client")
  private var publisher: QueuePublisher!
  private(set) var confirmed: Set<UInt64> = []
  private(set) var refused: Set<UInt64> = []
  private var nextTag: UInt64 = 1
  var broker: Broker { machine.broker }
  var queues: QueueBroker { machine.broker.queues }

  init(_ configuration: LogConfiguration = LogConfiguration(directory: "/data")) throws {
    machine = try AdminWorld(configuration)
    connect()
  }

  private func connect() {
    queues.register(format)
    owner = QueueOwner(name: "client")
    publisher = QueuePublisher(queues) { [unowned self] tags, isAccepted in
      if isAccepted { confirmed.formUnion(tags) } else { refused.formUnion(tags) }
    }
  }

  /// Files that are soon full.
  static var smallJournal: LogConfiguration {
    var configuration = LogConfiguration(directory: "/data")
    configuration.journalFileSize = 32 << 10
    configuration.firstJournalFileSize = 16 << 10
    return configuration
  }

  /// Fills the disk until publications to a queue of its own, `filler`, are refused. What is in the journal cannot be drained then,
  /// so that no file of it is used again.
  func fillDisk() throws {
    try declare("filler")
    machine.disk.capacity = 0
    while refused.isEmpty {
      for _ in 0..<10 { try publish(String(repeating: "x", count: 1000), to: "filler") }
      try pass(.milliseconds(100))
    }
  }

  /// Loses power and starts again.
  func restart() throws {
    try machine.restart()
    connect()
  }

  @discardableResult
  func declare(
    _ name: String, isDurable: Bool = true, isExclusive: Bool = false, isAutoDelete: Bool = false,
    _ arguments: RoutingTable = .empty
  ) throws -> QueueStatus {
    var declaration = QueueDeclaration(name: name, virtualHost: "/")
    declaration.isDurable = isDurable
    declaration.isExclusive = isExclusive
    declaration.isAutoDelete = isAutoDelete
    declaration.arguments = arguments
    return try machine.wait { queues.declare(declaration, in: "/", owner: owner, completion: $0) }.get()
  }

  func check(_ call: (@escaping (RoutingError?) -> Void) -> Void) throws {
    let error: RoutingError?? = try machine.wait { (done: @escaping (RoutingError??) -> Void) in
      call { done(.some($0)) }
    }
    if let error = error ?? nil { throw error }
  }

  func publication(_ body: String, to key: String, exchange: String = "", _ properties: String = "") -> Publication {
    Publication(
      virtualHost: "/", exchange: Bytes(exchange), routingKey: Bytes(key), format: format,
      properties: Bytes(properties), body: Bytes(body), facts: format.facts(Bytes(properties)))
  }

  /// How many queues and topics a message would go to.
  func routeCount(_ publication: Publication) throws -> Int {
    try queues.route(publication, allowsInternal: false)
    return queues.routes.routes.count { queues.target($0, publication) != nil }
  }

  /// Publishes; the tag.
  @discardableResult
  func publish(_ body: String, to key: String, exchange: String = "", _ properties: String = "") throws -> UInt64 {
    let tag = nextTag
    nextTag += 1
    let count = try publisher.publish(publication(body, to: key, exchange: exchange, properties), tag: tag)
    if count == 0 { confirmed.insert(tag) }
    return tag
  }

  /// Publishes and waits for all confirms.
  func publishAndWait(_ bodies: [String], to key: String, exchange: String = "", _ properties: String = "") throws {
    var tags: Set<UInt64> = []
    for body in bodies { tags.insert(try publish(body, to: key, exchange: exchange, properties)) }
    try #require(machine.world.run { tags.isSubset(of: confirmed) })
  }

  func consume(_ queue: String, credit: Int = 0, into notes: DeliveryNotes) throws -> QueueConsumer {
    var options = ConsumerOptions()
    options.credit = credit
    return try queues.consume(queue, in: "/", owner: owner, options: options, sink: notes)
  }

  /// Lets the world go on until `condition` holds.
  func until(_ condition: () -> Bool) throws {
    let holds = machine.world.run(until: condition)
    try #require(holds)
  }

  /// Lets everything happen that happens within `time`.
  func pass(_ time: Duration) throws {
    var isOver = false
    broker.reactor.schedule(after: time) { isOver = true }
    try #require(machine.world.run { isOver })
  }
}
