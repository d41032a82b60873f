// Pipeline: a flow with its sink; the one place where types are erased, once per batch.

import MillraceBase

/// Writes what a flow hands on.
public protocol RecordSink<Input>: Sendable {
  /// What it takes.
  associatedtype Input
  /// A copy registered with the job.
  /// - Throws: `.unknownTopic`.
  func bound(to graph: inout JobGraph) throws(JobError) -> Self
  /// Takes one value with its event time, `.none` for the step's.
  func receive(_ input: Input, _ time: Timestamp)
}

/// A flow and its sink, bound to one run of a job.
public struct BoundPipeline {
  /// Begins a round of batches; of stages that hand values to other workers.
  public let begin: () -> Void
  /// Runs one batch through. Called once per batch.
  public let process: (InputRun) throws(JobError) -> Void
  /// Lets event time take effect, as far as it has come.
  public let advance: () -> Void
  /// Ends the step.
  public let endStep: () -> Void

  /// A pipeline of its calls.
  @inlinable
  public init(
    begin: @escaping () -> Void = {}, process: @escaping (InputRun) throws(JobError) -> Void,
    advance: @escaping () -> Void, endStep: @escaping () -> Void
  ) {
    self.begin = begin
    self.process = process
    self.advance = advance
    self.endStep = endStep
  }
}

/// The description of a flow with its sink.
public struct Pipeline: Sendable {
  /// Makes the pipeline of one run.
  public let bind: @Sendable (inout JobGraph) throws(JobError) -> BoundPipeline
  /// The description itself, to be looked at.
  let flow: any Flow
  let sink: any RecordSink

  @usableFromInline
  init(
    _ flow: any Flow, _ sink: any RecordSink,
    bind: @escaping @Sendable (inout JobGraph) throws(JobError) -> BoundPipeline
  ) {
    self.flow = flow
    self.sink = sink
    self.bind = bind
  }

  /// `flow` into `sink`.
  ///
  /// Inlined where the types are known, so that the closures below are the whole pipeline, specialised.
  @inlinable
  public init<Source: Flow, Sink: RecordSink>(_ flow: Source, into sink: Sink) where Sink.Input == Source.Output {
    self.init(flow, sink) { (graph: inout JobGraph) throws(JobError) -> BoundPipeline in
      let (flow, sink, count) = try graph.bind(flow, into: sink)
      return BoundPipeline(
        process: { (run: InputRun) throws(JobError) in
          try flow.process(run, countedBy: count) { sink.receive($0, $1) }
        },
        advance: { _ = flow.advance(countedBy: count) { sink.receive($0, $1) } },
        endStep: { flow.endStep(countedBy: count) { sink.receive($0, $1) } })
    }
  }
}

/// A job: pipelines that commit together, under a name that owns their state and positions.
public struct JobDefinition: Sendable {
  /// Name of the job; names its state log.
  public let name: String
  /// What it does.
  public let pipelines: [Pipeline]

  /// The job `name`.
  public init(name: String, _ pipelines: [Pipeline]) {
    self.name = name
    self.pipelines = pipelines
  }
}
