// ProcessTests: functions with state and timers, over random histories and crashes, against a model that searches lists.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private struct Event {
  var key: String
  var time: Int64
}

/// Counts a key's values. A reminder comes 20 ms behind the last value and then every 10 ms, three in all; then the key is
/// forgotten. Every fifth value takes the reminders back.
private func job() -> JobDefinition {
  DataStream.topic("in").keyBy { $0.key.text }.process(state: Int64.self, name: "p") {
    (_, context: ProcessContext<String, Int64>, emit: (String) -> Void) in
    let count = (context.state ?? 0) % 100 + 1
    for timer in context.timers { context.cancelTimer(at: timer) }
    context.state = count
    emit("\(context.key) value \(count)")
    if count % 5 != 0 { context.setTimer(at: Timestamp(milliseconds: context.time.milliseconds + 20)) }
  } onTimer: { context, emit in
    let state = context.state ?? -1
    emit("\(context.key) timer \(context.time.milliseconds) \(state % 100) \(state / 100)")
    if state >= 200 {
      context.state = nil
    } else {
      context.state = state + 100
      context.setTimer(at: Timestamp(milliseconds: context.time.milliseconds + 10))
    }
  }.to(topic: "out").job(named: "process")
}

/// What has to be handed on with each batch.
private func expected(_ batches: [[Event]]) -> [[String]] {
  var states: [String: Int64] = [:]
  var timers: [(time: Int64, key: String)] = []
  var watermark = Int64.min
  return batches.map { batch in
    var out: [String] = []
    for event in batch {
      let count = (states[event.key] ?? 0) % 100 + 1
      states[event.key] = count
      timers.removeAll { $0.key == event.key }
      out.append("\(event.key) value \(count)")
      if count % 5 != 0 { timers.append((event.time + 20, event.key)) }
      watermark = max(watermark, event.time)
    }
    // Timers that timers set are for the next batch.
    for timer in timers.filter({ $0.time <= watermark }) {
      timers.removeAll { $0 == timer }
      let state = states[timer.key] ?? -1
      out.append("\(timer.key) timer \(timer.time) \(state % 100) \(state / 100)")
      if state >= 200 {
        states[timer.key] = nil
      } else {
        states[timer.key] = state + 100
        timers.append((timer.time + 10, timer.key))
      }
    }
    return out
  }
}

@Test("process functions: state, timers, timers taken back, over crashes", arguments: 0..<6)
func processHistories(_ part: UInt64) throws {
  var failures = 0
  for seed in 0..<histories(30) {
    var random = SeededRandom(seed: part &* 500 &+ UInt64(seed))
    var time: Int64 = 0
    let batches = (0..<40).map { _ in
      (0..<Int.random(in: 1...5, using: &random)).map { _ in
        time += random.oneIn(10) ? .random(in: 0...60, using: &random) : .random(in: 0...5, using: &random)
        return Event(key: "k\(Int.random(in: 0..<5, using: &random))", time: time)
      }
    }
    let history = try History(
      of: job(),
      over: batches.map { batch in
        batch.map { Record(key: Bytes($0.key), value: Bytes("v"), timestamp: Timestamp(milliseconds: $0.time)) }
      }, using: &random, crashes: seed % 2 == 1)
    failures += history.failures
    let isRight = history.agrees(history.out, with: expected(batches))
    #expect(isRight, "part \(part) seed \(seed)")
  }
  #expect(failures > histories(20) / 2)
}

@Test(
  "timers come in the order of their times, a key's state is given up with nil, and what a timer hands on has its time")
func timersInOrder() throws {
  let host = MemoryHost()
  host.createTopic("in", partitions: 1)
  host.createTopic("out", partitions: 1)
  let job = DataStream.topic("in").keyBy { $0.key.text }.process(state: Bool.self) {
    (record: InputRecord, context: ProcessContext<String, Bool>, emit: (String) -> Void) in
    for part in record.value.text.split(separator: " ") {
      context.setTimer(at: Timestamp(milliseconds: Int64(part) ?? 0))
      context.setTimer(at: Timestamp(milliseconds: Int64(part) ?? 0))
    }
  } onTimer: { context, emit in
    emit("\(context.key)\(context.time.milliseconds) of \(context.timers.count)")
  }.to(topic: "out").job(named: "order")
  for (key, value, time) in [("a", "30 10", Int64(1)), ("b", "20 5", 2), ("c", "", 30), ("c", "7", 31)] {
    var builder = RecordBatchBuilder()
    builder.append(Record(key: Bytes(key), value: Bytes(value), timestamp: Timestamp(milliseconds: time)))
    try host.append(topic: "in", partition: 0, batch: builder.finish())
  }
  var options = JobOptions()
  options.idleWait = .zero
  options.briefWait = .zero
  let executor = try JobExecutor(job, host: host, options: options)
  while try executor.turn() == .progress {}
  try executor.settle()
  let out = try host.records(topic: "out", partition: 0)
  #expect(out.map { $0.value?.text } == ["b5 of 1", "a10 of 1", "b20 of 0", "a30 of 0", "c7 of 0"])
  #expect(out.map(\.timestamp.milliseconds) == [5, 10, 20, 30, 7])
  // Only the clock of the input is left.
  #expect(executor.figures.stateKeys == 2)
}
