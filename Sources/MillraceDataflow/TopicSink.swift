// TopicSink and CallSink: where values leave a job: as records of a topic, or into a closure.

import MillraceBase

/// Appends a record with key and value to a topic for each keyed value.
public struct KeyedTopicSink<Key: BytesRepresentable, Value: BytesRepresentable>: RecordSink {
  @usableFromInline let topic: String
  @usableFromInline let index: Int
  @usableFromInline let output: StepOutput?

  @usableFromInline
  init(topic: String, index: Int, output: StepOutput?) {
    self.topic = topic
    self.index = index
    self.output = output
  }

  /// A sink into `topic`.
  @inlinable public init(topic: String) { self.init(topic: topic, index: -1, output: nil) }

  /// Registers the topic.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    Self(topic: topic, index: try graph.addSink(topic: topic), output: graph.output)
  }

  /// Adds a record to the step's output.
  @inlinable
  public func receive(_ input: Keyed<Key, Value>) {
    guard let output else { preconditionFailure("the sink into \(topic) is not bound to a job") }
    input.key.withBytes { key in input.value.withBytes { value in output.emit(index, key: key, value: value) } }
  }
}

/// Appends a record without key to a topic for each value.
public struct TopicSink<Value: BytesRepresentable>: RecordSink {
  @usableFromInline let topic: String
  @usableFromInline let index: Int
  @usableFromInline let output: StepOutput?

  @usableFromInline
  init(topic: String, index: Int, output: StepOutput?) {
    self.topic = topic
    self.index = index
    self.output = output
  }

  /// A sink into `topic`.
  @inlinable public init(topic: String) { self.init(topic: topic, index: -1, output: nil) }

  /// Registers the topic.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    Self(topic: topic, index: try graph.addSink(topic: topic), output: graph.output)
  }

  /// Adds a record to the step's output.
  @inlinable
  public func receive(_ input: Value) {
    guard let output else { preconditionFailure("the sink into \(topic) is not bound to a job") }
    input.withBytes { output.emit(index, key: nil, value: $0) }
  }
}

/// Appends each input record to a topic with its key, value and time; headers are left behind.
public struct RecordTopicSink: RecordSink {
  let topic: String
  let index: Int
  let output: StepOutput?

  /// A sink into `topic`.
  public init(topic: String) {
    self.topic = topic
    index = -1
    output = nil
  }

  private init(topic: String, index: Int, output: StepOutput) {
    self.topic = topic
    self.index = index
    self.output = output
  }

  /// Registers the topic.
  public func bound(to graph: inout JobGraph) throws(JobError) -> RecordTopicSink {
    RecordTopicSink(topic: topic, index: try graph.addSink(topic: topic), output: graph.output)
  }

  /// Adds the record to the step's output.
  public func receive(_ input: InputRecord) {
    guard let output else { preconditionFailure("the sink into \(topic) is not bound to a job") }
    output.emit(
      index, key: input.keyBuffer.baseAddress == nil ? nil : input.keyBuffer,
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
  @inlinable public func receive(_ input: Input) { call(input) }
}
