// ShareEventTests: events of share groups survive their bytes, and what they lead to survives a snapshot.

import MillraceBase
import MillraceDelivery
import MillraceModel
import Testing

@testable import MillraceMetadata

private let topic = TopicID(high: 7, low: 9)
private let other = TopicID(high: 7, low: 10)
private func partition(_ index: Int32, of id: TopicID = topic) -> TopicIDPartition { TopicIDPartition(id, index) }

private let events: [MetadataEvent] = [
  .share(.began(group: "Mühle", partition(1), start: 300)),
  .share(
    .changed(group: "g", partition(0), [.done([0..<5, 7..<9]), .counted([5..<6, 12..<2000], deliveries: 3)])),
  .share(.changed(group: "g", partition(0), [])),
  .share(.forgotten(group: "g", [topic, other])),
]

@Test("every event of share groups is read as it was written, and has its kind's number", arguments: events)
func goldenShareEvents(_ event: MetadataEvent) throws {
  let bytes = event.encoded()
  #expect(try MetadataEvent(bytes) == event)
  for length in 0..<bytes.count {
    #expect(throws: DecodingError.self) { try MetadataEvent(bytes[0..<length]) }
  }
  #expect(throws: DecodingError.self) { try MetadataEvent(Bytes(bytes.array + [0])) }
  #expect(!event.description.isEmpty)
}

@Test("the kinds of share groups' events keep their numbers, which lie in journals")
func goldenShareKinds() { #expect(events.map { $0.encoded().array[0] } == [50, 51, 51, 52]) }

@Test("a share group's state follows its events, survives a snapshot, and goes with topic and group")
func shareStates() throws {
  let world = try MetadataWorld()
  try world.apply(
    .topicCreated(
      name: "t", id: topic, partitions: [PartitionLogID(1), PartitionLogID(2)], configs: [:], time: .none),
    .topicCreated(name: "u", id: other, partitions: [PartitionLogID(3)], configs: [:], time: .none),
    .share(.began(group: "g", partition(0), start: 10)), .share(.began(group: "g", partition(1), start: 0)),
    .share(.began(group: "g", partition(2), start: 0)), .share(.began(group: "h", partition(0, of: other), start: 1)),
    .share(.began(group: "h", partition(0), start: 4)),
    .share(.changed(group: "g", partition(0), [.done([10..<12, 14..<15]), .counted([12..<13], deliveries: 2)])),
    .share(.changed(group: "nobody", partition(0), [.done([0..<99])])))
  let state = try #require(world.metadata.shares["g", partition(0)])
  #expect(state.start == 12 && state.done.ranges == [14..<15] && state.end == 15)
  #expect(world.metadata.shares["g", partition(2)] == nil)
  #expect(Set(world.metadata.shares.names) == ["g", "h"])

  let again = try MetadataWorld()
  try again.metadata.restore(world.metadata.snapshot(), log: again.log)
  #expect(again.metadata.shares == world.metadata.shares)

  try world.apply(.share(.forgotten(group: "h", [other])))
  #expect(Array(world.metadata.shares.partitions(of: "h").keys) == [partition(0)])
  try world.apply(.topicDeleted(id: topic))
  #expect(world.metadata.shares.names.isEmpty)
  try world.apply(.share(.began(group: "h", partition(0, of: other), start: 1)), .groupDeleted(group: "h"))
  #expect(!world.metadata.shares.contains("h"))
}
