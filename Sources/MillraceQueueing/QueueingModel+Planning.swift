// QueueingModel+Planning: how many consumers a target takes, and how much a number of consumers can take.

/// What is wanted of the time that messages wait.
public enum WaitTarget: Sendable, Equatable {
  /// The mean wait is at most this.
  case mean(seconds: Double)
  /// A share `quantile` (0…1) of messages waits at most this.
  case quantile(Double, seconds: Double)

  /// Whether a steady state reaches it.
  func isMet(by state: SteadyState) -> Bool {
    switch self {
    case .mean(let seconds): state.meanWaitSeconds <= seconds
    case .quantile(let quantile, let seconds): state.probability(ofWaitBeyond: seconds) <= 1 - quantile
    }
  }
}

extension QueueingModel {
  /// The fewest consumers with which the queue is stable and the target is met, whatever this model's own number of
  /// them.
  /// - Returns: nil when `limit` consumers do not reach it, or none could (a target below 0).
  /// - Complexity: O(the answer).
  public func consumersNeeded(for target: WaitTarget, limit: Int = mostConsumers) -> Int? {
    let limit = min(limit, QueueingModel.mostConsumers)
    guard limit >= 1, load < Double(limit) else { return nil }
    var blocking = 1.0
    for count in 1...limit {
      blocking = Erlang.next(blocking, servers: count, load: load)
      guard load < Double(count), let model = with(consumers: count) else { continue }
      if target.isMet(by: model.steadyState(blocking: blocking)) { return count }
    }
    return nil
  }

  /// The same queue with another number of consumers.
  func with(consumers: Int) -> QueueingModel? {
    try? QueueingModel(
      arrivalRate: arrivalRate, serviceRate: serviceRate, consumers: consumers,
      arrivalVariability: arrivalVariability, serviceVariability: serviceVariability)
  }

  /// The largest arrival rate at which this model's consumers meet the target, whatever its own rate.
  ///
  /// Exact to about one part in 10⁹ of the capacity, and never above it. A target that no rate meets gives 0.
  /// - Complexity: O(consumers).
  public func largestArrivalRate(for target: WaitTarget) -> Double {
    // Waits grow with the rate, so the interval is halved; what is kept is the side that meets the target.
    var low = 0.0
    var high = 1.0
    for _ in 0..<32 {
      let middle = (low + high) / 2
      guard let state = at(arrivalRate: middle * capacity)?.prediction.steadyState, target.isMet(by: state) else {
        high = middle
        continue
      }
      low = middle
    }
    return low * capacity
  }
}

/// How throughput grows with consumers that hinder each other.
///
/// With n of them it is n / (1 + σ(n − 1) + κn(n − 1)) times that of one. σ is the share of work that only one can do
/// at a time; κ weighs what each pair costs, such as keeping a shared state the same for both. With κ = 0 it is
/// Amdahl's law, with both 0 linear. Source: Gunther, "Guerrilla Capacity Planning", 2007, chapter 4.
public struct ParallelScaling: Sendable, Equatable {
  /// σ, 0…1.
  public let serialShare: Double
  /// κ, at least 0.
  public let pairCost: Double

  /// A law of growth.
  /// - Throws: `QueueingError` when a share is outside its range or not a number.
  public init(serialShare: Double, pairCost: Double = 0) throws(QueueingError) {
    guard (0...1).contains(serialShare), pairCost >= 0, pairCost.isFinite else {
      throw QueueingError(description: "a serial share of \(serialShare) and a pair cost of \(pairCost)")
    }
    self.serialShare = serialShare
    self.pairCost = pairCost
  }

  /// How many times the throughput of one consumer `consumers` of them have; 0 for none.
  public func speedUp(consumers: Int) -> Double {
    guard consumers > 0 else { return 0 }
    let count = Double(consumers)
    return count / (1 + serialShare * (count - 1) + pairCost * count * (count - 1))
  }

  /// The number of consumers with the highest throughput; nil when more are always better, or never worse.
  public var bestConsumers: Int? {
    guard pairCost > 0 else { return nil }
    let best = ((1 - serialShare) / pairCost).squareRoot()
    guard best < Double(Int32.max) else { return nil }
    let below = max(1, Int(best))
    return speedUp(consumers: below + 1) > speedUp(consumers: below) ? below + 1 : below
  }

  /// The speed-up that no number of consumers exceeds; infinite when nothing stands in their way.
  public var limit: Double {
    if let bestConsumers { return speedUp(consumers: bestConsumers) }
    return serialShare > 0 ? 1 / serialShare : .infinity
  }

  /// The fewest consumers, each able to process `serviceRate` per second alone, that together process more than
  /// `arrivalRate`; nil when no number does, or only more than ``QueueingModel/mostConsumers``.
  /// - Complexity: O(log of the answer).
  public func consumersNeeded(arrivalRate: Double, serviceRate: Double) -> Int? {
    func isEnough(_ consumers: Int) -> Bool { speedUp(consumers: consumers) * serviceRate > arrivalRate }
    // Up to the best number the throughput grows, so it can be searched by halves.
    var high = min(bestConsumers ?? QueueingModel.mostConsumers, QueueingModel.mostConsumers)
    guard isEnough(high) else { return nil }
    var low = 0
    while high - low > 1 {
      let middle = (low + high) / 2
      if isEnough(middle) { high = middle } else { low = middle }
    }
    return high
  }
}
