// RepeatLimitTests: log lines that come too often are counted instead.

import MillraceBase
import Testing

@Test("of equal lines one in a period is written, and it says how many were not")
func repeatedLines() {
  var limit = RepeatLimit(every: .seconds(10))
  func at(_ seconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: seconds * 1_000_000_000) }
  #expect(limit.admit("disk", at: at(0)) == 0)
  #expect(limit.admit("disk", at: at(1)) == nil)
  #expect(limit.admit("other", at: at(1)) == 0)
  #expect(limit.admit("disk", at: at(9)) == nil)
  #expect(limit.admit("disk", at: at(10)) == 2)
  #expect(limit.admit("disk", at: at(19)) == nil)
  #expect(limit.admit("disk", at: at(60)) == 1)
  // So many others that the first one is forgotten.
  for number in 0..<40 { #expect(limit.admit("key \(number)", at: at(61)) == 0) }
  #expect(limit.admit("disk", at: at(61)) == 0)
}
