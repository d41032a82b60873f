// QueueSink: where values leave a job as messages of a queue.

import MillraceBase

/// Puts a message into a durable queue for each value, in the commit of the step that led to it.
public struct QueueSink<Input>: RecordSink {
  private let name: String
  private let message: @Sendable (Input) -> OutputMessage
  private var index = -1
  private var output: StepOutput?

  /// A sink into the queue `queue` of the virtual host `/`.
  /// - Parameter message: makes the message of a value, on the job's worker thread.
  public init(queue: String, _ message: @escaping @Sendable (Input) -> OutputMessage) {
    name = queue
    self.message = message
  }

  /// Registers the queue.
  /// - Throws: `.unknownQueue`.
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    var bound = self
    bound.index = try graph.addSink(queue: name)
    bound.output = graph.output
    return bound
  }

  /// Adds a message to the step's output.
  public func receive(_ input: Input, _ time: Timestamp) {
    guard let output else { preconditionFailure("the sink into the queue \(name) is not bound to a job") }
    output.emit(index, message(input).record(at: time))
  }
}

extension QueueSink where Input: BytesRepresentable {
  /// A sink of messages whose bodies are the values.
  public init(queue: String) { self.init(queue: queue) { OutputMessage($0, key: nil as BorrowedBytes?) } }
}

extension QueueSink {
  /// A sink of messages whose bodies are the values; keys are the header ``OutputMessage/keyHeader``.
  public init<Key: BytesRepresentable, Value: BytesRepresentable>(queue: String) where Input == Keyed<Key, Value> {
    self.init(queue: queue) { OutputMessage($0.value, key: $0.key) }
  }

  /// A sink of messages whose bodies are the values of windows; keys are the header ``OutputMessage/keyHeader``.
  public init<Key: BytesRepresentable, Value: BytesRepresentable>(queue: String) where Input == Windowed<Key, Value> {
    self.init(queue: queue) { OutputMessage($0.value, key: $0.key) }
  }
}

extension QueueSink where Input == InputRecord {
  /// A sink of messages with the values and headers of records; keys are the header ``OutputMessage/keyHeader``.
  public init(queue: String) { self.init(queue: queue) { OutputMessage($0) } }
}
