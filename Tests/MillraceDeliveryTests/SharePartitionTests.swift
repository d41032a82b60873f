// SharePartitionTests: the rules of a share-partition, by example and in random histories against a naive model.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceDelivery

private func at(_ seconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: seconds * 1_000_000_000) }

extension SharePartition {
  fileprivate init(start: Offset = 0, _ change: (inout ShareLimits) -> Void = { _ in }) {
    var limits = ShareLimits()
    change(&limits)
    self.init(ShareState(start: start), limits: limits)
  }

  fileprivate mutating func get(
    _ member: ShareMember, _ batches: [Range<Offset>], atMost count: Int = 500, isWhole: Bool = false,
    second: Int64 = 0
  ) -> [ShareAcquisition] {
    guard let position = nextOffset(below: batches.last?.upperBound ?? 0) else { return [] }
    return acquire(
      by: member, from: position, batches.map { ShareBatch($0) }.filter { $0.range.upperBound > position },
      atMost: count, isWholeBatches: isWhole, now: at(second))
  }
}

private func got(_ range: Range<Offset>, _ deliveries: Int16 = 1) -> ShareAcquisition {
  ShareAcquisition(range: range, deliveries: deliveries)
}

@Test("two members share a partition, and what one accepted nobody gets again")
func sharePartitionIsShared() throws {
  var partition = SharePartition()
  #expect(partition.get(1, [0..<10], atMost: 4) == [got(0..<4)])
  #expect(partition.get(2, [0..<10], atMost: 4) == [got(4..<8)])
  try partition.settle([ShareSettlement(0..<4, [.accept])], by: 1, now: at(1))
  #expect(partition.start == 4)
  #expect(partition.get(1, [0..<10]) == [got(8..<10)])
  #expect(partition.get(1, [0..<10]) == [])
  #expect(partition.takeChanges() == [.done([0..<4])])
  #expect(partition.takeChanges() == [])
}

@Test("whole batches are acquired beyond the number asked for, never beyond the locks")
func sharePartitionWholeBatches() {
  var partition = SharePartition { $0.locks = 25 }
  #expect(partition.get(1, [0..<10, 10..<20], atMost: 4, isWhole: true) == [got(0..<10)])
  #expect(partition.get(1, [0..<10, 10..<50], atMost: 4, isWhole: true) == [got(10..<25)])
  #expect(partition.nextOffset(below: 50) == nil)
}

@Test("a record that stays behind does not stop the others")
func sharePartitionStraggler() throws {
  var partition = SharePartition { $0.locks = 10 }
  #expect(partition.get(1, [0..<1]) == [got(0..<1)])
  for round in 0..<100 as Range<Offset> {
    #expect(partition.get(2, [0..<1000], atMost: 9) == [got(1 + round * 9..<10 + round * 9)])
    try partition.settle([ShareSettlement(1 + round * 9..<10 + round * 9, [.accept])], by: 2, now: at(0))
  }
  #expect(partition.start == 0)
  #expect(partition.slots.runs.count == 1)
}

@Test("each kind of acknowledgement does what its name says, and one bad one undoes all of its request")
func sharePartitionAcknowledgements() throws {
  var partition = SharePartition()
  #expect(partition.get(1, [0..<6]) == [got(0..<6)])
  #expect(throws: ShareRefusal.self) {
    try partition.settle(
      [ShareSettlement(0..<2, [.accept]), ShareSettlement(5..<7, [.accept])], by: 1, now: at(1))
  }
  #expect(throws: ShareRefusal.self) { try partition.settle([ShareSettlement(0..<1, [.accept])], by: 2, now: at(1)) }
  #expect(partition.takeChanges() == [])
  let becameAvailable = try partition.settle(
    [ShareSettlement(0..<5, [.accept, .release, .reject, .renew, .gap])], by: 1, now: at(20))
  #expect(becameAvailable)
  #expect(partition.start == 1)
  #expect(partition.takeChanges() == [.done([0..<1, 2..<3, 4..<5]), .counted([1..<2], deliveries: 1)])
  // Offset 5 has its first lock, offset 3 a new one.
  #expect(partition.nextDeadline == at(30))
  #expect(partition.expire(at(30)) == true)
  #expect(partition.nextDeadline == at(50))
  #expect(partition.get(2, [0..<6]) == [got(1..<2, 2), got(5..<6, 2)])
}

@Test("a request whose offsets do not rise, or with a wrong number of kinds, is refused as such")
func sharePartitionInvalidRequests() {
  var partition = SharePartition()
  #expect(partition.get(1, [0..<6]) == [got(0..<6)])
  let bad: [[ShareSettlement]] = [
    [ShareSettlement(2..<4, [.accept]), ShareSettlement(3..<5, [.accept])],
    [ShareSettlement(2..<2, [.accept])],
    [ShareSettlement(0..<4, [.accept, .accept])],
    [ShareSettlement(0..<4, [])],
  ]
  for settlements in bad {
    do throws(ShareRefusal) {
      try partition.settle(settlements, by: 1, now: at(0))
      Issue.record("\(settlements) was taken")
    } catch {
      #expect(error.code == .invalidRequest)
    }
  }
  #expect(partition.acquiredCount == 6)
}

@Test("deliveries end: the last one is by itself, and then the record is done")
func sharePartitionDeliveryLimit() throws {
  var partition = SharePartition { $0.deliveries = 3 }
  for delivery in 1...2 as ClosedRange<Int16> {
    #expect(partition.get(1, [0..<3]) == [got(0..<3, delivery)])
    try partition.settle([ShareSettlement(0..<3, [.release])], by: 1, now: at(0))
  }
  #expect(partition.get(1, [0..<5]) == [got(0..<1, 3)])
  // The others are not held up by it.
  #expect(partition.get(2, [0..<5]) == [got(1..<2, 3)])
  partition.release(1, isDelivered: true)
  #expect(partition.start == 1)
  try partition.settle([ShareSettlement(1..<2, [.accept])], by: 2, now: at(0))
  #expect(partition.get(1, [0..<5]) == [got(2..<3, 3)])
  #expect(partition.get(1, [0..<5]) == [got(3..<5)])
}

@Test("what a closed session gives back unseen is no delivery; what a dead member leaves is one")
func sharePartitionSessions() {
  var partition = SharePartition()
  #expect(partition.get(1, [0..<2]) == [got(0..<2)])
  #expect(partition.release(1, isDelivered: false) == true)
  #expect(partition.takeChanges() == [])
  #expect(partition.get(1, [0..<2]) == [got(0..<2)])
  #expect(partition.release(1, isDelivered: true) == true)
  #expect(partition.takeChanges() == [.counted([0..<2], deliveries: 1)])
  #expect(partition.get(1, [0..<2]) == [got(0..<2, 2)])
}

@Test("hidden batches and gaps between batches are done when they are found")
func sharePartitionGaps() {
  var partition = SharePartition(start: 3)
  let batches = [ShareBatch(0..<5), ShareBatch(7..<9, isHidden: true), ShareBatch(12..<14)]
  #expect(
    partition.acquire(by: 1, from: 3, batches, atMost: 100, isWholeBatches: false, now: at(0))
      == [got(3..<5), got(12..<14)])
  #expect(partition.takeChanges() == [.done([5..<12])])
}

@Test("the log's beginning takes away what lies before it, and late words of it are passed over")
func sharePartitionLogStart() throws {
  var partition = SharePartition()
  #expect(partition.get(1, [0..<6]) == [got(0..<6)])
  partition.logStarts(at: 4)
  #expect(partition.start == 4)
  try partition.settle([ShareSettlement(0..<6, [.accept])], by: 1, now: at(0))
  #expect(partition.start == 6)
  partition.logStarts(at: 20)
  #expect(partition.nextOffset(below: 30) == 20)
  #expect(partition.acquiredCount == 0)
}

@Test("changes and states are written and read back, and bytes cut short are refused")
func shareStateBytes() throws {
  var state = ShareState(start: 5)
  state.apply(.done([7..<9, 12..<13]))
  state.apply(.counted([5..<7, 20..<30], deliveries: 2))
  state.apply(.counted([25..<26], deliveries: 4))
  state.apply(.counted([8..<21], deliveries: 3))
  var writer = ByteWriter()
  state.encode(to: &writer)
  let bytes = writer.finishJoined()
  var reader = ByteReader(bytes)
  #expect(try ShareState(from: &reader) == state)
  #expect(reader.remaining == 0)
  for length in 0..<bytes.count {
    #expect(throws: DecodingError.self) {
      var reader = ByteReader(bytes[0..<length])
      _ = try ShareState(from: &reader)
    }
  }
  for change in [ShareChange.done([0..<1, 5..<9]), .counted([3..<4, 9..<12], deliveries: 7)] {
    var writer = ByteWriter()
    change.encode(to: &writer)
    var reader = ByteReader(writer.finishJoined())
    #expect(try ShareChange(from: &reader) == change)
  }
}

// MARK: Random histories

/// Lies that the comparison must notice.
enum ShareFault: CaseIterable {
  case deliversTwice, forgetsDone, miscounts, losesChange, ignoresLimit
}

struct ShareDifference: Error, CustomStringConvertible {
  let description: String
}

/// - Returns: how often the fault was planted, and records acquired.
func runShareHistory(seed: UInt64, fault: ShareFault? = nil) throws(ShareDifference) -> (faults: Int, acquired: Int) {
  var random = SeededRandom(seed: seed)
  func pick(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
  let limits = ShareLimits(
    lockDuration: .seconds(10), locks: pick(3...30), deliveries: Int16(pick(1...4)))
  let first = Offset(pick(0...3))
  var partition = SharePartition(ShareState(start: first), limits: limits)
  var naive = NaiveSharePartition(limits: limits, first: first)
  var durable = ShareState(start: first)
  var batches: [ShareBatch] = []
  var logEnd: Offset = 0
  var logStart: Offset = 0
  var now: Int64 = 0
  var (faults, acquiredCount) = (0, 0)
  func fail(_ step: Int, _ what: String) -> ShareDifference {
    ShareDifference(description: "seed \(seed) step \(step): \(what)\n\(partition)\n\(naive)")
  }
  for step in 0..<pick(20...120) {
    switch pick(0...11) {
    case 0, 1:
      if pick(0...5) == 0 { logEnd += Offset(pick(1...3)) }
      let length = Offset(pick(1...8))
      batches.append(ShareBatch(logEnd..<logEnd + length, isHidden: pick(0...6) == 0))
      logEnd += length
    case 2...5:
      guard let position = partition.nextOffset(below: logEnd) else { break }
      let member = pick(1...3)
      let (count, isWhole) = (pick(1...12), pick(0...1) == 0)
      var found = batches.filter { $0.range.upperBound > position }
      found = Array(found.prefix(pick(1...4)))
      let real = partition.acquire(
        by: member, from: position, found, atMost: count, isWholeBatches: isWhole, now: at(now))
      var model = naive.acquire(
        by: member, from: position, found, atMost: count, isWholeBatches: isWhole, now: at(now))
      if fault == .deliversTwice, pick(0...3) == 0, let last = model.last {
        faults += 1
        model.append(last)
      }
      if fault == .miscounts, pick(0...3) == 0, !model.isEmpty {
        faults += 1
        model[0].deliveries += 1
      }
      let flat = real.flatMap { one in one.range.map { ($0, one.deliveries) } }
      guard flat.elementsEqual(model, by: ==) else { throw fail(step, "acquired \(flat), model \(model)") }
      acquiredCount += flat.count
    case 6, 7, 8:
      let member = pick(1...3)
      var settlements: [ShareSettlement] = []
      var place = max(0, naive.start - Offset(pick(0...2)))
      // Mostly what the member has, sometimes anything.
      let isWild = pick(0...4) == 0
      while place < naive.end + 2, settlements.count < 4 {
        let length = Offset(pick(1...5))
        var range = place..<place + length
        place += length + Offset(pick(0...2))
        if !isWild {
          guard let held = partition.slots.runs(in: range).first(where: { $0.value.member == member }) else { continue }
          range = held.range
        }
        let kinds: [ShareAcknowledgement] = [.accept, .accept, .release, .reject, .renew, .gap]
        let isEach = pick(0...1) == 0
        settlements.append(
          ShareSettlement(range, (0..<(isEach ? range.count : 1)).map { _ in kinds[pick(0...5)] }))
      }
      var isTaken = true
      do { try partition.settle(settlements, by: member, now: at(now)) } catch { isTaken = false }
      let modelTakes = naive.settle(settlements, by: member, now: at(now))
      guard isTaken == modelTakes else { throw fail(step, "settled \(settlements): \(isTaken), model \(modelTakes)") }
      if fault == .forgetsDone, pick(0...3) == 0,
        let index = naive.entries.firstIndex(where: { $0.state == .done })
      {
        faults += 1
        naive.entries[index].state = .available
      }
    case 9:
      now += Int64(pick(0...7))
      partition.expire(at(now))
      naive.expire(at(now))
    case 10:
      let (member, isDelivered) = (pick(1...3), pick(0...1) == 0)
      partition.release(member, isDelivered: isDelivered)
      naive.release(member, isDelivered: isDelivered)
    default:
      if pick(0...1) == 0, logEnd > 0 {
        logStart = max(logStart, min(logEnd, naive.start + Offset(pick(-2...4))))
        partition.logStarts(at: logStart)
        naive.logStarts(at: logStart)
      } else {
        for change in partition.takeChanges() { durable.apply(change) }
        var writer = ByteWriter()
        durable.encode(to: &writer)
        var reader = ByteReader(writer.finishJoined())
        do { durable = try ShareState(from: &reader) } catch { throw fail(step, "state cannot be read: \(error)") }
        partition = SharePartition(durable, limits: limits)
        naive = naive.restarted()
        partition.logStarts(at: logStart)
        naive.logStarts(at: logStart)
      }
    }
    if fault == .ignoresLimit, pick(0...9) == 0 {
      faults += 1
      naive.limits.locks += 1
    }
    var changes = partition.takeChanges()
    // Some do not become durable, and come again together with others.
    if pick(0...3) == 0 {
      partition.takeBack(changes)
      changes = partition.takeChanges()
    } else if pick(0...3) == 0 {
      partition.takeBack(changes)
      continue
    }
    if fault == .losesChange, pick(0...3) == 0, !changes.isEmpty {
      faults += 1
      changes.removeLast()
    }
    for change in changes {
      durable.apply(change)
      durable.apply(change)
    }
    guard partition.start == naive.start, partition.end == naive.end else {
      throw fail(step, "window \(partition.start)..<\(partition.end), model \(naive.start)..<\(naive.end)")
    }
    guard partition.acquiredCount == naive.acquired, partition.nextDeadline == naive.nextDeadline,
      partition.nextOffset(below: logEnd) == naive.nextOffset(below: logEnd)
    else { throw fail(step, "counts, deadline or next offset differ") }
    for offset in naive.first..<naive.end {
      let entry = naive[offset]
      let isDone = offset < durable.start || durable.done.contains(offset)
      guard isDone == (entry.state == .done), isDone || (durable.counts[offset] ?? 0) == entry.durable else {
        throw fail(step, "offset \(offset): durable done \(isDone) count \(String(describing: durable.counts[offset]))")
      }
    }
    guard partition.slots.runs.count <= partition.slots.count, partition.slots.count <= naive.limits.locks else {
      throw fail(step, "\(partition.slots.count) slots")
    }
  }
  return (faults, acquiredCount)
}

@Test("oracle: random histories of a share-partition agree with a model that has an entry for each record")
func oracleShareHistories() throws {
  var acquired = 0
  for seed in 0..<1200 { acquired += try runShareHistory(seed: UInt64(seed)).acquired }
  #expect(acquired > 5000)
}

@Test("the share-partition's model notices every planted lie", arguments: ShareFault.allCases)
func shareModelNoticesFaults(fault: ShareFault) {
  var planted = 0
  for seed in 0..<300 {
    do throws(ShareDifference) {
      planted += try runShareHistory(seed: UInt64(seed), fault: fault).faults
    } catch {
      return
    }
  }
  Issue.record("\(fault) was planted \(planted) times and never noticed")
}

/// Many more histories: `MILLRACE_SEEDS=100000 swift test --filter oracleManyShareHistories`.
@Test("oracle: as many histories of a share-partition as asked for", .enabled(if: manySeeds > 0))
func oracleManyShareHistories() throws {
  for seed in 0..<manySeeds { _ = try runShareHistory(seed: UInt64(1_000_000 + seed)) }
}
