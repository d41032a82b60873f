// PendingCall: what is kept of a value whose call has not been answered, and what the workers of a job and the threads that answer share.

import MillraceBase
import Synchronization

/// A value for which a function is to be called.
@usableFromInline
struct PendingCall<Value: StateCodable>: StateCodable {
  var time: Int64
  var isLate: Bool
  var value: Value

  init(_ value: Value, time: Int64, isLate: Bool) {
    self.value = value
    self.time = time
    self.isLate = isLate
  }

  @usableFromInline static var stateEncoding: String { "call<\(Value.stateEncoding)>/1" }
  @usableFromInline
  func encode(into writer: inout ByteWriter) {
    writer.int64(time)
    isLate.encode(into: &writer)
    value.encode(into: &writer)
  }
  @usableFromInline
  init(from reader: inout ByteReader) throws(DecodingError) {
    time = try reader.int64()
    isLate = try Bool(from: &reader)
    value = try Value(from: &reader)
  }
}

/// How many calls all workers have made, and how many values they have for which no answer was handed on.
final class CallCounts: Sendable {
  private struct Counts {
    var running = 0
    var pending = 0
  }

  private let limit: Int
  private let counts = Mutex(Counts())

  init(limit: Int) { self.limit = limit }

  /// Whether another call may run; it is counted then.
  func begin() -> Bool {
    counts.withLock { counts in
      guard counts.running < limit else { return false }
      counts.running += 1
      return true
    }
  }

  func end() { counts.withLock { $0.running -= 1 } }
  func add(_ count: Int) { counts.withLock { $0.pending += count } }
  var areFull: Bool { counts.withLock { $0.pending >= limit } }
}

/// Answers on their way from the threads on which they came.
final class AnswerBox<Output: Sendable>: Sendable {
  struct Answer: Sendable {
    let call: UInt64
    let attempt: Int
    let result: Result<Output, any Error>
  }

  private let answers = Mutex<[Answer]>([])
  private let wake: @Sendable () -> Void

  init(wake: @escaping @Sendable () -> Void) { self.wake = wake }

  func put(_ answer: Answer) {
    let isFirst = answers.withLock { answers in
      answers.append(answer)
      return answers.count == 1
    }
    if isFirst { wake() }
  }

  func take() -> [Answer] {
    answers.withLock { answers in
      let taken = answers
      answers = []
      return taken
    }
  }
}
