// RepeatedLines: how often a log line that others can provoke was written lately, and how often it was held back.

import Synchronization

/// Counts lines by area and kind: of each, a few pass in every interval, and of those with the same key only one; the next one
/// that passes says how many did not.
///
/// There are as many kinds as places in the code that log, and of each only the keys of lines that passed are remembered, so
/// memory is bounded. Any thread.
final class RepeatedLines: Sendable {
  private struct Line {
    var begin: MonotonicTime
    var written = 0
    var heldBack = 0
    /// Keys of the lines that were written in this interval.
    var keys: Set<String> = []
  }

  /// Lines of one kind that pass in an interval.
  static let mostInInterval = 10
  /// Its length.
  static let interval = Duration.seconds(10)

  private let lines = Mutex<[String: Line]>([:])

  /// Whether a line of this kind may be written now.
  /// - Parameter key: what makes lines of the kind equal; nil when each is worth writing.
  /// - Returns: nil when it is held back; else how many of the kind were held back since the last one that was written.
  func pass(_ kind: String, key: String?, now: MonotonicTime) -> Int? {
    lines.withLock { lines in
      var line = lines[kind] ?? Line(begin: now)
      defer { lines[kind] = line }
      if now - line.begin >= RepeatedLines.interval {
        line.begin = now
        line.written = 0
        line.keys = []
      }
      guard line.written < RepeatedLines.mostInInterval, key.map({ !line.keys.contains($0) }) ?? true else {
        line.heldBack += 1
        return nil
      }
      line.written += 1
      if let key { line.keys.insert(key) }
      defer { line.heldBack = 0 }
      return line.heldBack
    }
  }
}
