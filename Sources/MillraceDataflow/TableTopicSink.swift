// TableTopicSink: a table as a topic: the newest record of each key says what it has.

import MillraceBase

/// Appends a record with key and value to a topic for each update of a table, without a value when the key is gone.
public struct TableTopicSink<Key: BytesRepresentable, Value: BytesRepresentable>: RecordSink {
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
  public func receive(_ input: TableUpdate<Key, Value>, _ time: Timestamp) {
    let output = topic.stepOutput
    input.key.withBytes { key in
      guard let new = input.new else { return output.emit(topic.index, key: key, value: nil, timestamp: time) }
      new.withBytes { output.emit(topic.index, key: key, value: $0, timestamp: time) }
    }
  }
}
