// Metadata: the events and the snapshot of the broker's state.

import FuzzHarness
import FuzzStorage
import MillraceBase
import MillraceDelivery
import MillraceMetadata
import MillraceModel
import MillraceRouting
import MillraceSimulation

@testable import MillraceLog

/// Events as they lie in the journal; what is accepted must survive writing and reading again.
let metadataEvents = FuzzTarget(
  name: "metadata-events",
  // A snapshot of few bytes may name many virtual hosts, each of which has its own tables once something is declared.
  allowance: 8 << 20,
  seeds: {
    let queue = DurableQueue.Definition(
      number: 1, virtualHost: "/", name: "q", isAutoDelete: false, arguments: ["x-max-priority": .int64(1)],
      lanes: [PartitionLogID(3), PartitionLogID(4)], created: Timestamp(milliseconds: 5))
    let events: [MetadataEvent] = [
      .started(epoch: 3, clusterID: "c"),
      .topicCreated(
        name: "t", id: TopicID(high: 1, low: 2), partitions: [PartitionLogID(1), PartitionLogID(2)],
        configs: ["a": "b"], time: Timestamp(milliseconds: 5)), .topicDeleted(id: TopicID(high: 1, low: 2)),
      .offsetsCommitted(
        group: "g",
        offsets: [
          PartitionOffset(
            partition: TopicPartition("t", 1),
            committed: CommittedOffset(
              offset: 7, leaderEpoch: -1, metadata: "m", time: Timestamp(milliseconds: 5)))
        ]), .producerIDsReserved(next: 1000), .jobStarted(name: "j", epoch: 4),
      .jobOwned(name: "k", epoch: 5, owner: 9), .jobStopped(name: "j", isStopped: true),
      .queue(.virtualHostCreated("v")), .queue(.queueCreated(queue)),
      .queue(.bound(virtualHost: "/", Binding(source: "amq.topic", destination: .queue("q"), key: "#.a"))),
      .queue(
        .changed(1, [.done(lane: 0, ranges: [0..<5, 7..<9], bytes: 99), .counted(lane: 1, offset: 3, count: 2)])),
      .queue(.published(1, lane: 0, bytes: 99)),
      .topicCreated(
        name: "s", id: TopicID(high: 3, low: 4), partitions: [PartitionLogID(9)], configs: [:],
        time: Timestamp(milliseconds: 5)),
      .share(.began(group: "g", TopicIDPartition(TopicID(high: 3, low: 4), 0), start: 2)),
      .share(
        .changed(
          group: "g", TopicIDPartition(TopicID(high: 3, low: 4), 0),
          [.done([2..<5, 7..<9]), .counted([5..<6, 12..<20], deliveries: 3)])),
      .share(.forgotten(group: "h", [TopicID(high: 3, low: 4)])),
    ]
    var seeds = events.map { [0] + $0.encoded().array } + (0...255).map { [0, $0, 1, 0, 0, 0, 0] }
    let world = SimulatedWorld(seed: 1)
    defer { world.tearDown() }
    let metadata = Metadata()
    do throws(LogError) {
      let log = try store(world, metadata)
      for event in events { try metadata.apply(event.encoded(), log: log) }
    } catch {
      preconditionFailure("a seed's event is refused: \(error)")
    }
    seeds.append([1] + metadata.snapshot().array)
    return seeds + [[1, 0, 0, 0, 1]]
  }
) { input in
  var choices = Choices(input)
  if choices.byte() % 2 == 0 {
    do throws(DecodingError) {
      let event = try MetadataEvent(choices.rest())
      let again = try MetadataEvent(event.encoded())
      // By their bytes: what is no number does not equal itself.
      precondition(again.encoded() == event.encoded(), "an event changes when written and read again: \(event)")
    } catch {
      return
    }
  } else {
    // A snapshot of the state that events have led to. The log is asked for nothing that outlasts the input.
    let snapshot = choices.rest()
    let world = SimulatedWorld(seed: 1)
    defer { world.tearDown() }
    let metadata = Metadata()
    do throws(LogError) {
      try metadata.restore(snapshot, log: try store(world, metadata))
    } catch {
      return
    }
    let written = metadata.snapshot()
    let again = Metadata()
    do throws(LogError) {
      try again.restore(written, log: try store(world, again))
    } catch {
      preconditionFailure("a snapshot that was written is refused: \(error)")
    }
    precondition(again.snapshot() == written, "a snapshot changes when written and read again")
  }
}

/// A log in which partitions can be made, and nothing else is.
private func store(_ world: SimulatedWorld, _ metadata: Metadata) throws(LogError) -> LogStore {
  var random = SeededRandom(seed: 1)
  return LogStore(
    replaying: metadata, configuration: smallLog, fileSystem: SimulatedFileSystem(world: world),
    reactor: SimulatedReactor(world: world, name: "log"), logger: .silent, random: &random)
}
