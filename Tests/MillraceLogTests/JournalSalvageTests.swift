// JournalSalvageTests: of several commits with one sequence, that of a tail that was cut off is never taken for the right one.

import MillraceBase
import MillraceIO
import MillraceSimulation
import Testing

@testable import MillraceLog

@Test("a commit that does not follow the one before it is not taken for the lost one whose number it has")
func staleBehindKnown() throws {
  var journal = MadeJournal()
  let one = journal.add(1, after: 0, event: "one")
  let two = journal.add(2, after: one, event: "two")
  let three = journal.add(3, after: two, durable: 2, event: "three", isDamaged: true)
  journal.add(3, after: 77, event: "stale")
  let four = journal.add(4, after: three, durable: 3, event: "four")
  journal.add(5, after: four, durable: 4, event: "five")
  let found = try journal.salvage()
  #expect(found.chosen == [1: "one", 2: "two", 4: "four", 5: "five"])
  #expect(found.lost == [3...3])
  #expect(found.reasons.first?.contains("00000001.journal has at byte \(4 * 4096)") == true)
}

@Test("where the commit before is lost, one that the next commit contradicts is not taken for it")
func staleBeforeSound() throws {
  var journal = MadeJournal()
  let one = journal.add(1, after: 0, event: "one")
  let two = journal.add(2, after: one, event: "two", isDamaged: true)
  let three = journal.add(3, after: two, event: "three", isDamaged: true)
  journal.add(3, after: 77, event: "stale")
  let four = journal.add(4, after: three, durable: 3, event: "four")
  journal.add(5, after: four, durable: 4, event: "five")
  let found = try journal.salvage()
  #expect(found.chosen == [1: "one", 4: "four", 5: "five"])
  #expect(found.lost == [2...3])
}

@Test("where the commit before is lost, the one that the next commit continues is right, whichever stands last")
func continuedIsRight() throws {
  var journal = MadeJournal()
  let one = journal.add(1, after: 0, event: "one")
  let two = journal.add(2, after: one, event: "two", isDamaged: true)
  let three = journal.add(3, after: two, event: "three")
  let four = journal.add(4, after: three, durable: 3, event: "four")
  journal.add(5, after: four, durable: 4, event: "five")
  journal.add(3, after: 77, event: "stale")
  let found = try journal.salvage()
  #expect(found.chosen == [1: "one", 3: "three", 4: "four", 5: "five"])
  #expect(found.lost == [2...2])
}

@Test("a stale commit that is contradicted itself takes nothing away from the sound one before it")
func contradictedProvesNothing() throws {
  var journal = MadeJournal()
  let one = journal.add(1, after: 0, event: "one")
  let two = journal.add(2, after: one, event: "two", isDamaged: true)
  let three = journal.add(3, after: two, event: "three")
  let four = journal.add(4, after: three, event: "four", isDamaged: true)
  journal.add(4, after: 77, event: "stale")
  let five = journal.add(5, after: four, durable: 4, event: "five")
  journal.add(6, after: five, durable: 5, event: "six")
  let found = try journal.salvage()
  #expect(found.chosen == [1: "one", 3: "three", 5: "five", 6: "six"])
  #expect(found.lost == [2...2, 4...4])
}

@Test("commits that only the snapshot says were durable are lost, too, when they are gone")
func durableBySnapshot() throws {
  var journal = MadeJournal()
  let one = journal.add(1, after: 0, event: "one")
  let two = journal.add(2, after: one, event: "two")
  journal.add(3, after: two, durable: 2, event: "three", isDamaged: true)
  #expect(try journal.salvage().lost.isEmpty, "nobody says that there was a third")
  let found = try journal.salvage(durable: 4)
  #expect(found.chosen == [1: "one", 2: "two"] && found.lost == [3...4])
}
