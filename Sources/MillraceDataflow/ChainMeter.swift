// ChainMeter: what one worker counts of one chain: of operators between two places where values are counted.
//
// A chain begins where an input is read, where values come by key or to all workers, where streams merge, and where a shared stream is read. It
// ends where the next one begins, and at a sink, which is a chain of its own. In between, operators are one loop in which nobody counts.

import MillraceBase

/// Figures of one chain on one worker.
///
/// Safety: `@unchecked Sendable` because it is used by one worker, on whatever thread that is.
@usableFromInline
final class ChainMeter: @unchecked Sendable {
  /// Values that came to its end. Behind a pointer: fields of a class would be checked for exclusive access at every use.
  // Safety: allocated in init, freed in deinit. The job's graph keeps the meter and what points here.
  private let handedOn: UnsafeMutablePointer<UInt64>
  /// Its number among the chains of the job, each of which stands behind those before it; as ``JobExplanation`` finds them.
  private(set) var number = -1
  /// Chains that it takes values of.
  var upstreams: [Int] = []
  /// The input that it reads.
  var input: Int?
  var states: [any OperatorState] = []
  /// What says how far event time has come at its end.
  var clock: EventClock?
  var sinks: [Int] = []
  var lateCounts: [() -> UInt64] = []
  var failedCounts: [() -> UInt64] = []
  /// What the executor calls for it: level and place among the stages of the worker.
  private(set) var stages: [(level: Int, index: Int)] = []
  /// The chain behind it that it is fused with, where it has no stage.
  var behind: ChainMeter?

  init() {
    handedOn = .allocate(capacity: 1)
    handedOn.initialize(to: 0)
  }

  deinit { handedOn.deallocate() }

  /// Counts what comes to its end.
  @usableFromInline var count: ValueCount { ValueCount(handedOn) }

  var valuesOut: UInt64 { handedOn.pointee }

  func addStage(level: Int, index: Int) { stages.append((level, index)) }

  func close(as number: Int) { self.number = number }
}

/// The chains of one worker's copy of a job, while it is bound.
struct ChainList {
  /// Those that are bound, by their numbers.
  private(set) var all: [ChainMeter] = []
  /// Those that are being bound, from the outermost on.
  private var opened: [ChainMeter] = []
  var shared: [ObjectIdentifier: ChainMeter] = [:]

  /// The one that is being bound.
  var current: ChainMeter? { opened.last }

  mutating func open() { opened.append(ChainMeter()) }

  /// The chain is bound: the one behind it takes its values.
  mutating func close() -> ChainMeter {
    let chain = opened.removeLast()
    chain.close(as: all.count)
    all.append(chain)
    opened.last?.upstreams.append(chain.number)
    chain.behind = opened.last
    return chain
  }
}

extension JobGraph {
  /// Binds a flow that ends where values are counted.
  /// - Returns: the bound copy, and its chain.
  @inlinable
  mutating func chained<Source: Flow>(_ flow: Source) throws(JobError) -> (flow: Source, chain: ChainMeter) {
    openChain()
    let bound = try flow.bound(to: &self)
    return (bound, closeChain())
  }

  /// Binds the end of a pipeline, with all that lies before it.
  /// - Returns: the bound copies, and what counts the values that the sink takes.
  @inlinable
  mutating func bind<Source: Flow, Sink: RecordSink>(
    _ flow: Source, into sink: Sink
  ) throws(JobError) -> (flow: Source, sink: Sink, count: ValueCount) {
    openChain()
    let (flow, chain) = try chained(flow)
    let sink = try sink.bound(to: &self)
    _ = closeChain()
    return (flow, sink, chain.count)
  }

  /// The flow that is being bound reads a shared one, which was bound before.
  @usableFromInline
  mutating func takeShared(_ identity: SharedIdentity) {
    if let known = chains.shared[ObjectIdentifier(identity)] { chains.current?.upstreams.append(known.number) }
  }

  /// The chain that was bound last ends at a shared flow.
  @usableFromInline
  mutating func keepShared(_ identity: SharedIdentity) { chains.shared[ObjectIdentifier(identity)] = chains.all.last }

  @usableFromInline
  mutating func openChain() { chains.open() }

  @usableFromInline
  mutating func closeChain() -> ChainMeter { chains.close() }
}
