// The key without bytes, which records without a key have: one key like others, on the worker that has it.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

@Suite struct EmptyKeyTests {
  /// Runs the job over `values` without a key, recovering on three workers behind each.
  private func results(of output: StreamOutput, over values: [(value: String, time: Int64)]) throws -> [String] {
    var options = JobOptions()
    options.workers = 3
    options.wakeBytes = 0
    let driver = TestDriver(output.job(named: "empty"), options: options)
    for (value, time) in values {
      try driver.send("in", value: value, at: time)
      try driver.run()
      let keys = driver.figures.stateKeys
      driver.crash()
      try driver.run()
      #expect(driver.figures.stateKeys == keys, "each key is on one worker")
    }
    return try driver.output("out").map { $0.value?.text ?? "-" }
  }

  private let records = DataStream.topic("in").keyBy(\.key)

  @Test("counts, folds, duplicates, functions, states and sessions of it go on where they were")
  func goOn() throws {
    let values = (1...6).map { (value: "v\($0)", time: Int64($0) * 1000) }
    #expect(try results(of: records.count().to(topic: "out"), over: values) == ["1", "2", "3", "4", "5", "6"])
    let joined = records.fold("") { $0 += $1.value.text }.to(topic: "out")
    #expect(try results(of: joined, over: values.dropLast(3)) == ["v1", "v1v2", "v1v2v3"])
    let first = records.deduplicate(within: .seconds(60)).map { $0.value.text }.to(topic: "out")
    #expect(try results(of: first, over: values) == ["v1"])
    let function = records.process(state: Int64.self) { _, context, emit in
      context.state = (context.state ?? 0) + 1
      emit("\(context.state ?? 0)")
    }.to(topic: "out")
    #expect(try results(of: function, over: values) == ["1", "2", "3", "4", "5", "6"])
    let last = ValueState<String>("last")
    let states = records.process([last]) { record, key, emit in
      emit(key[last] ?? "none")
      key[last] = record.value.text
    }.to(topic: "out")
    #expect(try results(of: states, over: values.dropLast(3)) == ["none", "v1", "v2"])
    let sessions = records.sessions(gap: .seconds(2)).count().to(topic: "out")
    let apart = [1, 2, 3, 9].map { (value: "v", time: Int64($0) * 1000) }
    #expect(try results(of: sessions, over: apart) == ["3"])
  }
}
