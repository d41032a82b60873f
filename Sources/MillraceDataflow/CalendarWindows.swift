// CalendarWindows: days, weeks and months as the clocks of a time zone show them.
//
// A day begins when local time first comes to its midnight, or past it where midnight is left out: a day on which the clocks change
// has 23 or 25 hours, or what the zone makes of it. A day that a zone leaves out altogether has no window.

import MillraceBase

/// The days of a week.
public enum Weekday: Int64, Sendable, CaseIterable {
  /// The first one by ISO 8601, and the others.
  case monday, tuesday, wednesday, thursday, friday, saturday, sunday
}

/// Windows of a day, a week or a month in a time zone, which follow each other.
public struct CalendarWindows: EventTimeWindowAssigner {
  enum Unit {
    case day
    case week(Weekday)
    case month
  }

  let unit: Unit
  let zone: String

  /// Registers the slices of an operator, which are the windows.
  /// - Throws: `.invalidJob` when the zone is not known or its file cannot be read.
  public func makeStore(
    in graph: inout JobGraph, options: WindowOptions, codec: (any StateCodec)?, name: String?
  ) throws(JobError) -> SliceWindowStore {
    let rules: TimeZoneRules
    do throws(TimeZoneError) {
      rules = try TimeZoneRules.named(zone)
    } catch {
      throw JobError(.invalidJob, "calendar windows: \(error)")
    }
    return try SliceWindowStore.make(
      CalendarSlices(self, rules), in: &graph, options: options, codec: codec, name: name)
  }
}

extension WindowAssigner where Self == CalendarWindows {
  /// The days of a zone.
  ///
  ///     orders.keyBy(\.shop).window(.days(in: "America/New_York")).sum(\.amount)
  /// - Parameter zone: a name of the IANA database, read from the system's zone files when the job starts.
  public static func days(in zone: String) -> CalendarWindows { CalendarWindows(unit: .day, zone: zone) }

  /// The weeks of a zone.
  /// - Parameters:
  ///   - zone: see ``days(in:)``.
  ///   - first: the day on which they begin.
  public static func weeks(in zone: String, startingOn first: Weekday = .monday) -> CalendarWindows {
    CalendarWindows(unit: .week(first), zone: zone)
  }

  /// The months of a zone.
  /// - Parameter zone: see ``days(in:)``.
  public static func months(in zone: String) -> CalendarWindows { CalendarWindows(unit: .month, zone: zone) }
}

/// Such windows by the rules of their zone.
struct CalendarSlices: SlicedWindows {
  private let unit: CalendarWindows.Unit
  private let rules: TimeZoneRules
  /// No length: below 0, the unit.
  let sliceLength: Int64
  /// Stands for the zone's name.
  let phase: Int64

  init(_ windows: CalendarWindows, _ rules: TimeZoneRules) {
    unit = windows.unit
    self.rules = rules
    sliceLength =
      switch unit {
      case .day: -1
      case .month: -2
      case .week(let first): -10 - first.rawValue
      }
    phase = Bytes(windows.zone).withBuffer { Int64(bitPattern: Hashing.stable($0)) }
  }

  func slice(of time: Int64) -> Range<Int64> {
    let seconds = time.floored(by: 1000)
    var period = period(ofDay: (seconds + rules.offset(at: seconds)).floored(by: 86_400))
    // Local time may have been further already, before clocks were set back.
    var end = begin(period + 1)
    while end <= time {
      period += 1
      end = begin(period + 1)
    }
    return begin(period)..<end
  }

  func firstEnd(ofSlice start: Int64) -> Int64 { slice(of: start).upperBound }
  func lastEnd(ofSlice start: Int64) -> Int64 { slice(of: start).upperBound }
  func nextEnd(after end: Int64) -> Int64 { slice(of: end).upperBound }
  func start(ofWindowEndingAt end: Int64) -> Int64 { slice(of: end - 1).lowerBound }

  /// When a period begins, in ms.
  private func begin(_ period: Int64) -> Int64 {
    rules.firstTime(ofLocal: firstDay(ofPeriod: period) * 86_400) * 1000
  }

  // Periods and days are counted from 1970-01-01, a Thursday.

  private func period(ofDay day: Int64) -> Int64 {
    switch unit {
    case .day: return day
    case .week(let first): return (day + 3 - first.rawValue).floored(by: 7)
    case .month:
      let date = CivilDate(dayNumber: day)
      return date.year * 12 + date.month - 1
    }
  }

  private func firstDay(ofPeriod period: Int64) -> Int64 {
    switch unit {
    case .day: return period
    case .week(let first): return period * 7 - 3 + first.rawValue
    case .month:
      let year = period.floored(by: 12)
      return CivilDate(year: year, month: period - year * 12 + 1, day: 1).dayNumber
    }
  }
}
