// LittlesLawTests: L = λW, what its ends explain, and what they do not.

import MillraceBase
import Testing

@testable import MillraceQueueing

@Suite("Little's law")
struct LittlesLawTests {
  /// Messages by when they come and go; measured over `interval`.
  private func measured(_ stays: [(Double, Double)], _ interval: ClosedRange<Double>) -> LittlesLaw {
    func ages(_ time: Double) -> Double { stays.filter { $0.0 <= time && time < $0.1 }.reduce(0) { $0 + time - $1.0 } }
    func present(_ time: Double) -> Int { stays.filter { $0.0 <= time && time < $0.1 }.count }
    let (start, end) = (interval.lowerBound, interval.upperBound)
    let left = stays.filter { $0.1 > start && $0.1 <= end }
    let area = stays.reduce(0) { $0 + max(0, min($1.1, end) - max($1.0, start)) }
    return LittlesLaw(
      intervalSeconds: end - start, messageSeconds: area, departures: left.count,
      sojournSeconds: left.reduce(0) { $0 + $1.1 - $1.0 }, presentAtStart: present(start), presentAtEnd: present(end),
      ageAtStart: ages(start), ageAtEnd: ages(end))
  }

  @Test("every history's account is even, whatever comes and goes")
  func everyHistory() {
    var random = SeededRandom(seed: 3)
    for _ in 0..<200 {
      let stays = (0..<Int.random(in: 0...40, using: &random)).map { _ in
        let start = Double.random(in: 0...10, using: &random)
        return (start, start + Double.random(in: 0...8, using: &random))
      }
      let law = measured(stays, 2...7)
      #expect(abs(law.relativeResidual) < 1e-9)
      #expect(law.verdict(tolerance: 1e-6) != .inconsistent)
    }
  }

  @Test("it holds over an interval that begins and ends empty")
  func emptyEnds() {
    let law = measured([(1, 3), (2, 6), (2.5, 3), (7, 8)], 0...10)
    #expect(law.verdict(tolerance: 1e-12) == .holds)
    #expect(abs(law.meanLength - 0.75) < 1e-12)
    #expect(abs(law.departureRate - 0.4) < 1e-12)
    #expect(abs(law.meanSojournSeconds - 1.875) < 1e-12)
    #expect(law.presentAtStart == 0 && law.presentAtEnd == 0)
  }

  @Test("a queue that grows differs by what is left in it")
  func growing() {
    let stays = (0..<100).map { (number: Int) -> (Double, Double) in (0.1 * Double(number), 2 + 0.3 * Double(number)) }
    let law = measured(stays, 0...10)
    #expect(law.verdict() == .endsDiffer)
    #expect(law.presentAtEnd > 50)
    #expect(abs(law.meanLength - law.product - law.endsExplain) < 1e-9)
  }

  @Test("a measurement that misses messages is found out")
  func misses() {
    let stays = (0..<100).map { (number: Int) -> (Double, Double) in (0.1 * Double(number), 1 + 0.1 * Double(number)) }
    var law = measured(stays, 0...12)
    #expect(law.verdict() == .holds)
    law.departureRate *= 0.9
    #expect(law.verdict() == .inconsistent)
  }

  @Test("the law of two queues is that of both together")
  func adds() {
    let one = [(0.0, 4.0), (1, 2), (3, 9)]
    let other = [(2.0, 3.0), (2.5, 8), (5, 11)]
    var sum = measured(one, 1...7)
    sum.add(measured(other, 1...7))
    let both = measured(one + other, 1...7)
    #expect(relative(sum.meanLength, both.meanLength) < 1e-12)
    #expect(relative(sum.product, both.product) < 1e-12)
    #expect(relative(sum.meanSojournSeconds, both.meanSojournSeconds) < 1e-12)
    #expect(relative(sum.endsExplain, both.endsExplain) < 1e-9)
    #expect(sum.presentAtStart == both.presentAtStart && sum.presentAtEnd == both.presentAtEnd)
  }

  @Test("nothing at all is no contradiction")
  func nothing() {
    #expect(measured([], 0...1).verdict() == .holds)
    let none = LittlesLaw(
      intervalSeconds: 0, messageSeconds: 0, departures: 0, sojournSeconds: 0, presentAtStart: 0, presentAtEnd: 0,
      ageAtStart: 0, ageAtEnd: 0)
    #expect(none.verdict() == .holds && none.product == 0)
  }
}
