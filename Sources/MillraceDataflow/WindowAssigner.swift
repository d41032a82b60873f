// WindowAssigner: what windows there are, and the store that keeps what belongs to them.
//
// One operator, WindowAggregate, folds by key and window; a store of each kind of windows decides where a value belongs, when a
// window is handed on and when it is over. Stores know nothing of what is folded: they are handed the fold with each call, so
// that the compiler makes one loop of both.

import MillraceBase

/// A window of event time.
public struct Window: Hashable, Sendable {
  /// The first time in it.
  public var start: Timestamp
  /// The first time behind it.
  public var end: Timestamp
  /// From `start` until before `end`.
  @inlinable
  public init(start: Timestamp, end: Timestamp) {
    self.start = start
    self.end = end
  }
}

/// A key, a window, and what belongs to both.
public struct Windowed<Key, Value> {
  /// The key.
  public var key: Key
  /// The window.
  public var window: Window
  /// The value.
  public var value: Value

  /// `value` of `key` in `window`.
  @inlinable
  public init(key: Key, window: Window, value: Value) {
    self.key = key
    self.window = window
    self.value = value
  }
}

/// When a window is handed on.
public enum WindowEmission: Sendable, Equatable {
  /// When the watermark reaches its end, and again for each key that late values change.
  case onClose
  /// With each step, for each key that the step changed. What was handed on last is the window's result.
  case onUpdate
  /// As ``onClose``, and before that whenever event time comes to a multiple of `every` since 1970-01-01T00:00:00Z: windows that
  /// have begun by then are handed on as they are, with all their keys. `every` is at least 1 ms.
  case early(every: Duration)
}

extension WindowEmission {
  /// The distance of early results in ms, nil without any.
  var earlyInterval: Int64? {
    guard case .early(let every) = self else { return nil }
    let interval = every.inMilliseconds
    precondition(interval >= 1, "early results every \(interval) ms; at least 1 ms is needed")
    return interval
  }
}

extension Int64 {
  /// The highest multiple of `interval` that event time came to by going on from `before` to this time; nil for none, as when nothing
  /// was known of it before.
  func multiple(of interval: Int64, behind before: Int64) -> Int64? {
    guard before > .min || self == .max else { return nil }
    let multiple = self - flooredRemainder(by: interval)
    return multiple > before ? multiple : nil
  }
}

/// How windows are kept.
public struct WindowOptions: Sendable {
  /// How long after its end, in event time, a window still takes values.
  public var allowedLateness = Duration.zero
  /// When it is handed on.
  public var emission = WindowEmission.onClose

  /// On close, without lateness.
  public init() {}
}

/// A description of windows.
public protocol WindowAssigner<Store>: Sendable {
  /// Keeps what belongs to the windows, in one run of a job.
  associatedtype Store: WindowStore

  /// Registers the state of an operator with such windows.
  /// - Parameters:
  ///   - codec: of states that take more than 64 bits.
  ///   - name: owns the state; see ``JobGraph/addTable(kind:name:codec:)``.
  /// - Throws: `.invalidJob`.
  func makeStore(
    in graph: inout JobGraph, options: WindowOptions, codec: (any StateCodec)?, name: String?
  ) throws(JobError) -> Store
}

/// Windows that close as event time goes on, so that values may come too late for them.
public protocol EventTimeWindowAssigner: WindowAssigner {}

/// The state of all keys and windows of an operator. What is handed on goes to a closure: the key, whose memory is valid inside the
/// call only, the window, the time of the result, and its state. One owner: the job's worker thread.
public protocol WindowStore: AnyObject, Sendable {
  /// Values that came too late for every window.
  var lateCount: UInt64 { get }

  /// Takes in a value of `key` at `time`.
  /// - Returns: whether it was in time.
  func take<Fold: MergeableAggregation>(
    _ input: Fold.Input, _ key: UnsafeRawBufferPointer, _ time: Timestamp, _ fold: Fold,
    _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void
  ) -> Bool

  /// Event time has come to `time`: hands on what late values changed and what closes, and forgets what is over.
  func advance<Fold: MergeableAggregation>(
    to time: Timestamp, _ fold: Fold, _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void)

  /// The step ends: hands on what late values changed since event time went on, and what the step changed, where that is asked for.
  func endStep<Fold: MergeableAggregation>(
    _ fold: Fold, _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void)
}

extension Aggregation {
  /// Changes the state that `bits` stand for.
  @inlinable @inline(__always)
  func add(_ input: Input, toBits bits: inout UInt64) {
    var state = State(stateBits: bits)
    add(input, to: &state)
    bits = state.stateBits
  }
}

extension MergeableAggregation {
  /// Adds what `part` stands for to the state that `bits` stand for.
  @inlinable @inline(__always)
  func merge(bits part: UInt64, intoBits bits: inout UInt64) {
    var state = State(stateBits: bits)
    merge(State(stateBits: part), into: &state)
    bits = state.stateBits
  }
}
