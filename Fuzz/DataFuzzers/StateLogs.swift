// StateLogs: a job's state log, as a run reads it back.

import FuzzHarness
import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams

/// Even first byte: the rest is a batch of the state log, with a right checksum. Odd: it is cut into keys and values of
/// records. What the job is, its upper bits say: the word count, windows, sessions, lists as state, a function with timers, what
/// the second byte says of EngineJobs, joins and tables, or windows of so many values. It must start from the state or say why not, and then work.
let stateLogs = FuzzTarget(
  name: "state-logs", allowance: 4 << 20,
  seeds: {
    // Operator numbers are those of "words", "w" and the clock.
    let words = JobGraph.operatorID("words")
    let window = JobGraph.operatorID("w")
    func number(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }
    let name = Bytes([String?].stateEncoding).withBuffer { UInt32(truncatingIfNeeded: Hashing.stable($0)) }
    let fingerprint = withUnsafeBytes(of: name.bigEndian) { Array($0) }
    let cell = Bytes("process<string>/1").withBuffer { UInt32(truncatingIfNeeded: Hashing.stable($0)) }
    let process = withUnsafeBytes(of: cell.bigEndian) { Array($0) }
    let slice: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 10]
    func mark(_ name: String) -> [UInt8] {
      let hash = Bytes(name).withBuffer { UInt32(truncatingIfNeeded: Hashing.stable($0)) }
      return withUnsafeBytes(of: hash.bigEndian) { Array($0) }
    }
    let ranked = mark("ranking<string>/1")
    let stamped = mark("state<string,int64>/1")
    let text = mark("string")
    let point: [UInt8] = [24] + [UInt8](repeating: 0, count: 7) + [40] + [UInt8](repeating: 0, count: 7) + [10]
    let state = JobGraph.operatorID("w.w")
    let zeros = [UInt8](repeating: 0, count: 16)
    let one: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 1]
    let element: [UInt8] = [5, 0, 0, 0, 0, 1, 97]
    let map: [UInt8] = [245, 7, 11] + number(state) + element + [1, 98, 20] + stamped + zeros.dropLast() + [3]
    let shared: [UInt8] =
      [245, 9, 10] + number(state) + [5, 0, 0, 0, 0, 0, 1, 98, 20] + stamped + zeros.dropLast() + [3]
    let held: [UInt8] = [245, 4, 25] + number(window) + element + zeros + [7] + text + [2, 97, 98]
    let called: [UInt8] =
      [245, 8, 17] + number(window) + element + one + [16] + mark("call<string>/1") + one.dropLast(1) + [
        5, 0, 2, 97, 98,
      ]
    let top: [UInt8] = [245, 0, 5] + number(window) + [4, 0, 97, 15] + ranked + [1] + zeros.dropLast(9) + [1, 1, 98]
    let first: [UInt8] = [245, 2, 5] + number(window) + [1, 0, 97, 8] + zeros.dropLast(9) + [1]
    let different: [UInt8] = [245, 3, 10] + number(window) + element + [98, 8] + zeros.dropLast(8)
    return [
      map, shared, held, called, top, first, different,
      // A line on the left side of a window join, a table's line, a line there twice on the right of a join of changes, and the time.
      [249, 27] + number(JobGraph.operatorID("w.left")) + [5, 0, 0, 0, 0, 3, 97, 98, 99] + slice + one.dropLast() + [3]
        + [8] + text + [3, 97, 98, 99],
      [249, 7] + number(JobGraph.operatorID("t")) + [4, 0, 97, 98, 99] + [16]
        + Bytes("latest<string>").withBuffer { buffer in
          withUnsafeBytes(of: UInt32(truncatingIfNeeded: Hashing.stable(buffer)).bigEndian) { Array($0) }
        } + one + [3, 97, 98, 99],
      [249, 15] + number(JobGraph.operatorID("c.right")) + [5, 0, 0, 0, 0, 3, 97, 98, 99, 3, 97, 98, 99] + [12] + text
        + one,
      [249, 4] + number(JobGraph.operatorID("w.time")) + [1, 0, 8] + one,
      [1, 8, 0, 1, 1, 0, 97, 98, 99, 100, 8, 0, 0, 0, 0, 0, 0, 0, 5], [1, 6, 0, 0, 0, 0, 97, 98, 4, 1, 2, 3, 4],
      [1, 6] + number(words) + [1, 0, 97, 98, 8, 0, 0, 0, 0, 0, 0, 0, 5],
      [129, 13] + number(window) + [2, 0] + slice + [97, 8, 0, 0, 0, 0, 0, 0, 0, 5] + [12] + number(window) + [3, 0]
        + slice + [255],
      [129, 4] + number(window) + [1, 0] + point + [UInt8](repeating: 0, count: 8),
      [225, 5] + number(window) + [4, 0, 97] + [30] + [UInt8](repeating: 0, count: 7) + [3]
        + [UInt8](repeating: 0, count: 7)
        + [9, 0, 0, 0, 10] + fingerprint + [2, 0, 1, 2, 97, 98],
      [241, 5] + number(window) + [4, 0, 97] + [16] + process + [1, 1, 98, 1] + [UInt8](repeating: 0, count: 7) + [1],
      // Windows of 4 values every 2.
      [253, 5] + number(window) + [4, 0, 97] + [32] + [UInt8](repeating: 0, count: 7) + [1]
        + [UInt8](repeating: 0, count: 7) + [3] + [UInt8](repeating: 0, count: 7) + [9]
        + [UInt8](repeating: 0, count: 7) + [2] + [4] + number(window) + [1, 0, 32] + [UInt8](repeating: 0, count: 15)
        + [2]
        + [UInt8](repeating: 0, count: 7) + [4] + [UInt8](repeating: 0, count: 7) + [2],
      [193, 5] + number(window) + [4, 0, 97] + [24] + [UInt8](repeating: 0, count: 7) + [3]
        + [UInt8](repeating: 0, count: 7)
        + [9] + [UInt8](repeating: 0, count: 7) + [2],
    ]
  }
) { input in
  var choices = Choices(input)
  let state: [Bytes]
  let first = choices.byte()
  let choice = 244..<248 ~= first ? choices.byte() : 0
  if first % 2 == 0 {
    let bytes = choices.rest()
    guard bytes.count > RecordBatchHeader.size else { return }
    state = [mended(bytes)]
  } else {
    var writer = StateLogWriter(timestamp: Timestamp(milliseconds: 1))
    while !choices.isEmpty {
      let key = choices.bytes(choices.byte() % 40)
      let length = choices.byte()
      let value = choices.bytes(length % 40)
      key.withBuffer { key in
        value.withBuffer { value in writer.put(key: key, value: length == 255 ? nil : value) }
      }
    }
    state = writer.finish()
  }
  guard !state.isEmpty else { return }
  let host = MemoryHost()
  host.createTopic("lines", partitions: 1)
  host.createTopic("counts", partitions: 1)
  do throws(JobError) {
    let epoch = try host.open(job: "word-count") { _ in }
    let ticket = try host.submit(
      StepCommit(job: "word-count", epoch: epoch, outputs: [], state: state, stateLogStart: nil))
    _ = try host.wait(ticket)
    var builder = RecordBatchBuilder()
    builder.append(Record(value: Bytes("the end"), timestamp: Timestamp(milliseconds: 1)))
    try host.append(topic: "lines", partition: 0, batch: builder.finish())
    var options = JobOptions()
    options.idleWait = .zero
    options.briefWait = .zero
    // At once, so that an input always does the same.
    options.startCall = { call in
      call.answer(.success(call.value))
      return {}
    }
    let windows = DataStream.topic("lines").keyBy { $0.value }.window(
      .hopping(.milliseconds(20), every: .milliseconds(10))
    )
    .count(name: "w").to(topic: "counts").job(named: "word-count")
    let sessions = DataStream.topic("lines").keyBy { $0.value }.sessions(gap: .milliseconds(10))
      .count(name: "w").to(topic: "counts").job(named: "word-count")
    let lists = DataStream.topic("lines").keyBy { $0.value }.sessions(gap: .milliseconds(10))
      .aggregate(
        Folding<InputRecord, [String?]>(
          [], adding: { $0.append($1.value.text) }, merging: { $0 += $1 }), name: "w"
      )
      .map { Keyed(key: $0.key, value: Int64($0.value.count)) }.to(topic: "counts").job(named: "word-count")
    let timers = DataStream.topic("lines").keyBy { $0.value }
      .process(state: String.self, name: "w") { record, context, emit in
        context.state = (context.state ?? "") + record.value.text
        context.setTimer(at: Timestamp(milliseconds: context.time.milliseconds + 5))
      } onTimer: { context, emit in
        emit(Keyed(key: context.key, value: Int64(context.timers.count)))
      }
      .to(topic: "counts").job(named: "word-count")
    let texts = DataStream.topic("lines").map { $0.value.text }.keyBy { $0 }
    let rows = DataStream.topic("lines").map { $0.value.text }.asChanges()
    let joins = StreamOutput.job(
      named: "word-count",
      [
        texts.windowJoin(texts, in: .hopping(.milliseconds(20), every: .milliseconds(10)), name: "w")
          .map { Keyed(key: $0.key, value: Int64(1)) }.to(topic: "counts"),
        texts.latest(name: "t").changes().keyBy { $0.value.value }.leftJoin(rows.keyBy { $0.value }, name: "c")
          .map { Keyed(key: $0.value.left.key, value: $0.weight) }.to(topic: "counts"),
        rows.keyBy { $0.value }.maximum(name: "m") { Int64($0.utf8.count) }.to(topic: "counts"),
      ])
    let panes = DataStream.topic("lines").keyBy { $0.value }.window(.count(4, every: 2))
      .count(name: "w").to(topic: "counts").job(named: "word-count")
    let plain =
      first < 128 ? WordCount.job() : first < 192 ? windows : first < 224 ? sessions : first < 240 ? lists : timers
    let job = first < 244 ? plain : first < 248 ? operatorJob(choice) : first < 252 ? joins : panes
    let executor = try JobExecutor(job, host: host, options: options)
    while try executor.turn() == .progress {}
    try executor.settle()
  } catch {
    return
  }
}
