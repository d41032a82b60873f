// JobGraph+Workers: how flows are cut into stages when a job has several workers.
//
// The level of a flow is the number of exchanges that its values have passed at most. A stage of level 0 reads batches and holds nothing
// back; what a stage hands on lies in lanes until the stages of higher levels take it.

import MillraceBase
import Synchronization

/// What the workers of one run of a job share: lanes between them, and what they tell each other.
///
/// Safety: `@unchecked Sendable` because it is filled while the workers are bound, one after the other, and not changed afterwards.
final class SharedParts: @unchecked Sendable {
  let workers: Int
  let largeTable: Int
  var parts: [any AnyObject & Sendable] = []

  init(workers: Int, largeTable: Int = KeyedTable.largeSlots) {
    self.workers = workers
    self.largeTable = largeTable
  }
}

extension JobGraph {
  /// What lies before a place in a flow.
  @usableFromInline
  struct Scope {
    /// Inputs that are read.
    @usableFromInline var inputs: Set<Int> = []
    /// Exchanges that values have passed.
    @usableFromInline var level = 0
    /// Some values have not passed any.
    @usableFromInline var isUnkeyed = false

    @usableFromInline init() {}

    @usableFromInline
    func joined(_ other: Scope) -> Scope {
      var both = self
      both.inputs.formUnion(other.inputs)
      both.level = max(level, other.level)
      both.isUnkeyed = isUnkeyed || other.isUnkeyed
      return both
    }
  }

  /// Number of the job's workers.
  public var workers: Int { team.workers }

  /// Binds a flow.
  /// - Returns: the bound copy, and what lies before its end.
  @inlinable
  mutating func scoped<Source: Flow>(_ flow: Source) throws(JobError) -> (flow: Source, scope: Scope) {
    let before = scope
    scope = Scope()
    let bound = try flow.bound(to: &self)
    let found = scope
    scope = before.joined(found)
    return (bound, found)
  }

  /// Binds a flow that ends at an exchange.
  /// - Returns: the bound copy, its level, and its chain.
  @inlinable
  mutating func bindStage<Source: Flow>(
    _ flow: Source
  ) throws(JobError) -> (flow: Source, level: Int, chain: ChainMeter) {
    let before = scope
    openChain()
    let (bound, found) = try scoped(flow)
    scope.isUnkeyed = before.isUnkeyed
    return (bound, found.level, closeChain())
  }

  /// Binds a flow that must not have passed an exchange when there are several workers.
  /// - Throws: `.invalidJob` with what is not done there.
  mutating func bindHead<Source: Flow>(
    _ flow: Source, for reason: String
  ) throws(JobError) -> (flow: Source, inputs: Set<Int>) {
    let (bound, scope) = try scoped(flow)
    guard workers == 1 || scope.level == 0 else {
      throw JobError(
        .invalidJob,
        "\(reason) behind an operator with keyed state or a shared stream: such a job runs on one worker")
    }
    return (bound, scope.inputs)
  }

  /// Binds two flows whose values go on together. Of different levels, the lower one's values wait in lanes of their own.
  @inlinable
  mutating func bindTogether<First: Flow, Second: Flow>(
    _ first: First, _ second: Second
  ) throws(JobError) -> Merge<First, Second> where First.Output == Second.Output {
    openChain()
    let (first, firstScope) = try scoped(first)
    let firstChain = closeChain()
    openChain()
    let (second, secondScope) = try scoped(second)
    let secondChain = closeChain()
    var merge = Merge(
      first, second, firstLanes: nil, secondLanes: nil, firstCount: firstChain.count, secondCount: secondChain.count)
    guard workers > 1, firstScope.level != secondScope.level else { return merge }
    if firstScope.level < secondScope.level {
      merge.firstLanes = try relay(first, level: firstScope.level, of: firstChain).reader()
    } else {
      merge.secondLanes = try relay(second, level: secondScope.level, of: secondChain).reader()
    }
    return merge
  }

  /// The lanes of a shared flow, which is bound with the first that reads it.
  @inlinable
  mutating func readSharedLanes<Source: Flow>(
    _ identity: SharedIdentity, _ flow: Source
  ) throws(JobError) -> LaneReader<Source.Output> {
    if let known = sharedLanes[ObjectIdentifier(identity)] {
      takeShared(identity)
      scope = scope.joined(known.scope)
      return unsafeDowncast(known.end, to: ExchangeEnd<Source.Output>.self).reader()
    }
    openChain()
    let (bound, found) = try scoped(flow)
    let end = try relay(bound, level: found.level, of: closeChain())
    keepShared(identity)
    var behind = found
    behind.level += 1
    sharedLanes[ObjectIdentifier(identity)] = (end, behind)
    return end.reader()
  }

  /// Has what `flow` hands on wait in a lane from each worker to itself.
  /// - Parameter chain: the one that ends with the flow.
  @inlinable
  mutating func relay<Source: Flow>(
    _ flow: Source, level: Int, of chain: ChainMeter
  ) throws(JobError) -> ExchangeEnd<Source.Output> {
    let end: ExchangeEnd<Source.Output> = try exchangeEnd(level: level)
    let worker = worker
    let count = chain.count
    addStage(
      BoundPipeline(
        begin: { end.begin() },
        process: { (run: InputRun) throws(JobError) in
          try flow.process(run, countedBy: count) { end.send($0, $1, to: worker, on: end.runs) }
          end.markRun()
        }, advance: { end.markTime(flow.advance(countedBy: count) { end.send($0, $1, to: worker, on: end.freed) }) },
        endStep: {
          flow.endStep(countedBy: count) { end.send($0, $1, to: worker, on: end.runs) }
          end.markRun()
        }), level: level, of: chain)
    return end
  }

  /// This worker's end of an exchange behind a flow of `level`.
  /// - Throws: `.invalidJob` when values of the type cannot go to another worker.
  @usableFromInline
  mutating func exchangeEnd<Value>(level: Int) throws(JobError) -> ExchangeEnd<Value> {
    let workers = workers
    return ExchangeEnd(
      shared { LaneMatrix<Value>(workers: workers) }, worker: worker, isHead: level == 0, keep: try keeper())
  }

  /// What makes values independent of memory that is lent; nil when they are anyhow.
  /// - Throws: `.invalidJob` for a type that cannot say how.
  func keeper<Value>() throws(JobError) -> ((Value, ExchangeArena) -> Value)? {
    guard let type = Value.self as? any ExchangeValue.Type else {
      throw JobError(
        .invalidJob,
        "a job of several workers hands values of the type \(Value.self) from one to another; that takes an ExchangeValue"
      )
    }
    guard type.needsKeeping else { return nil }
    // The one type of values that words and keys are made of most.
    if Value.self == BorrowedBytes.self {
      let keep = { (value: BorrowedBytes, arena: ExchangeArena) in value.kept(in: arena) }
      return keep as? (Value, ExchangeArena) -> Value
    }
    func opened<Kept: ExchangeValue>(_: Kept.Type) -> ((Value, ExchangeArena) -> Value)? {
      let keep = { (value: Kept, arena: ExchangeArena) in value.kept(in: arena) }
      return keep as? (Value, ExchangeArena) -> Value
    }
    guard let keep = opened(type) else { preconditionFailure("\(type) is another type than \(Value.self)") }
    return keep
  }
}
