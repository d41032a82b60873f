// TransformLedgerTests: outputs and input offsets that do not agree are noticed.

import BrokerSimulation
import MillraceModel
import Testing

private let input = TopicPartition("t", 0)

private func problems(_ end: Offset, _ outputs: [[Offset]]) -> Int {
  TransformLedger().check(offsets: [input: end], outputs: outputs.map { $0.map { (input, $0) } }).count
}

@Test("each record below the committed offset has one output, and none above it has any")
func outputsAgree() {
  #expect(problems(4, [[0, 2], [1, 3]]) == 0)
  #expect(problems(-1, [[], []]) == 0)
  #expect(problems(4, [[0, 2], [1]]) == 1)
  #expect(problems(4, [[0, 2, 2], [1, 3]]) == 1)
  #expect(problems(3, [[0, 2], [1, 3]]) == 1)
  #expect(problems(4, [[2, 0], [1, 3]]) == 1)
}

@Test("whoever begins is told the last commit that was acknowledged, or one that was asked for later")
func toldOffsets() {
  var ledger = TransformLedger()
  let (none, tooFar) = (ledger.told(input, -1, since: 0), ledger.told(input, 1, since: 0))
  #expect(none == nil && tooFar != nil)
  ledger.asking(input, 5)
  ledger.committed(input, 5)
  ledger.asking(input, 9)
  #expect(ledger.acknowledgedEnd(input) == 5)
  for (offset, isRight) in [(5, true), (9, true), (4, false), (-1, false), (10, false)] as [(Offset, Bool)] {
    let problem = ledger.told(input, offset, since: 5)
    #expect((problem == nil) == isRight, "\(offset)")
  }
  // What was told does not go back, although its commit was never acknowledged.
  #expect(ledger.acknowledgedEnd(input) == 9)
  let goneBack = ledger.told(input, 5, since: ledger.acknowledgedEnd(input))
  #expect(goneBack != nil)
}
