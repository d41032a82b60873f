// LittlesLaw: L = λW held against what was measured over an interval.
//
// The area under the number present N(t), from the interval's start to its end, is the time that all messages spent in
// the queue in it. That is the whole time of those that left in the interval, less what they had spent before its
// start, plus what those still there have spent until its end. With A(t) the sum of the ages of all messages present at
// time t:
//
//   ∫N dt = Σ sojourn of those that left + A(end) − A(start)      divided by the interval T:
//   L     = λW                          + (A(end) − A(start)) / T
//
// This holds for every history, whatever the distributions; λ is the rate of departures. What remains when the ends are
// accounted for is no property of the queue but a mistake of the measurement. Source: Little and Graves, "Little's
// Law", 2008.

/// A measurement over an interval. Several queues over the same interval can be added.
public struct LittlesLaw: Sendable, Equatable {
  /// What a measurement says of the law.
  public enum Verdict: String, Sendable {
    /// L = λW within the tolerance: the queue was steady, and the interval long enough.
    case holds
    /// It is not, because of messages that were there at the start or are there at the end: the queue grew or shrank,
    /// or the interval is short in comparison to the time in the queue. With those, the account is even.
    case endsDiffer
    /// The account is not even with those: the measurement lost or invented messages or time.
    case inconsistent
  }

  /// T.
  public var intervalSeconds: Double
  /// L: the mean number of messages present, over time.
  public var meanLength: Double
  /// λ: messages that left, per second.
  public var departureRate: Double
  /// W: their mean time in the queue; 0 when none left.
  public var meanSojournSeconds: Double
  /// Messages at the interval's start.
  public var presentAtStart: Int
  /// Messages at its end.
  public var presentAtEnd: Int
  /// (A(end) − A(start)) / T: what the ends explain, in messages.
  public var endsExplain: Double

  /// A measurement.
  /// - Parameters:
  ///   - messageSeconds: the area under the number present.
  ///   - sojournSeconds: the sum of the times in the queue of those that left.
  ///   - ageAtStart: the sum of the ages of those present at the start, in seconds.
  ///   - ageAtEnd: the same at the end.
  public init(
    intervalSeconds: Double, messageSeconds: Double, departures: Int, sojournSeconds: Double, presentAtStart: Int,
    presentAtEnd: Int, ageAtStart: Double, ageAtEnd: Double
  ) {
    self.intervalSeconds = intervalSeconds
    let isInterval = intervalSeconds > 0
    meanLength = isInterval ? messageSeconds / intervalSeconds : 0
    departureRate = isInterval ? Double(departures) / intervalSeconds : 0
    meanSojournSeconds = departures > 0 ? sojournSeconds / Double(departures) : 0
    self.presentAtStart = presentAtStart
    self.presentAtEnd = presentAtEnd
    endsExplain = isInterval ? (ageAtEnd - ageAtStart) / intervalSeconds : 0
  }

  /// λW.
  public var product: Double { departureRate * meanSojournSeconds }

  /// (L − λW) in proportion to the larger of both; 0 when both are 0.
  public var relativeDifference: Double {
    let larger = max(meanLength, product)
    return larger > 0 ? (meanLength - product) / larger : 0
  }

  /// L − λW − what the ends explain, in proportion to the largest of the three; 0 when all are 0.
  public var relativeResidual: Double {
    let largest = max(meanLength, product, abs(endsExplain))
    return largest > 0 ? (meanLength - product - endsExplain) / largest : 0
  }

  /// Compares both sides.
  /// - Parameter tolerance: of relative differences; what clocks and rounding may be off by.
  public func verdict(tolerance: Double = 0.05) -> Verdict {
    if abs(relativeResidual) > tolerance { return .inconsistent }
    return abs(relativeDifference) <= tolerance ? .holds : .endsDiffer
  }

  /// Both queues as one. Meant for intervals of the same length and time; the longer one is kept.
  public mutating func add(_ other: LittlesLaw) {
    let rate = departureRate + other.departureRate
    meanSojournSeconds = rate > 0 ? (product + other.product) / rate : 0
    departureRate = rate
    intervalSeconds = max(intervalSeconds, other.intervalSeconds)
    meanLength += other.meanLength
    presentAtStart += other.presentAtStart
    presentAtEnd += other.presentAtEnd
    endsExplain += other.endsExplain
  }
}
