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

  /// - Parameter toAll: whether each value goes to every worker.
  @inlinable
  init(_ upstream: Upstream, toAll: Bool) { self.init(upstream, toAll: toAll, lanes: nil) }

  @usableFromInline
  init(_ upstream: Upstream, toAll: Bool, lanes: LaneReader<Upstream.Output>?) {
    self.upstream = upstream
    self.toAll = toAll
    self.lanes = lanes
  }

  /// Binds what lies before, as a stage when there are several workers.
  /// - Throws: `.invalidJob` when there are, and the values cannot be handed over: they are no ``ExchangeValue``.
  @inlinable
  func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    guard toAll else {
      // Without keys: the order of a partition is to stay, so that what comes of it still counts as unkeyed.
      let (upstream, found) = try graph.scoped(upstream)
      guard graph.workers > 1 else { return Self(upstream, toAll: false) }
      return Self(upstream, toAll: false, lanes: try graph.relay(upstream, level: found.level).reader())
    }
    let (upstream, level) = try graph.bindStage(upstream)
    guard graph.workers > 1 else { return Self(upstream, toAll: true) }
    let end: ExchangeEnd<Output> = try graph.exchangeEnd(level: level)
    graph.addStage(
      BoundPipeline(
        begin: { end.begin() },
        process: { (run: InputRun) throws(JobError) in
          try upstream.process(run) { end.sendToAll($0, $1, on: end.runs) }
          end.markRun()
        }, advance: { end.markTime(upstream.advance { end.sendToAll($0, $1, on: end.freed) }) },
        endStep: {
          upstream.endStep { end.sendToAll($0, $1, on: end.runs) }
          end.markRun()
        }), level: level)
    return Self(upstream, toAll: true, lanes: end.reader())
  }

  /// Hands each value on.
  @inlinable
  func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    if let lanes { return lanes.receiveRun(body) }
    try upstream.process(run, body)
  }

  /// Hands on what event time sets free.
  @inlinable
  func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    if let lanes { return lanes.receiveTime(body) }
    return upstream.advance(body)
  }

  /// Hands on what was held back.
  @inlinable
  func endStep(_ body: (Output, Timestamp) -> Void) {
    if let lanes { return lanes.receiveEnd(body) }
    upstream.endStep(body)
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
