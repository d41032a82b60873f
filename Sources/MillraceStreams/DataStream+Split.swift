// DataStream+Split: one stream to several ends, read and computed once.

import MillraceBase
import MillraceDataflow

extension DataStream {
  /// The same stream, to be used several times in a job: the operators so far run once for all uses, and their state is there once.
  ///
  ///     let orders = DataStream.topic("orders").compactMap(Order.init).shared()
  ///     let job = StreamOutput.job(named: "orders", [
  ///       orders.filter { $0.cents >= 100_000 }.map(\.text).to(topic: "large"),
  ///       orders.keyBy(\.customer).count(name: "orders").to(topic: "counts"),
  ///     ])
  ///
  /// Without it each output of a job runs all its operators by itself. Each call makes another shared stream.
  ///
  /// An operator that has several kinds of results hands on an enum, and each branch of the shared stream takes one kind with
  /// ``compactMap(_:)``; results of one type that are to be told apart by a name are for ``split(by:)``.
  @inlinable
  public func shared() -> DataStream<Shared<Source>> { DataStream<Shared<Source>>(Shared(flow, SharedIdentity())) }

  /// The values by branches; see ``SplitStream``.
  ///
  ///     let byRegion = orders.split { $0.region }
  ///     byRegion["eu"].to(topic: "orders-eu")
  ///
  /// - Parameter tag: names the branch of a value, once for each value. What no branch was made for goes nowhere.
  @inlinable
  public func split<Tag: Equatable & Sendable>(
    by tag: @escaping @Sendable (Source.Output) -> Tag
  ) -> SplitStream<Source, Tag> {
    SplitStream(map { Tagged(tag: tag($0), value: $0) }.shared())
  }

  /// What a closure makes of each value, unless it is nil.
  @inlinable
  public func compactMap<Output>(
    _ transform: @escaping @Sendable (Source.Output) -> Output?
  ) -> DataStream<CompactMap<Source, Output>> {
    DataStream<CompactMap<Source, Output>>(CompactMap(flow, transform))
  }
}

/// A stream whose values go to branches by name. What lies before the branches runs once for all of them.
public struct SplitStream<Source: Flow, Tag: Equatable & Sendable>: Sendable {
  @usableFromInline let tagged: DataStream<Shared<Map<Source, Tagged<Tag, Source.Output>>>>

  @inlinable
  init(_ tagged: DataStream<Shared<Map<Source, Tagged<Tag, Source.Output>>>>) { self.tagged = tagged }

  /// The values of one branch.
  @inlinable
  public subscript(tag: Tag) -> DataStream<some Flow<Source.Output>> {
    tagged.compactMap { $0.tag == tag ? $0.value : nil }
  }

  /// The values of all other branches than these.
  @inlinable
  public func others(than tags: [Tag]) -> DataStream<some Flow<Source.Output>> {
    tagged.compactMap { tags.contains($0.tag) ? nil : $0.value }
  }
}
