// QueueHistoryTests: random histories of queue events lead to the same durable state however they are read.

import MillraceBase
import MillraceDelivery
import MillraceModel
import MillraceRouting
import Testing

@testable import MillraceLog
@testable import MillraceMetadata

/// Makes events that fit the state, and some that do not.
private struct History {
  var random: SeededRandom
  let world: MetadataWorld

  private mutating func pick<Value>(_ values: [Value]) -> Value { values.randomElement(using: &random)! }

  private mutating func virtualHost() -> String { pick(["/", "/", "v", "missing"]) }
  private mutating func name() -> String { pick(["a", "b", "c", "d"]) }

  private mutating func binding() -> Binding {
    let destination: Destination = pick([.queue(name()), .queue(name()), .exchange(name()), .topic(name())])
    let arguments: RoutingTable = pick([.empty, ["n": .int64(1)]])
    return Binding(
      source: pick([name(), "amq.fanout"]), destination: destination, key: pick(["k", "l"]), arguments: arguments)
  }

  private mutating func exchange(isDurable: Bool) throws -> Exchange {
    try Exchange(
      name: name(), type: pick(["fanout", "topic"]), isDurable: isDurable, isAutoDelete: random.next() % 2 == 0)
  }

  private mutating func change() -> QueueChange {
    let lane = pick([0, 0, 1, 2] as [UInt8])
    let offset = Offset(random.next() % 200)
    switch random.next() % 4 {
    case 0: return .counted(lane: lane, offset: offset, count: Int32(random.next() % 5))
    case 1: return .delayed(lane: lane, offset: offset, until: Timestamp(milliseconds: Int64(random.next() % 1000)))
    default: return .done(lane: lane, ranges: [offset..<offset + 9, offset + 20..<offset + 21], bytes: 10)
    }
  }

  mutating func event() throws -> MetadataEvent {
    let number = Int64(random.next() % UInt64(world.metadata.queues.nextNumber + 1))
    switch random.next() % 12 {
    case 0: return .queue(.virtualHostCreated(virtualHost()))
    case 1: return random.next() % 4 == 0 ? .queue(.virtualHostDeleted(pick(["v", "v", "/"]))) : try event()
    case 2: return .queue(.exchangeDeclared(virtualHost: virtualHost(), try exchange(isDurable: random.next() % 5 > 0)))
    case 3, 4: return .queue(.bound(virtualHost: virtualHost(), binding()))
    case 5:
      let host = virtualHost()
      let binding = binding()
      let causes: [RoutingRemoval.Cause] = [
        .binding(binding), .destination(binding.destination), .exchange(binding.source),
      ]
      let cause = pick(causes)
      let removal = world.metadata.queues.routing.removal(of: cause, in: host)
      return .queue(.removed(virtualHost: host, removal ?? RoutingRemoval(cause: cause, autoDeleted: [])))
    case 6, 7:
      let definition = DurableQueue.Definition(
        number: pick([world.metadata.queues.nextNumber, number + 1]), virtualHost: virtualHost(), name: name(),
        isAutoDelete: random.next() % 2 == 0, arguments: ["x": .int64(Int64(random.next() % 9))],
        lanes: world.metadata.newPartitions(1 + Int(random.next() % 3)), created: Timestamp(milliseconds: 1))
      return .queue(.queueCreated(definition))
    case 8: return random.next() % 3 == 0 ? .queue(.queueDeleted(number)) : try event()
    case 9: return .queue(.published(number, lane: pick([0, 1, 2]), bytes: Int64(random.next() % 100)))
    default: return .queue(.changed(number, [change(), change()]))
    }
  }

  /// Something that is not durable comes or goes.
  mutating func transient() throws {
    let host = virtualHost()
    let exchange = try exchange(isDurable: false)
    let binding = binding()
    world.metadata.applyTransient { routing in
      routing.applyDeclare(exchange, in: host)
      routing.applyBind(binding, isDurable: false, in: host)
    }
  }
}

private func topics() -> [MetadataEvent] {
  ["a", "b"].enumerated().map { index, name in
    .topicCreated(
      name: name, id: TopicID(high: 1, low: UInt64(index)), partitions: [PartitionLogID(Int64(index) + 1)],
      configs: [:],
      time: .none)
  }
}

/// What is durable of exchanges and bindings, without the order in which bindings were made.
private func durable(_ queues: Queues) throws -> ([String], [[Exchange]], [Set<[UInt8]>]) {
  let routing = try Routing(snapshot: queues.routing.snapshot())
  let hosts = routing.virtualHosts
  func bytes(_ binding: Binding) -> [UInt8] {
    var writer = ByteWriter()
    writer.binding(binding)
    return writer.finishJoined().array
  }
  return (hosts, hosts.map { routing.exchanges(in: $0) }, hosts.map { Set(routing.bindings(in: $0).map(bytes)) })
}

@Test(
  "oracle: replay, a snapshot in the middle and things that are not durable lead to the same state", arguments: 1...24)
func oracleQueueHistories(_ seed: Int) throws {
  let live = try MetadataWorld()
  var history = History(random: SeededRandom(seed: UInt64(seed)), world: live)
  var events = topics()
  for event in events { try live.apply(event) }
  var middle: (snapshot: Bytes, partitions: [PartitionLogID], at: Int)?
  for step in 0..<200 {
    if step == 100 { middle = (live.metadata.snapshot(), Array(live.log.partitions.keys), events.count) }
    if history.random.next() % 8 == 0 { try history.transient() }
    let event = try history.event()
    #expect(try MetadataEvent(event.encoded()) == event)
    try live.apply(event)
    events.append(event)
  }
  // From the beginning, without what is not durable.
  let replayed = try MetadataWorld()
  for event in events { try replayed.apply(event) }
  // From the middle.
  let restored = try MetadataWorld()
  let half = try #require(middle)
  for partition in half.partitions { restored.log.createPartition(partition) }
  try restored.metadata.restore(half.snapshot, log: restored.log)
  #expect(restored.metadata.snapshot() == half.snapshot, "seed \(seed)")
  for event in events[half.at...] { try restored.apply(event) }
  let expected = try durable(live.metadata.queues)
  for world in [replayed, restored] {
    let queues = world.metadata.queues
    #expect(queues.allNumbers == live.metadata.queues.allNumbers, "seed \(seed)")
    for number in queues.allNumbers { #expect(queues[number] == live.metadata.queues[number], "seed \(seed)") }
    #expect(queues.nextNumber == live.metadata.queues.nextNumber, "seed \(seed)")
    #expect(world.metadata.newPartitions(1) == live.metadata.newPartitions(1), "seed \(seed)")
    #expect(Set(world.log.partitions.keys) == Set(live.log.partitions.keys), "seed \(seed)")
    let found = try durable(queues)
    #expect(found.0 == expected.0 && found.1 == expected.1 && found.2 == expected.2, "seed \(seed)")
  }
  // The logs are those of topics and of the lanes of queues.
  let lanes = live.metadata.queues.allNumbers.flatMap { live.metadata.queues[$0]?.definition.lanes ?? [] }
  #expect(Set(live.log.partitions.keys) == Set(lanes).union([PartitionLogID(1), PartitionLogID(2)]), "seed \(seed)")
}
