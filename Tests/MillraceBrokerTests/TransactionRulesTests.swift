// TransactionRulesTests: every call of a transactional producer in every state, and random histories against invariants.

import MillraceBase
import MillraceMetadata
import MillraceModel
import Testing

@testable import MillraceBroker

/// Rules and state together, with a counter for producer ids and a clock.
private final class RulesWorld {
  var state = Transactions()
  var now = Timestamp(milliseconds: 1_000_000)
  var nextID: Int64 = 100
  /// Endings in their order.
  var endings: [TransactionEnding] = []
  var committed: [String: [TopicPartition: Offset]] = [:]

  func apply(_ step: TransactionStep) {
    for event in step.events {
      for (group, offsets) in state.apply(event) {
        committed[group, default: [:]].merge(offsets.mapValues(\.offset)) { _, new in new }
      }
    }
    if let ending = step.ending { endings.append(ending) }
  }

  private func start(_ body: (Int64?) throws(BrokerError) -> TransactionStart) throws(BrokerError) -> ProducerIdentity {
    switch try body(nil) {
    case .producer(let producer, let step):
      apply(step)
      return producer
    case .needsProducerID:
      nextID += 1
      guard case .producer(let producer, let step) = try body(nextID) else {
        throw BrokerError(.storage, "the rules asked for a producer id twice")
      }
      apply(step)
      return producer
    }
  }

  func initialise(_ id: String = "t", expected: ProducerIdentity? = nil) throws(BrokerError) -> ProducerIdentity {
    try start { fresh throws(BrokerError) in
      try TransactionRules.initialise(
        state[id], id: id, timeoutMilliseconds: 1000, expected: expected, fresh: fresh, now: now)
    }
  }

  func add(_ partitions: [TopicPartition], _ producer: ProducerIdentity, id: String = "t") throws(BrokerError) {
    apply(try TransactionRules.add(partitions, to: state[id], id: id, producer, now: now))
  }

  func add(group: String, _ producer: ProducerIdentity, id: String = "t") throws(BrokerError) {
    apply(try TransactionRules.add(group: group, to: state[id], id: id, producer, now: now))
  }

  func offset(
    _ offset: Offset, group: String = "g", _ producer: ProducerIdentity, implicit: Bool = false, id: String = "t"
  ) throws(BrokerError) {
    let one = PartitionOffset(
      partition: p(9), committed: CommittedOffset(offset: offset, leaderEpoch: -1, metadata: nil, time: now))
    apply(
      try TransactionRules.add([one], of: group, to: state[id], id: id, producer, isImplicit: implicit, now: now))
  }

  func write(
    _ partition: TopicPartition, _ producer: ProducerIdentity, implicit: Bool = false, id: String = "t"
  ) throws(BrokerError) {
    apply(
      try TransactionRules.write(
        to: partition, in: state[id], id: id, producer, isImplicit: implicit, now: now))
  }

  func end(
    _ producer: ProducerIdentity, commit: Bool, bumps: Bool = false, id: String = "t"
  ) throws(BrokerError) -> ProducerIdentity {
    try start { fresh throws(BrokerError) in
      try TransactionRules.end(
        state[id], id: id, producer, isCommit: commit, bumps: bumps, fresh: fresh, now: now)
    }
  }

  func abort(_ id: String = "t") {
    if let step = TransactionRules.abort(state[id], now: now) { apply(step) }
  }
}

private func p(_ number: Int32) -> TopicPartition { TopicPartition("t", number) }

private func code(_ body: () throws(BrokerError) -> Void) -> BrokerError.Code? {
  do throws(BrokerError) {
    try body()
    return nil
  } catch {
    return error.code
  }
}

@Test("a producer comes, names partitions, writes and commits, and goes on with the same epoch (version 1)")
func versionOne() throws {
  let world = RulesWorld()
  let producer = try world.initialise()
  #expect(producer == ProducerIdentity(101, 0))
  #expect(code { () throws(BrokerError) in try world.write(p(0), producer) } == .invalidTransactionState)
  try world.add([p(1), p(0)], producer)
  #expect(world.state["t"]?.status == .ongoing && world.state["t"]?.started == world.now)
  try world.write(p(0), producer)
  #expect(code { () throws(BrokerError) in try world.write(p(2), producer) } == .invalidTransactionState)
  #expect(try world.end(producer, commit: true) == producer)
  #expect(
    world.endings == [TransactionEnding(partitions: [p(0), p(1)], producer: producer, isCommit: true)])
  // A repeat is answered as the first call was, and ends nothing; the other outcome is refused.
  #expect(try world.end(producer, commit: true) == producer)
  #expect(code { () throws(BrokerError) in _ = try world.end(producer, commit: false) } == .invalidTransactionState)
  #expect(world.endings.count == 1 && world.state["t"]?.partitions.isEmpty == true)
  // What was added for one transaction is not part of the next.
  #expect(code { () throws(BrokerError) in try world.write(p(0), producer) } == .invalidTransactionState)
  try world.add([p(0)], producer)
  #expect(try world.end(producer, commit: false) == producer)
  #expect(try world.end(producer, commit: false) == producer)
  #expect(code { () throws(BrokerError) in _ = try world.end(producer, commit: true) } == .invalidTransactionState)
}

@Test("writing adds the partition, and every end gives a new epoch that a repeat is told again (version 2)")
func versionTwo() throws {
  let world = RulesWorld()
  let first = try world.initialise()
  try world.write(p(0), first, implicit: true)
  try world.offset(7, first, implicit: true)
  let second = try world.end(first, commit: true, bumps: true)
  #expect(second == ProducerIdentity(first.id, 1) && world.committed == ["g": [p(9): 7]])
  #expect(world.endings.last?.producer == second, "the marker shuts the old epoch out")
  #expect(try world.end(first, commit: true, bumps: true) == second)
  #expect(code { () throws(BrokerError) in _ = try world.end(first, commit: false, bumps: true) } == .producerFenced)
  #expect(code { () throws(BrokerError) in try world.write(p(0), first, implicit: true) } == .producerFenced)
  // An abort of nothing gives a new epoch, too; a commit of nothing does not exist.
  #expect(
    code { () throws(BrokerError) in _ = try world.end(second, commit: true, bumps: true) } == .invalidTransactionState)
  let third = try world.end(second, commit: false, bumps: true)
  #expect(third == ProducerIdentity(first.id, 2) && world.endings.count == 1)
  #expect(try world.end(second, commit: false, bumps: true) == third)
}

@Test("a new instance shuts the old one out and aborts its transaction in one step")
func zombie() throws {
  let world = RulesWorld()
  let old = try world.initialise()
  try world.add([p(0)], old)
  try world.add(group: "g", old)
  try world.offset(5, old)
  #expect(world.state.pendingPartitions(ofGroup: "g") == [p(9)])
  let new = try world.initialise()
  #expect(new == ProducerIdentity(old.id, 1))
  #expect(world.endings == [TransactionEnding(partitions: [p(0)], producer: new, isCommit: false)])
  #expect(world.committed.isEmpty && world.state.pendingPartitions(ofGroup: "g").isEmpty)
  for call in 0..<6 {
    let refusal = code { () throws(BrokerError) in
      switch call {
      case 0: try world.add([p(0)], old)
      case 1: try world.write(p(0), old)
      case 2: try world.add(group: "g", old)
      case 3: try world.offset(1, old, implicit: true)
      case 4: _ = try world.end(old, commit: true)
      default: _ = try world.initialise(expected: old)
      }
    }
    #expect(refusal == .producerFenced, "call \(call)")
  }
  #expect(code { () throws(BrokerError) in try world.add([p(0)], ProducerIdentity(7, 1)) } == .invalidProducerMapping)
  #expect(
    code { () throws(BrokerError) in try world.add([p(0)], new, id: "other") } == .invalidProducerMapping)
}

@Test("a producer that goes on after an error keeps its id, and a repeat of its call gets the same epoch")
func recoveringProducer() throws {
  let world = RulesWorld()
  let first = try world.initialise()
  let second = try world.initialise(expected: first)
  #expect(second == ProducerIdentity(first.id, 1))
  #expect(try world.initialise(expected: first) == second)
  try world.add([p(0)], second)
  let third = try world.initialise(expected: second)
  #expect(third == ProducerIdentity(first.id, 2) && world.endings.last?.isCommit == false)
  #expect(code { () throws(BrokerError) in _ = try world.initialise(expected: first) } == .producerFenced)
  // An id that was forgotten is given out anew, whatever the producer believes.
  #expect(try world.initialise("fresh", expected: third) != third)
}

@Test("a transaction that takes too long is aborted, and its producer is shut out until it comes again")
func timeout() throws {
  let world = RulesWorld()
  let old = try world.initialise()
  world.abort()
  #expect(world.endings.isEmpty, "there is nothing to abort")
  try world.add([p(0)], old)
  world.abort()
  #expect(world.endings.last == .init(partitions: [p(0)], producer: .init(old.id, 1), isCommit: false))
  #expect(code { () throws(BrokerError) in _ = try world.end(old, commit: true) } == .producerFenced)
  #expect(code { () throws(BrokerError) in _ = try world.end(old, commit: false, bumps: true) } == .producerFenced)
  #expect(code { () throws(BrokerError) in _ = try world.initialise(expected: old) } == .producerFenced)
  #expect(try world.initialise() == ProducerIdentity(old.id, 2))
}

@Test("an exhausted epoch leads to a new producer id, whoever uses it up")
func exhaustedEpoch() throws {
  for way in 0..<4 {
    let world = RulesWorld()
    var producer = try world.initialise()
    while producer.epoch < TransactionRules.lastEpoch { producer = try world.initialise(expected: producer) }
    let id = producer.id
    if way != 0 { try world.write(p(0), producer, implicit: true) }
    switch way {
    case 0, 1: producer = try world.initialise()
    case 2:
      let last = producer
      producer = try world.end(last, commit: true, bumps: true)
      #expect(try world.end(last, commit: true, bumps: true) == producer)
    default:
      world.abort()
      producer = try world.initialise()
    }
    #expect(producer == ProducerIdentity(id + 1, 0), "way \(way)")
    if way != 0 { #expect(world.endings.last?.producer == ProducerIdentity(id, .max), "way \(way)") }
  }
}

@Test("offsets need their group to be added first in version 1, and are dropped with the abort")
func offsets() throws {
  let world = RulesWorld()
  let producer = try world.initialise()
  #expect(code { () throws(BrokerError) in try world.offset(1, producer) } == .invalidTransactionState)
  try world.add(group: "g", producer)
  try world.add(group: "g", producer)
  try world.offset(1, producer)
  try world.offset(2, producer)
  _ = try world.end(producer, commit: false)
  #expect(world.committed.isEmpty)
  try world.add(group: "g", producer)
  try world.offset(3, producer)
  _ = try world.end(producer, commit: true)
  #expect(world.committed == ["g": [p(9): 3]] && world.endings.isEmpty)
}

@Test("an id is forgotten when it was not used for long, never while its transaction is open")
func expiry() throws {
  let world = RulesWorld()
  let producer = try world.initialise()
  let later = Timestamp(milliseconds: world.now.milliseconds + 1)
  #expect(TransactionRules.isExpired(try #require(world.state["t"]), before: later))
  #expect(!TransactionRules.isExpired(try #require(world.state["t"]), before: world.now))
  try world.add([p(0)], producer)
  #expect(!TransactionRules.isExpired(try #require(world.state["t"]), before: later))
  world.apply(TransactionStep(events: [.expired("t")]))
  #expect(world.state["t"] == nil && world.state == Transactions())
}

@Test(
  "random instances of two ids: one is valid at a time, every partition gets one marker, offsets are those committed")
func randomHistories() throws {
  for seed: UInt64 in 1...60 {
    var random = SeededRandom(seed: seed)
    let world = RulesWorld()
    var held: [String: [(producer: ProducerIdentity, isTwo: Bool)]] = ["a": [], "b": []]
    var given: Set<ProducerIdentity> = []
    var open: [String: Set<TopicPartition>] = [:]
    var pending: [String: Offset] = [:]
    var expected: Offset?
    var offset: Offset = 0
    var ends = 0
    for step in 0..<400 {
      world.now = Timestamp(milliseconds: world.now.milliseconds + 1)
      let id = random.oneIn(2) ? "a" : "b"
      let before = world.endings.count
      let valid = world.state[id]?.producer
      func checkEnding(commit: Bool?) {
        let partitions = open.removeValue(forKey: id) ?? []
        let new = world.endings.count - before
        #expect(new == (partitions.isEmpty ? 0 : 1), "seed \(seed), step \(step)")
        if new == 1 {
          #expect(Set(world.endings.last?.partitions ?? []) == partitions, "seed \(seed), step \(step)")
          if let commit { #expect(world.endings.last?.isCommit == commit, "seed \(seed), step \(step)") }
          if let valid { #expect(world.endings.last!.producer.epoch >= valid.epoch) }
          ends += 1
        }
        if commit == true, let value = pending[id] { expected = value }
        pending[id] = nil
      }
      guard let one = random.oneIn(4) ? held[id]?.randomElement(using: &random) : held[id]?.last, !random.oneIn(12)
      else {
        let mine = random.oneIn(3) ? held[id]?.last?.producer : nil
        let refusal = code { () throws(BrokerError) in
          let got = try world.initialise(id, expected: mine)
          let isRepeat = got == valid
          #expect(isRepeat || given.insert(got).inserted, "seed \(seed), step \(step): \(got) again")
          held[id]?.append((got, random.oneIn(2)))
          if !isRepeat { checkEnding(commit: false) }
        }
        if refusal != nil { #expect(mine != nil && mine != valid, "seed \(seed), step \(step)") }
        continue
      }
      let isValid = one.producer == valid
      var refusal: BrokerError.Code?
      switch Int.random(in: 0..<8, using: &random) {
      case 0, 1, 2:
        let partition = p(Int32.random(in: 0..<4, using: &random))
        refusal = code { () throws(BrokerError) in
          if !one.isTwo { try world.add([partition], one.producer, id: id) }
          try world.write(partition, one.producer, implicit: one.isTwo, id: id)
          open[id, default: []].insert(partition)
        }
      case 3, 4:
        offset += 1
        let value = offset
        refusal = code { () throws(BrokerError) in
          if !one.isTwo { try world.add(group: "g", one.producer, id: id) }
          try world.offset(value, one.producer, implicit: one.isTwo, id: id)
          pending[id] = value
        }
      case 5:
        if world.state[id]?.status == .ongoing, random.oneIn(3) {
          world.abort(id)
          checkEnding(commit: false)
          #expect(world.state[id]?.producer != valid, "seed \(seed), step \(step)")
        }
        continue
      default:
        let commit = random.oneIn(2)
        let status = world.state[id]?.status
        refusal = code { () throws(BrokerError) in
          let got = try world.end(one.producer, commit: commit, bumps: one.isTwo, id: id)
          if one.isTwo, isValid {
            #expect(got != one.producer && given.insert(got).inserted, "seed \(seed), step \(step)")
          }
          if got != one.producer { held[id]?.append((got, one.isTwo)) }
          if status == .ongoing, isValid { checkEnding(commit: commit) }
        }
        if status != .ongoing, isValid, refusal == nil { #expect(!commit || !one.isTwo) }
        // A repeat of the end that made the valid identity is no violation.
        if !isValid, refusal == nil {
          #expect(one.isTwo && world.state[id]?.producer == valid, "seed \(seed), step \(step)")
        }
        if refusal == .invalidTransactionState { continue }
        if refusal == nil { continue }
      }
      #expect((refusal == nil) == isValid, "seed \(seed), step \(step): \(String(describing: refusal))")
      #expect(world.endings.count == before || refusal == nil)
    }
    #expect(world.committed["g"]?[p(9)] == expected, "seed \(seed)")
    #expect(ends > 10, "seed \(seed) tried nothing")
  }
}

@Test("the epoch above the last one shuts everybody out, also who claims to have it")
func epochAboveTheLast() throws {
  let world = RulesWorld()
  var producer = try world.initialise()
  while producer.epoch < TransactionRules.lastEpoch { producer = try world.initialise(expected: producer) }
  try world.write(p(0), producer, implicit: true)
  world.abort()
  let nobody = try #require(world.state["t"]).producer
  #expect(nobody == ProducerIdentity(producer.id, .max))
  for claimed in [producer, nobody] {
    #expect(code { () throws(BrokerError) in try world.write(p(0), claimed, implicit: true) } == .producerFenced)
    #expect(code { () throws(BrokerError) in try world.add([p(1)], claimed) } == .producerFenced)
    #expect(code { () throws(BrokerError) in try world.add(group: "g", claimed) } == .producerFenced)
    #expect(code { () throws(BrokerError) in try world.offset(1, claimed, implicit: true) } == .producerFenced)
  }
  #expect(world.state["t"]?.status == .aborted)
  #expect(try world.initialise().id != producer.id)
}
