// DataStream+Queues: message queues at the ends of a job, in the chain that users write.

import MillraceBase
import MillraceDataflow

extension DataStream where Source == RecordInput {
  /// The messages of a durable queue of the virtual host `/`, in the order in which it delivers them.
  ///
  /// Each leaves the queue in the commit of the step that it led to: what comes of it is there once, and a message that no commit
  /// settled is delivered again. Body and properties are value and headers, as of a topic that an exchange writes; a message
  /// that came through an exchange has its routing key as the key. Its time is when it entered the queue.
  /// Other consumers of the queue get other messages.
  public static func queue(_ name: String) -> DataStream<RecordInput> { DataStream(RecordInput(.queue(name))) }
}

extension DataStream {
  /// Puts a message into a durable queue of the virtual host `/` for each value, in the commit of the step that led to it: it
  /// may be consumed from then on, and is there once whatever happens.
  ///
  ///     alerts.to(queue: "mail") { OutputMessage(Bytes($0.text), priority: $0.isUrgent ? 9 : 0) }
  ///
  /// The queue's arguments hold as for any publication. A queue that is full and refuses publications holds the job back
  /// until it has room for the step's messages, or is empty.
  /// - Parameter message: makes the message of a value; called by the job's threads.
  public func to(
    queue: String, _ message: @escaping @Sendable (Source.Output) -> OutputMessage
  ) -> StreamOutput {
    StreamOutput(Pipeline(flow, into: QueueSink(queue: queue, message)))
  }

  /// Puts each value into a durable queue as the body of a message, with its key as the header `x-record-key`; see
  /// ``to(queue:_:)``.
  public func to<Key: BytesRepresentable, Value: BytesRepresentable>(queue: String) -> StreamOutput
  where Source.Output == Keyed<Key, Value> {
    StreamOutput(Pipeline(flow, into: QueueSink<Keyed<Key, Value>>(queue: queue)))
  }

  /// Puts the value of each window into a durable queue as the body of a message, with its key as the header `x-record-key`;
  /// see ``to(queue:_:)``.
  public func to<Key: BytesRepresentable, Value: BytesRepresentable>(queue: String) -> StreamOutput
  where Source.Output == Windowed<Key, Value> {
    StreamOutput(Pipeline(flow, into: QueueSink<Windowed<Key, Value>>(queue: queue)))
  }
}

extension DataStream where Source.Output: BytesRepresentable {
  /// Puts each value into a durable queue as the body of a message; see ``to(queue:_:)``.
  public func to(queue: String) -> StreamOutput {
    StreamOutput(Pipeline(flow, into: QueueSink<Source.Output>(queue: queue)))
  }
}

extension DataStream where Source.Output: TypedRecord {
  /// Puts the text of each struct into a durable queue as the body of a message; see ``to(queue:_:)``.
  public func to(queue: String, as format: TextFormat) -> StreamOutput {
    StreamOutput(Pipeline(flow, into: TextQueueSink<Source.Output>(queue: queue, format: format)))
  }
}

extension DataStream where Source.Output == InputRecord {
  /// Puts each record into a durable queue as a message with its value and headers, and its key as the header
  /// `x-record-key`; see ``to(queue:_:)``.
  public func to(queue: String) -> StreamOutput {
    StreamOutput(Pipeline(flow, into: QueueSink<InputRecord>(queue: queue)))
  }
}
