// Histogram: latency figures in fixed memory, for metrics and benchmarks.

/// Counts of non-negative values (usually nanoseconds) in buckets whose width is at most 1/16 of their value.
///
/// Fixed memory of about 8 KB. One owner; copy it to hand it to another thread.
public struct Histogram: Sendable {
  private var counts: [UInt64]
  /// Values recorded.
  public private(set) var count: UInt64 = 0
  /// Their sum, to compute a mean.
  public private(set) var sum: UInt64 = 0
  /// The largest.
  public private(set) var maximum: UInt64 = 0

  /// No values.
  public init() {
    counts = Array(repeating: 0, count: 61 * 16)
  }

  private static func bucket(_ value: UInt64) -> Int {
    if value < 16 { return Int(value) }
    let exponent = 63 - value.leadingZeroBitCount
    return (exponent - 3) * 16 + Int((value >> UInt64(exponent - 4)) & 15)
  }

  private static func upperEdge(_ bucket: Int) -> UInt64 {
    if bucket < 16 { return UInt64(bucket) }
    let exponent = bucket / 16 + 3
    return (UInt64(16 + bucket % 16) << UInt64(exponent - 4)) + (1 << UInt64(exponent - 4)) - 1
  }

  /// Records one value. O(1).
  public mutating func record(_ value: UInt64) { record(value, times: 1) }

  /// Records a value that came so many times. O(1).
  public mutating func record(_ value: UInt64, times: UInt64) {
    guard times > 0 else { return }
    counts[Histogram.bucket(value)] += times
    count += times
    sum &+= value &* times
    if value > maximum { maximum = value }
  }

  /// Records a duration in nanoseconds; negative ones count as 0.
  public mutating func record(_ duration: Duration) {
    record(UInt64(max(0, duration.inNanoseconds)))
  }

  /// The value below or at which `quantile` (0…1) of the values lie, at most 1/16 too high; 0 when there are none.
  public func value(at quantile: Double) -> UInt64 {
    guard count > 0 else { return 0 }
    let exact = quantile * Double(count)
    let whole = UInt64(exact)
    let rank = max(1, Double(whole) < exact ? whole + 1 : whole)
    var seen: UInt64 = 0
    for (bucket, held) in counts.enumerated() {
      seen += held
      if seen >= rank { return min(Histogram.upperEdge(bucket), maximum) }
    }
    return maximum
  }

  /// How many values lie at or below each of `edges`, which ascend; a value may count up to 1/16 too early or too late.
  /// - Complexity: O(buckets + edges).
  public func counts(upTo edges: [UInt64]) -> [UInt64] {
    var out: [UInt64] = []
    var seen: UInt64 = 0
    var bucket = 0
    for edge in edges {
      while bucket < counts.count, Histogram.upperEdge(bucket) <= edge {
        seen += counts[bucket]
        bucket += 1
      }
      out.append(seen)
    }
    return out
  }

  /// The mean, 0 when there are no values.
  public var mean: Double { count == 0 ? 0 : Double(sum) / Double(count) }

  /// Forgets everything.
  public mutating func reset() { self = Histogram() }
}
