// TableTests: the keyed table against a dictionary, in every small layout, and its state log against both.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceDataflow

private func bytes(_ key: String) -> Bytes { Bytes(key) }

extension KeyedTable {
  fileprivate func add(_ key: String, _ amount: UInt64 = 1) {
    let key = bytes(key)
    update(key.buffer, initial: 0) { $0 += amount }
    extendLifetime(key)
  }
  fileprivate func drop(_ key: String) {
    let key = bytes(key)
    remove(key.buffer)
    extendLifetime(key)
  }
  fileprivate func get(_ key: String) -> UInt64? {
    let key = bytes(key)
    defer { extendLifetime(key) }
    return value(key.buffer)
  }
  fileprivate var contents: [String: UInt64] {
    var out: [String: UInt64] = [:]
    forEach { key, value in
      let text = String(decoding: key, as: UTF8.self)
      precondition(out[text] == nil, "\(text) is there twice")
      out[text] = value
    }
    return out
  }
}

/// Applies what a writer collected to a table.
private func replay(_ batches: [Bytes], into table: KeyedTable) throws {
  for batch in batches {
    let header = try RecordBatchHeader.checked(batch)
    for record in try RecordReader.records(batch[61..<header.totalSize], header: header) {
      let key = try #require(record.key)
      defer { extendLifetime(key) }
      #expect(key[3] == key[4..<key.count].withBuffer { KeyGroup.of($0) })
      #expect(key[0] == UInt8(table.operatorID >> 8) && key[1] == UInt8(table.operatorID & 255) && key[2] == 1)
      try table.restore(key[4..<key.count].buffer, record.value?.buffer)
      extendLifetime(record)
    }
  }
}

@Test("every: tables of up to 40 keys of all lengths hold and give back what was put in, whatever is removed")
func everySmallTable() {
  for count in 0...40 {
    for removed in 0...min(count, 8) {
      let table = KeyedTable(operatorID: 3)
      let keys = (0..<count).map { String(repeating: "k", count: $0) }
      for key in keys { table.add(key, UInt64(key.utf8.count) + 1) }
      var writer = StateLogWriter(timestamp: .none)
      table.writeChanges(into: &writer)
      for key in keys.prefix(removed) { table.drop(key) }
      #expect(table.count == count - removed)
      table.writeChanges(into: &writer)
      #expect(writer.count == count + removed)
      for (length, key) in keys.enumerated() {
        #expect(table.get(key) == (length < removed ? nil : UInt64(length) + 1), "\(length) of \(count)")
      }
      for key in keys { table.add(key, 100) }
      for (length, key) in keys.enumerated() {
        #expect(table.get(key) == (length < removed ? 100 : UInt64(length) + 101), "\(length) of \(count)")
      }
    }
  }
}

@Test("keys that differ in one byte at any place, or in length only, are told apart")
func nearKeysAreDistinct() {
  for length in 0...20 {
    let table = KeyedTable(operatorID: 1)
    var keys = [String(repeating: "a", count: length), String(repeating: "a", count: length + 1)]
    for place in 0..<length {
      keys.append(String(repeating: "a", count: place) + "b" + String(repeating: "a", count: length - place - 1))
    }
    for (index, key) in keys.enumerated() { table.add(key, UInt64(index) + 1) }
    for (index, key) in keys.enumerated() { #expect(table.get(key) == UInt64(index) + 1) }
  }
}

@Test("oracle: random updates, removals, steps and sweep rounds agree with a dictionary, and the log with both")
func oracleTable() throws {
  for seed in UInt64(1)...15 {
    var random = SeededRandom(seed: seed)
    let table = KeyedTable(operatorID: 77)
    var model: [String: UInt64] = [:]
    // The log: batches of each step; the start moves to a round's first step when the round is complete.
    var log: [[Bytes]] = []
    var start = 0
    var roundStart = 0
    var completed = 0
    table.beginRound()
    let range = Int.random(in: 1...4000, using: &random)
    for step in 0..<150 {
      for _ in 0..<Int.random(in: 0...120, using: &random) {
        let number = Int.random(in: 0..<range, using: &random)
        let key = String(repeating: "x", count: number % 23) + "\(number)"
        if random.oneIn(3) {
          table.drop(key)
          model[key] = nil
        } else {
          let amount = UInt64.random(in: 1...9, using: &random)
          table.add(key, amount)
          model[key, default: 0] += amount
        }
      }
      var writer = StateLogWriter(timestamp: .none)
      table.writeChanges(into: &writer)
      _ = table.sweep(Int.random(in: 0...150, using: &random), upTo: .max, into: &writer)
      log.append(writer.finish())
      if table.roundIsDone {
        start = roundStart
        roundStart = step + 1
        completed += 1
        table.beginRound()
      }
      if random.oneIn(10) || step == 149 {
        #expect(table.contents == model, "seed \(seed) step \(step)")
        #expect(table.count == model.count)
        let restored = KeyedTable(operatorID: 77)
        for batches in log[start...] { try replay(batches, into: restored) }
        #expect(restored.contents == model, "seed \(seed) step \(step), log from \(start)")
        #expect(restored.count == model.count)
      }
    }
    #expect(completed > 0, "seed \(seed)")
  }
}

@Test("the memory of removed keys is given back once most of it is dead")
func removedKeysAreGivenBack() {
  let table = KeyedTable(operatorID: 1)
  for round in 0..<50 {
    for index in 0..<1000 { table.add("round \(round) key \(index) " + String(repeating: "z", count: 40)) }
    var writer = StateLogWriter(timestamp: .none)
    table.writeChanges(into: &writer)
    for index in 0..<1000 { table.drop("round \(round) key \(index) " + String(repeating: "z", count: 40)) }
    table.writeChanges(into: &writer)
  }
  #expect(table.count == 0)
  #expect(table.arena.used < 400_000, "\(table.arena.used) bytes")
  #expect(table.core.pointee.entryCapacity <= 1024)
}

@Test("golden: key groups and operator numbers never change, because state on disk depends on them")
func goldenKeyGroups() {
  // Computed by the first release; Hashing's own golden values fix the hash below them.
  let groups = ["", "a", "millrace", "the", "a longer key, of 32 bytes or more"].map {
    bytes($0).withBuffer { KeyGroup.of($0) }
  }
  #expect(groups == [93, 100, 231, 206, 237])
  #expect(KeyGroup.of(hash: 0xab00_0000_0000_0000) == 0xab)
  #expect(KeyGroup.of(hash: 0x00ff_ffff_ffff_ffff) == 0)
  #expect(JobGraph.operatorID("words") == 53584)
}
