// PosixTimeZone: the rule at the end of a zone file, by which its times go on for ever.
//
//   CET-1CEST,M3.5.0,M10.5.0/3
//
// Names, the offset of each in hours west of Greenwich, and when summer time begins and ends: week 5 (the last) of month 3, day 0
// (Sunday), at 2:00 of the time that ends then unless said otherwise. Source: POSIX, "TZ"; RFC 8536, 3.3 and 3.3.1.

/// Standard and summer time of a zone, year by year. Times in seconds.
struct PosixTimeZone: Sendable {
  /// A day of a year, and the time of it.
  struct Change: Sendable {
    enum Day: Sendable {
      /// 1 to 365; 29 February is not counted.
      case withoutLeapDay(Int64)
      /// 0 to 365.
      case ofYear(Int64)
      /// Month, week from 1 to 5 (the last), and day of it from 0, Sunday.
      case ofMonth(Int64, week: Int64, weekday: Int64)
    }
    var day: Day
    /// Seconds behind its midnight.
    var time: Int64

    /// Local time, in seconds, in `year`.
    func local(_ year: Int64) -> Int64 {
      let number: Int64
      switch day {
      case .withoutLeapDay(let day):
        number =
          CivilDate(year: year, month: 1, day: 1).dayNumber + day - 1 + (CivilDate.isLeap(year) && day >= 60 ? 1 : 0)
      case .ofYear(let day): number = CivilDate(year: year, month: 1, day: 1).dayNumber + day
      case .ofMonth(let month, let week, let weekday):
        let first = CivilDate(year: year, month: month, day: 1).dayNumber
        // 1970-01-01 was a Thursday.
        let distance = (weekday - (first + 4)) - (weekday - (first + 4)).floored(by: 7) * 7
        let next =
          month == 12 ? CivilDate(year: year + 1, month: 1, day: 1) : CivilDate(year: year, month: month + 1, day: 1)
        let found = first + distance + (week - 1) * 7
        number = found < next.dayNumber ? found : found - 7
      }
      return number * 86_400 + time
    }
  }

  /// Seconds east of Greenwich.
  let standard: Int64
  /// Offset of summer time, when it begins, by standard time, and when it ends, by its own.
  let summer: (offset: Int64, begin: Change, end: Change)?

  /// The offset at `time`, and when it ends.
  func piece(at time: Int64) -> (offset: Int64, end: Int64) {
    guard let summer else { return (standard, .max) }
    let year = CivilDate(dayNumber: time.floored(by: 86_400)).year
    var changes: [(time: Int64, isSummer: Bool)] = []
    for year in year - 1...year + 2 {
      changes.append((summer.begin.local(year) - standard, true))
      changes.append((summer.end.local(year) - summer.offset, false))
    }
    // Summer time that lasts the year ends when it begins.
    changes.sort { ($0.time, $0.isSummer ? 1 : 0) < ($1.time, $1.isSummer ? 1 : 0) }
    let now = changes.last { $0.time <= time }?.isSummer ?? false
    return (now ? summer.offset : standard, changes.first { $0.time > time }?.time ?? .max)
  }
}

extension PosixTimeZone {
  /// The rule that `text` writes.
  init(_ text: Bytes) throws(DecodingError) {
    var reader = PosixTimeZoneReader(text)
    try reader.name()
    standard = -(try reader.time(hours: 24))
    guard !reader.isAtEnd else {
      summer = nil
      return
    }
    try reader.name()
    // An hour ahead unless said otherwise.
    var offset = standard + 3600
    if !reader.isNext(",") { offset = -(try reader.time(hours: 24)) }
    try reader.expect(",")
    let begin = try reader.change()
    try reader.expect(",")
    let end = try reader.change()
    summer = (offset, begin, end)
    guard reader.isAtEnd else { throw reader.error("something behind the rule") }
  }
}

/// Reads the parts of such a rule.
private struct PosixTimeZoneReader {
  private let text: [UInt8]
  private var at = 0

  init(_ text: Bytes) { self.text = text.array }

  var isAtEnd: Bool { at == text.count }
  func error(_ what: String) -> DecodingError { DecodingError(what, at: at) }
  func isNext(_ sign: Unicode.Scalar) -> Bool { at < text.count && text[at] == UInt8(ascii: sign) }

  mutating func expect(_ sign: Unicode.Scalar) throws(DecodingError) {
    guard isNext(sign) else { throw error("no \"\(sign)\"") }
    at += 1
  }

  /// Passes over a name: letters, or anything in angle brackets.
  mutating func name() throws(DecodingError) {
    let first = at
    if isNext("<") {
      while at < text.count, !isNext(">") { at += 1 }
      try expect(">")
    } else {
      while at < text.count, UInt8(ascii: "a")...UInt8(ascii: "z") ~= text[at] | 0x20 { at += 1 }
    }
    guard at - first >= 3 else { throw error("no name") }
  }

  private mutating func number(_ range: ClosedRange<Int64>) throws(DecodingError) -> Int64 {
    var value: Int64 = 0
    let first = at
    while at < text.count, at < first + 4, UInt8(ascii: "0")...UInt8(ascii: "9") ~= text[at] {
      value = value * 10 + Int64(text[at] - UInt8(ascii: "0"))
      at += 1
    }
    guard at > first, range ~= value else { throw error("no number from \(range.lowerBound) to \(range.upperBound)") }
    return value
  }

  /// Hours, minutes and seconds, with a sign.
  mutating func time(hours: Int64) throws(DecodingError) -> Int64 {
    let sign: Int64 = isNext("-") ? -1 : 1
    if isNext("-") || isNext("+") { at += 1 }
    var seconds = try number(0...hours) * 3600
    if isNext(":") {
      at += 1
      seconds += try number(0...59) * 60
    }
    if isNext(":") {
      at += 1
      seconds += try number(0...59)
    }
    return sign * seconds
  }

  mutating func change() throws(DecodingError) -> PosixTimeZone.Change {
    let day: PosixTimeZone.Change.Day
    if isNext("M") {
      at += 1
      let month = try number(1...12)
      try expect(".")
      let week = try number(1...5)
      try expect(".")
      day = .ofMonth(month, week: week, weekday: try number(0...6))
    } else if isNext("J") {
      at += 1
      day = .withoutLeapDay(try number(1...365))
    } else {
      day = .ofYear(try number(0...365))
    }
    guard isNext("/") else { return PosixTimeZone.Change(day: day, time: 7200) }
    at += 1
    return PosixTimeZone.Change(day: day, time: try time(hours: 167))
  }
}
