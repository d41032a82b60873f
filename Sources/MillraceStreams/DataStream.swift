// DataStream: the typed front door to stream jobs: reads as a chain, compiles to one fused loop.

import MillraceBase
import MillraceDataflow

/// A stream under construction. A value; nothing runs until a job made of it is started.
///
///     let job = DataStream.topic("lines").flatMap(Words()).keyBy(\.self).count()
///       .to(topic: "counts").job(named: "word-count")
///
/// Values are lent to closures for the call only: a closure that keeps bytes must copy them.
public struct DataStream<Source: Flow>: Sendable {
  /// The operators so far.
  public let flow: Source

  /// A stream of what `flow` hands on.
  @inlinable
  public init(_ flow: Source) { self.flow = flow }
}

extension DataStream where Source == RecordInput {
  /// The records of all partitions of a topic, each partition in order.
  public static func topic(_ name: String) -> DataStream<RecordInput> { DataStream(RecordInput(.topic(name))) }

  /// The records of a source that is no topic; `name` owns its position in the job's state.
  public static func source(
    _ name: String, _ make: @escaping @Sendable () throws(JobError) -> any ReplayableSource
  ) -> DataStream<RecordInput> {
    DataStream(RecordInput(.source(name: name, make: make)))
  }
}

extension DataStream where Source.Output == InputRecord {
  /// Appends each record to a topic with its key, value and time; headers are left behind.
  @inlinable
  public func to(topic: String) -> StreamOutput { StreamOutput(Pipeline(flow, into: RecordTopicSink(topic: topic))) }
}

extension DataStream {
  /// One value for each value.
  @inlinable
  public func map<Output>(
    _ transform: @escaping @Sendable (Source.Output) -> Output
  ) -> DataStream<Map<Source, Output>> {
    DataStream<Map<Source, Output>>(Map(flow, transform))
  }

  /// Only the values for which `isIncluded` says true.
  @inlinable
  public func filter(_ isIncluded: @escaping @Sendable (Source.Output) -> Bool) -> DataStream<Filter<Source>> {
    DataStream<Filter<Source>>(Filter(flow, isIncluded))
  }

  /// Any number of values for each value, by a transform that fuses with the operators around it.
  @inlinable
  public func flatMap<Transform: FlatTransform>(
    _ transform: Transform
  ) -> DataStream<FlatMap<Source, Transform>> where Transform.Input == Source.Output {
    DataStream<FlatMap<Source, Transform>>(FlatMap(flow, transform))
  }

  /// Any number of values for each value, handed to the closure's second argument.
  @inlinable
  public func flatMap<Output>(
    _ transform: @escaping @Sendable (Source.Output, (Output) -> Void) -> Void
  ) -> DataStream<FlatMap<Source, FlatClosure<Source.Output, Output>>> {
    DataStream<FlatMap<Source, FlatClosure<Source.Output, Output>>>(FlatMap(flow, FlatClosure(transform)))
  }

  /// The same values with event times that a closure reads from them, instead of their records' times.
  ///
  /// - Parameters:
  ///   - watermarks: how far out of order they may be.
  ///   - name: owns what is known of the inputs' times in the job's state; give one when the job's code may change.
  @inlinable
  public func eventTime(
    _ watermarks: WatermarkStrategy = .monotonic, name: String? = nil,
    _ time: @escaping @Sendable (Source.Output) -> Timestamp
  ) -> DataStream<AssignTime<Source>> {
    DataStream<AssignTime<Source>>(AssignTime(flow, watermarks: watermarks, name: name, time: time))
  }

  /// The same values with event times that a closure reads from them, and watermarks that the values themselves say: a mark in the stream,
  /// the end of a file, a source that knows how far it is.
  ///
  /// - Parameters:
  ///   - idleness: after this time without records a partition that was read to its end holds event time up no longer; nil for never.
  ///   - name: owns what is known of the inputs' times in the job's state; give one when the job's code may change.
  ///   - mark: called with each value and its time: values of its partition that follow the batch and have an earlier time than this are
  ///     late; nil when the value does not say.
  @inlinable
  public func eventTime(
    idleness: Duration? = .seconds(5), name: String? = nil,
    watermark mark: @escaping @Sendable (Source.Output, Timestamp) -> Timestamp?,
    _ time: @escaping @Sendable (Source.Output) -> Timestamp
  ) -> DataStream<AssignTime<Source>> {
    DataStream<AssignTime<Source>>(
      AssignTime(
        flow, watermarks: .boundedOutOfOrderness(.zero, idleness: idleness), name: name, mark: mark, time: time))
  }

  /// The values of both streams. Event time is where the slower of the two is.
  @inlinable
  public func merge<Other: Flow>(_ other: DataStream<Other>) -> DataStream<Merge<Source, Other>>
  where Other.Output == Source.Output {
    DataStream<Merge<Source, Other>>(Merge(flow, other.flow))
  }

  /// The same values, by key.
  @inlinable
  public func keyBy<Key: StreamKey>(
    _ key: @escaping @Sendable (Source.Output) -> Key
  ) -> KeyedStream<Source, Key> {
    KeyedStream(flow, key)
  }

  /// Calls a closure for each value, before the step is committed: after a crash a value may come again.
  @inlinable
  public func forEach(_ call: @escaping @Sendable (Source.Output) -> Void) -> StreamOutput {
    StreamOutput(Pipeline(flow, into: CallSink(call)))
  }

  /// Prints each value on standard output; after a crash a value may come again.
  @inlinable
  public func print(_ describe: @escaping @Sendable (Source.Output) -> String) -> StreamOutput {
    forEach { Swift.print(describe($0)) }
  }
}

extension DataStream where Source.Output: BytesRepresentable {
  /// Appends each value to a topic as a record without key.
  @inlinable
  public func to(topic: String) -> StreamOutput {
    StreamOutput(Pipeline(flow, into: TopicSink<Source.Output>(topic: topic)))
  }
}

extension DataStream {
  /// Appends each key and value to a topic; the key decides the partition as in Kafka's default partitioner. The record's time
  /// is the newest event time that the step brought.
  @inlinable
  public func to<Key: BytesRepresentable, Value: BytesRepresentable>(topic: String) -> StreamOutput
  where Source.Output == Keyed<Key, Value> {
    StreamOutput(Pipeline(flow, into: KeyedTopicSink<Key, Value>(topic: topic)))
  }
}

extension DataStream {
  /// Appends the key and value of each window to a topic; the record's time is the last ms of the window.
  @inlinable
  public func to<Key: BytesRepresentable, Value: BytesRepresentable>(topic: String) -> StreamOutput
  where Source.Output == Windowed<Key, Value> {
    StreamOutput(Pipeline(flow, into: WindowedTopicSink<Key, Value>(topic: topic)))
  }
}

/// A stream whose values have keys.
public struct KeyedStream<Source: Flow, Key: StreamKey>: Sendable {
  /// The operators so far.
  public let flow: Source
  /// The key of a value.
  public let key: @Sendable (Source.Output) -> Key

  /// The values of `flow` by `key`.
  @inlinable
  public init(_ flow: Source, _ key: @escaping @Sendable (Source.Output) -> Key) {
    self.flow = flow
    self.key = key
  }

  /// The number of values of each key so far. A step hands on each key it changed once, with its last count.
  ///
  /// - Parameter name: owns the counts in the job's state; give one when the job's code may change.
  @inlinable
  public func count(
    name: String? = nil
  ) -> DataStream<KeyedAggregate<Source, Key, Counting<Source.Output>>> {
    aggregate(Counting(), kind: "count", name: name)
  }

  /// The sum of a number over the values of each key so far; handed on like ``count(name:)``.
  @inlinable
  public func sum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<KeyedAggregate<Source, Key, Summing<Source.Output>>> {
    aggregate(Summing(number), kind: "sum", name: name)
  }

  /// Calls a function of one's own for each value of a key, with state of the key and timers in event time.
  ///
  ///     // Says which users are silent for an hour.
  ///     clicks.keyBy { $0.user }.process(state: Int64.self, name: "silence") { click, context, emit in
  ///       if let last = context.state { context.cancelTimer(at: Timestamp(milliseconds: last + 3_600_000)) }
  ///       context.state = context.time.milliseconds
  ///       context.setTimer(at: Timestamp(milliseconds: context.time.milliseconds + 3_600_000))
  ///     } onTimer: { context, emit in
  ///       context.state = nil
  ///       emit(context.key)
  ///     }
  ///
  /// - Parameters:
  ///   - state: the type of a key's state.
  ///   - name: owns state and timers in the job's state; give one when the job's code may change.
  @inlinable
  public func process<State: StateCodable, Output>(
    state: State.Type, name: String? = nil,
    onValue: @escaping @Sendable (Source.Output, ProcessContext<Key, State>, (Output) -> Void) -> Void,
    onTimer: @escaping @Sendable (ProcessContext<Key, State>, (Output) -> Void) -> Void = { _, _ in }
  ) -> DataStream<KeyedProcess<Source, Key, State, Output>> {
    DataStream<KeyedProcess<Source, Key, State, Output>>(
      KeyedProcess(flow, key: key, name: name, onValue: onValue, onTimer: onTimer))
  }

  /// The state of each key as `fold` changes it; handed on like ``count(name:)``.
  @inlinable
  public func aggregate<Fold: Aggregation>(
    _ fold: Fold, kind: String = "aggregate", name: String? = nil
  ) -> DataStream<KeyedAggregate<Source, Key, Fold>> where Fold.Input == Source.Output {
    DataStream<KeyedAggregate<Source, Key, Fold>>(KeyedAggregate(flow, key: key, fold: fold, kind: kind, name: name))
  }

  /// The state of each key as `fold` changes it, of any size; handed on like ``count(name:)``.
  @inlinable
  public func aggregate<Fold: WideAggregation>(
    _ fold: Fold, kind: String = "aggregate", name: String? = nil
  ) -> DataStream<Map<KeyedAggregate<Source, Key, Boxing<Fold>>, Keyed<Key, Fold.State>>>
  where Fold.Input == Source.Output {
    aggregate(Boxing(fold), kind: kind, name: name).map { Keyed(key: $0.key, value: $0.value.content) }
  }

  /// The average of a number over the values of each key so far; handed on like ``count(name:)``.
  @inlinable
  public func average(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<Map<KeyedAggregate<Source, Key, Boxing<Averaging<Source.Output>>>, Keyed<Key, AverageState>>> {
    aggregate(Averaging(number), kind: "average", name: name)
  }
}

/// A stream with its end, ready to become a job.
public struct StreamOutput: Sendable {
  /// The stream.
  public let pipeline: Pipeline

  /// The end of `pipeline`.
  @inlinable
  public init(_ pipeline: Pipeline) { self.pipeline = pipeline }

  /// A job of this one stream. The name owns state and positions.
  public func job(named name: String) -> JobDefinition { JobDefinition(name: name, [pipeline]) }

  /// A job of several streams, which commit together.
  public static func job(named name: String, _ outputs: [StreamOutput]) -> JobDefinition {
    JobDefinition(name: name, outputs.map(\.pipeline))
  }
}
