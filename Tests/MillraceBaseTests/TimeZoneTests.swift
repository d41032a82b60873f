// TimeZoneTests: zone files and rules, against what Python's zoneinfo says of the same zones, and what is broken.

import Foundation
import Testing

@testable import MillraceBase

private let hasZones = FileManager.default.fileExists(atPath: "/usr/share/zoneinfo/Europe/Berlin")

private func day(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
  CivilDate(year: year, month: month, day: day).dayNumber
}

/// When days begin, in seconds, the first one and those behind it: the first second at which `datetime.astimezone` of Python 3.13 says a
/// local time at or behind midnight, tried one by one.
private let facts: [(zone: String, year: Int64, month: Int64, day: Int64, starts: [Int64])] = [
  ("Europe/Berlin", 2024, 3, 30, [1_711_753_200, 1_711_839_600, 1_711_922_400, 1_712_008_800]),
  ("Europe/Berlin", 2024, 10, 26, [1_729_893_600, 1_729_980_000, 1_730_070_000, 1_730_156_400]),
  // No midnight; and an hour before midnight that comes twice.
  ("America/Sao_Paulo", 2018, 11, 3, [1_541_214_000, 1_541_300_400, 1_541_383_200, 1_541_469_600]),
  ("America/Sao_Paulo", 2018, 2, 17, [1_518_832_800, 1_518_922_800, 1_519_009_200, 1_519_095_600]),
  // One minute past midnight the clocks go back to the day before.
  ("America/St_Johns", 2006, 10, 28, [1_162_002_600, 1_162_089_000, 1_162_179_000, 1_162_265_400]),
  ("America/Havana", 2023, 3, 11, [1_678_510_800, 1_678_597_200, 1_678_680_000, 1_678_766_400]),
  ("America/Havana", 2023, 11, 4, [1_699_070_400, 1_699_156_800, 1_699_246_800, 1_699_333_200]),
  // The 30th was left out.
  ("Pacific/Apia", 2011, 12, 29, [1_325_152_800, 1_325_239_200, 1_325_239_200, 1_325_325_600]),
  ("Australia/Lord_Howe", 2024, 4, 6, [1_712_322_000, 1_712_408_400, 1_712_496_600, 1_712_583_000]),
  // From 23:30 to 0:30.
  ("America/Toronto", 1919, 3, 30, [-1_601_838_000, -1_601_753_400, -1_601_668_800, -1_601_582_400]),
  ("Africa/Casablanca", 2024, 3, 9, [1_709_938_800, 1_710_025_200, 1_710_115_200, 1_710_201_600]),
  // By the rules behind the last change in the file.
  ("Europe/Dublin", 2060, 3, 27, [2_847_571_200, 2_847_657_600, 2_847_740_400, 2_847_826_800]),
  ("America/New_York", 2050, 11, 5, [2_551_233_600, 2_551_320_000, 2_551_410_000, 2_551_496_400]),
  ("Asia/Kathmandu", 2024, 1, 1, [1_704_046_500, 1_704_132_900]),
]

@Test("agrees with Python's zoneinfo on when days begin", .enabled(if: hasZones))
func agreesWithZoneinfo() throws {
  for fact in facts {
    let rules = try TimeZoneRules.named(fact.zone)
    let first = day(fact.year, fact.month, fact.day)
    for (index, start) in fact.starts.enumerated() {
      let found = rules.firstTime(ofLocal: (first + Int64(index)) * 86_400)
      #expect(found == start, "\(fact.zone) \(fact.year)-\(fact.month)-\(fact.day) + \(index)")
    }
  }
}

@Test("days that the clocks change on have 23 and 25 hours", .enabled(if: hasZones))
func changedDays() throws {
  let berlin = try TimeZoneRules.named("Europe/Berlin")
  func hours(_ number: Int64) -> Int64 {
    (berlin.firstTime(ofLocal: (number + 1) * 86_400) - berlin.firstTime(ofLocal: number * 86_400)) / 3600
  }
  #expect(hours(day(2024, 3, 30)) == 24)
  #expect(hours(day(2024, 3, 31)) == 23)
  #expect(hours(day(2024, 10, 27)) == 25)
}

@Test("every day of 800 years is its date's day again, and follows the one before")
func civilDates() {
  var before = CivilDate(year: 1599, month: 12, day: 31)
  var wrong: [CivilDate] = []
  for number in day(1600, 1, 1)...day(2400, 1, 1) {
    let date = CivilDate(dayNumber: number)
    let isNext = date.day == before.day + 1 && date.month == before.month && date.year == before.year
    let isMonth = date.day == 1 && (date.month == before.month + 1 && date.year == before.year)
    let isYear = date.day == 1 && date.month == 1 && before.month == 12 && date.year == before.year + 1
    if date.dayNumber != number || !(isNext || isMonth || isYear) { wrong.append(date) }
    before = date
  }
  #expect(wrong.isEmpty, "\(wrong.prefix(3))")
  #expect(CivilDate(dayNumber: 0) == CivilDate(year: 1970, month: 1, day: 1))
  #expect(CivilDate(dayNumber: day(2000, 2, 29)) == CivilDate(year: 2000, month: 2, day: 29))
  #expect(CivilDate(dayNumber: -719_528) == CivilDate(year: 0, month: 1, day: 1))
}

/// A zone file of version 2.
private func file(
  _ changes: [(time: Int64, type: UInt8)], offsets: [Int32], rule: String, leaps: UInt32 = 0, cut: Int = 0
) -> Bytes {
  var writer = ByteWriter()
  func header(_ version: UInt8, _ counts: [UInt32]) {
    writer.utf8("TZif")
    writer.uint8(version)
    for _ in 0..<15 { writer.uint8(0) }
    for count in counts { writer.uint32(count) }
  }
  header(UInt8(ascii: "2"), [0, 0, 0, 1, 1, 4])
  for byte in [0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0] as [UInt8] { writer.uint8(byte) }
  writer.utf8("UTC\0")
  header(UInt8(ascii: "2"), [0, 0, leaps, UInt32(changes.count), UInt32(offsets.count), 0])
  for change in changes { writer.int64(change.time) }
  for change in changes { writer.uint8(change.type) }
  for offset in offsets {
    writer.int32(offset)
    writer.uint8(0)
    writer.uint8(0)
  }
  for _ in 0..<leaps { for _ in 0..<12 { writer.uint8(0) } }
  writer.utf8(rule)
  let bytes = writer.finishJoined()
  return bytes[0..<bytes.count - cut]
}

private func problem(_ file: Bytes) -> String? {
  do throws(DecodingError) {
    _ = try TimeZoneRules(file)
    return nil
  } catch {
    return error.reason
  }
}

@Test("a file's changes hold from their times on, the first type before them, the rule behind them")
func fileByHand() throws {
  let rules = try TimeZoneRules(
    file([(0, 1), (1000, 0)], offsets: [60, 3600], rule: "\n<+00>0<+01>,J60/0,J61/0\n"))
  #expect(rules.offset(at: -1) == 60)
  #expect(rules.offset(at: 0) == 3600)
  #expect(rules.offset(at: 999) == 3600)
  #expect(rules.offset(at: 1000) == 0)
  // 1 March, also in a leap year, for a day of standard time and one hour less of summer time.
  let march = day(2024, 3, 1) * 86_400
  #expect(rules.offset(at: march - 1) == 0)
  #expect(rules.offset(at: march) == 3600)
  #expect(rules.offset(at: march + 82_799) == 3600)
  #expect(rules.offset(at: march + 82_800) == 0)
  #expect(problem(file([], offsets: [0], rule: "\n\n")) == nil)
}

@Test("what is cut, contradicts itself or counts leap seconds is refused, with what was found")
func brokenFiles() {
  let good = file([(0, 1), (1000, 0)], offsets: [60, 3600], rule: "\nCET-1CEST,M3.5.0,M10.5.0/3\n")
  #expect(problem(good) == nil)
  for count in 0..<good.count { #expect(problem(good[0..<count]) != nil, "cut to \(count)") }
  #expect(problem(Bytes("TZig")) == "no TZif file")
  #expect(problem(file([(5, 0), (5, 0)], offsets: [0], rule: "\n\n")) == "a change at 5 s")
  #expect(problem(file([(.min, 0)], offsets: [0], rule: "\n\n")) == "a change at \(Int64.min) s")
  #expect(problem(file([(5, 1)], offsets: [0], rule: "\n\n")) == "type 1 of 1")
  #expect(problem(file([], offsets: [], rule: "\n\n")) == "a zone without offsets")
  #expect(problem(file([], offsets: [93_600], rule: "\n\n")) == "an offset of 93600 s")
  #expect(problem(file([], offsets: [0], rule: "\n\n", leaps: 1)) == "a zone that counts leap seconds")
  #expect(problem(file([], offsets: [0], rule: "UTC0")) == "no line behind the data")
  for rule in [
    "CE-1", "CET", "CET25", "CET-1CEST,M13.5.0,M10.5.0", "CET-1CEST,M3.6.0,M10.5.0", "CET-1CEST,M3.5.7,M10.5.0",
    "CET-1CEST",
    "CET-1CEST,J0,J5", "CET-1CEST,366,5", "CET-1CEST,5,6/168", "CET-1CEST,5,6 ", "<+01", "CET-1:60",
  ] {
    #expect(problem(file([], offsets: [0], rule: "\n\(rule)\n"))?.hasPrefix("the rule \"\(rule)\"") == true, "\(rule)")
  }
}

@Test("zones that are not there, have no proper name, or are broken are told by name")
func missingZones() throws {
  let directory = NSTemporaryDirectory() + "zones-\(UUID().uuidString)"
  try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: directory) }
  try Data("TZif".utf8).write(to: URL(filePath: directory + "/Broken"))
  func problem(_ name: String) -> String? {
    do throws(TimeZoneError) {
      _ = try TimeZoneRules.named(name, in: [directory])
      return nil
    } catch {
      return error.description
    }
  }
  #expect(problem("UTC") == nil)
  #expect(problem("Mars/Olympus") == "there is no time zone \"Mars/Olympus\" in \(directory)")
  #expect(problem("Broken")?.hasPrefix("\(directory)/Broken: uint8 needs 1 bytes, 0 are left") == true)
  #expect(problem("Broken/Deeper")?.hasPrefix("there is no time zone") == true)
  for name in ["", "../etc/passwd", "/etc/passwd", "a//b", "a\0b", "a/", String(repeating: "a", count: 256)] {
    #expect(problem(name)?.hasSuffix("is no name of a time zone") == true, "\(name)")
  }
}
