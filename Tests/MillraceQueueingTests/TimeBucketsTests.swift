// TimeBucketsTests: a duration counts for the first edge that is not below it.

import MillraceBase
import MillraceQueueing
import Testing

@Suite struct TimeBucketsTests {
  @Test("every edge counts what is as long as it, and not what is a nanosecond longer")
  func everyEdge() {
    for (index, edge) in TimeBuckets.edges.enumerated() {
      var times = TimeBuckets()
      times.record(nanoseconds: edge)
      times.record(nanoseconds: edge + 1)
      var expected = [UInt64](repeating: 0, count: TimeBuckets.edges.count + 1)
      expected[index] += 1
      expected[index + 1] += 1
      #expect(times.counts == expected && times.count == 2 && times.sumNanoseconds == UInt64(2 * edge + 1))
    }
    #expect(TimeBuckets.edges == TimeBuckets.edges.sorted())
  }

  @Test("negative and longest durations count, sums stay at their end, and others' are added")
  func ends() {
    var times = TimeBuckets()
    times.record(nanoseconds: -5)
    times.record(nanoseconds: .max)
    #expect(times.counts.first == 1 && times.counts.last == 1 && times.sumNanoseconds == UInt64(Int64.max))
    var other = times
    other.add(times)
    other.add(times)
    #expect(other.count == 6 && other.counts.first == 3 && other.sumNanoseconds == .max)
  }
}
