// CalendarWindowTests: days, weeks and months of a zone over random histories, against tables of when they begin.

import Foundation
import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private let hasZones = FileManager.default.fileExists(atPath: "/usr/share/zoneinfo/Europe/Berlin")

private struct Calendar: Sendable, CustomTestStringConvertible {
  var testDescription: String
  var windows: CalendarWindows
  /// When windows begin, in seconds, as Python's zoneinfo says.
  var starts: [Int64]
}

private let calendars = [
  Calendar(
    testDescription: "days", windows: .days(in: "Europe/Berlin"),
    starts: [
      1_729_720_800, 1_729_807_200, 1_729_893_600, 1_729_980_000, 1_730_070_000, 1_730_156_400,
      1_730_242_800, 1_730_329_200,
    ]),
  Calendar(
    testDescription: "weeks", windows: .weeks(in: "Europe/Berlin"),
    starts: [
      1_709_506_800, 1_710_111_600, 1_710_716_400, 1_711_321_200, 1_711_922_400, 1_712_527_200,
      1_713_132_000, 1_713_736_800,
    ]),
  Calendar(
    testDescription: "weeks from Sunday on", windows: .weeks(in: "America/New_York", startingOn: .sunday),
    starts: [
      1_729_396_800, 1_730_001_600, 1_730_606_400, 1_731_214_800, 1_731_819_600, 1_732_424_400,
    ]),
  Calendar(
    testDescription: "months", windows: .months(in: "Europe/Berlin"),
    starts: [
      1_704_063_600, 1_706_742_000, 1_709_247_600, 1_711_922_400, 1_714_514_400, 1_717_192_800,
      1_719_784_800, 1_722_463_200, 1_725_141_600, 1_727_733_600, 1_730_415_600, 1_733_007_600,
      1_735_686_000, 1_738_364_400,
    ]),
  // The clocks go back over midnight; and a zone leaves out a day.
  Calendar(
    testDescription: "days of St. John's", windows: .days(in: "America/St_Johns"),
    starts: [
      1_161_829_800, 1_161_916_200, 1_162_002_600, 1_162_089_000, 1_162_179_000, 1_162_265_400,
      1_162_351_800,
    ]),
  Calendar(
    testDescription: "days of Apia", windows: .days(in: "Pacific/Apia"),
    starts: [
      1_324_980_000, 1_325_066_400, 1_325_152_800, 1_325_239_200, 1_325_325_600, 1_325_412_000,
      1_325_498_400,
    ]),
]

/// Sums by key and window, in the order in which windows end; those that the last values did not close are left out.
private func expected(_ events: [TimedEvent], _ starts: [Int64]) -> [String: Int] {
  var sums: [String: Int64] = [:]
  let newest = events.map(\.time).max() ?? 0
  for (start, end) in zip(starts, starts.dropFirst()) where end * 1000 <= newest {
    for event in events where start * 1000 <= event.time && event.time < end * 1000 {
      sums["\(event.key) \(start) \(end)", default: 0] += event.number
    }
  }
  return counts(sums.map { "\($0.key) \($0.value)" })
}

@Test("days, weeks and months where clocks change, over crashes", .enabled(if: hasZones), arguments: calendars)
private func calendarHistories(_ calendar: Calendar) throws {
  let (low, high) = (calendar.starts[0] * 1000, (calendar.starts.last ?? 0) * 1000 - 1)
  var failures = 0
  for seed in UInt64(0)..<histories(40) {
    var random = SeededRandom(seed: 11_000_000 &+ seed)
    // Values at the borders and anywhere, in order.
    var times = (0..<100).map { _ in Int64.random(in: low...high, using: &random) }
    for start in calendar.starts.dropFirst().dropLast() { times += [start * 1000 - 1, start * 1000] }
    let events = times.sorted().map {
      TimedEvent(
        key: "k\(Int.random(in: 0..<3, using: &random))", number: .random(in: -9...9, using: &random), time: $0)
    }
    var batches: [[Record]] = []
    for event in events {
      if batches.isEmpty || random.oneIn(4) { batches.append([]) }
      batches[batches.count - 1].append(event.record)
    }
    let job = DataStream.topic("in").map { TimedEvent($0) }
      .eventTime(name: "times") { Timestamp(milliseconds: $0.time) }
      .keyBy { $0.key }.window(calendar.windows).sum(name: "w") { $0.number }
      .map {
        "\($0.key) \($0.window.start.milliseconds / 1000) \($0.window.end.milliseconds / 1000) \($0.value)"
      }
      .to(topic: "out").job(named: "calendar")
    let history = try History(of: job, over: batches, using: &random, crashes: true)
    failures += history.failures
    let isRight = counts(history.out) == expected(events, calendar.starts)
    #expect(isRight, "seed \(seed)")
    #expect(history.late == 0)
  }
  #expect(failures > histories(40) / 2)
}

@Test("a zone that is not there stops the job, with its name; so do windows of another zone or unit in the state")
func calendarErrors() throws {
  func job<Windows: WindowAssigner>(_ windows: Windows) -> JobDefinition {
    DataStream.topic("in").keyBy { $0.key }.window(windows).count(name: "w").map { "\($0.value)" }.to(topic: "out")
      .job(named: "job")
  }
  let host = MemoryHost(newTopicPartitions: 1)
  func problem<Windows: WindowAssigner>(_ windows: Windows) -> JobError? {
    var options = JobOptions()
    options.idleWait = .zero
    options.briefWait = .zero
    do throws(JobError) {
      let executor = try JobExecutor(job(windows), host: host, options: options)
      while try executor.turn() == .progress {}
      try executor.settle()
      return nil
    } catch {
      return error
    }
  }
  let missing = problem(.days(in: "Mars/Olympus"))
  #expect(missing?.code == .invalidJob)
  #expect(missing?.reason.hasPrefix("calendar windows: there is no time zone \"Mars/Olympus\" in ") == true)
  _ = try host.partitionCount(topic: "in")
  var builder = RecordBatchBuilder()
  builder.append(Record(key: Bytes("k"), value: Bytes("v"), timestamp: Timestamp(milliseconds: 5)))
  try host.append(topic: "in", partition: 0, batch: builder.finish())
  #expect(problem(.days(in: "UTC")) == nil)
  #expect(problem(.months(in: "UTC"))?.code == .corruptState)
  #expect(problem(.tumbling(.seconds(60)))?.reason.contains("other windows in its state") == true)
  #expect(problem(.days(in: "UTC")) == nil)
}
