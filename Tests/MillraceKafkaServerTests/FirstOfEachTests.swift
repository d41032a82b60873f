// FirstOfEachTests: what a request names more than once.

import Testing

@testable import MillraceKafkaServer

@Test("of what is named more than once the first is kept, in order")
func firstOfEachKey() {
  #expect([3, 1, 3, 2, 1].firstOfEach(\.self) == [3, 1, 2])
  #expect(["ab", "b", "ac"].firstOfEach(\.first) == ["ab", "b"])
  #expect([Int]().firstOfEach(\.self) == [])
}
