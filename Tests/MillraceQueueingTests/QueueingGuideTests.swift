// QueueingGuideTests: every number of docs/guides/queueing.md is what the code computes.

import Foundation
import Testing

@testable import MillraceQueueing

private let page: String = {
  let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
  let text = (try? String(contentsOf: root.appending(path: "docs/guides/queueing.md"), encoding: .utf8)) ?? ""
  // Lines of a paragraph are broken anywhere.
  return text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: " ")
}()

private func fixed(_ value: Double, _ digits: Int) -> String {
  String(format: "%.\(digits)f", value).replacingOccurrences(of: "-", with: "−")
}

private func says(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) {
  #expect(page.contains(text), "the page does not say: \(text)", sourceLocation: sourceLocation)
}

@Suite("the guide to queueing")
struct QueueingGuideTests {
  @Test("the table of one consumer")
  func oneConsumer() throws {
    for rate in [50.0, 80, 90, 95, 99] {
      let state = try steady(rate, 100, 1)
      says(
        "| \(fixed(rate, 0)) | \(fixed((rate - 100) / 100, 2)) | \(fixed(state.meanInService, 2)) "
          + "| \(fixed(state.meanWaiting, 2)) | \(fixed(state.meanInSystem, 2)) "
          + "| \(fixed(state.meanWaitSeconds * 1000, 0)) ms |")
    }
  }

  @Test("the table of several consumers, and what it takes")
  func severalConsumers() throws {
    for count in [9, 10, 11, 12, 14] {
      let state = try steady(800, 100, count)
      says(
        "| \(count) | \(fixed(state.utilisation * 100, 1)) % | \(fixed(state.probabilityOfWaiting * 100, 1)) % "
          + "| \(fixed(state.meanWaiting, 2)) | \(fixed(state.meanWaitSeconds * 1000, 2)) ms "
          + "| \(fixed(state.wait(atQuantile: 0.99) * 1000, 1)) ms |")
    }
    let model = try QueueingModel(arrivalRate: 800, serviceRate: 100, consumers: 8)
    #expect(!model.isStable)
    says("the load is \(fixed(model.load, 0)), so 8 consumers are too few")
    let mean = try #require(model.consumersNeeded(for: .mean(seconds: 0.001)))
    let late = try #require(model.consumersNeeded(for: .quantile(0.99, seconds: 0.01)))
    says("A mean wait of 1 ms takes \(mean) consumers; 10 ms for 99 % of messages takes \(late).")
    let ten = try QueueingModel(arrivalRate: 0, serviceRate: 100, consumers: 10)
    says("1 ms up to \(Int(ten.largestArrivalRate(for: .mean(seconds: 0.001)))) messages per second")
    let pooled = try steady(800, 100, 10).meanWaitSeconds
    let apart = try steady(80, 100, 1).meanWaitSeconds
    says("one wait is \(fixed(pooled * 1000, 2)) ms, the other \(fixed(apart * 1000, 0)) ms")
  }

  @Test("variability, bursts and parallelism")
  func theRest() throws {
    let waits = try [0.0, 1, 4].map { try fixed(steady(80, 100, 1, 1, $0).meanWaitSeconds * 1000, 0) }
    says(
      "\(waits[0]) ms with constant processing times (cs² = 0), \(waits[1]) ms with exponential ones (1), "
        + "\(waits[2]) ms when"
    )
    let burst = try QueueingModel(arrivalRate: 1200, serviceRate: 100, consumers: 10)
    guard case .unstable(let growth) = burst.prediction else {
      Issue.record("the burst is stable")
      return
    }
    let backlog = growth * 60
    says(
      "leave \(Int(backlog / 1000)),000 in the queue. The last of them waits \(fixed(backlog / burst.capacity, 0)) s.")
    says("At 800 per second afterwards it takes \(fixed(backlog / (burst.capacity - 800), 0)) s")
    let scaling = try ParallelScaling(serialShare: 0.05)
    says(
      "10 consumers \(fixed(scaling.speedUp(consumers: 10), 1)) times, 100 of them "
        + "\(fixed(scaling.speedUp(consumers: 100), 1)) times, and no number more than \(fixed(scaling.limit, 0)) times"
    )
  }
}
