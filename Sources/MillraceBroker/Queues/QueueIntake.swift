// QueueIntake: a job's hold on a queue that it reads: what waits to be taken, and what was taken and is not settled.
//
//   settled … │ in steps on their way … │ taken … │ waiting …
//
// 1. Messages are numbered as the job takes them, from 1. A step settles all up to a number.
// 2. What a step settles stands in its append unit as done, and is done here once that is durable. Until then the queue
//    has it in flight with the job, and no time-out takes it back.
// 3. What is left when the run ends goes back to its place.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceModel
import MillraceRouting

/// A run's consumer of one queue. Belongs to the broker's reactor.
final class QueueIntake: DeliverySink {
  /// Most messages that are not settled, waiting ones included.
  private static let credit = 16_384
  /// Bytes that wait, beyond which the queue delivers no more for now.
  private static let mostWaitingBytes = 4 << 20
  /// Time that a step on its way keeps what it settles: longer than any takes.
  private static let held = Duration.seconds(365 * 86_400)

  let queue: String
  private unowned let queues: QueueBroker
  private let format: any MessageFormat
  private let onArrival: () -> Void
  private var consumer: HostedConsumer?
  private var waiting = Deque<Delivery>()
  private var waitingBytes = 0
  /// Taken and not known to be settled, in order.
  private var taken = Deque<(position: Position, size: Int64)>()
  /// Messages that are done, and those of steps on their way included.
  private var settledCount: UInt64 = 0
  private var enteredCount: UInt64 = 0
  private var failure: BrokerError?

  /// - Throws: 403 when the queue has an exclusive consumer.
  init(
    _ queue: String, of queues: QueueBroker, format: any MessageFormat, onArrival: @escaping () -> Void
  ) throws(RoutingError) {
    self.queue = queue
    self.queues = queues
    self.format = format
    self.onArrival = onArrival
    var options = ConsumerOptions()
    options.credit = QueueIntake.credit
    let consumer = try queues.consume(queue, in: Routing.defaultVirtualHost, owner: nil, options: options, sink: self)
    consumer.tag = "job"
    self.consumer = consumer as? HostedConsumer
  }

  var hasMessages: Bool { !waiting.isEmpty || failure != nil }

  // MARK: From the queue

  func deliver(_ delivery: Delivery, to consumer: QueueConsumer) {
    let isFirst = waiting.isEmpty
    waiting.append(delivery)
    waitingBytes += delivery.message.body.count
    if waitingBytes > QueueIntake.mostWaitingBytes { consumer.isPaused = true }
    if isFirst { onArrival() }
  }

  func ended(_ consumer: QueueConsumer, _ reason: QueueConsumer.EndReason) {
    failure =
      switch reason {
      case .queueDeleted: BrokerError(.unknownQueue, "queue \(queue) was deleted")
      case .timedOut: BrokerError(.queueTaken, "queue \(queue) took messages back that were not settled in time")
      }
    onArrival()
  }

  // MARK: To the job

  /// Takes the next messages: at least one, if there is any.
  func take(maxBytes: Int) throws(BrokerError) -> (bytes: Bytes, through: UInt64)? {
    if let failure { throw failure }
    guard !waiting.isEmpty else { return nil }
    var builder = RecordBatchBuilder()
    while builder.count == 0 || builder.size < maxBytes, let delivery = waiting.popFirst() {
      let message = delivery.message
      waitingBytes -= message.body.count
      taken.append((delivery.position, Int64(message.size)))
      builder.append(
        Record(
          key: message.exchange.isEmpty ? nil : Bytes(message.routingKey), value: message.body,
          headers: (queues.format(message.format) ?? format).recordHeaders(message.properties),
          timestamp: message.timestamp))
    }
    if waitingBytes <= QueueIntake.mostWaitingBytes / 2 { consumer?.isPaused = false }
    return (builder.finish(), settledCount + UInt64(taken.count))
  }

  /// Checks that the messages behind number `after` up to `through` are the next to be settled, and still the job's.
  func check(after: UInt64, through: UInt64) throws(BrokerError) {
    let count = settledCount + UInt64(taken.count)
    guard after == enteredCount, through > after, through <= count else {
      throw BrokerError(
        .invalidRequest,
        "messages \(after) to \(through) of queue \(queue) are settled, \(enteredCount) of \(count) taken ones are")
    }
    if let failure, failure.code == .queueTaken { throw failure }
  }

  /// Puts into a step's unit that the messages up to number `through` are done.
  func settle(through: UInt64, in unit: StagedUnit) {
    defer { enteredCount = through }
    guard let consumer, !consumer.hosted.isDeleted else { return }
    var offsets: [UInt8: (offsets: [Offset], bytes: Int64)] = [:]
    for index in Int(enteredCount - settledCount)..<Int(through - settledCount) {
      let (position, size) = taken[index]
      if consumer.timeout != nil {
        consumer.hosted.queue.renew(position, by: consumer.id, timeout: QueueIntake.held, now: queues.now)
      }
      offsets[position.lane, default: ([], 0)].offsets.append(position.offset)
      offsets[position.lane, default: ([], 0)].bytes += size
    }
    let changes = offsets.sorted { $0.key < $1.key }.map { lane, done in
      QueueChange.done(lane: lane, ranges: QueueIntake.ranges(done.offsets.sorted()), bytes: done.bytes)
    }
    unit.add(changes, consumer.hosted)
  }

  private static func ranges(_ offsets: [Offset]) -> [Range<Offset>] {
    var ranges: [Range<Offset>] = []
    for offset in offsets {
      if let last = ranges.last, last.upperBound == offset {
        ranges[ranges.count - 1] = last.lowerBound..<(offset + 1)
      } else {
        ranges.append(offset..<(offset + 1))
      }
    }
    return ranges
  }

  /// The unit that says so is durable.
  func settled(through: UInt64) {
    var positions: [Position] = []
    while settledCount < through, let (position, _) = taken.popFirst() {
      positions.append(position)
      settledCount += 1
    }
    guard let consumer, !consumer.hosted.isDeleted, !positions.isEmpty else { return }
    let hosted = consumer.hosted
    // What others did goes its own way, so that what comes now is what is durable already.
    if let commit = hosted.takeCommit(now: queues.exactNow) { queues.take(commit, of: hosted) }
    consumer.acknowledge(positions)
    _ = hosted.takeCommit(now: queues.exactNow)
  }

  /// Gives back what is not settled.
  func close() {
    waiting = Deque()
    waitingBytes = 0
    taken = Deque()
    consumer?.close(isFailure: false)
  }
}
