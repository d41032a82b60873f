// StreamConsumer: a reader of a topic that looks like a consumer of a queue: nothing is taken away by reading.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceMetadata
import MillraceModel
import MillraceRouting

/// Where a reader of a stream begins. Source: RabbitMQ, consumer argument `x-stream-offset`.
public enum StreamStart: Equatable, Sendable {
  /// The oldest record.
  case first
  /// The newest record that is there.
  case last
  /// The next record that comes.
  case next
  /// The record with this offset, or the first behind it that is there.
  case offset(Offset)
  /// The first record at or after this time.
  case time(Timestamp)
}

/// Which records of a stream a reader wants. Source: RabbitMQ, consumer arguments `x-stream-filter` and
/// `x-stream-match-unfiltered`, message header `x-stream-filter-value`.
public struct StreamFilter: Equatable, Sendable {
  /// The header that holds a record's value.
  static let header = "x-stream-filter-value"

  /// Values that are wanted.
  public var values: [String]
  /// Records without a value are wanted, too.
  public var matchesUnfiltered: Bool

  /// A filter that takes these values.
  public init(values: [String], matchesUnfiltered: Bool = false) {
    self.values = values
    self.matchesUnfiltered = matchesUnfiltered
  }

  /// Exact, other than RabbitMQ's, which may let others through.
  func takes(_ record: Record) -> Bool {
    guard let header = record.headers.last(where: { $0.key == StreamFilter.header }), let value = header.value else {
      return matchesUnfiltered
    }
    return value.withBuffer { bytes in values.contains { $0.utf8.elementsEqual(bytes) } }
  }
}

/// A consumer that reads all partitions of a topic. A delivery's lane is the partition, its offset the record's.
///
/// Settling a delivery, however, gives its credit back and does nothing else.
final class StreamConsumer: QueueConsumer {
  private let topic: TopicMetadata
  private let format: any MessageFormat
  private let filter: StreamFilter?
  private var credit: Int
  private var next: [Offset]
  private var isPositioned: Bool
  private var inFlight: Set<Position> = []
  private var buffer = Deque<(position: Position, message: Message)>()
  private var wait: FetchWait?
  private var isFetching = false
  private var firstPartition = -1
  private(set) var isCancelled = false
  /// Will be served at the end of the turn.
  var isTouched = false
  /// Bytes that one read brings at most, more only for a single record batch.
  private static let readSize = 256 << 10

  init(
    of topic: TopicMetadata, in virtualHost: String, from start: StreamStart, filter: StreamFilter?,
    options: ConsumerOptions, format: any MessageFormat, sink: any DeliverySink, queues: QueueBroker
  ) {
    self.topic = topic
    self.format = format
    self.filter = filter
    credit = options.credit
    next = [Offset](repeating: 0, count: topic.partitions.count)
    isPositioned = false
    super.init(of: topic.name, in: virtualHost, type: .stream, options: options, sink: sink, queues: queues)
    queues.readers[ObjectIdentifier(self)] = self
    find(start)
  }

  private func find(_ start: StreamStart) {
    var missing = topic.partitions.count
    for index in topic.partitions.indices {
      guard let partition = queues.broker.partition(topic, Int32(index)) else {
        missing -= 1
        continue
      }
      func begin(_ offset: Offset) {
        next[index] = min(max(offset, partition.startOffset), partition.lastStableOffset)
        missing -= 1
      }
      switch start {
      case .first: begin(partition.startOffset)
      case .last: begin(partition.lastStableOffset - 1)
      case .next: begin(partition.lastStableOffset)
      case .offset(let offset): begin(offset)
      case .time(let time):
        queues.broker.offset(for: .time(time), in: partition, isCommittedOnly: true) { [weak self] result in
          guard let self else { return }
          if case .success(let found) = result, found.offset >= 0 {
            begin(found.offset)
          } else {
            begin(partition.lastStableOffset)
          }
          if missing == 0, !isPositioned { positioned() }
        }
      }
    }
    if missing == 0 { positioned() }
  }

  private func positioned() {
    isPositioned = true
    touch()
  }

  private func touch() { queues.touched(self) }

  private var hasCredit: Bool { !isPaused && !isCancelled && !isClosed && (credit == 0 || inFlight.count < credit) }

  /// Delivers what there is, and reads on. At the end of a turn.
  func serve() {
    while hasCredit, let (position, message) = buffer.popFirst() {
      inFlight.insert(position)
      sink?.deliver(
        Delivery(consumer: .none, position: position, message: message, deliveryCount: 0, isRedelivered: false),
        to: self)
    }
    guard hasCredit, isPositioned, !isFetching else { return }
    isFetching = true
    // Another partition is first each time: the first ones get all that a read may bring.
    firstPartition = (firstPartition + 1) % next.count
    let order = next.indices.map { (firstPartition + $0) % next.count }
    let targets = order.map { index in
      FetchTarget(
        partition: queues.broker.partition(topic, Int32(index)), offset: next[index], limit: StreamConsumer.readSize,
        isCommittedOnly: true)
    }
    wait = queues.broker.fetch(
      targets, minimum: 1, limit: { StreamConsumer.readSize }, wait: .seconds(60)
    ) { [weak self] results in self?.take(results, of: order) }
  }

  private func take(_ results: [FetchedPartition], of order: [Int]) {
    isFetching = false
    wait = nil
    guard !isClosed, !isCancelled else { return }
    for (index, result) in zip(order, results) {
      if let error = result.error {
        guard error.code == .offsetOutOfRange, let partition = queues.broker.partition(topic, Int32(index)) else {
          if queues.broker.topic(topic.id) == nil { return end() }
          queues.broker.logger.logRarely(
            .error, "queues", "a topic cannot be read", "", ["topic": topic.name, "error": error.description],
            key: topic.name, now: queues.broker.reactor.now)
          queues.broker.reactor.schedule(after: .seconds(1)) { [weak self] in self?.touch() }
          return
        }
        // What it was to read next has gone by its age.
        next[index] = partition.startOffset
        continue
      }
      take(result, index)
    }
    touch()
  }

  private func take(_ result: FetchedPartition, _ index: Int) {
    for run in result.batches {
      var batches = RecordBatchRun(run)
      do throws(RecordBatchError) {
        while let (batch, header) = try batches.next() {
          if result.aborted.letSee(header) { take(batch, index) }
          next[index] = header.nextOffset
        }
      } catch {
        // The log has checked what it gives: this cannot be, and must not be asked for again and again.
        complain(index, error.description)
        next[index] = queues.broker.partition(topic, Int32(index))?.lastStableOffset ?? next[index]
        return
      }
    }
  }

  /// Any producer may have written what cannot be decompressed: its header and checksum are all that is looked at before.
  private func take(_ batch: Bytes, _ index: Int) {
    do throws(BrokerError) {
      for record in try Broker.records(of: batch) where record.offset >= next[index] {
        if filter?.takes(record) ?? true { keep(record, index) }
      }
    } catch {
      complain(index, error.description)
    }
  }

  private func complain(_ index: Int, _ reason: String) {
    queues.broker.logger.logRarely(
      .error, "queues", "records cannot be read", "they are passed over",
      ["topic": topic.name, "partition": "\(index)", "offset": "\(next[index])", "error": reason], key: topic.name,
      now: queues.broker.reactor.now)
  }

  private func keep(_ record: Record, _ index: Int) {
    let position = Position(lane: UInt8(truncatingIfNeeded: index), offset: record.offset)
    buffer.append((position, StreamConsumer.message(record, position, topic, format)))
  }

  /// A topic's record as a message.
  static func message(
    _ record: Record, _ position: Position, _ topic: TopicMetadata, _ format: any MessageFormat
  ) -> Message {
    // What came through an exchange has its routing key again.
    let key = record.key.flatMap { $0.isEmpty || $0.count > 255 ? nil : String(validating: $0.array, as: UTF8.self) }
    return Message(
      offset: record.offset, priority: position.lane, timestamp: record.timestamp, routingKey: key ?? topic.name,
      properties: format.properties(of: record), body: record.value ?? Bytes(), format: format.code)
  }

  private func end() {
    guard !isClosed else { return }
    isClosed = true
    queues.readers[ObjectIdentifier(self)] = nil
    sink?.ended(self, .queueDeleted)
  }

  @discardableResult
  override func settle(_ position: Position, _ settlement: Settlement) -> Bool {
    guard inFlight.remove(position) != nil else { return false }
    touch()
    return true
  }

  override func setCredit(_ credit: Int) {
    self.credit = credit
    touch()
  }

  override func pausedChanged() { if !isPaused { touch() } }

  override func cancel() {
    isCancelled = true
    queues.readers[ObjectIdentifier(self)] = nil
    stopReading()
  }

  override func close(isFailure: Bool) {
    isClosed = true
    queues.readers[ObjectIdentifier(self)] = nil
    inFlight = []
    stopReading()
  }

  private func stopReading() {
    if let wait { queues.broker.cancel(wait) }
    wait = nil
    buffer = Deque()
  }
}
