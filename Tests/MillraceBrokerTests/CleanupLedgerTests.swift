// CleanupLedgerTests: what of a cleaned topic may be missing, and what may not.

import BrokerSimulation
import MillraceModel
import Testing

private let partition = TopicPartition("t", 0)

/// Records of one producer with these keys; a negative key stands for a tombstone of its absolute value. Each has its index
/// times 10 as time and is a batch of 100 bytes.
private func history(
  _ rules: CleanupRules, _ keys: [Int], transactions: [Int: Int] = [:], fates: [Int: RecordFate] = [:]
) -> (ledger: CleanupLedger, records: [Offset: KeyedRecord]) {
  var ledger = CleanupLedger(partition, rules)
  var records: [Offset: KeyedRecord] = [:]
  for (index, key) in keys.enumerated() {
    let record = KeyedRecord(
      key: abs(key), name: RecordName(producer: 1, number: index), isTombstone: key < 0, timestamp: Int64(index) * 10)
    ledger.sending([record], bytes: 100, transaction: transactions[index])
    #expect(ledger.acknowledged([record], at: Int64(index)) == nil)
    records[Int64(index)] = record
  }
  for (transaction, fate) in fates { ledger.ended(transaction, fate) }
  return (ledger, records)
}

private func problems(
  _ made: (ledger: CleanupLedger, records: [Offset: KeyedRecord]), without missing: [Offset], start: Offset = 0,
  committedOnly: Bool = true, time: Int64 = 10_000, _ change: (inout CleanupLedger) -> Void = { _ in }
) -> [Rule] {
  var ledger = made.ledger
  change(&ledger)
  var reading = KeyedReading(isCommittedOnly: committedOnly, since: ledger.acknowledgedCount)
  reading.leastStart = ledger.deletedBelow
  reading.records = made.records.filter { !missing.contains($0.key) && $0.key >= start }
  reading.start = start
  reading.end = Int64(made.records.count)
  reading.latestTime = time
  return ledger.check(reading).map(\.rule)
}

private let compacted = CleanupRules(compacts: true, deletes: false)

@Test("compaction may take what has a newer record of its key, and nothing else")
func newestOfAKey() {
  let made = history(compacted, [1, 2, 1, 3])
  #expect(problems(made, without: []).isEmpty)
  #expect(problems(made, without: [0]).isEmpty)
  for newest: Offset in 1...3 { #expect(problems(made, without: [newest]) == [.cleanupKeeps]) }
  #expect(problems(made, without: [0, 2]) == [.cleanupKeeps])
}

@Test("what is younger than the lag stays, and takes nothing with it")
func compactionLag() {
  var rules = compacted
  rules.minCompactionLag = 100
  let made = history(rules, [1, 1, 1])
  #expect(problems(made, without: [0], time: 200).isEmpty)
  #expect(problems(made, without: [0], time: 105) == [.cleanupKeeps])
  #expect(problems(made, without: [0], time: 99) == [.cleanupKeeps])
}

@Test("a tombstone may go when its time has come")
func tombstones() {
  var rules = compacted
  rules.deleteRetention = 500
  let made = history(rules, [1, -1])
  #expect(problems(made, without: [0]).isEmpty)
  #expect(problems(made, without: [0, 1], time: 510).isEmpty)
  #expect(problems(made, without: [0, 1], time: 509) == [.cleanupKeeps])
}

@Test("an aborted record may go and supersedes nothing; one whose end nobody knows may supersede")
func abortedRecords() {
  func made(_ fate: RecordFate) -> (CleanupLedger, [Offset: KeyedRecord]) {
    history(compacted, [1, 1], transactions: [1: 7], fates: [7: fate])
  }
  #expect(problems(made(.aborted), without: [1]).isEmpty)
  #expect(problems(made(.aborted), without: [0, 1]) == [.cleanupKeeps])
  #expect(problems(made(.aborted), without: []) == [.cleanupShows])
  #expect(problems(made(.aborted), without: [], committedOnly: false).isEmpty)
  #expect(problems(made(.unknown), without: [0]).isEmpty)
  #expect(problems(made(.unknown), without: [1]).isEmpty)
  #expect(problems(made(.committed), without: [1]) == [.cleanupKeeps])
}

@Test("the start moves past what was asked to be deleted, is too old, or has enough behind it")
func starts() {
  var rules = CleanupRules(compacts: false, deletes: true)
  #expect(problems(history(rules, [1, 2, 3]), without: [], start: 1) == [.cleanupKeeps])
  #expect(problems(history(rules, [1, 2, 3]), without: [], start: 1) { $0.deleting(below: 1) }.isEmpty)
  #expect(problems(history(rules, [1, 2, 3]), without: [], start: 2) { $0.deleting(below: 1) } == [.cleanupKeeps])
  #expect(problems(history(rules, [1, 2, 3]), without: []) { $0.deleted(below: 1) } == [.cleanupShows])
  #expect(problems(history(rules, [1, 2, 3]), without: [1]) == [.cleanupKeeps])
  rules.retentionTime = 100
  #expect(problems(history(rules, [1, 2, 3]), without: [], start: 2, time: 111).isEmpty)
  #expect(problems(history(rules, [1, 2, 3]), without: [], start: 2, time: 110) == [.cleanupKeeps])
  rules.retentionTime = nil
  rules.retentionBytes = 200
  #expect(problems(history(rules, [1, 2, 3]), without: [], start: 1).isEmpty)
  #expect(problems(history(rules, [1, 2, 3]), without: [], start: 2) == [.cleanupKeeps])
}

@Test("a transaction leaves a marker in each of its partitions, whether it wrote there or not")
func markers() {
  var rules = CleanupRules(compacts: false, deletes: true)
  rules.retentionBytes = 200 + 2 * 78
  let made = history(rules, [1, 2, 3], transactions: [2: 7])
  #expect(problems(made, without: [], start: 1) == [.cleanupKeeps], "the partition was added to no transaction")
  #expect(problems(made, without: [], start: 1) { $0.adding() } == [.cleanupKeeps])
  #expect(
    problems(made, without: [], start: 1) {
      $0.adding()
      $0.adding()
    }.isEmpty)
}

@Test("a record that was never sent, stands twice, or behind a later one is noticed")
func strangers() {
  var made = history(compacted, [1, 2])
  made.records[2] = made.records[1]
  #expect(problems(made, without: []) == [.cleanupShows])
  made.records[2] = KeyedRecord(key: 1, name: RecordName(producer: 9, number: 9), timestamp: 1)
  #expect(problems(made, without: []) == [.cleanupShows])
  made = history(compacted, [1, 2])
  made.records[1]?.timestamp += 1
  #expect(problems(made, without: []) == [.cleanupShows])
}
