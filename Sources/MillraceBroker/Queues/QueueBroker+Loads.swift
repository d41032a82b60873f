// QueueBroker+Loads: messages that are not in memory, read from the lanes' logs.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceModel
import MillraceRouting

extension QueueBroker {
  /// Reads what a queue asked for, and pumps the queue then.
  func read(_ load: Load, for hosted: HostedQueue) {
    readLane(load.lane, of: hosted, from: load.offset, count: load.count, bytes: load.bytes) { [self] result in
      guard !hosted.isDeleted else { return }
      do throws(LogError) {
        let found = try result.get()
        // A batch may end before the load does; the queue asks for the rest.
        guard found.end > load.offset else {
          throw LogError(.corruption, "lane \(load.lane) has no message for offset \(load.offset)")
        }
        let present = hosted.queue.length + hosted.queue.inFlightCount
        hosted.queue.loaded(
          load, messages: found.messages.map { sharedBodies.sharing($0) }, through: found.end)
        let lost = present - hosted.queue.length - hosted.queue.inFlightCount
        hosted.meter.removed(lost, reason: .lost, now: exactNow)
        loaded(hosted)
      } catch {
        complain(of: error, hosted)
        // The queue stands still rather than lose anything: what is at its head cannot be read.
        broker.reactor.schedule(after: .seconds(5)) { [weak self, weak hosted] in
          guard let self, let hosted, !hosted.isDeleted, isOpen else { return }
          read(load, for: hosted)
        }
      }
    }
  }

  private func loaded(_ hosted: HostedQueue) {
    touched(hosted)
    let gets = hosted.waitingGets
    hosted.waitingGets = []
    for consumer in gets { consumer.serveGets() }
  }

  /// Reads one message, done or not; nil when it is not there any more.
  func readOne(_ position: Position, of hosted: HostedQueue, completion: @escaping (Result<Message?, LogError>) -> Void)
  {
    readLane(position.lane, of: hosted, from: position.offset, count: 1, bytes: 1) { [self] result in
      switch result {
      case .success(let found):
        completion(.success(found.messages.first.flatMap { $0.offset == position.offset ? $0 : nil }))
      case .failure(let error):
        if error.code == .offsetOutOfRange { return completion(.success(nil)) }
        complain(of: error, hosted)
        completion(.failure(error))
      }
    }
  }

  /// Reads the ids of the newest messages after a start, done or not, so that they are not taken again.
  func remember(_ hosted: HostedQueue) {
    let count = hosted.queue.options.deduplicationCount
    guard count > 0, hosted.isDurable else { return }
    hosted.isRemembering = true
    rememberingQueues.append(hosted)
    var missing = hosted.logs.count
    for (lane, log) in hosted.logs.enumerated() {
      let start = max(log.startOffset, log.highWatermark - Offset(count))
      remember(hosted, UInt8(lane), from: start, to: log.highWatermark) { [self] in
        missing -= 1
        guard missing == 0 else { return }
        hosted.isRemembering = false
        rememberingQueues.removeAll { $0 === hosted }
        publishHeld(hosted)
        let waiting = hosted.afterRemembering
        hosted.afterRemembering = []
        for next in waiting { next() }
      }
    }
  }

  private func remember(
    _ hosted: HostedQueue, _ lane: UInt8, from start: Offset, to end: Offset, _ done: @escaping () -> Void
  ) {
    guard start < end, !hosted.isDeleted else { return done() }
    let log = hosted.logs[Int(lane)]
    broker.log.read(log, from: start, limit: 1 << 20) { [self] result in
      do throws(LogError) {
        let runs: [Bytes]
        switch result {
        case .success(let read): runs = read
        case .failure(let error): throw error
        }
        let found = try messages(in: runs, log.id, lane, from: start, count: .max, bytes: .max)
        for message in found.messages {
          if let id = message.deduplicationID { hosted.queue.remember(id, at: message.timestamp) }
        }
        guard found.end > start else { throw LogError(.corruption, "lane \(lane) has nothing at offset \(start)") }
        remember(hosted, lane, from: found.end, to: end, done)
      } catch {
        // Better a message twice than none any more.
        complain(of: error, hosted)
        done()
      }
    }
  }

  private func complain(of error: LogError, _ hosted: HostedQueue) {
    broker.logger.logRarely(
      .error, "queues", "a queue's messages cannot be read", "",
      ["queue": hosted.name, "vhost": hosted.virtualHost, "error": error.description], key: hosted.name,
      now: broker.reactor.now)
  }
}
