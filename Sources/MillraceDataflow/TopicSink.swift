// TopicSink and CallSink: where values leave a job: as records of a topic, or into a closure.

import MillraceBase

/// A topic that a sink writes, registered with one run of a job.
@usableFromInline
struct SinkTopic: Sendable {
  @usableFromInline let name: String
  @usableFromInline let index: Int
  @usableFromInline let output: StepOutput?

  /// A topic that is not registered yet.
  @usableFromInline
  init(_ name: String) { self.init(name, index: -1, output: nil) }

  private init(_ name: String, index: Int, output: StepOutput?) {
    self.name = name
    self.index = index
    self.output = output
  }

  @usableFromInline
  func bound(to graph: inout JobGraph) throws(JobError) -> SinkTopic {
    SinkTopic(name, index: try graph.addSink(topic: name), output: graph.output)
  }

  /// The output of the step; a sink that is not bound to a job has none.
  @inlinable @inline(__always)
  var stepOutput: StepOutput {
    guard let output else { preconditionFailure("the sink into \(name) is not bound to a job") }
    return output
  }
}

/// Appends a record with key and value to a topic for each keyed value.
public struct KeyedTopicSink<Key: BytesRepresentable, Value: BytesRepresentable>: RecordSink {
  @usableFromInline let topic: SinkTopic

  @usableFromInline
  init(_ topic: SinkTopic) { self.topic = topic }

  /// A sink into `topic`.
  @inlinable public init(topic: String) { self.init(SinkTopic(topic)) }

  /// Registers the topic.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self { Self(try topic.bound(to: &graph)) }

  /// Adds a record to the step's output.
  @inlinable
  public func receive(_ input: Keyed<Key, Value>, _ time: Timestamp) {
    let output = topic.stepOutput
    input.key.withBytes { key in
      input.value.withBytes { value in output.emit(topic.index, key: key, value: value, timestamp: time) }
    }
  }
}

/// Appends a record with key and value to a topic for each value of a window; its time is the window's last ms.
public struct WindowedTopicSink<Key: BytesRepresentable, Value: BytesRepresentable>: RecordSink {
  @usableFromInline let sink: KeyedTopicSink<Key, Value>
  @usableFromInline
  init(_ sink: KeyedTopicSink<Key, Value>) { self.sink = sink }
  /// A sink into `topic`.
  @inlinable public init(topic: String) { self.init(KeyedTopicSink(topic: topic)) }
  /// Registers the topic.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self { Self(try sink.bound(to: &graph)) }
  /// Adds a record to the step's output.
  @inlinable
  public func receive(_ input: Windowed<Key, Value>, _ time: Timestamp) {
    sink.receive(Keyed(key: input.key, value: input.value), time)
  }
}

/// Appends a record without key to a topic for each value.
public struct TopicSink<Value: BytesRepresentable>: RecordSink {
  @usableFromInline let topic: SinkTopic

  @usableFromInline
  init(_ topic: SinkTopic) { self.topic = topic }

  /// A sink into `topic`.
  @inlinable public init(topic: String) { self.init(SinkTopic(topic)) }

  /// Registers the topic.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self { Self(try topic.bound(to: &graph)) }

  /// Adds a record to the step's output.
  @inlinable
  public func receive(_ input: Value, _ time: Timestamp) {
    let output = topic.stepOutput
    input.withBytes { output.emit(topic.index, key: nil, value: $0, timestamp: time) }
  }
}

/// Appends each input record to a topic with its key, value and time; headers are left behind.
public struct RecordTopicSink: RecordSink {
  let topic: SinkTopic

  private init(_ topic: SinkTopic) { self.topic = topic }

  /// A sink into `topic`.
  public init(topic: String) { self.init(SinkTopic(topic)) }

  /// Registers the topic.
  public func bound(to graph: inout JobGraph) throws(JobError) -> RecordTopicSink {
    RecordTopicSink(try topic.bound(to: &graph))
  }

  /// Adds the record to the step's output.
  public func receive(_ input: InputRecord, _ time: Timestamp) {
    topic.stepOutput.emit(
      topic.index, key: input.keyBuffer.baseAddress == nil ? nil : input.keyBuffer,
      value: input.valueBuffer.baseAddress == nil ? nil : input.valueBuffer, timestamp: input.timestamp)
  }
}

/// Calls a closure for each value, before the step is committed: a value may be seen again after a crash.
public struct CallSink<Input>: RecordSink {
  @usableFromInline let call: @Sendable (Input) -> Void

  /// Calls `call` on the job's worker thread.
  @inlinable public init(_ call: @escaping @Sendable (Input) -> Void) { self.call = call }
  /// Needs nothing.
  @inlinable public func bound(to graph: inout JobGraph) throws(JobError) -> Self { self }
  /// Calls the closure.
  @inlinable public func receive(_ input: Input, _ time: Timestamp) { call(input) }
}
