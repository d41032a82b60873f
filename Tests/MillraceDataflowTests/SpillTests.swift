// SpillTests: tables whose entries go into files and come back, against a dictionary and the state log.

import MillraceBase
import MillraceModel
import Synchronization
import Testing

@testable import MillraceDataflow

/// Keeps texts, each an object of its own, so that one that is released twice or never is noticed.
private final class TextCodec: StateCodec {
  final class Text {
    let value: String
    init(_ value: String) { self.value = value }
  }

  private(set) var count = 0

  func keep(_ text: String) -> UInt64 {
    count += 1
    return UInt64(UInt(bitPattern: Unmanaged.passRetained(Text(text)).toOpaque()))
  }

  func text(_ bits: UInt64) -> String {
    guard let place = UnsafeRawPointer(bitPattern: UInt(bits)) else { return "" }
    return Unmanaged<Text>.fromOpaque(place).takeUnretainedValue().value
  }

  func write(_ bits: UInt64, into writer: inout ByteWriter) { writer.utf8(text(bits)) }
  func read(_ value: UnsafeRawBufferPointer) throws(JobError) -> UInt64 {
    keep(String(decoding: value, as: UTF8.self))
  }
  func release(_ bits: UInt64) {
    guard let place = UnsafeRawPointer(bitPattern: UInt(bits)) else { return }
    Unmanaged<Text>.fromOpaque(place).release()
    count -= 1
  }
}

/// A table with texts that are due at the time which they begin with, and what it should be.
private struct Trial {
  let table: KeyedTable
  let codec = TextCodec()
  var model: [String: String] = [:]
  /// What a run that recovers now would find: the last record of each key since a round began, and before.
  var log: [(key: String, value: String?)] = []
  var roundStart = 0
  var lastStart = 0
  var random: SeededRandom
  let failures = Failures()

  final class Failures: Sendable {
    private let list = Mutex<[JobError]>([])
    func add(_ error: JobError) { list.withLock { $0.append(error) } }
    var all: [JobError] { list.withLock { $0 } }
  }

  init(seed: UInt64, fault: @escaping @Sendable () -> MemoryStateFile.Fault? = { nil }) {
    random = SeededRandom(seed: seed)
    let table = KeyedTable(operatorID: 7, kind: StateRecordKind.encodedValue, scope: [], codec: codec, largeSlots: 64)
    self.table = table
    let codec = codec
    let failures = failures
    table.allowSpilling(
      into: StateMemory(limit: 1, makeFile: { MemoryStateFile(fault: fault) }, failed: { failures.add($0) }),
      owner: SpillOwner(due: { Trial.due(codec.text(table.bits(of: $0))) }))
    table.beginRound()
  }

  static func due(_ text: String) -> Int64 { Int64(text.prefix { $0 != " " }) ?? .max }

  mutating func put(_ key: String, _ value: String) {
    let bytes = Bytes(key)
    bytes.withBuffer { key in
      var old: UInt64?
      table.update(key, initial: codec.keep("")) { bits in
        old = bits
        bits = codec.keep(value)
      }
      if let old { codec.release(old) }
    }
    model[key] = value
  }

  mutating func remove(_ key: String) {
    Bytes(key).withBuffer { table.remove($0) }
    model[key] = nil
  }

  func get(_ key: String) -> String? { Bytes(key).withBuffer { table.value($0).map { codec.text($0) } } }

  /// Ends a step: writes what changed and some more.
  mutating func endStep(sweeping quota: Int) throws {
    var writer = StateLogWriter(timestamp: .none)
    table.writeChanges(into: &writer)
    _ = table.sweep(quota, upTo: .max, into: &writer)
    for batch in writer.finish() {
      let header = try RecordBatchHeader.checked(batch)
      for record in try RecordReader.records(batch[61..<header.totalSize], header: header) {
        let key = try #require(record.key)
        #expect(key[3] == key[4..<key.count].withBuffer { KeyGroup.of($0) })
        log.append((key[4..<key.count].text, record.value?.text))
      }
    }
    if table.roundIsDone {
      // Whatever lies before the round that ends is not needed any more.
      lastStart = roundStart
      roundStart = log.count
      table.beginRound()
    }
  }

  func check() {
    var found: [String: String] = [:]
    table.forEach { key, bits in
      let key = String(decoding: key, as: UTF8.self)
      #expect(found[key] == nil, "\(key) is there twice")
      found[key] = codec.text(bits)
    }
    #expect(found == model)
    #expect(table.count == model.count)
    var recovered: [String: String] = [:]
    for (key, value) in log[lastStart...] { recovered[key] = value }
    #expect(recovered == model, "what a run that recovers would find")
  }
}

@Test(
  "tables whose entries go into files and come back are what a dictionary is, and so is their state log",
  arguments: 0..<6)
func spillHistories(_ seed: UInt64) throws {
  var trial = Trial(seed: seed)
  var time: Int64 = 0
  var merged = false
  var most = 0
  for step in 0..<400 {
    for _ in 0..<Int.random(in: 0...80, using: &trial.random) {
      let number = Int.random(in: 0..<(trial.random.oneIn(3) ? 50 : 4000), using: &trial.random)
      // Short keys and long ones.
      let key = number % 3 == 0 ? "k\(number)" : "a key that is longer than sixteen bytes \(number)"
      let due = trial.random.oneIn(3) ? "\(time + Int64.random(in: 0...200, using: &trial.random))" : "never"
      let text = due + String(repeating: " x", count: trial.random.oneIn(50) ? 5000 : number % 40)
      switch Int.random(in: 0..<10, using: &trial.random) {
      case 0: trial.remove(key)
      case 1, 2: #expect(trial.get(key) == trial.model[key])
      default: trial.put(key, text)
      }
    }
    time += Int64.random(in: 0...3, using: &trial.random)
    trial.table.fetchDue(time)
    for (key, text) in trial.model where Trial.due(text) <= time {
      let inMemory = Bytes(key).withBuffer { trial.table.find($0, Hashing.stable($0)) }
      #expect(inMemory != nil, "\(key) is due at \(Trial.due(text)), it is \(time)")
      trial.remove(key)
    }
    try trial.endStep(sweeping: Int.random(in: 0...200, using: &trial.random))
    let before = trial.table.spilled?.segments.segmentCount ?? 0
    if !trial.random.oneIn(3) { _ = try trial.table.spill(.random(in: 1...200_000, using: &trial.random)) }
    let after = trial.table.spilled?.segments.segmentCount ?? 0
    merged = merged || after < before
    most = max(most, after)
    if step % 20 == 0 { trial.check() }
  }
  trial.check()
  #expect(trial.failures.all.isEmpty)
  #expect(merged && (4...40).contains(most), "\(most) segments at most, merged: \(merged)")
  #expect(trial.codec.count == trial.table.count - (trial.table.spilled?.segments.count ?? 0), "objects in memory")
}

@Test("what does not change is put into files, what is used stays; all of it comes back; memory is given back")
func coldEntriesGo() throws {
  var trial = Trial(seed: 1)
  for number in 0..<2000 { trial.put("k\(number)", "never \(number)") }
  try trial.endStep(sweeping: 0)
  #expect(try trial.table.spill(1 << 30) > 0, "the first time around finds that all were used, the second takes them")
  #expect(trial.table.spilled?.segments.count == 2000)
  #expect(trial.table.memorySize < 20_000, "\(trial.table.memorySize) bytes for what is in files")
  #expect(trial.table.fileSize > 2000 * 10)
  for number in 0..<100 { #expect(trial.get("k\(number)") == "never \(number)") }
  #expect(trial.table.spilled?.segments.count == 1900)
  // A hundred that were used, and some that were not: the latter go.
  for number in 100..<200 { trial.put("k\(number)", "never \(number)") }
  try trial.endStep(sweeping: 0)
  _ = try trial.table.spill(1)
  for number in 0..<100 { #expect(trial.get("k\(number)") == "never \(number)") }
  trial.check()
}

@Test("a file that cannot be written leaves everything where it was")
func fullFiles() throws {
  let isFull = Atomic(true)
  var trial = Trial(seed: 2) { isFull.load(ordering: .relaxed) ? .fails : nil }
  for number in 0..<500 { trial.put("k\(number)", "never \(number)") }
  try trial.endStep(sweeping: 0)
  #expect(throws: JobError.self) { try trial.table.spill(1 << 20) }
  #expect(trial.table.spilled?.segments.count == 0)
  trial.check()
  isFull.store(false, ordering: .relaxed)
  #expect(try trial.table.spill(1 << 20) > 0)
  trial.check()
  #expect(trial.failures.all.isEmpty)
}

@Test(
  "a flipped bit in a file is found, and nothing is taken from there",
  arguments: [MemoryStateFile.Fault.fails, .flipsBit])
func damagedFiles(_ fault: MemoryStateFile.Fault) throws {
  let isBroken = Atomic(false)
  var trial = Trial(seed: 3) { isBroken.load(ordering: .relaxed) ? fault : nil }
  for number in 0..<500 { trial.put("k\(number)", "never \(number)") }
  try trial.endStep(sweeping: 0)
  _ = try trial.table.spill(1 << 20)
  isBroken.store(true, ordering: .relaxed)
  #expect(trial.get("k7") == nil)
  #expect(trial.failures.all.map(\.code) == [.stateFileFailed])
  var entries = 0
  trial.table.forEach { _, _ in entries += 1 }
  #expect(entries == 0)
  var writer = StateLogWriter(timestamp: .none)
  trial.table.beginRound()
  #expect(trial.table.sweep(100, upTo: .max, into: &writer) == 0)
  #expect(trial.failures.all.count == 3)
}
