// EventStreams: the benchmark's events as streams, and as state.

import MillraceDataflow
import MillraceNexmark
import MillraceStreams

/// Records whose values are encoded events.
public typealias NexmarkEvents = DataStream<RecordInput>

extension DataStream where Source == RecordInput {
  /// All events.
  @inlinable public var events: DataStream<ReadEvents<EncodedEvent>> {
    DataStream<ReadEvents<EncodedEvent>>(ReadEvents(flow))
  }
  /// The persons.
  @inlinable public var persons: DataStream<ReadEvents<EncodedPerson>> {
    DataStream<ReadEvents<EncodedPerson>>(ReadEvents(flow))
  }
  /// The auctions.
  @inlinable public var auctions: DataStream<ReadEvents<EncodedAuction>> {
    DataStream<ReadEvents<EncodedAuction>>(ReadEvents(flow))
  }
  /// The bids.
  @inlinable public var bids: DataStream<ReadEvents<EncodedBid>> {
    DataStream<ReadEvents<EncodedBid>>(ReadEvents(flow))
  }
}
