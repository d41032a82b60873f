// Attempt: functions that may fail, and what becomes of the values for which they do.

import MillraceBase
import MillraceModel

/// What becomes of a value for which a function throws.
public enum ErrorPolicy: Sendable {
  /// The job ends with `.functionFailed`, which says the record and the error. Started again, it comes to the same record again.
  case fail
  /// The value is left out, and counted in ``JobFigures/failedRecords``.
  case skip
  /// The record that led to the value goes to a topic, in the same commit as everything that the step leads to, and is counted: with its
  /// key, value, time and headers, and further headers ``DeadLetter`` names. Where no single record led to the value, such as behind
  /// a window, or the value came from another worker, behind a `keyBy`, key and value are null.
  case deadLetter(topic: String)
}

/// The headers that a dead letter has beside its record's.
public enum DeadLetter {
  /// What was thrown, as text of at most 2,000 characters.
  public static let error = "millrace.error"
  /// The topic that the record came from, or the name of the source.
  public static let topic = "millrace.error.topic"
  /// Its partition, as decimal text.
  public static let partition = "millrace.error.partition"
  /// Its offset, as decimal text.
  public static let offset = "millrace.error.offset"
}

/// The record that is being run, for operators that want to know it.
///
/// Safety: `@unchecked Sendable` because it is used by the job's worker thread only.
@usableFromInline
final class CurrentRecord: @unchecked Sendable {
  var isWanted = false
  /// Its bytes are valid while it is here.
  @usableFromInline var record: InputRecord?
  private(set) var input = -1
  private(set) var partition: Int32 = -1

  /// The records of a batch are about to be run.
  /// - Returns: nil when nobody wants to know them.
  @usableFromInline
  func begin(_ run: InputRun) -> CurrentRecord? {
    guard isWanted else { return nil }
    input = run.input
    partition = run.partition
    return self
  }

  /// No record is being run.
  @usableFromInline
  func end() { record = nil }
}

/// What an operator does about values for which its function fails.
///
/// Safety: `@unchecked Sendable` because it is used by the job's worker thread only.
@usableFromInline
final class FailureHandler: @unchecked Sendable {
  private let policy: ErrorPolicy
  private let current: CurrentRecord
  private let failure: RunFailure
  private let output: StepOutput
  private let sink: Int
  private let inputs: [String]
  private(set) var count: UInt64 = 0

  init(_ policy: ErrorPolicy, _ graph: inout JobGraph) throws(JobError) {
    self.policy = policy
    current = graph.current
    current.isWanted = true
    failure = graph.failure
    output = graph.output
    sink = if case .deadLetter(let topic) = policy { try graph.addSink(topic: topic) } else { -1 }
    inputs = graph.inputs.map(\.name)
  }

  /// Whether the step is lost anyhow.
  @usableFromInline var isOver: Bool { failure.error != nil }

  /// The function failed for a value of event time `time`.
  @usableFromInline
  func handle(_ error: any Error, _ time: Timestamp) {
    let text = String("\(error)".prefix(2000))
    guard case .fail = policy else {
      count += 1
      if sink >= 0 { output.emit(sink, letter(text, time)) }
      return
    }
    let place = current.record.map { "\(inputs[current.input])-\(current.partition) at offset \($0.offset)" }
    failure.note(JobError(.functionFailed, "\(place ?? "a value that no single record led to"): \(text)"))
  }

  private func letter(_ text: String, _ time: Timestamp) -> Record {
    let error = RecordHeader(DeadLetter.error, Bytes(text))
    guard let record = current.record else { return Record(value: nil, headers: [error], timestamp: time) }
    return Record(
      key: record.keyBuffer.baseAddress.map { _ in record.key.copy },
      value: record.valueBuffer.baseAddress.map { _ in record.value.copy },
      headers: record.headers + [
        error, RecordHeader(DeadLetter.topic, Bytes(inputs[current.input])),
        RecordHeader(DeadLetter.partition, Bytes("\(current.partition)")),
        RecordHeader(DeadLetter.offset, Bytes("\(record.offset)")),
      ],
      timestamp: record.timestamp)
  }
}

/// Hands on what a function makes of each value, as long as it does not fail.
public struct Attempt<Upstream: Flow, Output>: Flow {
  @usableFromInline let upstream: Upstream
  @usableFromInline let policy: ErrorPolicy
  @usableFromInline let transform: @Sendable (Upstream.Output, (Output) -> Void) throws -> Void
  @usableFromInline let handler: FailureHandler?

  @usableFromInline
  init(
    _ upstream: Upstream, _ policy: ErrorPolicy,
    _ transform: @escaping @Sendable (Upstream.Output, (Output) -> Void) throws -> Void, handler: FailureHandler?
  ) {
    self.upstream = upstream
    self.policy = policy
    self.transform = transform
    self.handler = handler
  }

  /// Applies `transform` behind `upstream`. What it hands on before it throws is handed on.
  @inlinable
  public init(
    _ upstream: Upstream, onError policy: ErrorPolicy,
    _ transform: @escaping @Sendable (Upstream.Output, (Output) -> Void) throws -> Void
  ) {
    self.init(upstream, policy, transform, handler: nil)
  }

  /// Binds what lies before, inlined so that its stages are specialised, and the topic of dead letters.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    try registered(behind: upstream.bound(to: &graph), in: &graph)
  }

  @usableFromInline
  func registered(behind upstream: Upstream, in graph: inout JobGraph) throws(JobError) -> Self {
    let handler = try FailureHandler(policy, &graph)
    graph.addFailedCount { handler.count }
    return Self(upstream, policy, transform, handler: handler)
  }

  @usableFromInline
  var boundHandler: FailureHandler {
    guard let handler else { preconditionFailure("an operator that may fail is not bound to a job") }
    return handler
  }

  @inlinable @inline(__always)
  func take(
    _ input: Upstream.Output, _ time: Timestamp, _ handler: FailureHandler, _ body: (Output, Timestamp) -> Void
  ) {
    guard !handler.isOver else { return }
    do {
      try transform(input) { body($0, time) }
    } catch {
      handler.handle(error, time)
    }
  }

  /// Transforms each value.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let handler = boundHandler
    try upstream.process(run) { take($0, $1, handler, body) }
  }

  /// Transforms what event time sets free.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let handler = boundHandler
    return upstream.advance { take($0, $1, handler, body) }
  }

  /// Transforms what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let handler = boundHandler
    upstream.endStep { take($0, $1, handler, body) }
  }
}
