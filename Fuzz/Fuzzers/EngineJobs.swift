// EngineJobs: small jobs whose operators keep state of many shapes, for the fuzzer of state logs.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams

/// A job that reads `lines`, writes `counts`, and keeps its state under the operator named "w".
/// - Parameter choice: which of ``operatorJobCount``; larger numbers begin anew.
func operatorJob(_ choice: Int) -> JobDefinition {
  let lines = DataStream.topic("lines").map { $0.value.text }.keyBy { $0 }
  let output =
    switch choice % operatorJobCount {
    case 0: lines.top(2, name: "w") { Int64($0.utf8.count) }.map { Int64($0.value.count) }.to(topic: "counts")
    case 1: lines.deduplicateLast(name: "w").to(topic: "counts")
    case 2: lines.deduplicate(within: .milliseconds(5), name: "w").to(topic: "counts")
    case 3: lines.distinctCount(name: "w") { $0 }.to(topic: "counts")
    default:
      lines.window(.tumbling(.milliseconds(10))).distinctCount(name: "w") { $0 }.to(topic: "counts")
    }
  return output.job(named: "word-count")
}

/// How many there are.
let operatorJobCount = 5
