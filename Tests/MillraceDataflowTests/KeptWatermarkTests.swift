// KeptWatermarkTests: how far event time has come, as operators keep it.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceDataflow

@Test("an operator's watermark is written when it moved, and once in each round of the sweep, and is read back")
func keptWatermark() throws {
  var writer = StateLogWriter(timestamp: .none)
  var kept = KeptWatermark(operatorID: 7, kind: StateRecordKind.keyedValue)
  kept.beginRound()
  kept.writeChanges(into: &writer)
  #expect(writer.count == 0 && kept.isSwept)
  let moved = [kept.advance(to: Timestamp(milliseconds: 5)), kept.advance(to: Timestamp(milliseconds: 5))]
  #expect(moved == [true, false])
  kept.writeChanges(into: &writer)
  kept.writeChanges(into: &writer)
  #expect(writer.count == 1)
  kept.beginRound()
  #expect(!kept.isSwept)
  let swept = [kept.sweep(into: &writer), kept.sweep(into: &writer)]
  #expect(swept == [1, 0])
  let batches = writer.finish()
  let batch = try #require(batches.first)
  let header = try RecordBatchHeader.checked(batch)
  let records = try RecordReader.records(batch[RecordBatchHeader.size..<header.totalSize], header: header)
  #expect(records.count == 2)
  var other = KeptWatermark(operatorID: 7, kind: StateRecordKind.keyedValue)
  for record in records {
    #expect(record.key?.array == [0, 7, StateRecordKind.keyedValue, 0])
    let isTaken = try other.restore(StateRecordKind.keyedValue, Bytes("").buffer, record.value?.buffer)
    #expect(isTaken && other.time == 5)
  }
  // Another kind, or a key: a record of something else.
  let value = records[0].value?.buffer
  let isOfKind = try other.restore(StateRecordKind.encodedValue, Bytes("").buffer, value)
  let isOfKey = try other.restore(StateRecordKind.keyedValue, Bytes("k").buffer, value)
  #expect(!isOfKind && !isOfKey)
  #expect(throws: JobError.self) {
    var broken = KeptWatermark(operatorID: 7, kind: StateRecordKind.keyedValue)
    _ = try broken.restore(StateRecordKind.keyedValue, Bytes("").buffer, nil)
  }
  extendLifetime(records)
}

@Test("operators that judge by event time write how far it has come with the step that it moved in")
func operatorsKeepWatermarks() {
  let time = Timestamp(milliseconds: 5)
  let sort = SortStore<Int64>(operatorID: 1)
  sort.advance(to: time) { _, _ in }
  let deduplicate = DeduplicateStore(operatorID: 2, within: .seconds(1))
  deduplicate.advance(to: time)
  let process = ProcessStore<Bool>(operatorID: 3)
  process.advance(to: time) { _, _, _ in }
  for state in [sort, deduplicate, process] as [any OperatorState] {
    #expect(state.changedCount == 1)
    var writer = StateLogWriter(timestamp: .none)
    state.writeChanges(into: &writer)
    #expect(writer.count == 1)
    state.beginRound()
    #expect(!state.roundIsDone)
    let swept = state.sweep(64, upTo: .max, into: &writer)
    #expect(swept == 1 && state.roundIsDone && writer.count == 2)
  }
}
