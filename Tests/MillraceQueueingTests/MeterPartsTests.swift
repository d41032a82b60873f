// MeterPartsTests: histogram, moments, rates and the table of times, each against the obvious way to do it.

import MillraceBase
import Testing

@testable import MillraceQueueing

func at(_ seconds: Double) -> MonotonicTime { MonotonicTime(nanoseconds: Int64((seconds * 1e9).rounded())) }

@Suite("parts of a meter")
struct MeterPartsTests {
  @Test("a histogram's quantiles are at most 1/8 or 1 µs above the true ones, over all magnitudes")
  func histogramQuantiles() {
    var random = SeededRandom(seed: 1)
    for magnitude in [10.0, 2_000, 50_000, 1e6, 1e9, 1e13] {
      var histogram = LatencyHistogram()
      var values: [Int64] = []
      for _ in 0..<500 {
        let value = Int64(Double.random(in: 0...magnitude, using: &random))
        values.append(value)
        histogram.record(nanoseconds: value)
      }
      values.sort()
      for quantile in [0.0, 0.01, 0.5, 0.9, 0.99, 1] {
        let rank = max(1, Int((quantile * 500).rounded(.up)))
        let exact = UInt64(values[rank - 1])
        let answer = histogram.nanoseconds(atQuantile: quantile)
        #expect(answer >= exact && answer <= exact + max(exact / 8 + 1, 1000))
      }
      #expect(histogram.maximumNanoseconds == UInt64(values.last!))
      #expect(relative(histogram.meanSeconds, Double(values.reduce(0, +)) / 500 / 1e9) < 1e-9)
      #expect(histogram.buckets.reduce(0) { $0 + $1.count } == 500)
    }
  }

  @Test("every bucket begins where the one before it ends")
  func everyBucket() {
    var edges: [UInt64] = []
    for exponent in 0..<59 {
      for step in 0..<16 {
        var histogram = LatencyHistogram()
        let value = (UInt64(16 + step) << UInt64(exponent)) >> 4
        histogram.record(nanoseconds: Int64(value))
        let edge = histogram.buckets[0].belowNanoseconds
        #expect(edge > value)
        edges.append(edge)
        // The last value in it is in it, and the next one is not.
        for (other, isSame) in [(edge - 1, true), (edge, false)] where other <= UInt64(Int64.max) {
          var next = LatencyHistogram()
          next.record(nanoseconds: Int64(other))
          #expect((next.buckets[0].belowNanoseconds == edge) == isSame)
        }
      }
    }
    #expect(edges == edges.sorted())
  }

  @Test("a histogram starts empty, takes any value, and adding two is recording all")
  func histogramEnds() {
    var histogram = LatencyHistogram()
    #expect(histogram.heldBytes == 0 && histogram.nanoseconds(atQuantile: 0.5) == 0 && histogram.meanSeconds == 0)
    histogram.record(nanoseconds: .min)
    histogram.record(nanoseconds: .max, times: 3)
    histogram.record(nanoseconds: 5_000, times: 0)
    #expect(histogram.count == 4 && histogram.sumNanoseconds == .max)
    #expect(histogram.nanoseconds(atQuantile: 1) == UInt64(Int64.max))
    #expect(histogram.heldBytes < 4096)
    var (one, other, all) = (LatencyHistogram(), LatencyHistogram(), LatencyHistogram())
    var random = SeededRandom(seed: 2)
    for index in 0..<1000 {
      let value = Int64(1) << Int64.random(in: index < 500 ? 20...40 : 5...25, using: &random)
      if index < 500 { one.record(nanoseconds: value) } else { other.record(nanoseconds: value) }
      all.record(nanoseconds: value)
    }
    one.add(other)
    one.add(LatencyHistogram())
    #expect(one.buckets.map(\.belowNanoseconds) == all.buckets.map(\.belowNanoseconds))
    #expect(one.buckets.map(\.count) == all.buckets.map(\.count))
    #expect(one.count == all.count && one.sumNanoseconds == all.sumNanoseconds)
    #expect(one.maximumNanoseconds == all.maximumNanoseconds)
  }

  @Test("moments agree with two passes, also far from 0 and in groups")
  func moments() {
    var random = SeededRandom(seed: 4)
    var (whole, parts, values) = (Moments(), Moments(), [Double]())
    for _ in 0..<50 {
      var part = Moments()
      let value = 1e6 + Double.random(in: 0...1, using: &random)
      let times = Int.random(in: 0...5, using: &random)
      whole.add(value, times: times)
      part.add(value, times: times)
      parts.add(part)
      values += Array(repeating: value, count: times)
    }
    let mean = values.reduce(0, +) / Double(values.count)
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count - 1)
    for one in [whole, parts] {
      #expect(one.count == values.count)
      #expect(relative(one.mean, mean) < 1e-12 && relative(one.variance, variance) < 1e-6)
    }
    var single = Moments()
    #expect(single.squaredVariation == nil)
    single.add(3)
    #expect(single.squaredVariation == nil && single.variance == 0)
    single.add(3)
    #expect(single.squaredVariation == 0)
  }

  @Test("rates are exact counts of the window over its time")
  func rates() {
    var random = SeededRandom(seed: 6)
    var window = RateWindow()
    var events: [Double] = []
    var now = 100.25
    let started = at(now)
    #expect(window.rate(.arrival, seconds: 10, started: started, now: started) == 0)
    for _ in 0..<2000 {
      now += random.oneIn(300) ? Double.random(in: 0...200, using: &random) : Double.random(in: 0...0.4, using: &random)
      window.count(.arrival, now: at(now))
      events.append(now)
      let read = now + (random.oneIn(20) ? Double.random(in: 0...70, using: &random) : 0)
      for seconds in [1, 10, 60] {
        let begin = max(Double(Int(read) - seconds), 100.25)
        let expected = Double(events.filter { Double(Int($0)) >= Double(Int(read) - seconds) }.count) / (read - begin)
        let answer = window.rate(.arrival, seconds: seconds, started: started, now: at(read))
        #expect(relative(answer, read > begin ? expected : 0) < 1e-6, "\(read) over \(seconds)")
      }
      #expect(window.rate(.delivery, seconds: 60, started: started, now: at(read)) == 0)
    }
  }

  @Test("times before the clock's start, and times that go back, do no harm")
  func oddTimes() {
    var window = RateWindow()
    for seconds in [-5.5, -4.2, -4.9, 0.1, -1] { window.count(.settlement, 2, now: at(seconds)) }
    #expect(relative(window.rate(.settlement, seconds: 60, started: at(-6), now: at(4)), 1) < 1e-9)
  }

  @Test("oracleTable: the table of times does what a dictionary does")
  func oracleTable() {
    var random = SeededRandom(seed: 8)
    var table = DeliveryTimes()
    var model: [MessageKey: Int64] = [:]
    for step in 0..<20_000 {
      let key = MessageKey(
        lane: UInt8.random(in: 0...2, using: &random), offset: Int64.random(in: 0...90, using: &random))
      switch Int.random(in: 0...2, using: &random) {
      case 0:
        table.set(key, arrivedAt: Int64(step), since: 1, state: .inFlight)
        model[key] = Int64(step)
      case 1: #expect(table.remove(key)?.arrivedAt == model.removeValue(forKey: key))
      default: #expect(table[key]?.arrivedAt == model[key])
      }
      if step % 5000 == 4999 {
        for (key, value) in model { #expect(table[key]?.arrivedAt == value) }
        table.removeAll()
        model = [:]
      }
      #expect(table.count == model.count)
    }
  }
}
