// QueueBroker+Browse: looking into a queue and taking single messages out of it, without consuming.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceModel
import MillraceQueueing
import MillraceRouting

/// What a queue is and how full it is.
public struct QueueDescription: Sendable {
  /// As it was declared.
  public var declaration: QueueDeclaration
  /// What its arguments mean.
  public var arguments: QueueArguments
  /// Messages that are not in flight: ready, delayed and blocked by their key.
  public var length: Int
  /// Bytes of those.
  public var lengthBytes: Int64
  /// Delivered and not settled.
  public var inFlight: Int
  /// Of `length`: known to wait for a time.
  public var delayed: Int
  /// Consumers that are pushed to.
  public var consumers: Int

  /// The log keeps it.
  public var isDurable: Bool { declaration.isDurable && !declaration.isExclusive }
  /// It refuses publications at some length.
  public var mayRefuse: Bool { arguments.options.overflow != .dropHead }
  /// ``QueueBroker/publish(_:to:in:format:)`` may be used: memory alone keeps it, and it neither refuses nor recognises
  /// messages.
  public var takesDirectly: Bool { !isDurable && !mayRefuse && arguments.options.deduplicationCount == 0 }
}

/// A message that is in a queue.
public struct BrowsedMessage: Sendable {
  /// Where it is.
  public var position: Position
  /// What it is.
  public var message: Message
  /// Deliveries of it that failed.
  public var deliveryCount: Int32
  /// Delivered and not settled.
  public var isInFlight: Bool
  /// Time on the wall clock before which it is not delivered; nil when it waits for none.
  public var due: Timestamp?
}

/// A part of a queue's messages.
public struct BrowsedPage: Sendable {
  /// By lane, the highest first, then by offset.
  public var messages: [BrowsedMessage] = []
  /// Where to go on; nil at the end.
  public var next: Position?
}

extension QueueBroker {
  /// What a queue is.
  /// - Throws: 404, also for a topic that is read as a stream; 405, 530.
  public func describe(
    _ queue: String, in virtualHost: String, owner: QueueOwner?
  ) throws(RoutingError) -> QueueDescription {
    describe(try usable(queue, in: virtualHost, by: owner))
  }

  /// Whether there is a queue of this name.
  public func has(_ queue: String, in virtualHost: String) -> Bool { find(queue, in: virtualHost) != nil }

  /// What is measured of a queue.
  /// - Throws: as ``describe(_:in:owner:)``.
  public func figures(
    of queue: String, in virtualHost: String, owner: QueueOwner?
  ) throws(RoutingError) -> QueueFigures {
    try usable(queue, in: virtualHost, by: owner).figures(now: exactNow)
  }

  /// Whether a queue would take so many publications of `bytes` bytes in all, now; true when there is no such queue.
  public func hasRoom(in queue: String, of virtualHost: String, for count: Int, bytes: Int) -> Bool {
    find(queue, in: virtualHost)?.queue.hasRoom(for: count, bytes: bytes) ?? true
  }

  /// The time of queues' clock that lies `delay` ahead, as ``Settlement/requeue(isFailure:until:)`` takes it.
  public func time(after delay: Duration) -> Timestamp {
    time(afterMilliseconds: delay.inMilliseconds)
  }

  /// Shows messages that are in a queue; nothing changes by it, but what it shows may be gone when `completion` is called.
  ///
  /// - Parameters:
  ///   - from: where to begin; nil at the head of the highest lane.
  ///   - limit: most messages.
  ///   - bytes: reading the log ends behind the message that reaches it.
  /// - Errors: as ``describe(_:in:owner:)``; 541 when the log cannot be read.
  /// - Complexity: O(messages that have a slot), and what has to be read.
  public func browse(
    _ queue: String, in virtualHost: String, owner: QueueOwner?, from: Position? = nil, limit: Int,
    bytes: Int = 4 << 20,
    completion: @escaping (Result<BrowsedPage, RoutingError>) -> Void
  ) {
    do throws(RoutingError) {
      let hosted = try usable(queue, in: virtualHost, by: owner)
      var entries: [MessageQueue.Entry] = []
      for lane in hosted.queue.laneNumbers where entries.count < limit && lane <= from?.lane ?? .max {
        let offset = from.flatMap { $0.lane == lane ? $0.offset : nil } ?? 0
        entries += hosted.queue.browse(lane: lane, from: offset, limit: limit - entries.count)
      }
      var page = BrowsedPage()
      // There may be more only behind what fills the page.
      page.next =
        entries.count == limit
        ? entries.last.map { Position(lane: $0.position.lane, offset: $0.position.offset + 1) } : nil
      fill(page, with: entries[...], of: hosted, bytes: bytes, completion)
    } catch {
      completion(.failure(error))
    }
  }

  /// Turns entries into messages; what is not in memory is read.
  private func fill(
    _ page: BrowsedPage, with entries: ArraySlice<MessageQueue.Entry>, of hosted: HostedQueue, bytes: Int,
    _ completion: @escaping (Result<BrowsedPage, RoutingError>) -> Void
  ) {
    var (page, rest, room) = (page, entries, bytes)
    while let entry = rest.first {
      guard room > 0 else {
        page.next = entry.position
        break
      }
      guard let message = entry.message else { return read(page, rest, of: hosted, room, completion) }
      page.messages.append(browsed(entry, message))
      room -= message.size
      rest.removeFirst()
    }
    completion(.success(page))
  }

  private func read(
    _ page: BrowsedPage, _ entries: ArraySlice<MessageQueue.Entry>, of hosted: HostedQueue, _ bytes: Int,
    _ completion: @escaping (Result<BrowsedPage, RoutingError>) -> Void
  ) {
    guard let first = entries.first?.position else { return completion(.success(page)) }
    readLane(first.lane, of: hosted, from: first.offset, count: entries.count, bytes: bytes) { [self] result in
      guard !hosted.isDeleted else {
        return completion(.failure(RoutingError(.notFound, "queue '\(hosted.name)' was deleted meanwhile")))
      }
      do throws(LogError) {
        let found = try result.get()
        // What is not found below the end of what was read is not there any more.
        let end = max(found.end, first.offset + 1)
        var contents: [Offset: Message] = [:]
        for message in found.messages { contents[message.offset] = message }
        var filled: [MessageQueue.Entry] = []
        for var entry in entries {
          if entry.message == nil, entry.position.lane == first.lane, entry.position.offset < end {
            guard let message = contents[entry.position.offset] else { continue }
            entry.message = message
          }
          filled.append(entry)
        }
        fill(page, with: filled[...], of: hosted, bytes: bytes, completion)
      } catch {
        completion(.failure(RoutingError(error)))
      }
    }
  }

  private func browsed(_ entry: MessageQueue.Entry, _ message: Message) -> BrowsedMessage {
    var due = entry.due ?? (message.notBefore > now ? message.notBefore : nil)
    if let time = due, time <= now || entry.isInFlight { due = nil }
    let wall = broker.reactor.wallClock.milliseconds
    return BrowsedMessage(
      position: entry.position, message: message, deliveryCount: entry.deliveryCount, isInFlight: entry.isInFlight,
      due: due.map { time in
        let (sum, overflow) = wall.addingReportingOverflow(time.milliseconds - now.milliseconds)
        return Timestamp(milliseconds: overflow ? .max : sum)
      })
  }

  /// Takes one message that is not in flight out of a queue, without dead-lettering it. `completion` gets whether it was
  /// there, once that is durable.
  /// - Parameter size: the message's, as it was browsed.
  /// - Errors: as ``describe(_:in:owner:)``; 541 when storage fails.
  public func remove(
    _ position: Position, size: Int, from queue: String, in virtualHost: String, owner: QueueOwner?,
    completion: @escaping (Result<Bool, RoutingError>) -> Void
  ) {
    do throws(RoutingError) {
      let hosted = try usable(queue, in: virtualHost, by: owner)
      guard hosted.queue.remove(position, size: size) else { return completion(.success(false)) }
      hosted.meter.removed(1, reason: .purged, now: exactNow)
      touched(hosted)
      guard hosted.isDurable else { return completion(.success(true)) }
      whenDurable { error in completion(error.map { .failure($0) } ?? .success(true)) }
    } catch {
      completion(.failure(error))
    }
  }
}
