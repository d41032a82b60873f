// Jobs whose state has every form that state can have, for the golden files.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams

/// A job that reads `in` and writes `out`, in pipelines that each keep state under a name of their own.
struct StateGoldenJob {
  let name: String
  let outputs: [StreamOutput]

  var definition: JobDefinition { StreamOutput.job(named: name, outputs) }

  private static func number(_ text: String) -> Int64 { Int64(text.split(separator: " ").last ?? "") ?? 0 }
  private static func user(_ text: String) -> String { String(text.prefix { $0 != " " }) }

  /// The lines of `in`: `user number`.
  private static let lines = DataStream.topic("in").map { $0.value.text }
  private static let users = lines.keyBy { user($0) }

  /// A function that counts, remembers, and waits for timers.
  private static func states() -> StreamOutput {
    let last = ValueState<String>("last", timeToLive: .seconds(3600))
    let seen = ListState<Int64>("seen")
    let sums = MapState<Int64, Int64>("sums", timeToLive: .seconds(3600))
    return users.process([last, seen, sums], name: "states") { line, key, emit in
      let number = number(line)
      key[last] = line
      key[seen].append(number)
      key[sums][number % 3] = (key[sums][number % 3] ?? 0) + number
      emit(Keyed(key: user(line), value: "\(key[seen].values.count) \(key[sums].elements.count)"))
    }.to(topic: "out")
  }

  private static func folds() -> [StreamOutput] {
    [
      users.count(name: "count").to(topic: "out"),
      users.sum(name: "sum") { number($0) }.to(topic: "out"),
      users.minimum(name: "minimum") { number($0) }.to(topic: "out"),
      users.average(name: "average") { number($0) }.map { Keyed(key: $0.key, value: $0.value.average) }
        .to(topic: "out"),
      users.reduce(name: "reduce") { $0 + "/" + $1 }.to(topic: "out"),
      users.fold([Int64?](), name: "fold") { $0.append(number($1)) }
        .map { Keyed(key: $0.key, value: "\($0.value.count)") }.to(topic: "out"),
      users.top(2, name: "top") { number($0) }
        .map { Keyed(key: $0.key, value: $0.value.joined(separator: ",")) }.to(topic: "out"),
      users.deduplicateLast(name: "last").to(topic: "out"),
      lines.keyBy { $0 }.deduplicate(within: .seconds(5), name: "within").map { "first \($0)" }.to(topic: "out"),
      users.distinctCount(name: "different") { number($0) }.to(topic: "out"),
    ]
  }

  private static func windows() -> [StreamOutput] {
    [
      users.window(.tumbling(.seconds(10))).count(name: "tumbling").to(topic: "out"),
      users.window(.hopping(.seconds(20), every: .seconds(10))).average(name: "hopping") { number($0) }
        .map { Windowed(key: $0.key, window: $0.window, value: $0.value.average) }.to(topic: "out"),
      users.window(.cumulating(.seconds(30), step: .seconds(10))).sum(name: "cumulating") { number($0) }
        .to(topic: "out"),
      users.window(.days(in: "UTC")).count(name: "days").to(topic: "out"),
      users.sessions(gap: .seconds(4)).count(name: "sessions").to(topic: "out"),
      users.sessions(gap: .seconds(4)).reduce(name: "texts") { $0 + "/" + $1 }.to(topic: "out"),
      users.window(.count(4, every: 2)).sum(name: "counted") { number($0) }.to(topic: "out"),
      users.window(.global(.count(5, orEvery: .seconds(10)), purging: false)).count(name: "global").to(topic: "out"),
      users.window(.tumbling(.seconds(10))).distinctCount(name: "distinct-in-window") { number($0) }.to(topic: "out"),
    ]
  }

  private static func tables() -> [StreamOutput] {
    let rows = lines.asChanges()
    let latest = users.latest(name: "latest")
    return [
      latest.changes().keyBy { user($0.value.value) }.sum(name: "sums-of-latest") { number($0.value) }.changes()
        .map { "\($0.weight) \($0.value.key) \($0.value.value)" }.to(topic: "out"),
      rows.keyBy { user($0.value) }.maximum(name: "highest") { number($0) }.changes()
        .map { "\($0.weight) \($0.value.key) \($0.value.value)" }.to(topic: "out"),
      rows.distinct(name: "distinct").map { "\($0.weight) \($0.value)" }.to(topic: "out"),
      rows.keyBy { user($0.value) }.leftJoin(
        rows.filter { number($0.value) > 7 }.keyBy { user($0.value) }, name: "left"
      )
      .map { "\($0.weight) \($0.value.left) \($0.value.right ?? "none")" }.to(topic: "out"),
      users.join(users.latest(name: "joined-table")).map { "\($0.left) with \($0.right)" }.to(topic: "out"),
    ]
  }

  private static func times() -> [StreamOutput] {
    let timed = lines.eventTime(.boundedOutOfOrderness(.seconds(2)), name: "own-time") {
      Timestamp(milliseconds: number($0) * 1000)
    }
    return [
      timed.keyBy { user($0) }.window(.tumbling(.seconds(3))).count(name: "by-own-time").to(topic: "out"),
      users.sortedByTime(name: "sorted").map { "sorted \($0)" }.to(topic: "out"),
      users.process(state: String.self, name: "timers") { line, context, emit in
        context.state = (context.state ?? "") + line
        context.setTimer(at: Timestamp(milliseconds: context.time.milliseconds + 7000))
      } onTimer: { context, emit in
        emit(Keyed(key: context.key, value: context.state ?? "nothing"))
        context.state = nil
      }.to(topic: "out"),
      states(),
      lines.processingTime().keyBy { user($0) }.window(.tumbling(.seconds(60))).count(name: "by-processing-time")
        .to(topic: "out"),
    ]
  }

  private static func joins() -> [StreamOutput] {
    let high = lines.filter { number($0) > 5 }.keyBy { user($0) }
    return [
      users.join(high, name: "all").map { "\($0.left) and \($0.right)" }.to(topic: "out"),
      users.intervalJoin(high, between: .seconds(-3)...(.seconds(2)), name: "interval")
        .map { "\($0.left) near \($0.right)" }.to(topic: "out"),
      users.windowJoin(high, in: .tumbling(.seconds(10)), name: "in-window")
        .map { Windowed(key: $0.key, window: $0.window, value: "\($0.value.left) in \($0.value.right)") }
        .to(topic: "out"),
    ]
  }

  static let all = [
    StateGoldenJob(name: "folds", outputs: folds()), StateGoldenJob(name: "windows", outputs: windows()),
    StateGoldenJob(name: "tables", outputs: tables()), StateGoldenJob(name: "times", outputs: times()),
    StateGoldenJob(name: "joins", outputs: joins()),
  ]
}
