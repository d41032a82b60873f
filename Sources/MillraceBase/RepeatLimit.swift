// RepeatLimit: lets one of many equal log lines through, now and then.

/// Limits how often something is logged that may happen with every request.
public struct RepeatLimit: Sendable {
  private struct Line: Sendable {
    let key: String
    var next: MonotonicTime
    var unsaid = 0
  }

  private let period: Duration
  private var lines: [Line] = []

  /// Most keys told apart; when there are more, the one that was first is forgotten.
  private static let keys = 32

  /// At most one line for each key every `period`.
  public init(every period: Duration) {
    self.period = period
  }

  /// Asks for a line.
  /// - Parameter key: what makes lines equal.
  /// - Returns: nil when it is not to be written; otherwise how many were not written since the last one that was.
  /// - Complexity: O(keys), at most 32.
  public mutating func admit(_ key: String = "", at now: MonotonicTime) -> Int? {
    guard let index = lines.firstIndex(where: { $0.key == key }) else {
      if lines.count == RepeatLimit.keys { lines.removeFirst() }
      lines.append(Line(key: key, next: now + period))
      return 0
    }
    guard now >= lines[index].next else {
      lines[index].unsaid += 1
      return nil
    }
    defer { lines[index] = Line(key: key, next: now + period) }
    return lines[index].unsaid
  }
}
