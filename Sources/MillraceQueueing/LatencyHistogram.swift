// LatencyHistogram: a histogram of durations that takes memory only for the magnitudes it has seen.
//
// Buckets of microseconds, 8 to each power of two, so that a bucket is at most 1/8 of its value wide; below 8 µs one
// for each. Bucket 0 holds what is below 1 µs. Counts stand for a run of whole powers of two: 64 bytes each, so
// latencies from 10 µs to 10 s take about 1.3 KB, and the longest run, up to 2^55 µs, 3.4 KB. `Histogram` of
// MillraceBase is finer and takes 8 KB at once, which is too much three times for each of many queues.

import MillraceBase

/// Counts of durations. Nothing is allocated before the first value. A value; copy it to hand it to another thread.
public struct LatencyHistogram: Sendable {
  /// Counts of the groups from `firstGroup` on, 8 to each.
  private var counts: [UInt64] = []
  private var firstGroup = 0
  /// Durations recorded.
  public private(set) var count: UInt64 = 0
  /// Their sum in nanoseconds; stays at its maximum instead of overflowing.
  public private(set) var sumNanoseconds: UInt64 = 0
  /// The longest, in nanoseconds.
  public private(set) var maximumNanoseconds: UInt64 = 0

  /// No values.
  public init() {}

  /// Group 0 holds buckets 0 to 7; group g > 0 the values from 8·2^(g−1) µs to twice that.
  private static func bucket(_ nanoseconds: UInt64) -> Int {
    let value = nanoseconds / 1000
    if value < 8 { return Int(value) }
    let exponent = 63 - value.leadingZeroBitCount
    return (exponent - 2) * 8 + Int((value >> UInt64(exponent - 3)) & 7)
  }

  /// The first nanosecond beyond the bucket.
  private static func upperEdge(_ bucket: Int) -> UInt64 {
    if bucket < 8 { return UInt64(bucket + 1) * 1000 }
    return (UInt64(8 + bucket % 8 + 1) << UInt64(bucket / 8 - 1)) * 1000
  }

  /// Records one duration, in nanoseconds; negative ones count as 0.
  /// - Complexity: O(1); allocates when a power of two is seen that was outside the range so far.
  public mutating func record(nanoseconds: Int64, times: Int = 1) {
    guard times > 0 else { return }
    let value = UInt64(max(0, nanoseconds))
    let bucket = LatencyHistogram.bucket(value)
    makeRoom(for: bucket / 8)
    counts[bucket - firstGroup * 8] += UInt64(times)
    count += UInt64(times)
    let (product, isLarge) = value.multipliedReportingOverflow(by: UInt64(times))
    let (sum, overflow) = sumNanoseconds.addingReportingOverflow(product)
    sumNanoseconds = isLarge || overflow ? .max : sum
    maximumNanoseconds = max(maximumNanoseconds, value)
  }

  /// Records one duration; negative ones count as 0.
  public mutating func record(_ duration: Duration) { record(nanoseconds: duration.inNanoseconds) }

  private mutating func makeRoom(for group: Int) {
    let first = counts.isEmpty ? group : min(group, firstGroup)
    let end = max(group + 1, firstGroup + counts.count / 8)
    guard (end - first) * 8 > counts.count else { return }
    // Rare, so without the reserve that arrays take when they grow.
    var wider = [UInt64](repeating: 0, count: (counts.isEmpty ? 1 : end - first) * 8)
    for (index, held) in counts.enumerated() { wider[index + (firstGroup - first) * 8] = held }
    counts = wider
    firstGroup = first
  }

  /// Adds all values of `other`.
  public mutating func add(_ other: LatencyHistogram) {
    guard other.count > 0 else { return }
    makeRoom(for: other.firstGroup)
    makeRoom(for: other.firstGroup + other.counts.count / 8 - 1)
    let shift = (other.firstGroup - firstGroup) * 8
    for (index, held) in other.counts.enumerated() { counts[index + shift] += held }
    count += other.count
    let (sum, overflow) = sumNanoseconds.addingReportingOverflow(other.sumNanoseconds)
    sumNanoseconds = overflow ? .max : sum
    maximumNanoseconds = max(maximumNanoseconds, other.maximumNanoseconds)
  }

  /// The mean in seconds, 0 when there are no values.
  public var meanSeconds: Double { count == 0 ? 0 : Double(sumNanoseconds) / Double(count) / 1e9 }

  /// The duration in nanoseconds that a share `quantile` (0…1) of the values does not exceed, at most 1/8 or 1 µs too
  /// high; 0 when there are none.
  public func nanoseconds(atQuantile quantile: Double) -> UInt64 {
    guard count > 0 else { return 0 }
    let rank = max(1, (min(max(quantile, 0), 1) * Double(count)).rounded(.up))
    var seen: UInt64 = 0
    for (index, held) in counts.enumerated() {
      seen += held
      if Double(seen) >= rank { return min(LatencyHistogram.upperEdge(index + firstGroup * 8), maximumNanoseconds) }
    }
    return maximumNanoseconds
  }

  /// The buckets that hold something, shortest first: the first nanosecond beyond each, and how many values are in it.
  public var buckets: [(belowNanoseconds: UInt64, count: UInt64)] {
    counts.enumerated().compactMap { index, held in
      held == 0 ? nil : (LatencyHistogram.upperEdge(index + firstGroup * 8), held)
    }
  }

  /// Bytes on the heap.
  public var heldBytes: Int { counts.isEmpty ? 0 : counts.capacity * 8 + 32 }
}
