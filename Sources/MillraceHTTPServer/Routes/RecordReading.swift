// RecordReading: records of one partition for one request: a page of them, or all that come, as server-sent events.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceIO
import MillraceModel

/// Reads a page of records. Kept alive by what it waits for.
final class RecordReading {
  struct Page {
    var records: [Record] = []
    var nextOffset: Offset
  }

  private let call: HTTPCall
  private let log: PartitionLog
  private let limit: Int
  private var wait: FetchWait?
  /// Bytes of batches that one page is made of, at least one batch.
  static let pageBytes = 1 << 20

  init(_ call: HTTPCall, _ log: PartitionLog, limit: Int) {
    self.call = call
    self.log = log
    self.limit = limit
  }

  /// Reads from `offset` on.
  /// - Parameters:
  ///   - wait: how long to wait for the first record.
  ///   - completion: called once, also when the client is gone.
  func read(from offset: Offset, wait: Duration, _ completion: @escaping (Result<Page, HTTPProblem>) -> Void) {
    let deadline = call.reactor.now + wait
    read(from: offset, until: deadline, completion)
  }

  private func read(
    from offset: Offset, until deadline: MonotonicTime, _ completion: @escaping (Result<Page, HTTPProblem>) -> Void
  ) {
    let broker = call.broker
    let left = max(.zero, deadline - call.reactor.now)
    let target = FetchTarget(partition: log, offset: offset, limit: RecordReading.pageBytes, isCommittedOnly: true)
    let finish: (Result<Page, HTTPProblem>) -> Void = { [call] result in
      (call.onGone, call.onPeerFinished) = (nil, nil)
      guard case .success(let page) = result, !page.records.isEmpty, !call.isOver else { return completion(result) }
      do throws(HTTPProblem) {
        // The right may have gone while it waited.
        try call.require(.read, .topic, call.path("topic"))
        completion(result)
      } catch {
        completion(.failure(error))
      }
    }
    self.wait = broker.fetch(
      [target], minimum: left > .zero ? 1 : 0, limit: { RecordReading.pageBytes }, wait: left
    ) { [self] fetched in
      self.wait = nil
      guard let first = fetched.first else { return finish(.success(Page(nextOffset: offset))) }
      if let error = first.error { return finish(.failure(HTTPProblem(error))) }
      var made: Result<Page, BrokerError> = .success(Page(nextOffset: offset))
      call.connection.measured {
        made = Result { () throws(BrokerError) in try RecordReading.page(first, from: offset, limit: limit) }
      }
      let page: Page
      do throws(BrokerError) {
        page = try made.get()
      } catch {
        return finish(.failure(HTTPProblem(error)))
      }
      // Batches of aborted transactions, and what was compacted away, are nothing that was waited for.
      guard page.records.isEmpty, page.nextOffset > offset, !call.isOver else { return finish(.success(page)) }
      read(from: page.nextOffset, until: deadline, completion)
    }
    guard self.wait != nil else { return }
    call.onGone = { [self] in
      if let wait = self.wait { broker.cancel(wait) }
      self.wait = nil
      completion(.success(Page(nextOffset: offset)))
    }
    call.onPeerFinished = { [self] in if let wait = self.wait { broker.end(wait) } }
  }

  static func page(_ fetched: FetchedPartition, from offset: Offset, limit: Int) throws(BrokerError) -> Page {
    var page = Page(nextOffset: offset)
    for run in fetched.batches {
      var batches = RecordBatchRun(run)
      while true {
        let found: (batch: Bytes, header: RecordBatchHeader)?
        do throws(RecordBatchError) { found = try batches.next() } catch {
          throw BrokerError(.corruptBatch, error.reason)
        }
        guard let (batch, header) = found else { break }
        guard page.records.count < limit else { return page }
        guard header.nextOffset > offset else { continue }
        if fetched.aborted.letSee(header) {
          for record in try Broker.records(of: batch) where record.offset >= page.nextOffset {
            if page.records.count == limit { return page }
            page.records.append(record)
            page.nextOffset = record.offset + 1
          }
        }
        page.nextOffset = max(page.nextOffset, header.nextOffset)
      }
    }
    return page
  }
}

/// Sends records as server-sent events until the client goes.
final class RecordEvents {
  private let call: HTTPCall
  private let log: PartitionLog
  private let format: RecordJSON.Format
  private var offset: Offset = 0
  private var isReading = false
  private var isEnded = false
  /// Its user got more than its quota.
  private var isPaused = false
  /// Without records a comment is sent, so that both sides learn when the other is gone.
  static let quietTime = Duration.seconds(15)

  init(_ call: HTTPCall, _ log: PartitionLog, _ format: RecordJSON.Format) {
    self.call = call
    self.log = log
    self.format = format
  }

  func begin(from offset: Offset) {
    guard !call.isOver else { return end() }
    guard offset >= log.startOffset, offset <= log.highWatermark else {
      end()
      return call.fail(
        HTTPProblem(
          .rangeNotSatisfiable, "offset-out-of-range",
          "offset \(offset) is not within \(log.startOffset)...\(log.highWatermark)"))
    }
    self.offset = offset
    call.beginStream(.ok, "text/event-stream")
    guard !call.isOver else { return end() }
    call.onDrained = { [self] in next() }
    next()
  }

  private func end() {
    guard !isEnded else { return }
    isEnded = true
    call.server.endWaiting()
    (call.onGone, call.onPeerFinished, call.onDrained) = (nil, nil, nil)
  }

  private func next() {
    guard !isReading, !isPaused, !isEnded, !call.mustWait else { return }
    isReading = true
    RecordReading(call, log, limit: 1000).read(from: offset, wait: RecordEvents.quietTime) { [self] result in
      isReading = false
      guard !call.isOver, !isEnded else { return end() }
      switch result {
      case .failure:
        // The topic is gone, or the records were deleted: the client connects again and is told so.
        end()
        return call.endStream()
      case .success(let page):
        call.connection.measured { send(page) }
      }
      // Also when this was called at once: the client may send no more, or be gone.
      if call.connection.isPeerFinished {
        end()
        return call.endStream()
      }
      call.onGone = { [self] in end() }
      call.onPeerFinished = { [self] in
        end()
        call.endStream()
      }
      call.reactor.atEndOfTurn { [self] in goOn() }
    }
  }

  /// Reads on once its user owes nothing; looks every second whether the client is still there.
  private func goOn(wasPaused: Bool = false) {
    guard !isPaused else { return }
    let (bytes, time) = call.isOver ? (.zero, .zero) : (call.owed(.consumerBytes), call.owed(.requestTime))
    let wait = min(max(bytes, time), .seconds(1))
    guard wait > .zero else { return next() }
    call.broker.quotas.countWait(bytes >= time ? .consumerBytes : .requestTime, wait, isAnother: !wasPaused)
    isPaused = true
    call.reactor.schedule(after: wait) { [self] in
      isPaused = false
      goOn(wasPaused: true)
    }
  }

  private func send(_ page: RecordReading.Page) {
    guard !page.records.isEmpty else {
      offset = page.nextOffset
      return call.write(Bytes(":\n\n"))
    }
    var out: [UInt8] = []
    for record in page.records {
      var json = JSONWriter()
      RecordJSON.write(record, Int32(call.pathNumber("partition")), format, to: &json)
      out += "id: \(record.offset)\ndata: ".utf8
      out += json.bytes
      out += "\n\n".utf8
    }
    offset = page.nextOffset
    call.write(Bytes(out))
  }
}
