// QueueSimulationTests: theory and meter against simulated queues. A failure repeats: every seed is in its test.

import MillraceBase
import Testing

@testable import MillraceQueueing

@Suite("simulated queues")
struct QueueSimulationTests {
  @Test(
    "agreesMMc: simulated waits are those that Erlang C predicts, within what chance allows",
    arguments: [(1, 0.5), (1, 0.8), (2, 0.7), (5, 0.8), (10, 0.8)])
  func agreesMMc(consumers: Int, utilisation: Double) throws {
    let arrivals = utilisation * 10 * Double(consumers)
    let simulation = QueueSimulation(arrivalRate: arrivals, serviceRate: 10, consumers: consumers, seed: 42)
    let waits = simulation.run(messages: 60_000, isMetered: false).waits
    let state = try steady(arrivals, 10, consumers)
    let (mean, error) = batchMeans(waits, skipping: 5000)
    // The error of 20 batches has 19 degrees of freedom: beyond 4 of them lies less than one in a thousand.
    #expect(abs(mean - state.meanWaitSeconds) < 4 * error, "\(mean) ± \(error), predicted \(state.meanWaitSeconds)")
    #expect(error < state.meanWaitSeconds / 4, "the test would notice nothing")
    let late = batchMeans(waits.map { $0 > 0 ? 1 : 0 }, skipping: 5000)
    #expect(abs(late.mean - state.probabilityOfWaiting) < 4 * late.error)
    let threshold = state.wait(atQuantile: 0.95)
    let beyond = batchMeans(waits.map { $0 > threshold ? 1 : 0 }, skipping: 5000)
    #expect(abs(beyond.mean - state.probability(ofWaitBeyond: threshold)) < 4 * beyond.error)
  }

  @Test(
    "agreesMG1: other processing times wait as Pollaczek and Khinchine say",
    arguments: [Distribution.constant, .erlang, .mixed])
  func agreesMG1(services: Distribution) throws {
    let simulation = QueueSimulation(arrivalRate: 7, serviceRate: 10, consumers: 1, services: services, seed: 7)
    let (mean, error) = batchMeans(simulation.run(messages: 60_000, isMetered: false).waits, skipping: 5000)
    let state = try steady(7, 10, 1, 1, services.squaredVariation)
    #expect(abs(mean - state.meanWaitSeconds) < 4 * error, "\(mean) ± \(error), predicted \(state.meanWaitSeconds)")
  }

  @Test("the approximation for several consumers is close where M/M/c is far off")
  func approximatesGGc() throws {
    let simulation = QueueSimulation(
      arrivalRate: 24, serviceRate: 10, consumers: 3, arrivals: .erlang, services: .mixed, seed: 9)
    let (mean, error) = batchMeans(simulation.run(messages: 60_000, isMetered: false).waits, skipping: 5000)
    let approximated = try steady(24, 10, 3, 0.5, 5.5).meanWaitSeconds
    #expect(
      abs(mean - approximated) < 0.2 * approximated + 3 * error, "\(mean) ± \(error), approximated \(approximated)")
    #expect(abs(mean - (try steady(24, 10, 3)).meanWaitSeconds) > 0.4 * mean)
  }

  @Test("a meter measures what the simulation knows, and its model predicts what it measures")
  func meterMeasures() throws {
    // 90 seconds fall into the meter's window whole.
    let simulation = QueueSimulation(arrivalRate: 160, serviceRate: 50, consumers: 4, seed: 21)
    let outcome = simulation.run(messages: 14_400)
    let figures = outcome.meter.figures(now: at(outcome.end))
    #expect(relative(figures.windowSeconds, outcome.end) < 0.5)
    #expect(figures.totals.arrived == 14_400 && figures.totals.acknowledged == 14_400)
    #expect(figures.totals.redelivered == 0 && figures.totals.departed == 14_400)
    #expect(figures.waiting.count == 14_400 && figures.processing.count == 14_400)
    let mean = outcome.waits.reduce(0, +) / 14_400
    #expect(relative(figures.waiting.meanSeconds, mean) < 1e-4)
    #expect(figures.littlesLaw.verdict(tolerance: 1e-6) != .inconsistent)
    #expect(figures.littlesLaw.verdict() == .holds)
    let model = try #require(figures.model)
    #expect(relative(model.arrivalRate, 160) < 0.05 && relative(model.serviceRate, 50) < 0.05)
    #expect(relative(model.arrivalVariability, 1) < 0.1 && relative(model.serviceVariability, 1) < 0.1)
    #expect(relative(try #require(figures.utilisation), 0.8) < 0.05)
    let predicted = try #require(model.prediction.steadyState).meanWaitSeconds
    #expect(relative(predicted, mean) < 0.3, "measured \(mean), predicted \(predicted)")
  }

  @Test("over its window a meter's means are exactly those of the simulation")
  func meterIsExact() throws {
    let simulation = QueueSimulation(arrivalRate: 40, serviceRate: 25, consumers: 2, services: .mixed, seed: 3)
    let outcome = simulation.run(messages: 2000)
    #expect(outcome.end < 59)
    let figures = outcome.meter.figures(now: at(outcome.end))
    #expect(relative(figures.windowSeconds, outcome.end) < 1e-8)
    #expect(relative(figures.meanLength, outcome.meanReady) < 1e-5)
    #expect(relative(figures.meanUnacknowledged, outcome.meanUnacknowledged) < 1e-5)
    #expect(relative(try #require(figures.utilisation), outcome.utilisation) < 1e-5)
    #expect(relative(figures.offeredRate, 2000 / outcome.end) < 1e-8)
  }

  @Test("messages in a consumer's buffer are not mistaken for slow processing")
  func prefetch() throws {
    let simulation = QueueSimulation(arrivalRate: 40, serviceRate: 25, consumers: 2, prefetch: 20, seed: 5)
    let outcome = simulation.run(messages: 2000)
    let figures = outcome.meter.figures(now: at(outcome.end))
    // From delivery to settlement it is much longer than what a message takes.
    #expect(figures.processing.meanSeconds > 2 / 25)
    #expect(relative(figures.service.mean, 1.0 / 25) < 0.1)
    #expect(relative(try #require(figures.service.squaredVariation), 1) < 0.25)
    #expect(relative(try #require(figures.utilisation), outcome.utilisation) < 1e-5)
    #expect(figures.littlesLaw.verdict(tolerance: 1e-6) == .holds)
  }

  @Test("an overloaded queue is predicted to grow, at the rate at which it does")
  func overload() throws {
    let simulation = QueueSimulation(arrivalRate: 60, serviceRate: 20, consumers: 2, seed: 13)
    var meter = simulation.run(messages: 2400).meter
    // Up to the last arrival, at 40 s, it has grown by 20 a second; the run goes on until all are done.
    let figures = meter.figures(now: at(60))
    let model = try #require(figures.model)
    #expect(relative(model.serviceRate, 20) < 0.1)
    let asked = try QueueingModel(arrivalRate: 60, serviceRate: model.serviceRate, consumers: 2)
    guard case .unstable(let growth) = asked.prediction else {
      Issue.record("a load of \(asked.load) on 2 consumers is not stable")
      return
    }
    #expect(relative(growth, 20) < 0.2)
    meter.observe(ready: 0, unacknowledged: 0, now: at(61))
    #expect(meter.figures(now: at(61)).length == 0)
  }
}
