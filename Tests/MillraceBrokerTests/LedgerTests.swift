// LedgerTests: each rule of the ledger notices when it is broken, and is silent when it is not.

import BrokerSimulation
import MillraceModel
import Testing

private let partition = TopicPartition("t", 0)

private func name(_ producer: Int, _ number: Int) -> RecordName { RecordName(producer: producer, number: number) }

/// A ledger with an idempotent producer 1, an ordered one 2, and an unordered one 3.
private func ledger(_ change: (inout Ledger) -> Void) -> [String] {
  var ledger = Ledger()
  ledger.producer(1, .exactlyOnce)
  ledger.producer(2, .ordered)
  ledger.producer(3, .anyOrder)
  change(&ledger)
  return ledger.violations
}

@Test("a log that holds what was promised breaks no rule")
func goodLog() {
  let violations = ledger { ledger in
    ledger.acknowledged(partition, producer: 1, number: 0, count: 2, at: 1)
    ledger.read(partition, name(2, 0), at: 0)
    ledger.told(partition, highWatermark: 3, before: 0)
    ledger.check(partition, log: [name(2, 0), name(1, 0), name(1, 1), name(2, 0), name(2, 1), name(3, 9)])
  }
  #expect(violations.isEmpty)
}

@Test("a lost record, a moved record and a changed record are noticed")
func lostRecords() {
  func violations(_ log: [RecordName]) -> [String] {
    ledger { ledger in
      ledger.acknowledged(partition, producer: 1, number: 0, count: 2, at: 0)
      ledger.check(partition, log: log)
    }
  }
  #expect(violations([name(1, 0), name(1, 1)]).isEmpty)
  #expect(violations([name(1, 0)]) == ["t-0: record 1/1 was acknowledged at offset 1, but the log ends at 1"])
  #expect(!violations([name(2, 0), name(1, 0), name(1, 1)]).isEmpty)
}

@Test("a record twice, or before its predecessor, is noticed as the producer promised")
func order() {
  func violations(_ log: [RecordName]) -> [String] { ledger { $0.check(partition, log: log) } }
  #expect(violations([name(1, 0), name(1, 0)]).first?.contains("stands there a second time") == true)
  #expect(violations([name(1, 0), name(1, 2)]).first?.contains("stands there before 1") == true)
  #expect(violations([name(2, 0), name(2, 0), name(2, 1)]).isEmpty)
  #expect(violations([name(2, 1)]).first?.contains("stands there before 0") == true)
  #expect(violations([name(3, 5), name(3, 1)]).isEmpty)
  #expect(violations([name(4, 0)]).first?.contains("a producer that does not exist") == true)
}

@Test("a record that is read differently the second time, or differently than acknowledged, is noticed")
func readTwice() {
  let changed = ledger { ledger in
    ledger.read(partition, name(1, 0), at: 0)
    ledger.read(partition, name(1, 1), at: 0)
  }
  #expect(changed.count == 1)
  let wrong = ledger { ledger in
    ledger.acknowledged(partition, producer: 1, number: 0, count: 1, at: 0)
    ledger.read(partition, name(2, 0), at: 0)
  }
  #expect(wrong.count == 1)
  let twice = ledger { ledger in
    ledger.acknowledged(partition, producer: 1, number: 0, count: 1, at: 0)
    ledger.acknowledged(partition, producer: 2, number: 0, count: 1, at: 0)
  }
  #expect(twice.count == 1)
}

@Test("an end of a partition that goes back is noticed")
func endGoesBack() {
  #expect(ledger { $0.told(partition, highWatermark: 4, before: 5) }.count == 1)
  let short = ledger { ledger in
    ledger.told(partition, highWatermark: 2, before: 0)
    ledger.check(partition, log: [name(1, 0)])
  }
  #expect(short.first == "t-0 ends at 1, but a client was told 2")
}

@Test("a committed offset that was acknowledged and is gone is noticed; one that was sent later may be there")
func commits() {
  func violations(_ told: Offset) -> [String] {
    ledger { ledger in
      ledger.committing("g", partition, 5)
      ledger.committed("g", partition)
      ledger.committing("g", partition, 9)
      ledger.told("g", partition, committed: told)
    }
  }
  #expect(violations(5).isEmpty && violations(9).isEmpty)
  #expect(violations(-1).count == 1 && violations(4).count == 1)
  #expect(ledger { $0.told("g", partition, committed: -1) }.isEmpty)
  #expect(ledger { $0.told("g", partition, committed: 0) }.count == 1)
  #expect(ledger { $0.committed("g", partition) }.count == 1)
}
