// LogTests: lines that others can provoke are held back and counted.

import MillraceBase
import Synchronization
import Testing

private func at(_ milliseconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: milliseconds * 1_000_000) }

/// A logger's lines without their times.
private final class Lines: Sendable {
  private let all = Mutex<[String]>([])
  var logger: Logger {
    Logger(minimum: .info) { [self] _, line in
      all.withLock { $0.append(line.split(separator: " ", maxSplits: 1).last.map(String.init) ?? "") }
    }
  }
  func take() -> [String] {
    all.withLock { all in
      defer { all = [] }
      return all
    }
  }
}

@Test("ten lines of a kind pass in ten seconds, and the next that passes says how many did not")
func linesAreHeldBack() {
  let lines = Lines()
  let logger = lines.logger
  for number in 0..<1000 {
    logger.logRarely(.warning, "kafka", "connection refused", "number \(number)", ["peer": "p"], now: at(Int64(number)))
  }
  let early = lines.take()
  #expect(early.count == 10)
  #expect(early.first == "warning kafka: connection refused: number 0 peer=p")
  logger.logRarely(.warning, "kafka", "connection refused", "again", now: at(9_999))
  #expect(lines.take() == [])
  logger.logRarely(.warning, "kafka", "connection refused", "again", now: at(10_000))
  #expect(lines.take() == ["warning kafka: connection refused: again suppressed=991"])
  logger.logRarely(.warning, "kafka", "connection refused", now: at(10_001))
  #expect(lines.take() == ["warning kafka: connection refused"])
}

@Test("of lines with the same key one passes in ten seconds, and keys without end pass no more than lines without")
func keysAreHeldBack() {
  let lines = Lines()
  let logger = lines.logger
  func log(_ key: String, _ milliseconds: Int64) {
    logger.logRarely(.warning, "kafka", "refused", "", ["name": key], key: key, now: at(milliseconds))
  }
  for time in [0, 1, 2] as [Int64] { log("disk", time) }
  log("other", 3)
  #expect(lines.take() == ["warning kafka: refused name=disk", "warning kafka: refused name=other suppressed=2"])
  for number in 0..<1000 { log("key \(number)", 4) }
  #expect(lines.take().count == 8, "ten of a kind, whatever their keys")
  log("disk", 9_999)
  #expect(lines.take() == [])
  log("disk", 10_000)
  log("disk", 10_001)
  #expect(lines.take() == ["warning kafka: refused name=disk suppressed=993"])
}

@Test("kinds and areas are counted apart, copies of a logger together, and what is below the level costs nothing")
func kindsAreApart() {
  let lines = Lines()
  let logger = lines.logger
  let copy = logger
  var made = 0
  func detail() -> String {
    made += 1
    return "d"
  }
  for _ in 0..<20 {
    logger.logRarely(.info, "a", "one", detail(), now: at(0))
    copy.logRarely(.info, "a", "one", detail(), now: at(0))
    logger.logRarely(.info, "a", "two", now: at(0))
    logger.logRarely(.info, "b", "one", now: at(0))
    logger.logRarely(.debug, "b", "below", detail(), now: at(0))
  }
  #expect(lines.take().count == 30)
  #expect(made == 10)
}
