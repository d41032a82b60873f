// QueueingModel: what theory says of one queue with c equal consumers: M/M/c, and an approximation for other
// variabilities.
//
// M/M/c: arrivals independent of each other at rate λ, independent processing times with an exponential distribution of
// mean 1/μ, one queue in order of arrival. a = λ/μ is the load, ρ = a/c the utilisation, C Erlang's probability of
// waiting:
//
//   Wq = C / (cμ − λ)      Lq = λ·Wq      W = Wq + 1/μ      L = λ·W = Lq + a      P(wait > t) = C·e^−(cμ − λ)t
//
// For other variabilities Wq is multiplied by (ca² + cs²)/2, where ca² and cs² are the squared coefficients of
// variation (variance / mean²) of the times between arrivals and of the processing times: 1 for exponential, 0 for
// constant ones. With one consumer and independent arrivals (ca² = 1) that is exact (Pollaczek–Khinchine), otherwise
// the approximation of Allen and Cunneen, with Kingman's for one consumer. Its wait has the same probability of
// waiting, and then is exponential. Source: Allen, "Probability, Statistics, and Queueing Theory", 2nd edition 1990,
// sections 5.2 and 5.3.

import Glibc

/// Why there is no such queue.
public struct QueueingError: Error, Equatable, CustomStringConvertible {
  /// What is wrong, in words.
  public let description: String
}

/// One queue with `consumers` equal consumers, each of which processes one message at a time.
///
/// Rates are per second, times in seconds. A value without state; any thread may use it.
public struct QueueingModel: Sendable, Equatable {
  /// λ: messages that arrive per second.
  public let arrivalRate: Double
  /// μ: messages that one busy consumer processes per second.
  public let serviceRate: Double
  /// c.
  public let consumers: Int
  /// ca²: variance of the times between arrivals, divided by their squared mean.
  public let arrivalVariability: Double
  /// cs²: the same of the processing times.
  public let serviceVariability: Double
  /// Most consumers of a model; answers take time in proportion to them.
  public static let mostConsumers = 100_000

  /// A queue. With the defaults for variability it is M/M/c, and M/M/1 with one consumer.
  /// - Throws: `QueueingError` when a number is negative, not finite, or there is no service or no consumer.
  public init(
    arrivalRate: Double, serviceRate: Double, consumers: Int, arrivalVariability: Double = 1,
    serviceVariability: Double = 1
  ) throws(QueueingError) {
    guard arrivalRate >= 0, arrivalRate.isFinite else {
      throw QueueingError(description: "an arrival rate of \(arrivalRate) per second")
    }
    guard serviceRate > 0, serviceRate.isFinite, (1 / serviceRate).isFinite, (arrivalRate / serviceRate).isFinite else {
      throw QueueingError(description: "a service rate of \(serviceRate) per second")
    }
    guard (1...QueueingModel.mostConsumers).contains(consumers) else {
      throw QueueingError(description: "\(consumers) consumers, where 1 to \(QueueingModel.mostConsumers) can be")
    }
    guard arrivalVariability >= 0, arrivalVariability.isFinite, serviceVariability >= 0, serviceVariability.isFinite
    else {
      throw QueueingError(description: "variabilities of \(arrivalVariability) and \(serviceVariability)")
    }
    self.arrivalRate = arrivalRate
    self.serviceRate = serviceRate
    self.consumers = consumers
    self.arrivalVariability = arrivalVariability
    self.serviceVariability = serviceVariability
  }

  /// a = λ/μ: consumers that are busy on average, if there are enough.
  public var load: Double { arrivalRate / serviceRate }
  /// cμ: messages per second that all consumers can process.
  public var capacity: Double { Double(consumers) * serviceRate }
  /// What the wait of M/M/c is multiplied by: (ca² + cs²)/2.
  public var variabilityFactor: Double { arrivalVariability / 2 + serviceVariability / 2 }
  /// Whether λ < cμ. Otherwise there is no mean length and no mean wait.
  public var isStable: Bool { load < Double(consumers) }

  /// What becomes of the queue in the long run.
  /// - Complexity: O(consumers).
  public var prediction: QueuePrediction {
    guard isStable else { return .unstable(growthRate: max(0, arrivalRate - capacity)) }
    return .stable(steadyState(blocking: Erlang.blocking(servers: consumers, load: load)))
  }

  /// The same queue at another arrival rate.
  func at(arrivalRate: Double) -> QueueingModel? {
    try? QueueingModel(
      arrivalRate: arrivalRate, serviceRate: serviceRate, consumers: consumers,
      arrivalVariability: arrivalVariability, serviceVariability: serviceVariability)
  }

  /// The steady state from Erlang's B. Only for a stable queue.
  func steadyState(blocking: Double) -> SteadyState {
    let waiting = Erlang.waiting(blocking: blocking, servers: consumers, load: load)
    // Of those who wait: their mean wait. (c − a)μ is cμ − λ with less cancellation when μ is far from 1.
    let delay = variabilityFactor / ((Double(consumers) - load) * serviceRate)
    return SteadyState(
      arrivalRate: arrivalRate, serviceRate: serviceRate, utilisation: load / Double(consumers),
      probabilityOfWaiting: waiting, meanDelaySeconds: delay)
  }
}

/// What a model says.
public enum QueuePrediction: Sendable, Equatable {
  /// Means exist; they hold once the queue has run for long in comparison to its waits.
  case stable(SteadyState)
  /// λ ≥ cμ: length and wait grow without bound, the length by `growthRate` messages per second. At λ = cμ exactly that
  /// is 0, and the length still grows, with the square root of time.
  case unstable(growthRate: Double)

  /// The steady state, if there is one.
  public var steadyState: SteadyState? {
    guard case .stable(let state) = self else { return nil }
    return state
  }
}

/// The long-run means of a stable queue.
public struct SteadyState: Sendable, Equatable {
  /// λ.
  public let arrivalRate: Double
  /// μ.
  public let serviceRate: Double
  /// ρ = λ/(cμ), below 1: the share of time that a consumer is busy.
  public let utilisation: Double
  /// C: the share of messages that do not go out at once.
  public let probabilityOfWaiting: Double
  /// The mean wait of those that wait.
  public let meanDelaySeconds: Double

  /// Wq: the mean wait of all messages.
  public var meanWaitSeconds: Double { probabilityOfWaiting * meanDelaySeconds }
  /// W: waiting and processing.
  public var meanTimeInSystemSeconds: Double { meanWaitSeconds + 1 / serviceRate }
  /// Lq: messages that wait.
  public var meanWaiting: Double { arrivalRate * meanWaitSeconds }
  /// Messages in processing: a.
  public var meanInService: Double { arrivalRate / serviceRate }
  /// L: both.
  public var meanInSystem: Double { meanWaiting + meanInService }

  /// The share of messages that wait longer than `seconds`.
  public func probability(ofWaitBeyond seconds: Double) -> Double {
    if seconds < 0 { return 1 }
    if seconds == 0 { return meanDelaySeconds > 0 ? probabilityOfWaiting : 0 }
    return meanDelaySeconds > 0 ? probabilityOfWaiting * exp(-seconds / meanDelaySeconds) : 0
  }

  /// The wait in seconds that a share `quantile` (0…1) of messages does not exceed; infinite for 1 when anybody waits.
  public func wait(atQuantile quantile: Double) -> Double {
    let beyond = 1 - min(max(quantile, 0), 1)
    guard probabilityOfWaiting > beyond, meanDelaySeconds > 0 else { return 0 }
    return meanDelaySeconds * log(probabilityOfWaiting / beyond)
  }
}
