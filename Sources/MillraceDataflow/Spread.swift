// Spread: values that go to all workers, or stay on their own, where an operator also takes what has passed an Exchange.
//
// With one worker that is nothing. With several, what lies before is a stage of its own, and its values wait in lanes, as before an
// Exchange: so every worker takes them with the same run of a round, before or behind the same values of other streams.

import MillraceBase

/// Hands each value on, on every worker or on the one that has it.
@usableFromInline
struct Spread<Upstream: Flow>: Flow {
  @usableFromInline typealias Output = Upstream.Output
  @usableFromInline let upstream: Upstream
  @usableFromInline let toAll: Bool
  /// Of a job of several workers.
  @usableFromInline let lanes: LaneReader<Upstream.Output>?
  /// Of a job of one worker.
  @usableFromInline let count: ValueCount

  /// - Parameter toAll: whether each value goes to every worker.
  @inlinable
  init(_ upstream: Upstream, toAll: Bool) { self.init(upstream, toAll: toAll, lanes: nil, count: .nowhere) }

  @usableFromInline
  init(_ upstream: Upstream, toAll: Bool, lanes: LaneReader<Upstream.Output>?, count: ValueCount) {
    self.upstream = upstream
    self.count = count
    self.toAll = toAll
    self.lanes = lanes
  }

  /// Binds what lies before, as a stage when there are several workers.
  /// - Throws: `.invalidJob` when there are, and the values cannot be handed over: they are no ``ExchangeValue``.
  @inlinable
  func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    guard toAll else {
      // Without keys: the order of a partition is to stay, so that what comes of it still counts as unkeyed.
      graph.openChain()
      let (upstream, found) = try graph.scoped(upstream)
      let chain = graph.closeChain()
      guard graph.workers > 1 else { return Self(upstream, toAll: false, lanes: nil, count: chain.count) }
      let end = try graph.relay(upstream, level: found.level, of: chain)
      return Self(upstream, toAll: false, lanes: end.reader(), count: .nowhere)
    }
    let (upstream, level, chain) = try graph.bindStage(upstream)
    let count = chain.count
    guard graph.workers > 1 else { return Self(upstream, toAll: true, lanes: nil, count: count) }
    let end: ExchangeEnd<Output> = try graph.exchangeEnd(level: level)
    graph.addStage(
      BoundPipeline(
        begin: { end.begin() },
        process: { (run: InputRun) throws(JobError) in
          try upstream.process(run, countedBy: count) { end.sendToAll($0, $1, on: end.runs) }
          end.markRun()
        }, advance: { end.markTime(upstream.advance(countedBy: count) { end.sendToAll($0, $1, on: end.freed) }) },
        endStep: {
          upstream.endStep(countedBy: count) { end.sendToAll($0, $1, on: end.runs) }
          end.markRun()
        }), level: level, of: chain)
    return Self(upstream, toAll: true, lanes: end.reader(), count: .nowhere)
  }

  /// Hands each value on.
  @inlinable
  func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    if let lanes { return lanes.receiveRun(body) }
    try upstream.process(run, countedBy: count, body)
  }

  /// Hands on what event time sets free.
  @inlinable
  func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    if let lanes { return lanes.receiveTime(body) }
    return upstream.advance(countedBy: count, body)
  }

  /// Hands on what was held back.
  @inlinable
  func endStep(_ body: (Output, Timestamp) -> Void) {
    if let lanes { return lanes.receiveEnd(body) }
    upstream.endStep(countedBy: count, body)
  }
}

/// A spread of whatever values.
protocol SpreadFlow: Flow {}

extension Spread: SpreadFlow {}

extension ExchangeEnd {
  /// Sends a value to every worker.
  @inlinable
  func sendToAll(
    _ value: Value, _ time: Timestamp, on lanes: UnsafeMutablePointer<UnsafeMutablePointer<Lane<Value>.Core>>
  ) {
    for worker in 0..<workers { send(value, time, to: worker, on: lanes) }
  }
}
