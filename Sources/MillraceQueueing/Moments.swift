// Moments: mean and variance of a stream of values, in one pass and without cancellation.

/// Count, mean and sum of squared deviations. Source: Welford 1962; Chan, Golub and LeVeque 1983 for adding two.
public struct Moments: Sendable, Equatable {
  /// Values.
  public private(set) var count: Int = 0
  /// Their mean, 0 when there are none.
  public private(set) var mean = 0.0
  private var squares = 0.0

  /// No values.
  public init() {}

  /// Adds `value`, `times` times. O(1).
  public mutating func add(_ value: Double, times: Int = 1) {
    guard times > 0 else { return }
    combine(count: times, mean: value, squares: 0)
  }

  /// Adds all values of `other`.
  public mutating func add(_ other: Moments) {
    guard other.count > 0 else { return }
    combine(count: other.count, mean: other.mean, squares: other.squares)
  }

  private mutating func combine(count other: Int, mean otherMean: Double, squares otherSquares: Double) {
    let total = Double(count + other)
    let difference = otherMean - mean
    mean += difference * Double(other) / total
    squares += otherSquares + difference * difference * Double(count) * Double(other) / total
    count += other
  }

  /// The variance of a sample, 0 for fewer than two values.
  public var variance: Double { count > 1 ? squares / Double(count - 1) : 0 }

  /// The squared coefficient of variation, variance / mean²; nil for fewer than two values, or when all are 0.
  public var squaredVariation: Double? { count > 1 && mean > 0 ? variance / (mean * mean) : nil }
}

/// Moments of the period that is on and the one before it, so that what was long ago counts no more.
struct RecentMoments: Sendable {
  private(set) var current = Moments()
  private(set) var previous = Moments()

  mutating func add(_ value: Double, times: Int = 1) { current.add(value, times: times) }

  mutating func rotate() {
    previous = current
    current = Moments()
  }

  var all: Moments {
    var all = previous
    all.add(current)
    return all
  }
}
