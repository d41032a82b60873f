// RepeatedLines: how often a log line that others can provoke was written lately, and how often it was held back.

import Synchronization

/// Counts lines by area and kind: of each, a few pass in every interval; the next one that passes says how many did not.
///
/// There are as many kinds as places in the code that log, so memory is bounded. Any thread.
final class RepeatedLines: Sendable {
  private struct Line {
    var begin: MonotonicTime
    var written = 0
    var heldBack = 0
  }

  /// Lines of one kind that pass in an interval.
  static let mostInInterval = 10
  /// Its length.
  static let interval = Duration.seconds(10)

  private let lines = Mutex<[String: Line]>([:])

  /// Whether a line of this kind may be written now.
  /// - Returns: nil when it is held back; else how many were held back since the last one that was written.
  func pass(_ kind: String, now: MonotonicTime) -> Int? {
    lines.withLock { lines in
      var line = lines[kind] ?? Line(begin: now)
      defer { lines[kind] = line }
      if now - line.begin >= RepeatedLines.interval {
        line.begin = now
        line.written = 0
      }
      guard line.written < RepeatedLines.mostInInterval else {
        line.heldBack += 1
        return nil
      }
      line.written += 1
      defer { line.heldBack = 0 }
      return line.heldBack
    }
  }
}
