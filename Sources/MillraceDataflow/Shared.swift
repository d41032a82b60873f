// Shared: a flow that several pipelines of a job read, and that runs once.
//
// Where one flow asks the flow before it to run, a shared one cannot be asked: it would run once for each that asks. It is a
// pipeline of its own instead, before those that read it, and hands each of its values to them as it comes: it calls their
// `process` with a run that says its number, and their heads take the value from there. So nothing is kept, values may be
// lent, and the operators behind the head are specialised as always; the price is a call that cannot be inlined for each value and
// pipeline. Heads of records, and of other shared flows, let such a run pass; a shared flow lets all others pass.
//
// What a shared flow hands on when event time moves, or at the step's end, comes to the pipelines behind it in the same way, before they
// are told of either: for an operator it is as if the value had come from a batch right before.
//
// In a job of several workers a shared flow is a stage whose values wait in a lane from each worker to itself, which all that
// read it go through.

import MillraceBase
import MillraceModel

/// Tells a shared flow from others, in whatever copies of its description.
public final class SharedIdentity: Sendable {
  /// Another one than all others.
  public init() {}
}

/// A shared flow of one run, whatever its values.
///
/// Safety: `@unchecked Sendable` because it is used by the job's worker thread only.
@usableFromInline
class SharedHead: @unchecked Sendable {
  /// What runs say whose value is meant.
  @usableFromInline let number: Int32
  /// The inputs that lie before it.
  @usableFromInline var inputs: Set<Int> = []
  /// The pipelines that read it.
  @usableFromInline var takers: [(InputRun) throws(JobError) -> Void] = []
  /// Behind the last operator.
  @usableFromInline var watermark = Timestamp(milliseconds: .min)
  @usableFromInline let failure: RunFailure

  @usableFromInline
  init(number: Int32, failure: RunFailure) {
    self.number = number
    self.failure = failure
  }

  /// The run of values that were held back, which belong to no batch.
  @usableFromInline
  var heldBack: InputRun {
    var builder = RecordBatchBuilder()
    builder.append(key: nil, value: nil, timestamp: .none)
    guard let header = try? RecordBatchHeader(builder.finish()) else { preconditionFailure("a batch of one record") }
    var run = InputRun(
      input: -1, partition: -1, records: UnsafeRawBufferPointer(start: nil, count: 0), header: header, firstOffset: 0)
    run.sharedFlow = number
    return run
  }
}

/// A shared flow of one run, and the value that it hands on.
@usableFromInline
final class SharedCell<Value>: SharedHead, @unchecked Sendable {
  // Safety: set for the time of `hand`, whose caller keeps the value alive.
  @usableFromInline var value: UnsafePointer<Value>?
  @usableFromInline var time = Timestamp.none

  @usableFromInline
  override init(number: Int32, failure: RunFailure) { super.init(number: number, failure: failure) }

  /// Hands a value to all that read the flow. `run` says the flow's number.
  @inlinable
  func hand(_ value: Value, _ time: Timestamp, _ run: InputRun) {
    withUnsafePointer(to: value) { pointer in
      self.value = pointer
      self.time = time
      for take in takers {
        do throws(JobError) {
          try take(run)
        } catch {
          failure.note(error)
        }
      }
      self.value = nil
    }
  }
}

/// Hands on what the flow before it hands on, which runs once for all pipelines of a job that read a copy of this.
public struct Shared<Upstream: Flow>: Flow {
  /// What came in.
  public typealias Output = Upstream.Output
  @usableFromInline let upstream: Upstream
  @usableFromInline let identity: SharedIdentity
  // Safety: the flow's own pipeline keeps the cell, and is kept as long as those that read it. The cell knows these, so that they
  // must not keep it.
  @usableFromInline unowned(unsafe) let cell: SharedCell<Upstream.Output>?
  /// Of several workers: where the values of a round wait.
  @usableFromInline let lanes: LaneReader<Upstream.Output>?

  @usableFromInline
  init(
    _ upstream: Upstream, _ identity: SharedIdentity, cell: SharedCell<Upstream.Output>?,
    lanes: LaneReader<Upstream.Output>? = nil
  ) {
    self.upstream = upstream
    self.identity = identity
    self.cell = cell
    self.lanes = lanes
  }

  /// Shares `upstream` among all that are made with `identity`, which must be of this upstream alone.
  @inlinable
  public init(_ upstream: Upstream, _ identity: SharedIdentity) { self.init(upstream, identity, cell: nil) }

  /// Binds what lies before as a pipeline of its own, unless another pipeline has already.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    if graph.workers > 1 {
      return Self(upstream, identity, cell: nil, lanes: try graph.readSharedLanes(identity, upstream))
    }
    let cell = try graph.readSharedFlow(identity) {
      (graph: inout JobGraph, number: Int32) throws(JobError) -> SharedCell<Upstream.Output> in
      let cell = graph.makeSharedCell(number, of: Upstream.Output.self)
      try graph.addPipeline { (graph: inout JobGraph) throws(JobError) -> BoundPipeline in
        graph.openChain()
        let (upstream, scope) = try graph.scoped(upstream)
        let count = graph.closeChain().count
        cell.inputs = scope.inputs
        let heldBack = cell.heldBack
        return BoundPipeline(
          process: { (run: InputRun) throws(JobError) in
            var marked = run
            marked.sharedFlow = cell.number
            try upstream.process(run, countedBy: count) { cell.hand($0, $1, marked) }
          },
          advance: { cell.watermark = upstream.advance(countedBy: count) { cell.hand($0, $1, heldBack) } },
          endStep: { upstream.endStep(countedBy: count) { cell.hand($0, $1, heldBack) } })
      }
      return cell
    }
    return Self(upstream, identity, cell: cell)
  }

  @usableFromInline
  var boundCell: SharedCell<Upstream.Output> {
    guard let cell else { preconditionFailure("a shared flow is not bound to a job") }
    return cell
  }

  /// Hands on the value that the run is of, when it is this flow's.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    if let lanes { return lanes.receiveRun(body) }
    let cell = boundCell
    guard run.sharedFlow == cell.number, let value = cell.value else { return }
    body(value.pointee, cell.time)
  }

  /// Holds nothing back: what event time set free has come already.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    lanes?.receiveTime(body) ?? boundCell.watermark
  }

  /// Holds nothing back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) { lanes?.receiveEnd(body) }
}

extension JobGraph {
  @usableFromInline
  func makeSharedCell<Value>(_ number: Int32, of type: Value.Type) -> SharedCell<Value> {
    SharedCell(number: number, failure: failure)
  }
}

/// A value and the name of the branch that it goes to.
public struct Tagged<Tag: Sendable, Value> {
  /// The branch.
  public let tag: Tag
  /// The value.
  public let value: Value

  /// `value` for `tag`.
  @inlinable
  public init(tag: Tag, value: Value) {
    self.tag = tag
    self.value = value
  }
}

extension Tagged: ExchangeValue where Value: ExchangeValue {
  /// When the value needs it.
  public static var needsKeeping: Bool { Value.needsKeeping }
  /// Keeps the value.
  @inlinable public func kept(in arena: ExchangeArena) -> Tagged { Tagged(tag: tag, value: value.kept(in: arena)) }
}
