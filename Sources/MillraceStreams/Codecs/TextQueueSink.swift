// TextQueueSink: a user's structs as text in the messages of a queue.

import MillraceBase
import MillraceDataflow

/// Puts a message into a durable queue for each struct, with its text as the body.
public struct TextQueueSink<Record: TypedRecord>: RecordSink {
  private let format: TextFormat
  private var sink: QueueSink<OutputMessage>
  private var encoder: RecordEncoder<Record>?

  /// A sink into the queue `queue` of the virtual host `/`.
  public init(queue: String, format: TextFormat) {
    self.format = format
    sink = QueueSink(queue: queue) { $0 }
  }

  /// Registers the queue.
  /// - Throws: `.unknownQueue`; `.invalidJob` when the format cannot hold such records.
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    var bound = self
    bound.sink = try sink.bound(to: &graph)
    bound.encoder = try RecordEncoder(format)
    return bound
  }

  /// Adds a message to the step's output.
  public func receive(_ input: Record, _ time: Timestamp) {
    guard let encoder else { preconditionFailure("a sink into a queue is not bound to a job") }
    encoder.withText(of: input) { text in
      var message = OutputMessage(Bytes(copying: text))
      message.contentType = format.isJSON ? "application/json" : "text/csv"
      sink.receive(message, time)
    }
  }
}
