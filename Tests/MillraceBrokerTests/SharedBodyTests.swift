// SharedBodyTests: a large message that goes to several queues is written once, in the place that it has in each of them.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceModel
import MillraceRouting
import Testing

@testable import MillraceBroker

extension QueueHostWorld {
  /// Declares queues behind `amq.fanout`.
  fileprivate func fan(_ names: [String], _ arguments: RoutingTable = .empty, isDurable: Bool = true) throws {
    for name in names {
      try declare(name, isDurable: isDurable, arguments)
      try bind(name, "amq.fanout")
    }
  }

  fileprivate func bind(_ queue: String, _ exchange: String) throws {
    try check {
      queues.bind(
        Binding(source: exchange, destination: .queue(queue), key: ""), in: "/", owner: nil, completion: $0)
    }
  }

  fileprivate var written: Int { Int(broker.log.journalFigures.bytesWritten) }

  /// What a queue holds, in its order, taken out of it.
  fileprivate func takeAll(_ queue: String) throws -> [Message] {
    let notes = DeliveryNotes()
    let consumer = try queues.attach(queue, in: "/", owner: nil, sink: notes)
    var out: [Message] = []
    while let got = try machine.wait({ consumer.get(isNoAck: true, completion: $0) }) {
      out.append(got.delivery.message)
    }
    consumer.close(isFailure: false)
    return out
  }
}

private func numbers(_ range: Range<Int>) -> [String] { range.map { "m\($0)" } }

private func body(_ name: String, _ size: Int) -> String {
  name + String(repeating: Character(UnicodeScalar(97 + UInt8(size % 26))), count: size)
}

@Suite("shared bodies")
struct SharedBodyTests {
  @Test("a message of 1 MiB for 50 queues is written once, and each of them has it after a power loss")
  func writtenOnce() throws {
    let world = try QueueHostWorld()
    let names = (0..<50).map { "q\($0)" }
    try world.fan(names)
    // So that no two of them have it at the same offset.
    for (index, name) in names.enumerated() { try world.publishAndWait(numbers(0..<index % 7), to: name) }
    let before = world.written
    let large = body("large", 1 << 20)
    try world.publishAndWait([large], to: "", exchange: "amq.fanout")
    #expect(world.written - before < (1 << 20) + 50_000, "\(world.written - before) bytes written")
    try world.restart()
    for (index, name) in names.enumerated() {
      #expect(try world.takeAll(name).map(\.body.text) == numbers(0..<index % 7) + [large])
    }
  }

  @Test("large and small messages keep their order in every queue, whoever else gets them", arguments: [1 << 20, 4096])
  func order(unit: Int) throws {
    var configuration = LogConfiguration(directory: "/data")
    configuration.segmentBlockSize = unit
    let world = try QueueHostWorld(configuration)
    try world.fan(["a", "b", "c"])
    try world.declare("p", ["x-max-priority": .int64(3)])
    for exchange in ["amq.fanout", "amq.direct"] { try world.bind("p", exchange) }
    try world.bind("b", "amq.direct")
    var expected: [String: [String]] = [:]
    var random = SeededRandom(seed: 11)
    var tags: Set<UInt64> = []
    for number in 0..<200 {
      let size = [10, 100, 4095, 4096, 5000, 30_000][Int.random(in: 0..<6, using: &random)]
      let text = body("\(number)-", size)
      switch Int.random(in: 0..<4, using: &random) {
      case 0:
        let queue = ["a", "b", "c"][Int.random(in: 0..<3, using: &random)]
        tags.insert(try world.publish(text, to: queue))
        expected[queue, default: []].append(text)
      case 1:
        tags.insert(try world.publish(text, to: "", exchange: "amq.direct"))
        for queue in ["b", "p"] { expected[queue, default: []].append(text) }
      default:
        tags.insert(try world.publish(text, to: "", exchange: "amq.fanout"))
        for queue in ["a", "b", "c", "p"] { expected[queue, default: []].append(text) }
      }
      // Several to a turn, and so to a unit.
      if Int.random(in: 0..<5, using: &random) == 0 { try world.until { tags.isSubset(of: world.confirmed) } }
    }
    try world.until { tags.isSubset(of: world.confirmed) }
    try world.restart()
    for (queue, texts) in expected { #expect(try world.takeAll(queue).map(\.body.text) == texts, "\(queue)") }
  }

  @Test("what differs between queues is written for each of them: keys, ids, delays")
  func differentRecords() throws {
    let world = try QueueHostWorld()
    try world.fan(["plain-1", "plain-2"])
    try world.fan(["by-a"], ["x-group-by": .string("a")])
    try world.fan(["by-b"], ["x-group-by": .string("b")])
    try world.fan(["once"], ["x-deduplication-count": .int64(10)])
    try world.fan(["low", "high"], ["x-max-priority": .int64(9)])
    try world.fan(["passing"], isDurable: false)
    let later = try Exchange(
      name: "later", type: "x-delayed-message", isDurable: true, arguments: ["x-delayed-type": .string("fanout")])
    try world.check { world.queues.declareExchange(later, in: "/", completion: $0) }
    for queue in ["plain-1", "plain-2"] { try world.bind(queue, "later") }
    let large = body("x", 100_000)
    let before = world.written
    try world.publishAndWait([large], to: "", exchange: "amq.fanout", "a=1;b=2;id=i;priority=5;ttl=60000")
    // Four records: without a key, with either, and with the id.
    #expect(world.written - before < 4 * 101_000 + 30_000 && world.written - before > 4 * 100_000)
    let middle = world.written
    try world.publishAndWait([body("y", 100_000)], to: "", exchange: "later", "delay=1000")
    #expect(world.written - middle < 101_000 + 30_000)
    try world.restart()
    for (queue, group, id) in [
      ("by-a", "1", nil), ("by-b", "2", nil), ("once", nil, "i"), ("low", nil, nil), ("high", nil, nil),
    ] as [(String, String?, String?)] {
      let found = try world.takeAll(queue)
      #expect(found.map(\.body.text) == [large], "\(queue)")
      #expect(found.first?.groupKey?.text == group && found.first?.deduplicationID?.text == id, "\(queue)")
      #expect(found.first?.priority == (queue == "low" || queue == "high" ? 5 : 0))
      #expect(found.first?.expiration != Timestamp.none)
    }
    for queue in ["plain-1", "plain-2"] {
      #expect(try world.takeAll(queue).map(\.body.count) == [100_001])
    }
    try world.pass(.seconds(2))
    for queue in ["plain-1", "plain-2"] { #expect(try world.takeAll(queue).map(\.body.text) == [body("y", 100_000)]) }
  }

  @Test("a message of 16 MiB for 1,000 queues is one commit; a hundred copies for other queues are refused as too many")
  func sixteenMebibytes() throws {
    let world = try QueueHostWorld()
    let names = (0..<1000).map { "q\($0)" }
    try world.fan(names)
    let before = world.written
    let large = body("large", 16 << 20)
    try world.publishAndWait([large], to: "", exchange: "amq.fanout")
    #expect(world.written - before < (17 << 20))
    let size = try names.reduce(Int64(0)) { sum, name in
      sum + (try #require(world.queues.find(name, in: "/"))).logs.reduce(0) { $0 + $1.size }
    }
    #expect(size > 16_000 << 20, "each counts its own in full")
    for name in names where name.hasSuffix("99") {
      #expect(try world.takeAll(name).map(\.body.count) == [large.utf8.count])
    }
    for index in 0..<40 {
      try world.declare("own\(index)", ["x-group-by": .string("k")])
      try world.bind("own\(index)", "amq.direct")
    }
    let refused = #expect(throws: RoutingError.self) {
      try world.publish(large, to: "", exchange: "amq.direct")
    }
    #expect(refused?.code == .resourceError)
  }

  @Test("a message that nearly fills a commit is written for each of its queues, and counted so")
  func fillsACommit() throws {
    var configuration = LogConfiguration(directory: "/data")
    configuration.largestUnit = 1 << 20
    let world = try QueueHostWorld(configuration)
    let names = (0..<5).map { "q\($0)" }
    try world.fan(names)
    for (size, copies) in [(900_000, 1), (1_000_000, 5)] {
      let before = world.written
      let publication = world.publication(body("x", size), to: "", exchange: "amq.fanout")
      let all = try world.queues.size(of: publication, in: world.queues.targets(of: publication))
      #expect(all >= copies * size && all < (copies + 1) * size)
      try world.publishAndWait([body("x", size)], to: "", exchange: "amq.fanout")
      #expect((world.written - before) / size == copies)
    }
    try world.restart()
    for name in names { #expect(try world.takeAll(name).map(\.body.count) == [900_001, 1_000_001]) }
  }

  @Test("queues that read the same large body after a start hold it in memory once, and others theirs")
  func heldOnce() throws {
    let world = try QueueHostWorld()
    let names = (0..<20).map { "q\($0)" }
    try world.fan(names)
    try world.declare("other")
    let large = body("large", 1 << 20)
    var other = Array(large.utf8)
    other[700_000] ^= 1
    try world.publishAndWait([large], to: "", exchange: "amq.fanout", "k=v")
    try world.publishAndWait([String(decoding: other, as: UTF8.self)], to: "other")
    try world.restart()
    let notes = DeliveryNotes()
    for name in names + ["other"] { _ = try world.consume(name, into: notes) }
    try world.until { notes.deliveries.count == 21 }
    #expect(Set(notes.deliveries.map(\.delivery.message.body.start)).count == 2)
    #expect(notes.bodies.count { $0 == large } == 20)
    // Nor does anything else of a message keep what it was read into.
    let keeping = notes.deliveries.count { ($0.delivery.message.properties.owner as? Chunk)?.capacity ?? 0 > 1 << 20 }
    #expect(keeping <= 2, "\(keeping) messages keep their own")
    // What nobody holds is not kept for the sake of this.
    let start = try #require(notes.deliveries.first).delivery.message.body.start
    notes.acknowledgeAll()
    try world.publishAndWait(["next"], to: "", exchange: "amq.fanout")
    try world.until { notes.deliveries.count == 20 }
    #expect(notes.deliveries.allSatisfy { $0.delivery.message.body.start != start })
  }

  @Test("a transaction's large messages are written once for all their queues, and count once against what it may have")
  func transaction() throws {
    let world = try QueueHostWorld()
    try world.fan(["a", "b", "c", "d"])
    try world.publishAndWait(["before"], to: "b")
    let before = world.written
    let texts = [body("one", 10 << 20), body("two", 5000), "small", body("three", 5 << 20)]
    var transaction = QueueTransaction()
    for text in texts { transaction.publications.append(world.publication(text, to: "", exchange: "amq.fanout")) }
    let counts = try world.machine.wait { world.queues.commit(transaction, completion: $0) }.get()
    #expect(counts == [4, 4, 4, 4])
    #expect(world.written - before < (16 << 20))
    try world.restart()
    for queue in ["a", "c", "d"] { #expect(try world.takeAll(queue).map(\.body.text) == texts) }
    #expect(try world.takeAll("b").map(\.body.text) == ["before"] + texts)
  }

  @Test("a dead letter for several queues is written once, with its history")
  func deadLetters() throws {
    let world = try QueueHostWorld()
    try world.declare("q", ["x-dead-letter-exchange": .string("amq.fanout")])
    try world.fan(["a", "b", "c"])
    try world.publishAndWait(["before"], to: "b")
    let large = body("large", 1 << 20)
    try world.publishAndWait([large, "small"], to: "q")
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 2 }
    let before = world.written
    for (delivery, consumer) in notes.deliveries { #expect(consumer.settle(delivery.position, .discard)) }
    try world.until { world.queues.find("c", in: "/")?.queue.length == 2 }
    #expect(world.written - before < (1 << 20) + 50_000)
    try world.restart()
    for queue in ["a", "b", "c"] {
      let found = try world.takeAll(queue).filter { $0.body.text != "before" }
      #expect(found.map(\.body.text) == [large, "small"], "\(queue)")
      #expect(found.allSatisfy { $0.properties.text.hasPrefix("death=q:rejected") })
    }
    #expect(try world.queues.inspect("q", in: "/", owner: nil).messageCount == 0)
  }

  @Test("a queue that is deleted before a unit is written leaves the others theirs, whoever had the record first")
  func deletedMeanwhile() throws {
    for doomed in ["a", "b", "c"] {
      let world = try QueueHostWorld()
      try world.fan(["a", "b", "c"])
      let large = body("large", 9000)
      let tag = try world.publish(large, to: "", exchange: "amq.fanout")
      let gone: Result<Int, RoutingError> = try world.machine.wait {
        world.queues.delete(doomed, in: "/", owner: nil, completion: $0)
      }
      _ = try gone.get()
      try world.until { world.confirmed.contains(tag) }
      try world.restart()
      for queue in ["a", "b", "c"] where queue != doomed {
        #expect(try world.takeAll(queue).map(\.body.text) == [large], "\(queue), without \(doomed)")
      }
    }
  }

  @Test("messages are the same record only when every field is the same")
  func sameRecords() {
    let bytes = Bytes([UInt8](repeating: 7, count: 100))
    func make(_ change: (inout Fields) -> Void = { _ in }) -> Message {
      var fields = Fields(body: bytes)
      change(&fields)
      return Message(
        offset: fields.offset, priority: fields.priority, timestamp: fields.timestamp, exchange: fields.exchange,
        routingKey: fields.key, properties: fields.properties, body: fields.body, size: fields.size,
        expiration: fields.expiration, notBefore: fields.notBefore, groupKey: fields.group,
        deduplicationID: fields.id, isDurable: fields.isDurable, format: fields.format)
    }
    func record(_ message: Message) -> Bytes {
      var builder = RecordBatchBuilder()
      MessageRecord.append(message, to: &builder)
      return builder.finish()
    }
    let one = make()
    for change: (inout Fields) -> Void in [{ $0.offset = 9 }, { $0.priority = 4 }, { $0.properties = Bytes("p=1") }] {
      #expect(MessageRecord.isSame(one, make(change)) && record(one) == record(make(change)))
    }
    for change: (inout Fields) -> Void in [
      { $0.timestamp = Timestamp(milliseconds: 6) }, { $0.exchange = "f" }, { $0.key = "l" },
      { $0.properties = Bytes("p=2") }, { $0.size = 300 }, { $0.expiration = Timestamp(milliseconds: 7) },
      { $0.notBefore = Timestamp(milliseconds: 7) }, { $0.group = Bytes("h") }, { $0.group = nil },
      { $0.id = Bytes("j") }, { $0.id = nil }, { $0.isDurable = false }, { $0.format = 3 },
      { $0.body = bytes[0..<99] },
    ] {
      #expect(!MessageRecord.isSame(one, make(change)) && record(one) != record(make(change)))
    }
  }
}

/// What a message is made of.
private struct Fields {
  var offset: Offset = 1
  var priority: UInt8 = 0
  var timestamp = Timestamp(milliseconds: 5)
  var exchange = "e"
  var key = "k"
  var properties = Bytes("p=1")
  var body: Bytes
  var size = 200
  var expiration = Timestamp(milliseconds: 50)
  var notBefore = Timestamp(milliseconds: 20)
  var group: Bytes? = Bytes("g")
  var id: Bytes? = Bytes("i")
  var isDurable = true
  var format: UInt8 = 2

  init(body: Bytes) { self.body = body }
}
