// QueueEventTests: events of queues survive their bytes, lead to the right state, and a snapshot gives that again.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceModel
import MillraceRouting
import Testing

@testable import MillraceMetadata

private func definition(
  _ number: Int64, _ name: String, _ lanes: [Int64], in virtualHost: String = "/", isAutoDelete: Bool = false,
  _ arguments: RoutingTable = .empty
) -> DurableQueue.Definition {
  DurableQueue.Definition(
    number: number, virtualHost: virtualHost, name: name, isAutoDelete: isAutoDelete, arguments: arguments,
    lanes: lanes.map { PartitionLogID($0) }, created: Timestamp(milliseconds: 5))
}

private func exchange(_ name: String, isDurable: Bool = true, isAutoDelete: Bool = false) throws -> Exchange {
  try Exchange(name: name, type: "fanout", isDurable: isDurable, isAutoDelete: isAutoDelete)
}

/// Each kind of event with its bytes behind kind and version, in hexadecimal digits.
private let golden: [(QueueEvent, String)] = [
  (.virtualHostCreated("a"), "3c01 00000001 61"),
  (.virtualHostDeleted("é"), "3d01 00000002 c3a9"),
  (
    .bound(virtualHost: "/", Binding(source: "x", destination: .queue("q"), key: "k")),
    "3f01 00000001 2f 00000001 78 00 00000001 71 00000001 6b 00000000"
  ),
  (
    .removed(virtualHost: "/", RoutingRemoval(cause: .destination(.queue("q")), autoDeleted: ["x"])),
    "4001 00000001 2f 01 00 00000001 71 00000001 00000001 78"
  ),
  (
    .queueCreated(definition(1, "q", [3, 4], isAutoDelete: true, ["x-max-length": .int64(5)])),
    "4101 0000000000000001 00000001 2f 00000001 71 01 0000000000000005"
      + "00000001 0000000c 782d6d61782d6c656e677468 03 0000000000000005 02 0000000000000003 0000000000000004"
  ),
  (.queueDeleted(300), "4201 ac02"),
  (
    .changed(
      1,
      [
        .done(lane: 0, ranges: [1000..<1005, 1010..<1011], bytes: 600), .counted(lane: 2, offset: 7, count: 3),
        .delayed(lane: 0, offset: 8, until: Timestamp(milliseconds: 300)),
      ]),
    "4301 01 03 0100 b009 02 e807 05 05 01  0202 07 06  0300 08 d804"
  ),
  (.published(2, lane: 1, bytes: 64), "4401 02 01 8001"),
]

private func hex(_ bytes: Bytes) -> String {
  bytes.array.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

@Test("the bytes of every queue event, which lie in journals, stay what they are", arguments: golden.indices)
func goldenQueueEvents(_ index: Int) throws {
  let (event, bytes) = golden[index]
  #expect(hex(MetadataEvent.queue(event).encoded()) == bytes.filter { $0 != " " })
  #expect(try MetadataEvent(MetadataEvent.queue(event).encoded()) == .queue(event))
}

@Test("the bytes of an exchange's event stay what they are, too")
func goldenExchangeEvent() throws {
  let declared = try Exchange(
    name: "x", type: "topic", isDurable: true, isAutoDelete: true, arguments: ["alternate-exchange": .string("y")])
  let event = MetadataEvent.queue(.exchangeDeclared(virtualHost: "/", declared))
  #expect(
    hex(event.encoded())
      == "3e01" + "000000012f" + "0000000178" + "00000005746f706963" + "03" + "00000001"
      + "00000012616c7465726e6174652d65786368616e6765" + "050000000179")
  #expect(try MetadataEvent(event.encoded()) == event)
}

@Test("a queue event that is cut off anywhere, or goes on behind its end, is refused", arguments: golden.indices)
func everyQueueEventTruncated(_ index: Int) throws {
  let bytes = MetadataEvent.queue(golden[index].0).encoded()
  for length in 0..<bytes.count {
    #expect(throws: DecodingError.self) { try MetadataEvent(bytes[0..<length]) }
  }
  #expect(throws: DecodingError.self) { try MetadataEvent(Bytes(bytes.array + [0])) }
}

@Test("an acknowledgement of one range takes few bytes")
func compactChange() {
  let change = QueueChange.done(lane: 0, ranges: [1_000_000..<1_000_100], bytes: 100_000)
  #expect(MetadataEvent.queue(.changed(12, [change])).encoded().count == 14)
}

@Test(
  "a queue with no lanes, too many, the same twice or numbers that cannot be is refused",
  arguments: [[], Array(1...257), [3, 3], [0], [-1], [.max]] as [[Int64]])
func impossibleLanes(_ lanes: [Int64]) {
  #expect(throws: DecodingError.self) {
    try MetadataEvent(MetadataEvent.queue(.queueCreated(definition(1, "q", lanes))).encoded())
  }
}

@Test("queue numbers that leave none for the next queue are refused", arguments: [0, -1, .max] as [Int64])
func impossibleNumbers(_ number: Int64) {
  #expect(throws: DecodingError.self) {
    try MetadataEvent(MetadataEvent.queue(.queueCreated(definition(number, "q", [1]))).encoded())
  }
}

@Test("a queue gets its lanes' logs and goes with them; numbers are shared with topics and never given again")
func queueLife() throws {
  let world = try MetadataWorld()
  try world.apply(
    .topicCreated(name: "t", id: .zero, partitions: [PartitionLogID(1)], configs: [:], time: .none),
    .queue(.queueCreated(definition(1, "q", [2, 3]))), .queue(.queueCreated(definition(2, "r", [4]))))
  let queues = world.metadata.queues
  #expect(queues.count == 2 && queues.allNumbers == [1, 2] && queues.nextNumber == 3)
  #expect(queues.queue("q", in: "/")?.definition == definition(1, "q", [2, 3]))
  #expect(queues.number(of: "r", in: "/") == 2 && queues.queue("q", in: "other") == nil)
  #expect(world.metadata.newPartitions(1) == [PartitionLogID(5)])
  try world.apply(.queue(.queueDeleted(1)), .queue(.queueDeleted(1)), .queue(.queueDeleted(9)))
  #expect((1...5).map { world.log.partition(PartitionLogID($0)) != nil } == [true, false, false, true, false])
  #expect(world.metadata.queues[1] == nil && world.metadata.queues.number(of: "q", in: "/") == nil)
  try world.apply(.queue(.queueCreated(definition(3, "q", [5]))))
  #expect(world.metadata.queues.number(of: "q", in: "/") == 3 && world.metadata.queues.nextNumber == 4)
}

@Test("a second queue of a name or number, or one of no virtual host, changes nothing; taken partitions are corruption")
func queuesThatMakeNoSense() throws {
  let world = try MetadataWorld()
  try world.apply(.queue(.queueCreated(definition(1, "q", [1]))))
  let before = world.metadata.snapshot()
  try world.apply(
    .queue(.queueCreated(definition(2, "q", [2]))), .queue(.queueCreated(definition(1, "r", [2]))),
    .queue(.queueCreated(definition(2, "r", [2], in: "missing"))))
  #expect(throws: LogError.self) { try world.apply(.queue(.queueCreated(definition(2, "r", [2, 1])))) }
  #expect(world.metadata.snapshot() == before && world.log.partition(PartitionLogID(2)) == nil)
}

@Test("names are told apart by their bytes, also where Swift finds them equal")
func namesAreBytes() throws {
  let world = try MetadataWorld()
  try world.apply(
    .queue(.queueCreated(definition(1, "\u{e9}", [1]))), .queue(.queueCreated(definition(2, "e\u{301}", [2]))))
  #expect(world.metadata.queues.number(of: "\u{e9}", in: "/") == 1)
  #expect(world.metadata.queues.number(of: "e\u{301}", in: "/") == 2)
}

@Test("changes and bytes add up lane by lane; those of queues and lanes that are not there change nothing")
func changesAddUp() throws {
  let world = try MetadataWorld()
  let done = QueueChange.done(lane: 1, ranges: [0..<2, 5..<6], bytes: 30)
  try world.apply(
    .queue(.queueCreated(definition(1, "q", [1, 2]))), .queue(.published(1, lane: 1, bytes: 100)),
    .queue(.published(1, lane: 1, bytes: 50)), .queue(.published(1, lane: 0, bytes: 7)),
    .queue(.changed(1, [.counted(lane: 1, offset: 0, count: 2), done, .counted(lane: 1, offset: 3, count: 1)])))
  let expected = world.metadata.snapshot()
  try world.apply(
    .queue(.published(1, lane: 2, bytes: 1)), .queue(.published(1, lane: 0, bytes: -5)),
    .queue(.published(2, lane: 0, bytes: 1)), .queue(.changed(2, [done])),
    .queue(.changed(1, [.done(lane: 2, ranges: [0..<1], bytes: 1)])))
  #expect(world.metadata.snapshot() == expected)
  let queue = try #require(world.metadata.queues[1])
  #expect(queue.publishedBytes == [0: 7, 1: 150])
  var state = QueueState()
  for change in [done, .counted(lane: 1, offset: 3, count: 1)] { state.apply(change) }
  #expect(queue.state == state && queue.state.lanes[1]?.start == 2 && queue.state.lanes[1]?.doneBytes == 30)
  try world.apply(.queue(.published(1, lane: 0, bytes: .max)))
  #expect(world.metadata.queues[1]?.publishedBytes[0] == .max)
}

@Test("a deleted virtual host takes its exchanges, bindings and queues along, and the logs of their lanes")
func virtualHostsGo() throws {
  let world = try MetadataWorld()
  try world.apply(
    .queue(.virtualHostCreated("v")), .queue(.queueCreated(definition(1, "q", [1], in: "v"))),
    .queue(.queueCreated(definition(2, "q", [2]))), .queue(.queueCreated(definition(3, "r", [3, 4], in: "v"))),
    .queue(.exchangeDeclared(virtualHost: "v", try exchange("x"))), .queue(.virtualHostDeleted("v")))
  #expect((1...4).map { world.log.partition(PartitionLogID($0)) != nil } == [false, true, false, false])
  #expect(world.metadata.queues.allNumbers == [2] && world.metadata.queues.routing.virtualHosts == ["/"])
  #expect(world.metadata.queues.queue("r", in: "v") == nil)
  try world.apply(.queue(.virtualHostCreated("v")))
  #expect(world.metadata.queues.routing.exchange("x", in: "v") == nil)
}

@Test(
  "bindings to queues and topics that are not there, and exchanges that are not durable or reserved, change nothing")
func routingThatMakesNoSense() throws {
  let world = try MetadataWorld()
  let fanout = Binding(source: "amq.fanout", destination: .queue("q"))
  let topic = Binding(source: "amq.fanout", destination: .topic("t"))
  let before = world.metadata.snapshot()
  try world.apply(
    .queue(.bound(virtualHost: "/", fanout)), .queue(.bound(virtualHost: "/", topic)),
    .queue(.exchangeDeclared(virtualHost: "/", try exchange("x", isDurable: false))),
    .queue(.exchangeDeclared(virtualHost: "/", try exchange("amq.mine"))),
    .queue(.exchangeDeclared(virtualHost: "missing", try exchange("x"))))
  #expect(world.metadata.queues.routing.exchanges(in: "/") == Routing().exchanges(in: "/"))
  #expect(world.metadata.snapshot() == before)
  try world.apply(
    .queue(.queueCreated(definition(1, "q", [2]))), .queue(.bound(virtualHost: "/", fanout)),
    .topicCreated(name: "t", id: .zero, partitions: [PartitionLogID(1)], configs: [:], time: .none),
    .queue(.bound(virtualHost: "/", topic)))
  #expect(world.metadata.queues.routing.bindings(in: "/") == [fanout, topic])
}

@Test("what is not durable is routed to, is in no snapshot, and gives way to what an event makes durable")
func transientGivesWay() throws {
  let world = try MetadataWorld()
  try world.apply(.queue(.queueCreated(definition(1, "q", [1]))))
  let before = world.metadata.snapshot()
  let toQueue = Binding(source: "x", destination: .queue("q"), key: "k")
  world.metadata.applyTransient { routing in
    if let transient = try? exchange("x", isDurable: false) { routing.applyDeclare(transient, in: "/") }
    routing.applyBind(toQueue, isDurable: false, in: "/")
    routing.applyBind(Binding(source: "amq.fanout", destination: .exchange("x")), isDurable: false, in: "/")
    routing.applyBind(Binding(source: "amq.direct", destination: .queue("q")), isDurable: false, in: "/")
  }
  var random = SeededRandom(seed: 1)
  var result = RouteResult()
  try world.metadata.route(to: Bytes("x"), in: "/", key: Bytes("k"), random: &random, into: &result)
  #expect(result.routes.map(\.destination) == [.queue("q")])
  #expect(world.metadata.snapshot() == before)
  try world.apply(
    .queue(.exchangeDeclared(virtualHost: "/", try exchange("x"))), .queue(.bound(virtualHost: "/", toQueue)),
    .queue(.bound(virtualHost: "/", Binding(source: "amq.direct", destination: .queue("q")))))
  let restored = Metadata()
  try restored.restore(world.metadata.snapshot(), log: world.log)
  #expect(restored.queues.routing.bindings(in: "/").count == 2)
  #expect(restored.queues.routing.bindings(in: "/") == world.metadata.queues.routing.bindings(in: "/"))
}

@Test("a snapshot from before there were queues is the state with the virtual host / alone")
func snapshotWithoutQueues() throws {
  let world = try MetadataWorld()
  try world.apply(.groupEpochsReserved(group: "g", next: 7))
  let snapshot = world.metadata.snapshot()
  #expect(snapshot.array.suffix(18) == [3, 0, 0, 0, 13, 0, 0, 0, 1, 0, 0, 0, 1, 103, 0, 0, 0, 7])
  let restored = Metadata()
  try restored.restore(snapshot, log: world.log)
  #expect(restored.queues.routing.virtualHosts == ["/"] && restored.queues.nextNumber == 1)
}

@Test("a snapshot whose queues contradict each other is refused")
func contradictions() throws {
  let world = try MetadataWorld()
  try world.apply(
    .queue(.queueCreated(definition(1, "q", [1]))), .queue(.queueCreated(definition(2, "r", [2]))),
    .queue(.published(1, lane: 0, bytes: 9)))
  let snapshot = try #require(world.metadata.queues.snapshot()).array
  func read(_ change: (inout [UInt8]) throws -> Void) throws -> Queues {
    var bytes = snapshot
    try change(&bytes)
    var reader = ByteReader(Bytes(bytes))
    return try Queues(&reader)
  }
  #expect(try read { _ in }.snapshot()?.array == snapshot)
  let name = try #require(snapshot.lastIndex(of: UInt8(ascii: "r")))
  #expect(throws: DecodingError.self) { try read { $0[name] = UInt8(ascii: "q") } }
  #expect(throws: DecodingError.self) { try read { $0[name - 5] = UInt8(ascii: "v") } }
  #expect(throws: DecodingError.self) { try read { $0[7] = 2 } }
  #expect(throws: DecodingError.self) { try read { $0[name + 10] = 2 } }
}

@Test("an event in words is one line, whatever its names are")
func eventsInWords() throws {
  #expect(
    golden.map { MetadataEvent.queue($0.0).description } == [
      "vhost \"a\" created", "vhost \"é\" deleted",
      "vhost \"/\": bound exchange \"x\" to queue \"q\", key \"k\"",
      "vhost \"/\": bindings to queue \"q\" removed, with exchanges \"x\"",
      "queue 1 created: \"q\" in vhost \"/\", partition numbers 3 4", "queue 300 deleted",
      "queue 1: lane 0 done 1000..<1005 1010..<1011 (600 B); lane 2 offset 7 failed 3 times; "
        + "lane 0 offset 8 waits until 1970-01-01T00:00:00.300Z", "queue 2: 64 B published to lane 1",
    ])
  #expect(MetadataEvent.queue(.virtualHostCreated("a\nb\u{1b}")).description == #"vhost "a\nb\u{1B}" created"#)
  let configured = MetadataEvent.topicConfigured(id: .zero, changes: ["b": nil, "a": "1"])
  #expect(configured.description == "topic of id AAAAAAAAAAAAAAAAAAAAAA: settings a=\"1\" b=standard")
}
