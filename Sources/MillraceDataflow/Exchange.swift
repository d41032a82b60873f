// Exchange: where values go to the worker that has their keys.
//
// Every operator with keyed state stands behind one. A job of one worker has nothing to hand over: the values go through, and the
// compiler leaves nothing of this between the operators. In a job of several, what lies before the exchange is a stage of its own,
// which every worker runs for its share before any of them runs what lies behind.

import MillraceBase

/// Hands each value on, to the worker that owns its key.
public struct Exchange<Upstream: Flow, Key: StreamKey>: Flow {
  /// What came in.
  public typealias Output = Upstream.Output
  @usableFromInline let upstream: Upstream
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key
  /// Of a job of several workers.
  @usableFromInline let lanes: LaneReader<Upstream.Output>?
  /// Of a job of one worker.
  @usableFromInline let count: ValueCount

  @usableFromInline
  init(
    _ upstream: Upstream, by key: @escaping @Sendable (Upstream.Output) -> Key, lanes: LaneReader<Upstream.Output>?,
    count: ValueCount
  ) {
    self.upstream = upstream
    self.key = key
    self.lanes = lanes
    self.count = count
  }

  /// By `key` behind `upstream`.
  @inlinable
  public init(_ upstream: Upstream, by key: @escaping @Sendable (Upstream.Output) -> Key) {
    self.init(upstream, by: key, lanes: nil, count: .nowhere)
  }

  /// Binds what lies before, as a stage when there are several workers.
  /// - Throws: `.invalidJob` when there are, and the values cannot be handed over: they are no ``ExchangeValue``.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    let (upstream, level, chain) = try graph.bindStage(upstream)
    let count = chain.count
    guard graph.workers > 1 else { return Self(upstream, by: key, lanes: nil, count: count) }
    let end: ExchangeEnd<Output> = try graph.exchangeEnd(level: level)
    let key = key
    graph.addStage(
      BoundPipeline(
        begin: { end.begin() },
        process: { (run: InputRun) throws(JobError) in
          try upstream.process(run, countedBy: count) { value, time in
            key(value).withBytes { end.send(value, time, hash: Hashing.stable($0), on: end.runs) }
          }
          end.markRun()
        },
        advance: {
          let time = upstream.advance(countedBy: count) { value, time in
            key(value).withBytes { end.send(value, time, hash: Hashing.stable($0), on: end.freed) }
          }
          end.markTime(time)
        },
        endStep: {
          upstream.endStep(countedBy: count) { value, time in
            key(value).withBytes { end.send(value, time, hash: Hashing.stable($0), on: end.runs) }
          }
          end.markRun()
        }), level: level, of: chain)
    return Self(upstream, by: key, lanes: end.reader(), count: .nowhere)
  }

  /// Hands each value on.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    if let lanes { return lanes.receiveRun(body) }
    try upstream.process(run, countedBy: count, body)
  }

  /// Hands on what event time sets free.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    if let lanes { return lanes.receiveTime(body) }
    return upstream.advance(countedBy: count, body)
  }

  /// Hands on what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    if let lanes { return lanes.receiveEnd(body) }
    upstream.endStep(countedBy: count, body)
  }
}

/// An exchange of whatever values.
protocol ExchangeFlow: Flow {}

extension Exchange: ExchangeFlow {}
