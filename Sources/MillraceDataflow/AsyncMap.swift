// AsyncMap: a function that answers later, such as one that asks a service, for each value.
//
// A value waits as state until its answer is handed on, in a later step. Steps do not wait: an answer wakes the executor. Too many pending
// values keep it from reading more input. See AsyncCalls.swift.

import MillraceBase

/// What becomes of a value for which an asynchronous function fails, or does not answer in time, for the last time that it is tried.
public enum CallErrorPolicy<Value, Output>: Sendable {
  /// The job ends with `.functionFailed`, which says the error. Started again, it makes the call again.
  case fail
  /// The value is left out, and counted in ``JobFigures/failedRecords``.
  case skip
  /// What the closure makes of the value and the error is handed on in the place of the answer.
  case fallback(@Sendable (Value, any Error) -> Output)
}

/// How often a function is called for a value when it fails, or does not answer in time.
public struct CallRetry: Sendable {
  /// Calls in all.
  public let attempts: Int
  private let first: Duration

  /// Once.
  public static let never = CallRetry(attempts: 1, first: .zero)

  /// Up to `attempts` times in all, `delay` behind the first failure and twice as long behind each further one.
  /// - Parameters:
  ///   - attempts: at least 1. They are counted anew when a run recovers.
  ///   - delay: at least 0; doubled at most ten times.
  public static func attempts(_ attempts: Int, delay: Duration) -> CallRetry {
    precondition(attempts >= 1, "\(attempts) attempts; at least 1 is needed")
    precondition(delay >= .zero, "a delay of \(delay)")
    return CallRetry(attempts: attempts, first: delay)
  }

  /// The pause behind so many failures.
  func delay(behind failures: Int) -> Duration { first * (1 << min(10, failures - 1)) }
}

/// What is thrown for a call that did not answer in time; the task that makes it is cancelled.
public struct CallTimeout: Error, Equatable, CustomStringConvertible {
  /// The time that it had.
  public let timeout: Duration
  /// Says the time.
  public var description: String { "no answer within \(timeout)" }
}

/// How calls are made.
public struct AsyncRules<Value, Output>: Sendable {
  /// Most calls at a time, of all workers of a job; with so many values pending no more input is read.
  public let inFlight: Int
  /// Whether answers are handed on in the order of the values.
  public let isOrdered: Bool
  /// After which a call is given up; nil for never.
  public let timeout: Duration?
  /// How often it is made.
  public let retry: CallRetry
  /// What becomes of values whose calls fail.
  public let policy: CallErrorPolicy<Value, Output>

  /// For `inFlight` see there; it is at least 1.
  public init(
    inFlight: Int, isOrdered: Bool, timeout: Duration?, retry: CallRetry, policy: CallErrorPolicy<Value, Output>
  ) {
    precondition(inFlight >= 1, "\(inFlight) calls in flight; at least 1 is needed")
    self.inFlight = inFlight
    self.isOrdered = isOrdered
    self.timeout = timeout
    self.retry = retry
    self.policy = policy
  }
}

/// Hands on what an asynchronous function answers for each value, with the value's time.
public struct AsyncMap<Upstream: Flow, Key: StreamKey, Output: Sendable>: Flow
where Upstream.Output: StateCodable & Sendable {
  /// The function.
  public typealias Call = @Sendable (Upstream.Output) async throws -> Output
  @usableFromInline let upstream: Exchange<Upstream, Key>
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key
  @usableFromInline let rules: AsyncRules<Upstream.Output, Output>
  @usableFromInline let name: String?
  @usableFromInline let call: Call
  @usableFromInline let calls: AsyncCalls<Upstream.Output, Output>?

  @usableFromInline
  init(
    _ upstream: Exchange<Upstream, Key>, key: @escaping @Sendable (Upstream.Output) -> Key,
    rules: AsyncRules<Upstream.Output, Output>, name: String?, call: @escaping Call,
    calls: AsyncCalls<Upstream.Output, Output>?
  ) {
    self.upstream = upstream
    self.key = key
    self.rules = rules
    self.name = name
    self.call = call
    self.calls = calls
  }

  /// Calls `call` for each value behind `upstream`.
  /// - Parameters:
  ///   - key: says which worker has a value; answers of a key are handed on in the order of its values, when they are to be in order.
  ///   - name: owns the state; see ``JobGraph/addTable(kind:name:codec:)``.
  @inlinable
  public init(
    _ upstream: Upstream, key: @escaping @Sendable (Upstream.Output) -> Key,
    rules: AsyncRules<Upstream.Output, Output>, name: String?, call: @escaping Call
  ) {
    self.init(Exchange(upstream, by: key), key: key, rules: rules, name: name, call: call, calls: nil)
  }

  /// Binds what lies before, inlined so that its stages are specialised, and registers the state.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    try registered(behind: upstream.bound(to: &graph), in: &graph)
  }

  @usableFromInline
  func registered(behind upstream: Exchange<Upstream, Key>, in graph: inout JobGraph) throws(JobError) -> Self {
    graph.needEventTime()
    let counts = graph.shared { CallCounts(limit: rules.inFlight) }
    let around = graph
    let calls = try graph.addState(kind: "calls", name: name) {
      AsyncCalls(operatorID: $0, rules: rules, name: name ?? "", counts: counts, graph: around, call: call)
    }
    graph.addOutsideWork(calls)
    graph.addFailedCount { calls.failedCount }
    return Self(upstream, key: key, rules: rules, name: name, call: call, calls: calls)
  }

  @usableFromInline
  var boundCalls: AsyncCalls<Upstream.Output, Output> {
    guard let calls else { preconditionFailure("an operator with calls is not bound to a job") }
    return calls
  }

  @inlinable
  func take(_ input: Upstream.Output, _ time: Timestamp, _ calls: AsyncCalls<Upstream.Output, Output>) {
    key(input).withBytes { calls.take($0, input, time) }
  }

  /// Takes each value in; hands nothing on yet.
  @inlinable
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let calls = boundCalls
    try upstream.process(run) { take($0, $1, calls) }
  }

  /// Hands on what was answered; event time stays behind what was not.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let calls = boundCalls
    let time = upstream.advance { take($0, $1, calls) }
    return calls.advance(to: time, body)
  }

  /// Takes in what was held back; hands nothing on.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let calls = boundCalls
    upstream.endStep { take($0, $1, calls) }
  }
}
