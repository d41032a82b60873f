// CivilDate: days since 1970-01-01 as dates of the Gregorian calendar, which is taken to reach back for ever.

/// A date.
public struct CivilDate: Hashable, Sendable {
  /// The year; 0 is the one before 1.
  public var year: Int64
  /// 1 to 12.
  public var month: Int64
  /// 1 to 31.
  public var day: Int64

  /// A date.
  public init(year: Int64, month: Int64, day: Int64) {
    self.year = year
    self.month = month
    self.day = day
  }

  /// The date of a day since 1970-01-01.
  public init(dayNumber: Int64) {
    // Years that begin in March have the leap day at their end; 400 of them have 146,097 days, and 0000-03-01 is day −719,468.
    let shifted = dayNumber + 719_468
    let cycle = shifted.floored(by: 146_097)
    let inCycle = shifted - cycle * 146_097
    let yearInCycle = (inCycle - inCycle / 1460 + inCycle / 36_524 - inCycle / 146_096) / 365
    let inYear = inCycle - (365 * yearInCycle + yearInCycle / 4 - yearInCycle / 100)
    let fromMarch = (5 * inYear + 2) / 153
    day = inYear - (153 * fromMarch + 2) / 5 + 1
    month = fromMarch < 10 ? fromMarch + 3 : fromMarch - 9
    year = yearInCycle + cycle * 400 + (month <= 2 ? 1 : 0)
  }

  /// The day since 1970-01-01.
  public var dayNumber: Int64 {
    let marchYear = month <= 2 ? year - 1 : year
    let cycle = marchYear.floored(by: 400)
    let yearInCycle = marchYear - cycle * 400
    let inYear = (153 * ((month + 9) % 12) + 2) / 5 + day - 1
    return cycle * 146_097 + yearInCycle * 365 + yearInCycle / 4 - yearInCycle / 100 + inYear - 719_468
  }

  /// Whether February has 29 days.
  static func isLeap(_ year: Int64) -> Bool { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) }
}

extension Int64 {
  /// The quotient by `divisor`, which is above 0, rounded down.
  package func floored(by divisor: Int64) -> Int64 {
    let quotient = self / divisor
    return self % divisor < 0 ? quotient - 1 : quotient
  }
}
