// Producer: records one by one into a topic, in batches that form by themselves, with a bound on what is not durable yet.
//
// Each partition has a lane. A record goes off at once when its lane has nothing under way; else it joins the batch that
// forms meanwhile, which goes off when the earlier one is durable. So batches are as large as the disk is slow, and no record
// waits for a timer.
//
// Invariants:
// 1. A lane has at most one batch under way, so records of one partition are appended in the order of their acceptance, and
//    after one that failed no later one is.
// 2. A lane with records that were not handed over has a batch under way, whose end hands them over.
// 3. After the first failure nothing more is handed over.

import MillraceBase
import MillraceBroker
import MillraceModel
import Synchronization

/// Sends records to one topic. Any number of tasks may share it.
public final class Producer: Sendable {
  /// Limits of a producer.
  public struct Options: Sendable {
    /// A batch is closed at this size, in bytes, or at the topic's `max.message.bytes`.
    public var batchSize = 256 << 10
    /// Bytes accepted and not durable yet; senders wait beyond it. One record always goes.
    public var inFlightLimit = 16 << 20
    /// How batches are compressed.
    public var codec = CompressionCodec.none

    /// The defaults.
    public init() {}
  }

  private struct Lane {
    var builder: RecordBatchBuilder?
    /// What the forming batch counts against the limit.
    var size = 0
    /// Full batches that wait for the one under way.
    var full = Deque<Sealed>()
    var isUnderWay = false
  }

  /// A batch, and what it counts against the limit.
  private struct Sealed {
    var bytes: Bytes
    var size: Int
  }

  private struct State {
    var lanes: [Lane]
    var held = 0
    var keyless: Int
    var failure: MillraceError?
    var isClosed = false
    var senders = Deque<(id: UInt64, continuation: CheckedContinuation<Void, Never>)>()
    var nextSender: UInt64 = 0
    var flushing: [CheckedContinuation<MillraceError?, Never>] = []
  }

  /// The topic.
  public let topic: String
  private let broker: EmbeddedBroker
  private let route: TopicRoute
  private let options: Options
  private let state: Mutex<State>

  init(_ broker: EmbeddedBroker, _ topic: String, _ route: TopicRoute, _ options: Options) {
    self.broker = broker
    self.topic = topic
    self.route = route
    self.options = options
    state = Mutex(
      State(
        lanes: [Lane](repeating: Lane(), count: route.partitions), keyless: Int.random(in: 0..<route.partitions)))
  }

  /// Accepts a record; suspends while ``Options/inFlightLimit`` bytes are not durable yet.
  ///
  /// On return the record is on its way, not yet durable: ``flush()`` waits for that. After a failure the producer accepts
  /// nothing more, so that no record overtakes one that failed.
  /// - Parameters:
  ///   - record: without a time, it gets the current one.
  ///   - partition: nil lets the key decide as Kafka's default partitioner does; without a key all records of a batch
  ///     go to one partition.
  /// - Throws: `.invalidArgument`, `.cancelled` (in both cases the record was not accepted), `.closed`, or the first
  ///   failure of an earlier record.
  public func send(_ record: Record, partition: Int32? = nil) async throws(MillraceError) {
    if let partition { try EmbeddedBroker.check(partition, route) }
    let size = EmbeddedBroker.sizeBound(record)
    do throws(MillraceError) {
      while try !accept(record, size, partition) {
        if Task.isCancelled { throw MillraceError(.cancelled, "cancelled while waiting for room in the producer") }
        await room(for: size)
      }
    } catch {
      // When it is the producer's failure, others have to hear of it too.
      if error.code != .cancelled { wake() }
      throw error
    }
  }

  /// Suspends until all that was accepted is durable.
  /// - Throws: the first failure; then records accepted after it were not appended.
  public func flush() async throws(MillraceError) {
    let failure: MillraceError? = await withCheckedContinuation { continuation in
      let (isDone, failure) = state.withLock { state -> (Bool, MillraceError?) in
        if state.held == 0 { return (true, state.failure) }
        state.flushing.append(continuation)
        return (false, nil)
      }
      if isDone { continuation.resume(returning: failure) }
    }
    if let failure { throw failure }
  }

  /// Refuses further records and suspends until all that was accepted is durable.
  /// - Throws: as ``flush()``.
  public func close() async throws(MillraceError) {
    state.withLock { $0.isClosed = true }
    try await flush()
  }

  /// Bytes accepted and not durable yet, roughly.
  public var bytesInFlight: Int { state.withLock { $0.held } }

  // MARK: Accepting

  /// - Returns: false when there is no room.
  private func accept(_ record: Record, _ size: Int, _ partition: Int32?) throws(MillraceError) -> Bool {
    let now = Timestamp.now
    return try state.withLock { state throws(MillraceError) in
      if let failure = state.failure { throw failure }
      if state.isClosed { throw MillraceError(.closed, "the producer of \(topic) is closed") }
      if state.held > 0, state.held + size > options.inFlightLimit { return false }
      let lane =
        partition.map { Int($0) } ?? record.key.map { Int(EmbeddedBroker.partitionOf($0, route)) } ?? state.keyless
      let limit = min(options.batchSize, route.largestBatch)
      if let builder = state.lanes[lane].builder, builder.count > 0, builder.size + size > limit {
        try seal(lane, &state)
      }
      var record = record
      if record.timestamp == .none { record.timestamp = now }
      // Made when first used: a topic may have ten thousand partitions.
      state.lanes[lane].builder = state.lanes[lane].builder ?? RecordBatchBuilder()
      state.lanes[lane].builder?.append(record)
      state.lanes[lane].size += size
      state.held += size
      if !state.lanes[lane].isUnderWay { try handOver(lane, &state) }
      return true
    }
  }

  private func room(for size: Int) async {
    let id = state.withLock { state in
      state.nextSender += 1
      return state.nextSender
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let goesOn = state.withLock { state in
          let hasRoom = state.held == 0 || state.held + size <= options.inFlightLimit
          if hasRoom || state.failure != nil || state.isClosed || Task.isCancelled { return true }
          state.senders.append((id, continuation))
          return false
        }
        if goesOn { continuation.resume() }
      }
    } onCancel: {
      let waiting = state.withLock { state -> CheckedContinuation<Void, Never>? in
        var found: CheckedContinuation<Void, Never>?
        var rest = Deque<(id: UInt64, continuation: CheckedContinuation<Void, Never>)>()
        while let sender = state.senders.popFirst() {
          if sender.id == id { found = sender.continuation } else { rest.append(sender) }
        }
        state.senders = rest
        return found
      }
      waiting?.resume()
    }
  }

  // MARK: Handing over

  /// Closes a lane's forming batch. The lock is held.
  private func seal(_ lane: Int, _ state: inout State) throws(MillraceError) {
    guard var builder = state.lanes[lane].builder, builder.count > 0 else { return }
    state.lanes[lane].builder = nil
    do throws(MillraceError) {
      let bytes = try EmbeddedBroker.seal(&builder, options.codec)
      state.lanes[lane].full.append(Sealed(bytes: bytes, size: state.lanes[lane].size))
      state.lanes[lane].size = 0
    } catch {
      fail(error, &state)
      throw error
    }
    if lane == state.keyless { state.keyless = (lane + 1) % state.lanes.count }
  }

  /// Gives up all that was not handed over.
  private func fail(_ error: MillraceError, _ state: inout State) {
    if state.failure == nil { state.failure = error }
    for lane in state.lanes.indices {
      state.held -= state.lanes[lane].size
      while let sealed = state.lanes[lane].full.popFirst() { state.held -= sealed.size }
      state.lanes[lane].size = 0
      state.lanes[lane].builder = nil
    }
  }

  /// Hands a lane's next batch to the broker when there is one. The lock is held, and nothing of the lane is under way.
  private func handOver(_ lane: Int, _ state: inout State) throws(MillraceError) {
    if state.lanes[lane].full.isEmpty { try seal(lane, &state) }
    guard let batch = state.lanes[lane].full.popFirst() else { return }
    state.lanes[lane].isUnderWay = true
    let delivery = Delivery(self, lane: lane, size: batch.size)
    let bytes = batch.bytes
    let broker = broker.parts.broker
    let topic = topic
    let route = route
    self.broker.parts.reactor.submit {
      let broker = broker.take()
      guard let found = broker.topic(topic), found.id == route.id else { return delivery.end(.unknown(topic)) }
      broker.produce(found, Int32(lane), records: bytes) { result in
        switch result {
        case .success: delivery.end(nil)
        case .failure(let error): delivery.end(MillraceError(error))
        }
      }
    }
  }

  /// A batch under way. Ends as failed when the reactor has stopped and drops it.
  private final class Delivery: Sendable {
    private let producer: Producer
    private let lane: Int
    private let size: Int
    private let isOver = Atomic(false)

    init(_ producer: Producer, lane: Int, size: Int) {
      self.producer = producer
      self.lane = lane
      self.size = size
    }

    func end(_ failure: MillraceError?) {
      if isOver.exchange(true, ordering: .relaxed) { return }
      producer.delivered(lane, size, failure)
    }

    deinit {
      // On a task, because the lock may be held where the last reference goes.
      if isOver.load(ordering: .relaxed) { return }
      let (producer, lane, size) = (producer, lane, size)
      Task { producer.delivered(lane, size, .closed) }
    }
  }

  private func delivered(_ lane: Int, _ size: Int, _ failure: MillraceError?) {
    let mustCompress = state.withLock { state in
      state.held -= size
      state.lanes[lane].isUnderWay = false
      if let failure { fail(failure, &state) }
      guard state.failure == nil else { return false }
      // Compressing is too slow for the thread that owns all data, which this is.
      if options.codec != CompressionCodec.none, state.lanes[lane].full.isEmpty { return state.lanes[lane].size > 0 }
      goOn(lane, &state)
      return false
    }
    if mustCompress {
      Task { [self] in
        state.withLock { state in
          if !state.lanes[lane].isUnderWay, state.failure == nil { goOn(lane, &state) }
        }
        wake()
      }
    }
    wake()
  }

  /// Hands over what a lane has; what goes wrong is kept for the next call of the user.
  private func goOn(_ lane: Int, _ state: inout State) {
    do throws(MillraceError) { try handOver(lane, &state) } catch {
      precondition(state.failure != nil, "a batch was lost without a failure: \(error)")
    }
  }

  /// Wakes senders to try again, and flushes when nothing is left.
  private func wake() {
    typealias Woken = (
      [CheckedContinuation<Void, Never>], [CheckedContinuation<MillraceError?, Never>], MillraceError?
    )
    let (senders, flushing, outcome) = state.withLock { state -> Woken in
      var senders: [CheckedContinuation<Void, Never>] = []
      while let sender = state.senders.popFirst() { senders.append(sender.continuation) }
      guard state.held == 0 else { return (senders, [], state.failure) }
      defer { state.flushing = [] }
      return (senders, state.flushing, state.failure)
    }
    for sender in senders { sender.resume() }
    for waiting in flushing { waiting.resume(returning: outcome) }
  }
}

extension EmbeddedBroker {
  /// A producer for a topic, which is made when it is missing and `auto.create.topics.enable` allows it.
  /// - Throws: `.unknownTopic`, `.invalidArgument`, `.storage`, `.closed`.
  public func producer(
    for topic: String, options: Producer.Options = Producer.Options()
  ) async throws(MillraceError) -> Producer {
    Producer(self, topic, try await route(to: topic), options)
  }
}
