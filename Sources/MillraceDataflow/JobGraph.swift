// JobGraph: the inputs, states and sinks of one run of a job, as its operators register them.

import MillraceBase

/// Where a job reads.
public enum JobInput: Sendable {
  /// All partitions of a topic.
  case topic(String)
  /// A durable message queue, whose messages leave it with the commit of what they led to.
  case queue(String)
  /// A source under a name that stays the same for the job's life; the closure makes it for one run.
  case source(name: String, make: @Sendable () throws(JobError) -> any ReplayableSource)

  /// Name of the topic, the queue or the source.
  var name: String {
    switch self {
    case .topic(let name), .queue(let name): name
    case .source(let name, _): name
    }
  }

  /// Its name in the state log.
  var positionName: String {
    switch self {
    case .topic(let name): "topic:" + name
    case .queue(let name): "queue:" + name
    case .source(let name, _): "source:" + name
    }
  }
}

/// Collects what the operators of one run need from the runtime.
public struct JobGraph {
  /// The inputs, in order of registration.
  public private(set) var inputs: [JobInput] = []
  /// The operators' states.
  private(set) var states: [any OperatorState] = []
  /// What takes part in commits.
  var participants: [ParticipantState] = []
  /// The event times of the inputs, and of operators that assign others.
  private(set) var clocks: [EventClock] = []
  private var inputClocks: [Int: EventClock] = [:]
  private var lateCounts: [() -> UInt64] = []
  private var failedCounts: [() -> UInt64] = []
  /// An operator needs to know how far event time has come.
  public private(set) var usesEventTime = false
  /// A clock follows the one on the wall.
  private(set) var usesProcessingTime = false
  /// Where sinks put their records.
  public let output: StepOutput
  /// The worker whose copy of the job this is, from 0.
  public let worker: Int
  /// What is before the flow that is being bound.
  @usableFromInline var scope = Scope()
  /// What the workers of the job share.
  let team: SharedParts
  private var partsTaken = 0
  /// The record that is being run, for operators that want to know it.
  let current = CurrentRecord()
  /// What stopped the run where nothing can be thrown.
  @usableFromInline let failure = RunFailure()
  /// What the executor calls, each by its level: what lies before an exchange is a stage, and so is what lies before a sink.
  private(set) var stages: [[BoundPipeline]] = []
  /// A sink takes what comes from batches without an exchange in between.
  private(set) var hasHeadSinks = false
  /// What the worker prepares for others, by the level of its stage.
  private(set) var preparations: [(level: Int, changedSize: () -> Int)] = []
  /// The clocks of operators that assign times.
  private(set) var assignedClocks: [EventClock] = []
  /// Shared flows by their identity, and those that the pipeline reads which is being bound.
  private var sharedFlows: [ObjectIdentifier: SharedHead] = [:]
  private var readSharedFlows: [SharedHead] = []
  private var sharedFlowCount: Int32 = 0
  /// What is counted, between which places of the job.
  var chains = ChainList()
  /// Of several workers: the lanes of shared flows, with what lies before them.
  @usableFromInline var sharedLanes: [ObjectIdentifier: (end: AnyObject, scope: Scope)] = [:]
  private var names: [UInt16: String] = [:]
  private var unnamed: [String: Int] = [:]
  /// Operators that wait for something outside of the job.
  private(set) var outsideWork: [any OutsideWork] = []
  /// How they reach it.
  let outside: OutsideAccess
  private let partitionCount: (String) throws(JobError) -> Int
  private let checkQueue: (String) throws(JobError) -> Void

  init(
    worker: Int = 0, of team: SharedParts = SharedParts(workers: 1), outside: OutsideAccess = OutsideAccess(),
    partitionCount: @escaping (String) throws(JobError) -> Int, checkQueue: @escaping (String) throws(JobError) -> Void
  ) {
    self.worker = worker
    self.team = team
    self.outside = outside
    self.partitionCount = partitionCount
    self.checkQueue = checkQueue
    output = StepOutput()
  }

  /// Registers an input; an input of the same name is shared.
  /// - Returns: its index, as ``InputRun/input`` says it.
  public mutating func addInput(_ input: JobInput) -> Int {
    let index = inputs.firstIndex { $0.positionName == input.positionName } ?? inputs.count
    if index == inputs.count { inputs.append(input) }
    scope.inputs.insert(index)
    chains.current?.input = index
    scope.isUnkeyed = true
    return index
  }

  /// Binds a pipeline, behind those whose values it takes.
  @usableFromInline
  mutating func addPipeline(
    _ bind: (inout JobGraph) throws(JobError) -> BoundPipeline
  ) throws(JobError) {
    let (outer, outerScope) = (readSharedFlows, scope)
    readSharedFlows = []
    scope = Scope()
    let pipeline = try bind(&self)
    for head in readSharedFlows { head.takers.append(pipeline.process) }
    readSharedFlows = outer
    if scope.isUnkeyed { hasHeadSinks = true }
    addStage(pipeline, level: scope.level, of: chains.all.last)
    scope = outerScope
  }

  /// Notes that the pipeline which is being bound reads a shared flow, which is bound with the first that does.
  /// - Parameters:
  ///   - identity: of the shared flow.
  ///   - make: binds it as a pipeline of its own, under the number that its values come with.
  @usableFromInline
  mutating func readSharedFlow<Head: SharedHead>(
    _ identity: SharedIdentity, _ make: (inout JobGraph, Int32) throws(JobError) -> Head
  ) throws(JobError) -> Head {
    let head: Head
    if let known = sharedFlows[ObjectIdentifier(identity)] {
      takeShared(identity)
      head = unsafeDowncast(known, to: Head.self)
    } else {
      // Counted before, because it may have others before it.
      sharedFlowCount += 1
      head = try make(&self, sharedFlowCount)
      keepShared(identity)
      sharedFlows[ObjectIdentifier(identity)] = head
    }
    scope.inputs.formUnion(head.inputs)
    if !readSharedFlows.contains(where: { $0 === head }) { readSharedFlows.append(head) }
    return head
  }

  /// The state of an operator.
  ///
  /// The operator's number in the state log comes from its name. Without a name it is `kind` and a running number among
  /// those of its kind: name operators that must find their state again after the job was changed.
  /// - Throws: `.invalidJob` when another operator has the name, or its number.
  /// - Parameter codec: of values that take more than 64 bits.
  public mutating func addTable(
    kind: String, name: String?, codec: (any StateCodec)? = nil
  ) throws(JobError) -> KeyedTable {
    let largeTable = team.largeTable
    return try addState(kind: kind, name: name) {
      KeyedTable(
        operatorID: $0, kind: codec == nil ? StateRecordKind.keyedValue : StateRecordKind.encodedValue, scope: [],
        codec: codec, largeSlots: largeTable)
    }
  }

  /// State of an operator, whatever its shape; for `kind` and `name` see ``addTable(kind:name:codec:)``.
  /// - Parameter make: makes it for the operator's number.
  mutating func addState<State: OperatorState>(
    kind: String, name: String?, _ make: (UInt16) -> State
  ) throws(JobError) -> State {
    let state = make(try number(kind: kind, name: name))
    states.append(state)
    chains.current?.states.append(state)
    return state
  }

  private mutating func number(kind: String, name: String?) throws(JobError) -> UInt16 {
    let ordinal = unnamed[kind, default: 0] + 1
    if name == nil { unnamed[kind] = ordinal }
    let full = name ?? "\(kind)-\(ordinal)"
    let id = JobGraph.operatorID(full)
    if let other = names[id] {
      throw JobError(
        .invalidJob,
        other == full
          ? "two operators are named \"\(full)\""
          : "the operators \"\(other)\" and \"\(full)\" share the number \(id); name one of them otherwise")
    }
    names[id] = full
    return id
  }

  /// Registers an operator that may meet late values, and counts them.
  mutating func addLateCount(_ count: @escaping () -> UInt64) {
    lateCounts.append(count)
    chains.current?.lateCounts.append(count)
  }

  /// Values that were too late, over all operators of the run.
  var lateCount: UInt64 { lateCounts.reduce(0) { $0 + $1() } }

  /// Registers an operator whose function may fail, and counts the values for which it did.
  mutating func addFailedCount(_ count: @escaping () -> UInt64) {
    failedCounts.append(count)
    chains.current?.failedCounts.append(count)
  }

  /// Values for which functions failed, over all operators of the run.
  var failedCount: UInt64 { failedCounts.reduce(0) { $0 + $1() } }

  /// Registers an operator that waits for something outside of the job: it is asked between steps.
  mutating func addOutsideWork(_ work: any OutsideWork) { outsideWork.append(work) }

  /// Says that an operator needs to know how far event time has come: ``Flow/advance(_:)`` is called then.
  public mutating func needEventTime() { usesEventTime = true }

  /// The event time of an input by its records' own times: none of them is expected to be out of order.
  mutating func inputClock(_ input: Int) throws(JobError) -> EventClock {
    if let known = inputClocks[input] {
      chains.current?.clock = known
      return known
    }
    let clock = EventClock(
      .monotonic, inputs: [input],
      table: try addTable(kind: "time", name: "time:" + inputs[input].positionName))
    inputClocks[input] = clock
    clocks.append(clock)
    chains.current?.clock = clock
    return clock
  }

  /// The event time behind an operator that assigns times to what comes from `inputs`.
  mutating func addClock(_ strategy: WatermarkStrategy, inputs: Set<Int>, name: String?) throws(JobError) -> EventClock
  {
    let clock = EventClock(
      strategy, inputs: inputs, table: try addTable(kind: "time", name: name),
      notes: workers > 1 ? shared { TimeNotes() } : nil)
    clocks.append(clock)
    assignedClocks.append(clock)
    chains.current?.clock = clock
    return clock
  }

  /// The part of the job that all its workers share: the first one that is bound makes it, the others find it in the same place.
  mutating func shared<Part: AnyObject & Sendable>(_ make: () -> Part) -> Part {
    defer { partsTaken += 1 }
    if partsTaken == team.parts.count { team.parts.append(make()) }
    guard let part = team.parts[partsTaken] as? Part else {
      preconditionFailure("the workers of a job were bound differently")
    }
    return part
  }

  /// Adds a part of a flow that ends at `level`.
  /// - Parameter chain: whose end it has, which lies before the flow that is being bound.
  @usableFromInline
  mutating func addStage(_ stage: BoundPipeline, level: Int, of chain: ChainMeter?) {
    while stages.count <= level { stages.append([]) }
    chain?.addStage(level: level, index: stages[level].count)
    stages[level].append(stage)
    scope.level = max(scope.level, level + 1)
  }

  /// States that the worker prepares of its own values, in a stage of `level`.
  @usableFromInline
  mutating func prepareStates(level: Int, codec: (any StateCodec)?) throws(JobError) -> PreparedStates {
    let states = PreparedStates(try exchangeEnd(level: level), codec: codec)
    preparations.append((level, { states.changedSize }))
    return states
  }

  /// States that the worker prepares of its own values in windows, in a stage of `level`.
  @usableFromInline
  mutating func prepareSlices(
    _ end: ExchangeEnd<PreparedState>, of store: SliceWindowStore, level: Int, codec: (any StateCodec)?
  ) -> PreparedSlices {
    let slices = PreparedSlices(end, store.windows, codec: codec)
    preparations.append((level, { slices.changedSize }))
    return slices
  }

  /// Takes in what a batch that was run tells of its input's own time, and, of several workers, what they noted of it.
  func observe(_ run: InputRun) {
    if workers > 1 { for clock in assignedClocks { clock.takeNote(run) } }
    inputClocks[run.input]?.observe(run, newest: run.header.maxTimestamp)
  }

  /// A clock that follows the one on the wall.
  mutating func addProcessingClock(name: String?) throws(JobError) -> EventClock {
    let clock = EventClock(
      .monotonic, inputs: [], table: try addTable(kind: "processing-time", name: name), isOfProcessing: true)
    clocks.append(clock)
    chains.current?.clock = clock
    usesProcessingTime = true
    return clock
  }

  /// Registers a topic that is written.
  /// - Returns: the sink's index for ``StepOutput/emit(_:key:value:timestamp:)``.
  /// - Throws: `.unknownTopic`.
  public mutating func addSink(topic: String) throws(JobError) -> Int {
    let sink = output.addSink(topic: topic, partitions: try partitionCount(topic))
    chains.current?.sinks.append(sink)
    return sink
  }

  /// Registers a message queue that is written.
  /// - Returns: the sink's index for ``StepOutput``.
  /// - Throws: `.unknownQueue`.
  public mutating func addSink(queue: String) throws(JobError) -> Int {
    try checkQueue(queue)
    return output.addSink(queue: queue)
  }

  /// The number of the operator named `name`: 1 to 65,535, from the stable hash. Part of the state log's format.
  public static func operatorID(_ name: String) -> UInt16 {
    let hash = Bytes(name).withBuffer { Hashing.stable($0) }
    return UInt16(hash % 65_535) + 1
  }
}

/// The first error of a run that came up where nothing can be thrown: the executor looks at it before anything is committed.
///
/// Safety: `@unchecked Sendable` because it is used by the job's worker thread only.
@usableFromInline
final class RunFailure: @unchecked Sendable {
  @usableFromInline private(set) var error: JobError?

  /// Notes an error, unless there was one before.
  @usableFromInline
  func note(_ error: JobError) { if self.error == nil { self.error = error } }

  /// Throws what was noted.
  func check() throws(JobError) { if let error { throw error } }
}
