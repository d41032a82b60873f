// AsyncCalls: the values for which an asynchronous function was called and has not answered, or whose turn has not come.
//
// Each is an element of its key: a number that rises, uint64, big endian. Its record says its event time, whether event time had passed it
// when it came, and the value, so that a run that recovers makes the call again. Answers are not state: they leave with the step that
// hands them on, or the call is made again.
//
// Event time stays behind the values that are pending: at the lowest of their times, but of those that were late when they came.

import MillraceBase

/// The pending values of one worker.
///
/// Safety: `@unchecked Sendable` because it is handed to the job's worker thread once and used there only, but for `answers`, which
/// any thread may fill.
@usableFromInline
final class AsyncCalls<Value: StateCodable & Sendable, Output: Sendable>: @unchecked Sendable {
  private enum Stage {
    case waiting
    case running(giveUp: @Sendable () -> Void)
    case answered(Result<Output, any Error>)
    case gone
  }

  private final class Call {
    let id: UInt64
    let entry: Int
    let value: Value
    let time: Int64
    var attempt = 0
    var stage = Stage.waiting

    init(id: UInt64, entry: Int, _ pending: PendingCall<Value>) {
      self.id = id
      self.entry = entry
      value = pending.value
      time = pending.time
    }

    var isAnswered: Bool { if case .answered = stage { true } else { false } }
    var isGone: Bool { if case .gone = stage { true } else { false } }
    func isRunning(_ attempt: Int) -> Bool {
      if case .running = stage { attempt == self.attempt } else { false }
    }
  }

  private struct Due: Comparable {
    let time: Int64
    let call: Call
    static func < (left: Due, right: Due) -> Bool { (left.time, left.call.id) < (right.time, right.call.id) }
    static func == (left: Due, right: Due) -> Bool { left.time == right.time && left.call === right.call }
  }

  private let table: KeyedTable
  private let rules: AsyncRules<Value, Output>
  private let call: @Sendable (Value) async throws -> Output
  private let name: String
  private let outside: OutsideAccess
  private let counts: CallCounts
  private let failure: RunFailure
  private let answers: AnswerBox<Output>
  private var watermark: KeptWatermark
  private var calls: [UInt64: Call] = [:]
  private var nextID: UInt64 = 0
  private var nextNumber: UInt64 = 0
  /// In the order in which answers are to be handed on, which they may have left.
  private var order = Deque<Call>()
  /// Answered, where the order is free.
  private var ready: [Call] = []
  private var waiting = Deque<Call>()
  /// By the monotonic time, in ns, at which the next attempt is to be made.
  private var retries = Heap<Due>()
  private var deadlines = Deque<(time: MonotonicTime, call: Call, attempt: Int)>()
  /// By event time: those that hold it up, and some that are gone.
  private var holding = Heap<Due>()
  private(set) var failedCount: UInt64 = 0

  init(
    operatorID: UInt16, rules: AsyncRules<Value, Output>, name: String, counts: CallCounts, graph: JobGraph,
    call: @escaping @Sendable (Value) async throws -> Output
  ) {
    table = KeyedTable(
      operatorID: operatorID, kind: StateRecordKind.element, scope: [], codec: BoxCodec<PendingCall<Value>>())
    watermark = KeptWatermark(operatorID: operatorID, kind: StateRecordKind.keyedValue)
    self.rules = rules
    self.call = call
    self.name = name
    self.counts = counts
    outside = graph.outside
    failure = graph.failure
    answers = AnswerBox(wake: graph.outside.wake)
  }

  deinit { for call in calls.values { if case .running(let giveUp) = call.stage { giveUp() } } }

  /// Takes in a value, and calls the function for it when not too many calls are made.
  @usableFromInline
  func take(_ key: UnsafeRawBufferPointer, _ value: Value, _ time: Timestamp) {
    let pending = PendingCall(value, time: time.milliseconds, isLate: time.milliseconds < watermark.time)
    let entry = withUnsafeBytes(of: nextNumber.bigEndian) { number in
      ElementKey.join(key, number) { joined in
        table.changeEntry(joined, Hashing.stable(joined)) { Boxed(pending).ownedStateBits() }
      }
    }
    nextNumber += 1
    add(pending, entry)
    counts.add(1)
    start(at: outside.clock())
  }

  private func add(_ pending: PendingCall<Value>, _ entry: Int) {
    let call = Call(id: nextID, entry: entry, pending)
    nextID += 1
    calls[call.id] = call
    if rules.isOrdered { order.append(call) }
    waiting.append(call)
    if !pending.isLate { holding.push(Due(time: pending.time, call: call)) }
  }

  // MARK: Calls

  private func start(at now: MonotonicTime) {
    while let next = retries.first, next.time <= now.nanoseconds {
      retries.popFirst()
      waiting.append(next.call)
    }
    while let next = waiting.first, counts.begin() {
      waiting.removeFirst()
      begin(next, at: now)
    }
  }

  private func begin(_ one: Call, at now: MonotonicTime) {
    one.attempt += 1
    // Those that answered behind one that takes long.
    if deadlines.count > 2 * rules.inFlight + 64 { forgetDeadlines() }
    if let timeout = rules.timeout { deadlines.append((now + timeout, one, one.attempt)) }
    let (answers, call, value, id, attempt) = (answers, call, one.value, one.id, one.attempt)
    @Sendable func answer(_ result: Result<Output, any Error>) {
      answers.put(AnswerBox.Answer(call: id, attempt: attempt, result: result))
    }
    let outsideCall = OutsideCall(name: name, value: value) {
      do { answer(.success(try await call(value))) } catch { answer(.failure(error)) }
    } answering: { result in
      answer(
        result.map { output in
          guard let output = output as? Output else {
            preconditionFailure("an answer of the type \(type(of: output)), \(Output.self) is expected")
          }
          return output
        })
    }
    one.stage = .running(giveUp: outside.startCall(outsideCall))
  }

  private func forgetDeadlines() {
    for _ in 0..<deadlines.count {
      let one = deadlines.removeFirst()
      if one.call.isRunning(one.attempt) { deadlines.append(one) }
    }
  }

  private func settle(_ call: Call, _ result: Result<Output, any Error>, at now: MonotonicTime) {
    counts.end()
    if case .failure = result, call.attempt < rules.retry.attempts {
      call.stage = .waiting
      retries.push(Due(time: (now + rules.retry.delay(behind: call.attempt)).nanoseconds, call: call))
    } else {
      call.stage = .answered(result)
      if !rules.isOrdered { ready.append(call) }
    }
  }

  // MARK: Steps

  /// Event time before the operator has come to `time`: hands on what was answered, as far as it is its turn.
  /// - Returns: how far event time has come behind it.
  @usableFromInline
  func advance(to time: Timestamp, _ body: (Output, Timestamp) -> Void) -> Timestamp {
    let now = outside.clock()
    collect(at: now)
    _ = watermark.advance(to: time)
    let free = ready.sorted { $0.id < $1.id }
    ready = []
    for call in free { handOn(call, body) }
    while let first = order.first, first.isAnswered {
      order.removeFirst()
      handOn(first, body)
    }
    start(at: now)
    while let first = holding.first, first.call.isGone { holding.popFirst() }
    if holding.count > 2 * calls.count + 64 { holding.keep { !$0.call.isGone } }
    return Timestamp(milliseconds: min(time.milliseconds, holding.first?.time ?? .max))
  }

  private func handOn(_ call: Call, _ body: (Output, Timestamp) -> Void) {
    guard case .answered(let result) = call.stage else { preconditionFailure("a call without an answer") }
    call.stage = .gone
    calls[call.id] = nil
    table.remove(entry: call.entry)
    counts.add(-1)
    let time = Timestamp(milliseconds: call.time)
    switch (result, rules.policy) {
    case (.success(let output), _): body(output, time)
    case (.failure(let error), .fallback(let make)): body(make(call.value, error), time)
    case (.failure, .skip): failedCount += 1
    case (.failure(let error), .fail):
      let text = String("\(error)".prefix(2000))
      failure.note(JobError(.functionFailed, "a call of \(name.isEmpty ? "mapAsync" : "\"\(name)\""): \(text)"))
    }
  }
}

extension AsyncCalls: OutsideWork {
  var isFull: Bool { counts.areFull }

  func collect(at now: MonotonicTime) {
    for answer in answers.take() {
      guard let call = calls[answer.call], call.isRunning(answer.attempt) else { continue }
      settle(call, answer.result, at: now)
    }
    while let first = deadlines.first {
      guard case .running(let giveUp) = first.call.stage, first.call.attempt == first.attempt else {
        deadlines.removeFirst()
        continue
      }
      guard first.time <= now, let timeout = rules.timeout else { return }
      deadlines.removeFirst()
      giveUp()
      settle(first.call, .failure(CallTimeout(timeout: timeout)), at: now)
    }
  }

  func look(at now: MonotonicTime) -> OutsideNews {
    start(at: now)
    let retry = retries.first.map { MonotonicTime(nanoseconds: $0.time) }
    return OutsideNews(
      hasArrived: rules.isOrdered ? order.first?.isAnswered ?? false : !ready.isEmpty, isOpen: !calls.isEmpty,
      due: [retry, deadlines.first?.time].compactMap(\.self).min())
  }
}

extension AsyncCalls: OperatorState {
  var ownKind: UInt8? { watermark.kind }
  var operatorID: UInt16 { table.operatorID }
  // Answers are waited for, not time.
  var waitsForTime: Bool { false }
  var count: Int { table.count }
  var stateBytes: Int { table.stateBytes }
  var changedCount: Int { table.changedCount + (watermark.isChanged ? 1 : 0) }
  // The values' own sizes are not known before they are written.
  var changedSize: Int { 2 * table.changedSize + 64 }

  func writeChanges(into writer: inout StateLogWriter) {
    watermark.writeChanges(into: &writer)
    table.writeChanges(into: &writer)
  }

  func beginRound() {
    watermark.beginRound()
    table.beginRound()
  }

  func sweep(_ quota: Int, upTo size: Int, into writer: inout StateLogWriter) -> Int {
    let written = watermark.sweep(into: &writer)
    return written + table.sweep(quota - written, upTo: size, into: &writer)
  }

  var roundIsDone: Bool { watermark.isSwept && table.roundIsDone }

  func restore(
    _ kind: UInt8, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
  ) throws(JobError) {
    if try watermark.restore(kind, key, value) { return }
    guard kind == StateRecordKind.element, let element = ElementKey.split(key)?.element, element.count == 8,
      element.bigEndianNumber(at: 0) >= 0
    else {
      throw JobError(
        .corruptState,
        "a state record of kind \(kind) with \(key.count) bytes for operator \(operatorID), which has calls")
    }
    try table.restore(key, value)
  }

  func recovered() {
    var found: [(number: Int64, entry: Int)] = []
    table.forEachEntry { entry, _ in
      guard let element = ElementKey.split(table.key(of: entry))?.element else { return }
      found.append((element.bigEndianNumber(at: 0), entry))
    }
    // Those of one key stay in their order; several workers before may have given values of different keys the same number.
    found.sort {
      $0.number != $1.number
        ? $0.number < $1.number : table.key(of: $0.entry).lexicographicallyPrecedes(table.key(of: $1.entry))
    }
    for (_, entry) in found { add(Boxed<PendingCall<Value>>(stateBits: table.bits(of: entry)).content, entry) }
    counts.add(found.count)
    if let last = found.last { nextNumber = UInt64(last.number) + 1 }
  }
}
