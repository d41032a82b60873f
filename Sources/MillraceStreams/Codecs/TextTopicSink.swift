// TextTopicSink: a user's structs as text in the records of a topic.

import MillraceBase
import MillraceDataflow

/// A topic that structs are written to, bound to one run of a job.
@usableFromInline
struct TextTopic<Record: TypedRecord>: Sendable {
  let topic: String
  let format: TextFormat
  var index = -1
  var output: StepOutput?
  var encoder: RecordEncoder<Record>?

  init(_ topic: String, _ format: TextFormat) {
    self.topic = topic
    self.format = format
  }

  func bound(to graph: inout JobGraph) throws(JobError) -> TextTopic {
    var bound = TextTopic(topic, format)
    bound.index = try graph.addSink(topic: topic)
    bound.output = graph.output
    bound.encoder = try RecordEncoder(format)
    return bound
  }

  func emit(_ record: Record, key: UnsafeRawBufferPointer?, _ time: Timestamp) {
    guard let output, let encoder else { preconditionFailure("the sink into \(topic) is not bound to a job") }
    encoder.withText(of: record) { output.emit(index, key: key, value: $0, timestamp: time) }
  }
}

/// Appends a record without key to a topic for each struct, with its text as the value.
public struct TextTopicSink<Record: TypedRecord>: RecordSink {
  private let topic: TextTopic<Record>

  private init(_ topic: TextTopic<Record>) { self.topic = topic }

  /// A sink into `topic`.
  public init(topic: String, format: TextFormat) { self.init(TextTopic(topic, format)) }

  /// Registers the topic.
  /// - Throws: `.unknownTopic`; `.invalidJob` when the format cannot hold such records.
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self { Self(try topic.bound(to: &graph)) }

  /// Adds a record to the step's output.
  public func receive(_ input: Record, _ time: Timestamp) { topic.emit(input, key: nil, time) }
}

/// Appends a record to a topic for each struct with a key, with the struct's text as the value.
public struct KeyedTextTopicSink<Key: BytesRepresentable, Record: TypedRecord>: RecordSink {
  private let topic: TextTopic<Record>

  private init(_ topic: TextTopic<Record>) { self.topic = topic }

  /// A sink into `topic`.
  public init(topic: String, format: TextFormat) { self.init(TextTopic(topic, format)) }

  /// Registers the topic.
  /// - Throws: `.unknownTopic`; `.invalidJob` when the format cannot hold such records.
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self { Self(try topic.bound(to: &graph)) }

  /// Adds a record to the step's output.
  public func receive(_ input: Keyed<Key, Record>, _ time: Timestamp) {
    input.key.withBytes { topic.emit(input.value, key: $0, time) }
  }
}
