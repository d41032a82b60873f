// ElementTests: elements of keys, against dictionaries, through the state log and back; and what one more costs.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceDataflow

/// Reads state records into a store.
private func restore(_ batches: [Bytes], into store: ElementStore) throws {
  for batch in batches {
    let header = try RecordBatchHeader.checked(batch)
    for record in try RecordReader.records(batch[RecordBatchHeader.size..<header.totalSize], header: header) {
      let key = try #require(record.key).array
      #expect(key[2] == StateRecordKind.element)
      // All elements of a key are in the key's group.
      let length = key[4..<8].reduce(0) { $0 << 8 | Int($1) }
      #expect(Array(key[8..<8 + length]).withUnsafeBytes { KeyGroup.of($0) } == key[3])
      let rest = Bytes(Array(key[4...]))
      try store.restore(StateRecordKind.element, rest.buffer, record.value?.buffer)
      extendLifetime(rest)
      extendLifetime(record)
    }
  }
}

private func numbers() -> ElementStore {
  ElementStore(operatorID: 7, ranking: .number, codec: WeightCodec("number"))
}

private func add(_ weight: Int64, _ number: Int64, _ key: String, to store: ElementStore) {
  Bytes(key).withBuffer { key in
    withUnsafeBytes(of: number.bigEndian) { store.add(weight, to: $0, rank: number, of: key) }
  }
}

private func content(_ store: ElementStore, _ key: String, in ranks: ClosedRange<Int64> = .min ... .max) -> [[Int64]] {
  var found: [[Int64]] = []
  Bytes(key).withBuffer {
    store.forEach($0, in: ranks) { rank, _, bits in found.append([rank, Int64(stateBits: bits)]) }
  }
  return found
}

@Test("oracle: numbers with weights come and go, are found in order, and come back from the state log")
func elementHistories() throws {
  for seed in UInt64(0)..<30 {
    var random = SeededRandom(seed: seed)
    var store = numbers()
    var model: [String: [Int64: Int64]] = [:]
    var log: [Bytes] = []
    for step in 0..<60 {
      for _ in 0..<Int.random(in: 1...40, using: &random) {
        let key = random.oneIn(3) ? "" : "k\(Int.random(in: 0..<3, using: &random))"
        let number = Int64.random(in: -40...40, using: &random)
        let known = model[key]?[number] ?? 0
        let weight = random.oneIn(2) ? -known : Int64.random(in: -1...2, using: &random)
        add(weight, number, key, to: store)
        model[key, default: [:]][number] = known + weight == 0 ? nil : known + weight
      }
      var writer = StateLogWriter(timestamp: Timestamp(milliseconds: 1))
      if random.oneIn(10) { store.beginRound() }
      store.writeChanges(into: &writer)
      _ = store.sweep(10, upTo: 1 << 20, into: &writer)
      log += writer.finish()
      if random.oneIn(5) {
        store = numbers()
        try restore(log, into: store)
        store.recovered()
      }
      for key in ["", "k0", "k1", "k2"] {
        let expected = (model[key] ?? [:]).sorted { $0.key < $1.key }.map { [$0.key, $0.value] }
        let isRight = content(store, key) == expected
        #expect(isRight, "seed \(seed) step \(step) key \(key)")
        let some = content(store, key, in: -5...20) == expected.filter { $0[0] >= -5 && $0[0] <= 20 }
        #expect(some, "seed \(seed) step \(step) key \(key)")
        #expect(Bytes(key).withBuffer { store.has($0) } == !expected.isEmpty)
        #expect(Bytes(key).withBuffer { store.ranks($0)?.upperBound } == expected.last?[0])
      }
      #expect(store.count == model.values.reduce(0) { $0 + $1.count }, "seed \(seed) step \(step)")
    }
  }
}

@Test("oracle: values of a time come in the order of their times and of their coming, and go when they are over")
func expiringElements() throws {
  for seed in UInt64(0)..<20 {
    var random = SeededRandom(seed: seed)
    func make() -> ElementStore {
      ElementStore(operatorID: 7, ranking: .time, codec: WeightCodec("w"), expires: true)
    }
    var store = make()
    var model: [String: [[Int64]]] = [:]
    var log: [Bytes] = []
    var count: Int64 = 0
    for step in 0..<80 {
      let now = Int64(step * 10)
      for _ in 0..<Int.random(in: 0...30, using: &random) {
        let key = "k\(Int.random(in: 0..<4, using: &random))"
        let time = now + .random(in: 0...50, using: &random)
        count += 1
        Bytes(key).withBuffer { store.append($0, at: time, count.stateBits) }
        let at = model[key, default: []].firstIndex { $0[0] > time } ?? model[key, default: []].count
        model[key, default: []].insert([time, count], at: at)
      }
      if random.oneIn(2) {
        store.expire(below: now)
        for key in model.keys { model[key]?.removeAll { $0[0] < now } }
      }
      var writer = StateLogWriter(timestamp: Timestamp(milliseconds: 1))
      store.writeChanges(into: &writer)
      log += writer.finish()
      if random.oneIn(5) {
        store = make()
        try restore(log, into: store)
        store.recovered()
      }
      for key in ["k0", "k1", "k2", "k3"] {
        let isRight = content(store, key) == model[key] ?? []
        #expect(isRight, "seed \(seed) step \(step) key \(key)")
      }
    }
    store.expire(below: .max)
    #expect(store.count == 0)
  }
}

@Test("a key with 100,000 elements: one more is one record of a few bytes")
func oneElementIsOneRecord() {
  let store = numbers()
  for number in Int64(0)..<100_000 { add(1, number, "key", to: store) }
  var all = StateLogWriter(timestamp: Timestamp(milliseconds: 1))
  store.writeChanges(into: &all)
  #expect(all.count == 100_000)
  add(1, 100_000, "key", to: store)
  add(-1, 5, "key", to: store)
  add(1, 6, "key", to: store)
  var writer = StateLogWriter(timestamp: Timestamp(milliseconds: 1))
  store.writeChanges(into: &writer)
  #expect(writer.count == 3)
  #expect(writer.size < 200)
}

@Test("state records of elements that are none are refused")
func elementsThatAreNone() {
  func problem(_ ranking: ElementRanking, _ kind: UInt8, _ key: [UInt8], _ value: [UInt8]?) -> JobError.Code? {
    let store = ElementStore(operatorID: 1, ranking: ranking, codec: WeightCodec("w"))
    let (key, value) = (Bytes(key), value.map { Bytes($0) })
    defer {
      extendLifetime(key)
      extendLifetime(value)
    }
    do throws(JobError) {
      try store.restore(kind, key.buffer, value?.buffer)
      store.recovered()
      return nil
    } catch {
      return error.code
    }
  }
  var writer = ByteWriter()
  WeightCodec("w").write(3, into: &writer)
  let weight = writer.finishJoined().array
  let eight = [UInt8](repeating: 1, count: 8)
  #expect(problem(.number, 5, [0, 0, 0, 1, 97] + eight, weight) == nil)
  #expect(problem(.number, 5, [0, 0, 0, 1, 97] + eight, nil) == nil)
  #expect(problem(.number, 4, [0, 0, 0, 1, 97] + eight, weight) == .corruptState)
  #expect(problem(.number, 5, [0, 0, 0, 2, 97] + eight, weight) == .corruptState)
  #expect(problem(.number, 5, [0, 0, 0, 99, 97] + eight, weight) == .corruptState)
  #expect(problem(.number, 5, [0, 0, 0], weight) == .corruptState)
  #expect(problem(.number, 5, [0, 0, 0, 1, 97] + eight, Array(weight.dropLast())) == .corruptState)
  #expect(
    problem(.number, 5, [0, 0, 0, 1, 97] + eight, Array(weight[..<4]) + [UInt8](repeating: 0, count: 8))
      == .corruptState)
  #expect(problem(.time, 5, [0, 0, 0, 0] + eight, weight) == .corruptState)
  #expect(problem(.time, 5, [0, 0, 0, 0] + eight + eight, weight) == nil)
  // The number of an element is below 2⁶³, so that there is one behind it.
  #expect(problem(.time, 5, [0, 0, 0, 0] + eight + [128] + eight.dropLast(), weight) == .corruptState)
  #expect(problem(.value(String.self), 5, [0, 0, 0, 0, 1, 97], weight) == nil)
  #expect(problem(.value(String.self), 5, [0, 0, 0, 0, 2, 97], weight) == .corruptState)
}
