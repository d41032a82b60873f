// UnacknowledgedTests: deliveries by their tags, against an array that is searched.

import MillraceBase
import MillraceDelivery
import Testing

@testable import MillraceAMQPServer

private func delivery(_ tag: UInt64) -> UnacknowledgedDelivery<Int> {
  UnacknowledgedDelivery(tag: tag, holder: Int(tag) * 10, position: Position(offset: Int64(tag)))
}

@Test("a tag that is not there changes nothing; 0 with multiple is all there are, also when there are none")
func unknownTags() {
  var list = Unacknowledged<Int>()
  #expect(list.take(0, multiple: true) { _ in Issue.record("nothing was delivered") })
  #expect(!list.take(0, multiple: false) { _ in } && !list.take(5, multiple: true) { _ in })
  for tag: UInt64 in [2, 3, 7] { list.append(delivery(tag)) }
  #expect(!list.take(5, multiple: true) { _ in Issue.record("5 is not there") })
  #expect(!list.take(1, multiple: false) { _ in } && !list.take(8, multiple: true) { _ in } && list.count == 3)
  var taken: [UInt64] = []
  #expect(list.take(3, multiple: true) { taken.append($0.tag) } && taken == [2, 3])
  #expect(!list.take(3, multiple: false) { _ in })
  #expect(list.take(0, multiple: true) { taken.append($0.tag) } && taken == [2, 3, 7] && list.count == 0)
}

@Test("random settling agrees with an array")
func oracleRandomSettling() {
  for seed in 1...200 as ClosedRange<UInt64> {
    var random = SeededRandom(seed: seed)
    var list = Unacknowledged<Int>()
    var model: [UInt64] = []
    var kept: [UnacknowledgedDelivery<Int>] = []
    var last: UInt64 = 0
    for _ in 0..<300 {
      if !random.oneIn(3) {
        // Tags between go to consumers that acknowledge nothing.
        last += UInt64.random(in: 1...3, using: &random)
        list.append(delivery(last))
        model.append(last)
        continue
      }
      if random.oneIn(20) {
        list.putBack(kept)
        model = (model + kept.map(\.tag)).sorted()
        kept = []
        continue
      }
      let tag = UInt64.random(in: 0...(last + 1), using: &random)
      let multiple = random.oneIn(8)
      var taken: [UnacknowledgedDelivery<Int>] = []
      let isKnown = list.take(tag, multiple: multiple) { taken.append($0) }
      var expected: [UInt64] = []
      if tag == 0, multiple {
        expected = model
      } else if model.contains(tag) {
        expected = multiple ? model.filter { $0 <= tag } : [tag]
      }
      #expect(isKnown == (!expected.isEmpty || tag == 0 && multiple), "seed \(seed)")
      #expect(taken.map(\.tag) == expected && taken.allSatisfy { $0.holder == Int($0.tag) * 10 }, "seed \(seed)")
      model.removeAll { expected.contains($0) }
      if random.oneIn(2) { kept += taken }
      #expect(list.count == model.count, "seed \(seed)")
    }
  }
}

@Test("one that stays unsettled for long keeps no place for those that were settled behind it")
func stragglers() {
  var list = Unacknowledged<Int>()
  for tag: UInt64 in 1...100_000 {
    list.append(delivery(tag))
    if tag > 1 { #expect(list.take(tag, multiple: false) { _ in }) }
  }
  #expect(list.count == 1 && list.room <= 256)
  #expect(list.take(1, multiple: false) { _ in } && list.count == 0)
}
