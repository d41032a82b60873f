// QueueingModelTests: the formulas against books, against sums, and at their ends.

import Foundation
import MillraceBase
import Testing

@testable import MillraceQueueing

/// |left − right| in proportion to the larger.
func relative(_ left: Double, _ right: Double) -> Double {
  left == right ? 0 : abs(left - right) / max(abs(left), abs(right))
}

func steady(_ arrivals: Double, _ service: Double, _ consumers: Int, _ ca: Double = 1, _ cs: Double = 1) throws
  -> SteadyState
{
  let model = try QueueingModel(
    arrivalRate: arrivals, serviceRate: service, consumers: consumers, arrivalVariability: ca, serviceVariability: cs)
  return try #require(model.prediction.steadyState)
}

@Suite("queueing model")
struct QueueingModelTests {
  @Test("M/M/1 has L = ρ/(1 − ρ) and W = 1/(μ − λ)")
  func goldenOneConsumer() throws {
    for utilisation in [0.1, 0.5, 0.8, 0.9, 0.99] {
      let state = try steady(utilisation * 40, 40, 1)
      #expect(relative(state.meanInSystem, utilisation / (1 - utilisation)) < 1e-12)
      #expect(relative(state.meanWaiting, utilisation * utilisation / (1 - utilisation)) < 1e-12)
      #expect(relative(state.meanTimeInSystemSeconds, 1 / (40 - utilisation * 40)) < 1e-12)
      #expect(relative(state.probabilityOfWaiting, utilisation) < 1e-12)
      #expect(relative(state.utilisation, utilisation) < 1e-12)
    }
    #expect(relative(try steady(8, 10, 1).meanInSystem, 4) < 1e-12)
  }

  @Test("Erlang's formulas give the values of the tables")
  func goldenErlang() {
    #expect(abs(Erlang.waiting(servers: 10, load: 8) - 0.40918) < 1e-5)
    // Two servers: B = a²/2 / (1 + a + a²/2), C = a²/(2 + a).
    #expect(relative(Erlang.blocking(servers: 2, load: 1), 0.2) < 1e-14)
    #expect(relative(Erlang.waiting(servers: 2, load: 1), 1.0 / 3) < 1e-14)
    // Table of Erlang B: 7 servers take 2.501 erlangs at 1 %, 30 take 20.337, 100 take 84.064.
    #expect(abs(Erlang.blocking(servers: 7, load: 2.501) - 0.01) < 1e-5)
    #expect(abs(Erlang.blocking(servers: 30, load: 20.337) - 0.01) < 1e-5)
    #expect(abs(Erlang.blocking(servers: 100, load: 84.064) - 0.01) < 1e-5)
    #expect(Erlang.blocking(servers: 0, load: 3) == 1)
    #expect(Erlang.waiting(servers: 3, load: 0) == 0)
    #expect(Erlang.waiting(servers: 3, load: 3) == 1)
  }

  @Test("the recursion agrees with the sum of a^k/k!, as far as that can be computed")
  func agreesWithSum() {
    for servers in 1...60 {
      for load in [0.01, 0.5, 1, 5, 17.3, 40, 59.9] where load < Double(servers) {
        var terms = [1.0]
        for k in 1...servers { terms.append(terms[k - 1] * load / Double(k)) }
        let last = terms[servers] * Double(servers) / (Double(servers) - load)
        let sum = terms.dropLast().reduce(0, +)
        #expect(relative(Erlang.waiting(servers: servers, load: load), last / (sum + last)) < 1e-12)
        #expect(
          relative(Erlang.blocking(servers: servers, load: load), terms[servers] / (sum + terms[servers])) < 1e-12)
      }
    }
  }

  @Test("ten thousand consumers are no harder than one")
  func manyConsumers() throws {
    // A blocking of 10,000 servers near full load tends to sqrt(2 / (π·10,000)), Erlang's formula at a = c.
    #expect(relative(Erlang.blocking(servers: 10_000, load: 10_000), (2 / (Double.pi * 10_000)).squareRoot()) < 0.01)
    for load in [1e-300, 1, 5_000, 9_000, 9_900, 9_999, 9_999.999_999] {
      let state = try steady(load, 1, 10_000)
      #expect((0...1).contains(state.probabilityOfWaiting))
      #expect(state.meanWaiting.isFinite && state.meanWaiting >= 0)
      #expect(relative(state.meanInSystem, state.arrivalRate * state.meanTimeInSystemSeconds) < 1e-12)
    }
    // Halfin and Whitt: with c = a + β·sqrt(a), C tends to 1/(1 + β·Φ(β)/φ(β)); for β = 1 that is 0.2234.
    #expect(abs(Erlang.waiting(servers: 10_000, load: 9_900.5) - 0.2234) < 0.005)
    // Nobody waits for practical purposes, and nothing underflows into something else.
    #expect(try steady(100, 1, 10_000).meanWaitSeconds == 0)
  }

  @Test("too much load is answered as growth, never as a length")
  func unstable() throws {
    let model = try QueueingModel(arrivalRate: 120, serviceRate: 10, consumers: 10)
    #expect(model.prediction == .unstable(growthRate: 20))
    #expect(model.prediction.steadyState == nil)
    #expect(!model.isStable)
    #expect(try QueueingModel(arrivalRate: 100, serviceRate: 10, consumers: 10).prediction == .unstable(growthRate: 0))
    #expect(try QueueingModel(arrivalRate: 99.999, serviceRate: 10, consumers: 10).isStable)
  }

  @Test("an empty queue has no waits")
  func noArrivals() throws {
    let state = try steady(0, 5, 3)
    #expect(state.meanInSystem == 0 && state.meanWaitSeconds == 0 && state.wait(atQuantile: 0.99) == 0)
    #expect(state.meanTimeInSystemSeconds == 0.2)
  }

  @Test("what is no queue is refused")
  func refuses() {
    let bad: [(Double, Double, Int, Double, Double)] = [
      (-1, 1, 1, 1, 1), (.nan, 1, 1, 1, 1), (.infinity, 1, 1, 1, 1), (1, 0, 1, 1, 1), (1, -1, 1, 1, 1),
      (1, .nan, 1, 1, 1), (1, .infinity, 1, 1, 1), (1, Double.leastNonzeroMagnitude, 1, 1, 1), (1e300, 1e-300, 1, 1, 1),
      (1, 1, 0, 1, 1),
      (1, 1, -4, 1, 1), (1, 1, .max, 1, 1), (1, 1, 1, -0.1, 1), (1, 1, 1, .nan, 1), (1, 1, 1, 1, .infinity),
    ]
    for (arrivals, service, consumers, ca, cs) in bad {
      #expect(throws: QueueingError.self, "\(arrivals) \(service) \(consumers) \(ca) \(cs)") {
        try QueueingModel(
          arrivalRate: arrivals, serviceRate: service, consumers: consumers, arrivalVariability: ca,
          serviceVariability: cs)
      }
    }
  }

  @Test("M/D/1 waits half as long as M/M/1, and Pollaczek–Khinchine gives the rest")
  func variability() throws {
    let exponential = try steady(8, 10, 1)
    #expect(relative(try steady(8, 10, 1, 1, 0).meanWaitSeconds, exponential.meanWaitSeconds / 2) < 1e-12)
    // λ·E[S²]/(2(1 − ρ)) with E[S²] = (1 + cs²)/μ².
    let variable = try steady(8, 10, 1, 1, 4)
    #expect(relative(variable.meanWaitSeconds, 8 * (5.0 / 100) / (2 * 0.2)) < 1e-12)
    #expect(try steady(8, 10, 1, 0, 0).meanWaitSeconds == 0)
    #expect(try steady(8, 10, 1, 0, 0).wait(atQuantile: 0.999) == 0)
  }

  @Test("quantiles and tail probabilities of the wait are each other's inverse")
  func quantiles() throws {
    for (arrivals, consumers, cs) in [(8.0, 1, 1.0), (70, 8, 1), (95, 10, 3), (10, 10, 1)] {
      let state = try steady(arrivals, 10, consumers, 1, cs)
      for quantile in [0.5, 0.9, 0.99, 0.9999] {
        let wait = state.wait(atQuantile: quantile)
        if wait == 0 {
          #expect(state.probabilityOfWaiting <= 1 - quantile)
        } else {
          #expect(relative(state.probability(ofWaitBeyond: wait), 1 - quantile) < 1e-9)
        }
      }
    }
    // M/M/1: P(wait > t) = ρ·e^−(μ − λ)t.
    #expect(relative(try steady(8, 10, 1).probability(ofWaitBeyond: 0.7), 0.8 * exp(-1.4)) < 1e-12)
    #expect(relative(try steady(8, 10, 1).probability(ofWaitBeyond: 0), 0.8) < 1e-12)
    #expect(try steady(8, 10, 1).wait(atQuantile: 1) == .infinity)
  }

  @Test("everyWait grows with load and variability, and shrinks with consumers")
  func monotone() throws {
    var random = SeededRandom(seed: 11)
    for _ in 0..<300 {
      let consumers = Int.random(in: 1...60, using: &random)
      let load = Double.random(in: 0.05...0.98, using: &random) * Double(consumers)
      let (ca, cs) = (Double.random(in: 0.1...5, using: &random), Double.random(in: 0...5, using: &random))
      let state = try steady(load, 1, consumers, ca, cs)
      let busier = try steady(load * 1.01, 1, consumers, ca, cs)
      let more = try steady(load, 1, consumers + 1, ca, cs)
      let rougher = try steady(load, 1, consumers, ca, cs + 0.5)
      #expect(busier.meanWaitSeconds > state.meanWaitSeconds)
      #expect(busier.probabilityOfWaiting > state.probabilityOfWaiting)
      #expect(more.meanWaitSeconds < state.meanWaitSeconds)
      #expect(rougher.meanWaitSeconds > state.meanWaitSeconds)
      #expect(state.wait(atQuantile: 0.99) >= state.wait(atQuantile: 0.9))
      // One queue for all waits less than one for each consumer.
      #expect(state.meanWaitSeconds <= (try steady(load / Double(consumers), 1, 1, ca, cs)).meanWaitSeconds * 1.000_001)
    }
  }
}

@Suite("planning")
struct QueuePlanningTests {
  @Test("the consumers needed meet the target, and one fewer does not")
  func consumersNeeded() throws {
    var random = SeededRandom(seed: 5)
    for _ in 0..<200 {
      let arrivals = Double.random(in: 0.1...400, using: &random)
      let service = Double.random(in: 0.5...20, using: &random)
      let seconds = Double.random(in: 0.001...1, using: &random)
      let model = try QueueingModel(
        arrivalRate: arrivals, serviceRate: service, consumers: 1,
        serviceVariability: Double.random(in: 0...3, using: &random))
      for target in [WaitTarget.mean(seconds: seconds), .quantile(0.99, seconds: seconds)] {
        let count = try #require(model.consumersNeeded(for: target))
        let state = try #require(model.with(consumers: count)?.prediction.steadyState)
        #expect(target.isMet(by: state))
        if count > 1, let fewer = model.with(consumers: count - 1)?.prediction.steadyState {
          #expect(!target.isMet(by: fewer))
        }
      }
    }
  }

  @Test("a target that cannot be met has no answer")
  func noAnswer() throws {
    let model = try QueueingModel(arrivalRate: 100, serviceRate: 1, consumers: 1)
    #expect(model.consumersNeeded(for: .mean(seconds: 1), limit: 100) == nil)
    #expect(model.consumersNeeded(for: .mean(seconds: 1), limit: 0) == nil)
    #expect(model.consumersNeeded(for: .mean(seconds: -1), limit: 500) == nil)
    #expect(model.largestArrivalRate(for: .mean(seconds: -1)) == 0)
    #expect(
      try QueueingModel(arrivalRate: 0, serviceRate: 1, consumers: 7).consumersNeeded(for: .mean(seconds: 0)) == 1)
  }

  @Test("the largest arrival rate meets the target, and a little more does not")
  func largestRate() throws {
    for consumers in [1, 2, 10, 200] {
      let model = try QueueingModel(arrivalRate: 0, serviceRate: 4, consumers: consumers)
      for target in [WaitTarget.mean(seconds: 0.05), .quantile(0.95, seconds: 0.5)] {
        let rate = model.largestArrivalRate(for: target)
        #expect(rate > 0 && rate < model.capacity)
        #expect(target.isMet(by: try steady(rate, 4, consumers)))
        #expect(!target.isMet(by: try steady(rate * 1.000_01, 4, consumers)))
      }
    }
    // M/M/1: Wq = λ/(μ(μ − λ)) ≤ w gives λ = wμ²/(1 + wμ).
    let one = try QueueingModel(arrivalRate: 0, serviceRate: 4, consumers: 1)
    #expect(relative(one.largestArrivalRate(for: .mean(seconds: 0.5)), 8.0 / 3) < 1e-8)
  }

  @Test("Amdahl's law and the universal scalability law")
  func scaling() throws {
    let amdahl = try ParallelScaling(serialShare: 0.05)
    #expect(relative(amdahl.speedUp(consumers: 10), 1 / (0.05 + 0.95 / 10)) < 1e-12)
    #expect(relative(amdahl.limit, 20) < 1e-12)
    #expect(amdahl.bestConsumers == nil)
    #expect(amdahl.consumersNeeded(arrivalRate: 2000, serviceRate: 100) == nil)
    #expect(amdahl.consumersNeeded(arrivalRate: 600, serviceRate: 100) == 9)
    let linear = try ParallelScaling(serialShare: 0)
    #expect(linear.speedUp(consumers: 64) == 64 && linear.limit == .infinity)
    #expect(linear.consumersNeeded(arrivalRate: 600, serviceRate: 100) == 7)
    #expect(linear.speedUp(consumers: 0) == 0)
    let universal = try ParallelScaling(serialShare: 0.02, pairCost: 0.000_5)
    let best = try #require(universal.bestConsumers)
    #expect(best == 44)
    for count in 1...500 { #expect(universal.speedUp(consumers: count) <= universal.limit) }
    #expect(universal.consumersNeeded(arrivalRate: universal.limit * 100, serviceRate: 100) == nil)
    #expect(try ParallelScaling(serialShare: 1, pairCost: 1).bestConsumers == 1)
    for (share, cost) in [(-0.1, 0.0), (1.1, 0), (.nan, 0), (0.1, -1), (0.1, .nan), (0.1, .infinity)] {
      #expect(throws: QueueingError.self) { try ParallelScaling(serialShare: share, pairCost: cost) }
    }
  }
}
