// GlobalWindows: all values of a key, handed on when a trigger says so.

import MillraceBase

/// When what a key has is handed on.
public struct WindowTrigger: Sendable {
  let count: Int64?
  let interval: Int64?

  /// With every `count` values of the key.
  /// - Parameter count: at least 1.
  public static func count(_ count: Int) -> WindowTrigger { WindowTrigger(count: count, interval: nil) }

  /// When event time comes to a multiple of `interval` since 1970-01-01T00:00:00Z, keys that have had values since their last
  /// result; when all inputs have ended, too.
  /// - Parameter interval: at least 1 ms.
  public static func every(_ interval: Duration) -> WindowTrigger { WindowTrigger(count: nil, interval: interval) }

  /// Whichever of the two comes first; the count begins anew with each result.
  public static func count(_ count: Int, orEvery interval: Duration) -> WindowTrigger {
    WindowTrigger(count: count, interval: interval)
  }

  private init(count: Int?, interval: Duration?) {
    precondition(count ?? 1 >= 1, "a result every \(count ?? 0) values; at least 1 is needed")
    let milliseconds = interval?.inMilliseconds
    precondition(milliseconds ?? 1 >= 1, "results every \(milliseconds ?? 0) ms; at least 1 ms is needed")
    self.count = count.map(Int64.init)
    self.interval = milliseconds
  }
}

/// One window a key, which never closes. The window of a result reaches from its earliest value to the ms behind its latest one; its
/// time is that of its latest value, or the ms before the multiple of event time that led to it.
public struct GlobalWindows: WindowAssigner {
  let trigger: WindowTrigger
  let isPurging: Bool

  fileprivate init(trigger: WindowTrigger, isPurging: Bool) {
    self.trigger = trigger
    self.isPurging = isPurging
  }

  /// Registers the panes of an operator.
  public func makeStore(
    in graph: inout JobGraph, options: WindowOptions, codec: (any StateCodec)?, name: String?
  ) throws(JobError) -> PaneStore {
    if trigger.interval != nil { graph.needEventTime() }
    let rules = PaneRules(
      values: nil, kept: isPurging ? 0 : 1, count: trigger.count, interval: trigger.interval)
    return try graph.addState(kind: "global-window", name: name) {
      PaneStore(operatorID: $0, rules: rules, codec: codec)
    }
  }
}

extension WindowAssigner where Self == GlobalWindows {
  /// All values of a key, handed on by `trigger`.
  ///
  ///     orders.keyBy(\.shop).window(.global(.count(100, orEvery: .seconds(60)), purging: true)).sum(\.amount)
  /// - Parameter isPurging: whether a result's values are forgotten, so that the next one begins with nothing; otherwise keys stay for
  ///   the life of the job.
  public static func global(_ trigger: WindowTrigger, purging isPurging: Bool) -> GlobalWindows {
    GlobalWindows(trigger: trigger, isPurging: isPurging)
  }
}
