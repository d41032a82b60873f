// OutsideCall: what a job waits for outside of its steps: answers to calls that it made.
//
// A step never waits. A call that was made is state; its answer comes in while steps go on, on whatever thread, and wakes the executor,
// which makes a step for it: so when an answer came is an input of that step, as a record is. Between steps the executor asks operators
// that wait what there is (``OutsideWork``).

import MillraceBase

/// A call of an asynchronous function that a job has begun. Any thread may use it.
public struct OutsideCall: Sendable {
  /// The name of the operator; empty without one.
  public let name: String
  /// What the function is called with.
  public let value: any Sendable
  private let running: @Sendable () async -> Void
  private let answering: @Sendable (Result<any Sendable, any Error>) -> Void

  /// - Parameters:
  ///   - running: calls the function and answers.
  ///   - answering: takes an answer in the function's place.
  init(
    name: String, value: any Sendable, running: @escaping @Sendable () async -> Void,
    answering: @escaping @Sendable (Result<any Sendable, any Error>) -> Void
  ) {
    self.name = name
    self.value = value
    self.running = running
    self.answering = answering
  }

  /// Calls the function, and answers with what it returns or throws. An answer to a call that was given up counts for nothing.
  public func run() async { await running() }

  /// Answers in the function's place, which is not called. What is returned must be of the function's type, or this traps.
  public func answer(_ result: Result<any Sendable, any Error>) { answering(result) }
}

/// What an operator waits for, as of a moment.
struct OutsideNews {
  /// A step would hand something on.
  var hasArrived = false
  /// Something is waited for: the job is not at its end.
  var isOpen = false
  /// When it is to be asked again though nothing has arrived.
  var due: MonotonicTime?

  mutating func add(_ other: OutsideNews) {
    hasArrived = hasArrived || other.hasArrived
    isOpen = isOpen || other.isOpen
    due = [due, other.due].compactMap(\.self).min()
  }
}

/// An operator that waits for something outside of the job. Used by the executor's thread between steps, and by the worker's in them.
protocol OutsideWork: AnyObject {
  /// It waits for so much that no more input is to be read.
  var isFull: Bool { get }
  /// Takes in what has arrived. Changes no state.
  func collect(at now: MonotonicTime)
  /// Says what there is, and begins what can begin. Changes no state.
  func look(at now: MonotonicTime) -> OutsideNews
}

/// How an operator reaches what is outside.
struct OutsideAccess: Sendable {
  /// Has the executor look soon. Any thread may call.
  var wake: @Sendable () -> Void = {}
  var clock: @Sendable () -> MonotonicTime = { .now }
  /// Begins a call; what it returns gives it up.
  var startCall: @Sendable (OutsideCall) -> (@Sendable () -> Void) = JobOptions().startCall
}
