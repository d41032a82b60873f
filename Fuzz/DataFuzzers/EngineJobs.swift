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
    case 4: lines.sortedByTime(name: "w").keyBy { $0 }.distinctCount(name: "d") { $0 }.to(topic: "counts")
    case 8:
      lines.mapAsync(name: "w") { $0 }.keyBy { $0 }.distinctCount(name: "d") { $0 }.to(topic: "counts")
    case 10:
      lines.window(.global(.count(2), purging: false)).process(name: "w", evictingBefore: .last(3)) { $1($0.key) }
        .keyBy { $0 }.distinctCount(name: "d") { $0 }.to(topic: "counts")
    case 9: broadcast(lines).to(topic: "counts")
    case 5, 6, 7: states(lines, choice % operatorJobCount).to(topic: "counts")
    default:
      lines.window(.tumbling(.milliseconds(10))).distinctCount(name: "w") { $0 }.to(topic: "counts")
    }
  return output.job(named: "word-count")
}

/// A function with one state, named "w.w", of the kind that `choice` says.
private func states<Source: Flow<String>>(
  _ lines: KeyedStream<Source, String>, _ choice: Int
) -> DataStream<StatefulProcess<Source, String, Keyed<String, Int64>>> {
  let value = ValueState<String>("w", timeToLive: .milliseconds(3))
  let list = ListState<String>("w", timeToLive: .milliseconds(3))
  let map = MapState<String, Int64>("w")
  let used: [any ProcessState] = choice == 5 ? [value] : choice == 6 ? [list] : [map]
  return lines.process(used, name: "w") { line, key, emit in
    switch choice {
    case 5: key[value] = (key[value] ?? "") + line
    case 6: key[list].append(line)
    default: key[map][line] = (key[map][line] ?? 0) + 1
    }
    emit(
      Keyed(key: line, value: Int64(choice == 6 ? key[list].values.count : choice == 7 ? key[map].elements.count : 1)))
  }
}

/// A map that every line changes and every line's key reads, named "w.w".
private func broadcast<Source: Flow<String>>(
  _ lines: KeyedStream<Source, String>
) -> DataStream<BroadcastProcess<Source, Source, String, Keyed<String, Int64>>> {
  let map = MapState<String, Int64>("w")
  return lines.connect(broadcast: DataStream(lines.flow), [map], name: "w") { line, key, emit in
    emit(Keyed(key: line, value: Int64(key.broadcast[map].elements.count)))
  } onBroadcast: { line, states in
    states[map][line] = (states[map][line] ?? 0) &+ 1
  }
}

/// How many there are.
let operatorJobCount = 12
