// SliceTests: state by slices of time, against a dictionary, and its state log against both; the arithmetic of windows.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceDataflow

private struct Place: Hashable {
  var slice: Int64
  var key: String
}

extension SliceStore {
  fileprivate var contents: [Place: UInt64] {
    var out: [Place: UInt64] = [:]
    for start in starts {
      table(start).forEach { key, value in out[Place(slice: start, key: String(decoding: key, as: UTF8.self))] = value }
    }
    return out
  }
}

/// Applies what a writer collected, as a recovery does.
private func replay(_ batches: [Bytes], into store: SliceStore) throws {
  for batch in batches {
    let header = try RecordBatchHeader.checked(batch)
    for record in try RecordReader.records(batch[61..<header.totalSize], header: header) {
      let key = try #require(record.key)
      defer { extendLifetime(key) }
      #expect(key[0] == UInt8(store.operatorID >> 8) && key[1] == UInt8(store.operatorID & 255))
      try store.restore(key[2], key[4..<key.count].buffer, record.value?.buffer)
      extendLifetime(record)
    }
  }
}

@Test("oracle: slices that fill, are late, end and are swept agree with a dictionary, and the log with both")
func oracleSlices() throws {
  for seed in UInt64(1)...30 {
    var random = SeededRandom(seed: seed)
    let store = SliceStore(operatorID: 900, length: 10, phase: 0)
    var model: [Place: UInt64] = [:]
    var log: [[Bytes]] = []
    var start = 0
    var roundStart = 0
    var completed = 0
    var first: Int64 = 0
    store.beginRound()
    for step in 0..<200 {
      for _ in 0..<Int.random(in: 0...60, using: &random) {
        let slice = (first + Int64.random(in: 0...6, using: &random)) * 10
        let key = "k\(Int.random(in: 0..<40, using: &random))"
        Bytes(key).withBuffer { buffer in store.table(slice).update(buffer, initial: 0) { $0 += 3 } }
        model[Place(slice: slice, key: key), default: 0] += 3
      }
      if random.oneIn(3) {
        first += 1
        store.watermark = first * 10
        while let oldest = store.starts.first, oldest < first * 10 {
          store.removeFirst()
          for place in model.keys where place.slice == oldest { model[place] = nil }
        }
      }
      var writer = StateLogWriter(timestamp: .none)
      store.writeChanges(into: &writer)
      #expect(store.changedCount == 0)
      _ = store.sweep(Int.random(in: 0...60, using: &random), upTo: .max, into: &writer)
      log.append(writer.finish())
      if store.roundIsDone {
        start = roundStart
        roundStart = step + 1
        completed += 1
        store.beginRound()
      }
      if random.oneIn(8) || step == 199 {
        #expect(store.contents == model, "seed \(seed) step \(step)")
        #expect(store.count == model.count)
        let restored = SliceStore(operatorID: 900, length: 10, phase: 0)
        for batches in log[start...] { try replay(batches, into: restored) }
        #expect(restored.contents == model, "seed \(seed) step \(step), log from \(start)")
        #expect(restored.watermark == store.watermark, "seed \(seed) step \(step), log from \(start)")
      }
    }
    #expect(completed > 3, "seed \(seed)")
  }
}

@Test("state of another shape is refused, with what was found")
func otherShapesAreRefused() {
  let store = SliceStore(operatorID: 5, length: 10, phase: 0)
  let table = KeyedTable(operatorID: 6)
  let eight = Bytes([UInt8](repeating: 0, count: 8))
  let short = #expect(throws: JobError.self) {
    try store.restore(StateRecordKind.sliceValue, eight[0..<7].buffer, eight.buffer)
  }
  #expect(short?.reason == "a state record of kind 2 with 7 bytes for operator 5, which has slices of time")
  let keyed = #expect(throws: JobError.self) {
    try store.restore(StateRecordKind.keyedValue, eight.buffer, eight.buffer)
  }
  #expect(keyed?.code == .corruptState)
  for start in [Int64.min, .max, 7, -3] {
    var writer = ByteWriter()
    writer.int64(start)
    let key = writer.finishJoined()
    for kind in [StateRecordKind.sliceValue, StateRecordKind.sliceEnd] {
      let place = #expect(throws: JobError.self) { try store.restore(kind, key.buffer, eight.buffer) }
      #expect(place?.reason == "a slice of operator 5 that begins at \(start) ms, with slices of 10 ms")
    }
    extendLifetime(key)
  }
  let sliced = #expect(throws: JobError.self) {
    try table.restore(StateRecordKind.sliceValue, eight.buffer, eight.buffer)
  }
  #expect(sliced?.reason == "a state record of kind 2 for operator 6, which has keyed values")
  extendLifetime(eight)
}

@Test("sessions in a state that cannot be sessions are refused, with what was found")
func otherSessionsAreRefused() {
  let store = SessionStore(operatorID: 7, gap: 10, lateness: 0, emission: .onClose)
  func problem(_ numbers: [Int64], cut: Int = 0, kind: UInt8 = StateRecordKind.encodedValue, key: String = "k")
    -> String?
  {
    var writer = ByteWriter()
    for number in numbers { writer.int64(number) }
    let value = writer.finishJoined()
    let bytes = Bytes(key)
    defer { extendLifetime((bytes, value)) }
    do throws(JobError) {
      try store.restore(kind, bytes.buffer, value[0..<value.count - cut].buffer)
      return nil
    } catch {
      return error.code == .corruptState ? error.reason : "\(error)"
    }
  }
  #expect(problem([1, 5, 3]) == nil)
  #expect(problem([1, 5, 3, 20, 20, 4]) == nil)
  #expect(store.count == 1)
  #expect(problem([1, 5, 3], cut: 1) == "sessions of 23 bytes: uint64 needs 8 bytes, 7 are left at byte 16")
  #expect(problem([]) == "sessions of 0 bytes: int64 needs 8 bytes, 0 are left at byte 0")
  #expect(problem([6, 5, 3]) == "sessions of 24 bytes: a session from 6 to 5 ms at byte 0")
  #expect(problem([1, 5, 3, 5, 9, 4]) == "sessions of 48 bytes: a session from 5 to 9 ms at byte 24")
  #expect(problem([.min, 5, 3]) == "sessions of 24 bytes: a session from \(Int64.min) to 5 ms at byte 0")
  #expect(
    problem([100, 11], kind: StateRecordKind.keyedValue, key: "")?.contains("a gap of 11 ms in its state, 10 ms now")
      == true)
  #expect(problem([100, 10], kind: StateRecordKind.keyedValue, key: "") == nil)
  #expect(store.watermark == 100)
  #expect(
    problem([1], kind: StateRecordKind.sliceEnd) == "a state record of kind 3 for operator 7, which has sessions")
}

@Test("the windows of a slice are those that contain it, for every small length, hop and offset")
func windowArithmetic() {
  for length in Int64(1)...14 {
    for hop in 1...length {
      for offset in Int64(-3)...3 {
        let windows = TimeWindows.hopping(
          .milliseconds(length), every: .milliseconds(hop), offset: .milliseconds(offset))
        for time in Int64(-30)...30 {
          let ends = (time - length + 1...time).filter { ($0 - offset) % hop == 0 }.map { $0 + length }
          let slice = windows.slice(of: time).lowerBound
          #expect(slice <= time && time < slice + windows.sliceLength)
          #expect(windows.firstEnd(ofSlice: slice) == ends.first, "\(length) \(hop) \(offset) \(time)")
          #expect(windows.lastEnd(ofSlice: slice) == ends.last, "\(length) \(hop) \(offset) \(time)")
        }
      }
    }
  }
}
