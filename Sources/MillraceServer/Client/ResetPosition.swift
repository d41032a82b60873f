// ResetPosition: where a group is to go on: an end of the log, an offset, or a point in time.

import MillraceBase
import MillraceModel

/// Where a group is to go on.
enum ResetPosition: Equatable, Sendable {
  case earliest
  case latest
  case offset(Offset)
  /// At the first record from then on; at the end when there is none.
  case time(Timestamp)

  /// Reads `earliest`, `latest`, a number from 0, or a time as RFC 3339 writes it, in UTC or with an offset.
  init?(_ text: String) {
    if let position = StartPosition(text) {
      switch position {
      case .earliest: self = .earliest
      case .latest: self = .latest
      case .offset(let offset): self = .offset(offset)
      }
    } else if let time = ResetPosition.time(text) {
      self = .time(time)
    } else {
      return nil
    }
  }

  /// Reads `2026-11-20T16:31:00.123Z`; the fraction may be missing, and `+01:00` stand for `Z`.
  private static func time(_ text: String) -> Timestamp? {
    var rest = Substring(text)
    func number(_ digits: Int) -> Int64? {
      let word = rest.prefix(digits)
      guard word.count == digits, word.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
      rest = rest.dropFirst(digits)
      return Int64(word)
    }
    func skip(_ character: Character) -> Bool {
      guard rest.first == character else { return false }
      rest = rest.dropFirst()
      return true
    }
    guard let year = number(4), skip("-"), let month = number(2), (1...12).contains(month), skip("-"),
      let day = number(2), (1...lastDay(year, month)).contains(day), skip("T"), let hour = number(2), hour < 24,
      skip(":"), let minute = number(2), minute < 60, skip(":"), let second = number(2), second < 60
    else { return nil }
    var milliseconds: Int64 = 0
    if skip(".") {
      let digits = rest.prefix { $0.isNumber }
      guard (1...9).contains(digits.count), let fraction = Int64(digits.prefix(3)) else { return nil }
      milliseconds = fraction * [100, 10, 1][min(digits.count, 3) - 1]
      rest = rest.dropFirst(digits.count)
    }
    var shift: Int64 = 0
    if !skip("Z") {
      let sign: Int64 = rest.first == "-" ? -1 : 1
      guard skip("+") || skip("-"), let hours = number(2), hours < 24, skip(":"), let minutes = number(2), minutes < 60
      else { return nil }
      shift = sign * (hours * 60 + minutes) * 60
    }
    guard rest.isEmpty else { return nil }
    let seconds = (days(year, month, day) * 24 + hour) * 3600 + minute * 60 + second - shift
    return Timestamp(milliseconds: seconds * 1000 + milliseconds)
  }

  private static func lastDay(_ year: Int64, _ month: Int64) -> Int64 {
    if month == 2 { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28 }
    return [4, 6, 9, 11].contains(month) ? 30 : 31
  }

  /// Days since 1970-01-01. Source: Howard Hinnant, "chrono-compatible low-level date algorithms".
  private static func days(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
    let shifted = month <= 2 ? year - 1 : year
    let era = shifted / 400
    let yearOfEra = shifted - era * 400
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }
}
