// RecordFetcher: one iterator's reading: where it stands in each partition, and the one fetch that is under way.

import MillraceBase
import MillraceBroker
import MillraceModel
import Synchronization

/// Reads a topic for one iterator. One task at a time asks it for records.
final class RecordFetcher: Sendable {
  /// Where the iterator stands in a partition.
  private struct Place: Sendable {
    var partition: Int32
    var offset: Offset
    /// Where it ends; nil never.
    var end: Offset?
    var isOver: Bool { end.map { offset >= $0 } ?? false }
  }

  /// What a fetch brought of one partition.
  private struct Fetched: Sendable {
    var partition: Int32
    var from: Offset
    var end: Offset?
    var batches: [Bytes]
    var aborted: [AbortedTransaction]
  }

  /// What came of a call.
  enum Step {
    /// Records, at least one.
    case records([ConsumedRecord])
    /// ``interrupt()`` was called, or the task was cancelled.
    case interrupted
    /// All partitions were read to their ends.
    case end
  }

  private struct State {
    var places: [Place]?
    /// Counts turns to other partitions: what was fetched before one is dropped.
    var epoch = 0
    var isInterrupted = false
    var isFetching = false
    var ready: Result<[Fetched], MillraceError>?
    var waiting: CheckedContinuation<Result<[Fetched], MillraceError>?, Never>?
    var turn = 0
  }

  /// How long a fetch waits before it is asked for again.
  private static let patience = Duration.seconds(60)

  private let broker: EmbeddedBroker
  private let plan: ConsumedRecords.Plan
  /// Where reading ends in each partition; nil: where the log ends when reading starts.
  private let ends: [Int32: Offset]?
  private let state = Mutex(State())

  init(_ broker: EmbeddedBroker, _ plan: ConsumedRecords.Plan, ends: [Int32: Offset]? = nil) {
    self.broker = broker
    self.plan = plan
    self.ends = ends
  }

  /// Reads these partitions from now on and no others, from where the plan and its group's commits say.
  /// - Returns: where each begins.
  func turn(to partitions: [Int32]) async throws(MillraceError) -> [Int32: Offset] {
    let places = try await findStart(partitions)
    state.withLock { state in
      state.places = places
      state.epoch += 1
      state.isFetching = false
      state.ready = nil
    }
    return Dictionary(uniqueKeysWithValues: places.map { ($0.partition, $0.offset) })
  }

  /// Ends the wait of ``next()``, or of the next call that would wait. Any thread.
  func interrupt() {
    let waiting = state.withLock { state in
      defer { state.waiting = nil }
      state.isInterrupted = state.waiting == nil
      return state.waiting
    }
    waiting?.resume(returning: nil)
  }

  /// The records of the next fetch that brings any.
  func next() async throws(MillraceError) -> Step {
    if state.withLock({ $0.places == nil }) {
      let partitions = try await allPartitions()
      if let group = plan.group {
        let isStable = try await broker.waitForOffsets(of: group, plan, partitions) { !Task.isCancelled }
        guard isStable else { return .interrupted }
      }
      _ = try await turn(to: partitions)
    }
    while true {
      if Task.isCancelled { return .interrupted }
      if !fetchAhead() {
        // A member of a group that was given nothing waits for its group.
        guard plan.end == .never, plan.joinedGroup != nil else { return .end }
      }
      guard let result = await arrival() else { return .interrupted }
      let fetched = try advance(past: try result.get())
      // The next fetch is under way while these records are unpacked and worked on.
      _ = fetchAhead()
      var records: [ConsumedRecord] = []
      for part in fetched { try unpack(part, into: &records) }
      if !records.isEmpty { return .records(records) }
    }
  }

  // MARK: Start

  private func allPartitions() async throws(MillraceError) -> [Int32] {
    let route = try await broker.route(to: plan.topic)
    let partitions = plan.partitions ?? Array(0..<Int32(route.partitions))
    for partition in partitions { try EmbeddedBroker.check(partition, route) }
    return partitions
  }

  private func findStart(_ partitions: [Int32]) async throws(MillraceError) -> [Place] {
    let plan = plan
    let ends = ends
    return try await broker.ask { broker, answer in
      guard let topic = broker.topic(plan.topic) else { return answer.give(.failure(.unknown(plan.topic))) }
      let committed = plan.group.map { broker.groups.offsets($0) } ?? [:]
      let start = PendingStart(count: partitions.count, answer)
      for (index, partition) in partitions.enumerated() {
        guard let log = broker.partition(topic, partition) else {
          start.end(index, .failure(.unknown(plan.topic)))
          continue
        }
        let newest = plan.isolation == .committed ? log.lastStableOffset : log.highWatermark
        let end = plan.end == .currentEnd ? ends?[partition] ?? newest : nil
        func begin(_ offset: Offset) {
          start.end(index, .success(Place(partition: partition, offset: offset, end: end)))
        }
        if let known = committed[TopicPartition(plan.topic, partition)] {
          begin(max(known.offset, log.startOffset))
          continue
        }
        switch plan.start {
        case .earliest: begin(log.startOffset)
        case .latest: begin(newest)
        case .offset(let offset): begin(offset)
        case .time(let time):
          broker.offset(for: .time(time), in: log, isCommittedOnly: plan.isolation == .committed) { result in
            switch result {
            case .success(let found): begin(found.offset < 0 ? newest : found.offset)
            case .failure(let error): start.end(index, .failure(MillraceError(error)))
            }
          }
        }
      }
      start.endIfEmpty()
    }
  }

  /// The partitions whose start is not known yet. Belongs to the reactor.
  private final class PendingStart {
    private var places: [Place?]
    private var left: Int
    private let answer: Answer<[Place]>

    init(count: Int, _ answer: Answer<[Place]>) {
      places = [Place?](repeating: nil, count: count)
      left = count
      self.answer = answer
    }

    func end(_ index: Int, _ result: Result<Place, MillraceError>) {
      left -= 1
      switch result {
      case .success(let place): places[index] = place
      case .failure(let error): answer.give(.failure(error))
      }
      endIfEmpty()
    }

    func endIfEmpty() {
      if left == 0 { answer.give(.success(places.compactMap { $0 })) }
    }
  }

  // MARK: Fetching

  /// Starts a fetch unless one is under way or has arrived.
  /// - Returns: false when there is nothing more to come.
  private func fetchAhead() -> Bool {
    let (wanted, epoch) = state.withLock { state -> ([Place]?, Int) in
      if state.isFetching || state.ready != nil { return ([], state.epoch) }
      let open = (state.places ?? []).filter { !$0.isOver }
      if open.isEmpty { return (nil, state.epoch) }
      state.isFetching = true
      state.turn = (state.turn + 1) % open.count
      // Another partition comes first each time, so that all get their turn.
      return (Array(open[state.turn...] + open[..<state.turn]), state.epoch)
    }
    guard let wanted else { return false }
    if !wanted.isEmpty { fetch(wanted, epoch) }
    return true
  }

  private func fetch(_ places: [Place], _ epoch: Int) {
    let plan = plan
    // Ends the fetch also when the reactor has stopped and drops the job.
    let arrival = Arrival(self, epoch)
    let broker = broker.parts.broker
    self.broker.parts.reactor.submit {
      let broker = broker.take()
      guard broker.isOpen else { return arrival.end(.failure(.closed)) }
      let topic = broker.topic(plan.topic)
      let targets = places.map { place in
        FetchTarget(
          partition: topic.flatMap { broker.partition($0, place.partition) }, offset: place.offset,
          limit: plan.fetchSize, isCommittedOnly: plan.isolation == .committed)
      }
      broker.fetch(targets, minimum: 1, limit: plan.fetchSize, wait: RecordFetcher.patience) { results in
        arrival.end(RecordFetcher.collect(results, places, isOpen: broker.isOpen))
      }
    }
  }

  private static func collect(
    _ results: [FetchedPartition], _ places: [Place], isOpen: Bool
  ) -> Result<[Fetched], MillraceError> {
    var fetched: [Fetched] = []
    for (place, result) in zip(places, results) {
      if let error = result.error { return .failure(MillraceError(error)) }
      guard !result.batches.isEmpty else { continue }
      fetched.append(
        Fetched(
          partition: place.partition, from: place.offset, end: place.end, batches: result.batches,
          aborted: result.aborted))
    }
    return fetched.isEmpty && !isOpen ? .failure(.closed) : .success(fetched)
  }

  /// The reactor's end of a fetch. Only its first result counts: the next fetch may be under way when it is dropped.
  private final class Arrival: Sendable {
    private let fetcher: RecordFetcher
    private let epoch: Int
    private let isOver = Atomic(false)

    init(_ fetcher: RecordFetcher, _ epoch: Int) {
      self.fetcher = fetcher
      self.epoch = epoch
    }

    func end(_ result: Result<[Fetched], MillraceError>) {
      if !isOver.exchange(true, ordering: .relaxed) { fetcher.arrived(result, epoch) }
    }

    deinit { end(.failure(.closed)) }
  }

  private func arrived(_ result: Result<[Fetched], MillraceError>, _ epoch: Int) {
    let waiting = state.withLock { state -> CheckedContinuation<Result<[Fetched], MillraceError>?, Never>? in
      guard state.epoch == epoch else { return nil }
      precondition(state.isFetching, "a fetch of \(plan.topic) arrived twice")
      state.isFetching = false
      guard let waiting = state.waiting else {
        state.ready = result
        return nil
      }
      state.waiting = nil
      return waiting
    }
    waiting?.resume(returning: result)
  }

  /// Waits for the fetch; nil when it was interrupted. Then the fetch goes on, for a later call.
  private func arrival() async -> Result<[Fetched], MillraceError>? {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let now = state.withLock { state -> Result<[Fetched], MillraceError>?? in
          if let ready = state.ready {
            state.ready = nil
            return .some(ready)
          }
          if Task.isCancelled || state.isInterrupted {
            state.isInterrupted = false
            return .some(nil)
          }
          precondition(state.waiting == nil, "two tasks ask one iterator of \(plan.topic) at once")
          state.waiting = continuation
          return nil
        }
        if let now { continuation.resume(returning: now) }
      }
    } onCancel: {
      let waiting = state.withLock { state in
        defer { state.waiting = nil }
        return state.waiting
      }
      waiting?.resume(returning: nil)
    }
  }

  // MARK: Unpacking

  /// Moves the positions behind what was fetched.
  private func advance(past fetched: [Fetched]) throws(MillraceError) -> [Fetched] {
    for part in fetched {
      var next = part.from
      for run in part.batches {
        try RecordFetcher.forEachBatch(in: run) { _, header in next = max(next, header.nextOffset) }
      }
      let offset = next
      state.withLock { state in
        guard let index = state.places?.firstIndex(where: { $0.partition == part.partition }) else { return }
        state.places?[index].offset = offset
      }
    }
    return fetched
  }

  private func unpack(_ part: Fetched, into records: inout [ConsumedRecord]) throws(MillraceError) {
    for run in part.batches {
      try RecordFetcher.forEachBatch(in: run) { batch, header throws(MillraceError) in
        guard part.aborted.letSee(header), header.nextOffset > part.from else { return }
        let unpacked: [Record]
        do throws(BrokerError) {
          unpacked = try Broker.records(of: batch)
        } catch {
          throw MillraceError(error)
        }
        for record in unpacked where record.offset >= part.from {
          if let end = part.end, record.offset >= end { return }
          records.append(ConsumedRecord(topic: plan.topic, partition: part.partition, record: record))
        }
      }
    }
  }

  private static func forEachBatch(
    in run: Bytes, _ body: (Bytes, RecordBatchHeader) throws(MillraceError) -> Void
  ) throws(MillraceError) {
    var rest = RecordBatchRun(run)
    while true {
      let next: (batch: Bytes, header: RecordBatchHeader)?
      do throws(RecordBatchError) {
        next = try rest.next()
      } catch {
        throw MillraceError(.corrupt, error.description)
      }
      guard let next else { return }
      try body(next.batch, next.header)
    }
  }
}
