// TimeBuckets: how many durations lie at or below fixed edges, exactly: what one histogram of Prometheus shows.
//
// A queue's own `LatencyHistogram` is finer, but its edges are none that anybody would choose, and as a series of each of ten
// thousand queues it would make a look at the metrics thirty times as large. So these are kept for many queues together.

/// Counts of durations between 1 ms and a day, by 20 edges. 200 bytes; a value, whose owner alone changes it.
public struct TimeBuckets: Sendable {
  /// The longest duration that counts for each bucket, in nanoseconds, ascending. What is longer counts for none.
  public static let edges: [Int64] = [
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000, 250_000_000, 500_000_000,
    1_000_000_000, 2_500_000_000, 5_000_000_000, 10_000_000_000, 30_000_000_000, 60_000_000_000, 300_000_000_000,
    1_800_000_000_000, 3_600_000_000_000, 21_600_000_000_000, 86_400_000_000_000,
  ]

  /// Durations for which each edge is the first that is not below them; then those beyond all edges.
  public private(set) var counts = [UInt64](repeating: 0, count: TimeBuckets.edges.count + 1)
  /// Their sum in nanoseconds; stays at its maximum instead of overflowing.
  public private(set) var sumNanoseconds: UInt64 = 0

  /// No durations.
  public init() {}

  /// Durations in all.
  public var count: UInt64 { counts.reduce(0, +) }

  /// Counts one duration; a negative one is taken for 0.
  /// - Complexity: O(edges below it), without an allocation.
  public mutating func record(nanoseconds: Int64) {
    var index = 0
    TimeBuckets.edges.withUnsafeBufferPointer { edges in
      while index < edges.count, edges[index] < nanoseconds { index += 1 }
    }
    counts[index] += 1
    let (sum, overflow) = sumNanoseconds.addingReportingOverflow(UInt64(max(0, nanoseconds)))
    sumNanoseconds = overflow ? .max : sum
  }

  /// Adds all durations of `other`.
  public mutating func add(_ other: TimeBuckets) {
    for (index, held) in other.counts.enumerated() { counts[index] += held }
    let (sum, overflow) = sumNanoseconds.addingReportingOverflow(other.sumNanoseconds)
    sumNanoseconds = overflow ? .max : sum
  }
}
