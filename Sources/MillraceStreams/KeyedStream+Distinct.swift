// KeyedStream+Distinct: each key once, and how many different elements a key has.

import MillraceBase
import MillraceDataflow

extension KeyedStream {
  /// The first value of each key, handed on at once; what comes later under the same key is left out.
  ///
  ///     orders.keyBy(\.id).deduplicate(within: .seconds(3600), name: "seen")
  ///
  /// - Parameters:
  ///   - within: for how long, in event time, a key is known: a value that is as much later than the one that was handed on is a first
  ///     one again. The state holds the keys of the last twice that time. Values that are more than that time behind the watermark cannot
  ///     be judged: they are left out and counted in ``JobFigures/lateRecords``. Nil: every key is known for ever.
  ///   - late: takes the values that cannot be judged.
  ///   - name: owns the keys in the job's state; give one when the job's code may change.
  @inlinable
  public func deduplicate(
    within: Duration? = nil, late: (any RecordSink<Source.Output>)? = nil, name: String? = nil
  ) -> DataStream<Deduplicate<Source, Key>> {
    DataStream<Deduplicate<Source, Key>>(Deduplicate(flow, key: key, within: within, late: late, name: name))
  }

  /// How many different elements the values of each key so far had, exactly. A step hands on each key that it brought a new one
  /// for, once. Every element of every key is state; a new one costs the same however many there are.
  ///
  ///     bids.keyBy(\.auction).distinctCount(name: "bidders") { $0.bidder }
  @inlinable
  public func distinctCount<Element: BytesRepresentable>(
    name: String? = nil, _ element: @escaping @Sendable (Source.Output) -> Element
  ) -> DataStream<DistinctCount<Source, Key, Element>> {
    DataStream<DistinctCount<Source, Key, Element>>(DistinctCount(flow, key: key, element: element, name: name))
  }
}
