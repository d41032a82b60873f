// GroupLedgerTests: each rule of a group's history notices when it is broken, and is silent when it is not.

import BrokerSimulation
import MillraceModel
import Testing

private let partition = TopicPartition("t", 0)

/// A history in which member `a` has processed 5 records and committed them.
private func history() -> GroupLedger {
  var ledger = GroupLedger(group: "g")
  _ = ledger.assigned("x/1", to: "a", [partition])
  _ = ledger.begins("a", partition, committed: -1, since: 0)
  ledger.processed(partition, before: 5)
  ledger.acknowledged(ledger.committing(partition, 5), partition)
  return ledger
}

@Test("a partition given to two members of one generation is noticed; in the next generation it may move")
func twoOwners() {
  var ledger = history()
  #expect(ledger.assigned("x/2", to: "b", [partition]) == nil)
  #expect(ledger.assigned("x/1", to: "a", [partition]) == nil)
  #expect(ledger.assigned("x/1", to: "b", [partition])?.contains("was given to a and to b") == true)
}

@Test("after a clean hand-over the next member must begin at the very offset")
func handOver() {
  func begin(at committed: Offset, _ change: (inout GroupLedger) -> Void = { _ in }) -> (String?, Int) {
    var ledger = history()
    ledger.handsOver(partition, at: 5)
    change(&ledger)
    let problem = ledger.begins("b", partition, committed: committed, since: 0)
    return (problem, ledger.cleanHandOvers)
  }
  #expect(begin(at: 5) == (nil, 1))
  #expect(begin(at: -1).0?.contains("was handed over at 5, but b begins at 0") == true)
  #expect(begin(at: 4).0 != nil)
  // Somebody went on meanwhile: nothing was promised.
  #expect(begin(at: -1) { $0.processed(partition, before: 6) } == (nil, 0))
  #expect(
    begin(at: 6) { ledger in
      ledger.processed(partition, before: 6)
      ledger.acknowledged(ledger.committing(partition, 6), partition)
    } == (nil, 0))
}

@Test("a hand-over with something uncommitted or under way is not a clean one")
func uncleanHandOver() {
  var ledger = history()
  ledger.processed(partition, before: 8)
  ledger.handsOver(partition, at: 8)
  #expect(ledger.begins("b", partition, committed: 5, since: 1) == nil)
  #expect(ledger.cleanHandOvers == 0)
  var open = history()
  _ = open.committing(partition, 5)
  open.handsOver(partition, at: 5)
  #expect(open.begins("b", partition, committed: 5, since: 1) == nil)
  #expect(open.cleanHandOvers == 0)
}

@Test("a member that begins behind what was processed skips records, which is noticed")
func skipped() {
  var ledger = history()
  _ = ledger.committing(partition, 9)
  #expect(ledger.begins("b", partition, committed: 9, since: 1)?.contains("only 5 was processed") == true)
}

@Test("a committed offset that was acknowledged and is gone is noticed, as is one that was refused or never sent")
func groupCommits() {
  var ledger = history()
  let since = ledger.lastAcknowledged(partition)
  #expect(ledger.told(partition, committed: 5, since: since) == nil)
  #expect(ledger.told(partition, committed: -1, since: since) != nil)
  #expect(ledger.told(partition, committed: 4, since: since) != nil)
  let open = ledger.committing(partition, 7)
  #expect(ledger.told(partition, committed: 7, since: since) == nil)
  #expect(ledger.told(partition, committed: 5, since: since) == nil)
  ledger.refused(open, partition)
  #expect(ledger.told(partition, committed: 7, since: since) != nil)
  // Asked before the commit, told after it.
  ledger.acknowledged(ledger.committing(partition, 8), partition)
  #expect(ledger.told(partition, committed: 5, since: since) == nil)
  #expect(ledger.told(partition, committed: 5, since: ledger.lastAcknowledged(partition)) != nil)
}

@Test("an answer that comes late does not take a newer commit back")
func lateAnswer() {
  var ledger = history()
  let first = ledger.committing(partition, 6)
  let second = ledger.committing(partition, 7)
  ledger.acknowledged(second, partition)
  ledger.acknowledged(first, partition)
  let since = ledger.lastAcknowledged(partition)
  #expect(ledger.told(partition, committed: 7, since: since) == nil)
  #expect(ledger.told(partition, committed: 6, since: since) != nil)
  #expect(ledger.acknowledgedCommits == 3)
  #expect(ledger.committedPartitions == [partition])
}
