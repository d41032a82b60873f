// CountWindows: so many values of a key.

import MillraceBase

/// Windows of so many values of a key, whatever their times; the window of a result reaches from its earliest value to the ms behind
/// its latest one, whose time is the result's.
public struct CountWindows: WindowAssigner {
  let length: Int64
  let step: Int64

  fileprivate init(length: Int64, step: Int64) {
    self.length = length
    self.step = step
  }

  /// Registers the panes of an operator.
  public func makeStore(
    in graph: inout JobGraph, options: WindowOptions, codec: (any StateCodec)?, name: String?
  ) throws(JobError) -> PaneStore {
    var (pane, other) = (length, step)
    while other > 0 { (pane, other) = (other, pane % other) }
    let rules = PaneRules(
      values: (pane, length, step), kept: Int((length - step) / pane), count: step, interval: nil)
    return try graph.addState(kind: "count-window", name: name) {
      PaneStore(operatorID: $0, rules: rules, codec: codec)
    }
  }
}

extension WindowAssigner where Self == CountWindows {
  /// Each `length` values of a key, in the order in which they come; a result with the last of them.
  /// - Parameter length: at least 1.
  public static func count(_ length: Int) -> CountWindows { count(length, every: length) }

  /// The last `length` values of a key with each `step` of them; the first results are of the values that there are.
  ///
  ///     trades.keyBy(\.symbol).window(.count(100, every: 10)).average(\.price)
  /// - Parameters:
  ///   - length: at least `step`. A key's state, and each change of it in the state log, has a state for every so many values as
  ///     divide both.
  ///   - step: at least 1.
  public static func count(_ length: Int, every step: Int) -> CountWindows {
    precondition(step >= 1, "windows every \(step) values; at least 1 is needed")
    precondition(length >= step, "windows of \(length) values every \(step) would leave gaps")
    return CountWindows(length: Int64(length), step: Int64(step))
  }
}
