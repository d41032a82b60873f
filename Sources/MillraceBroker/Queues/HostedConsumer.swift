// HostedConsumer: a consumer of a queue whose messages are settled one by one.

import MillraceBase
import MillraceDelivery
import MillraceModel
import MillraceQueueing

/// A consumer of a ``HostedQueue``.
final class HostedConsumer: QueueConsumer {
  let id: ConsumerID
  let hosted: HostedQueue
  /// In the order of registration.
  let number: Int
  let isNoAck: Bool
  var meter: ConsumerMeter
  private var isCancelled = false
  /// Asked for a message each.
  private var gets = Deque<(isNoAck: Bool, completion: ((delivery: Delivery, left: Int)?) -> Void)>()

  init(
    _ id: ConsumerID, of hosted: HostedQueue, options: ConsumerOptions, sink: any DeliverySink, queues: QueueBroker
  ) {
    self.id = id
    self.hosted = hosted
    number = hosted.takeConsumerNumber()
    isNoAck = options.isNoAck
    meter = ConsumerMeter(isServer: !options.isPassive)
    hosted.meter.joined(&meter, now: queues.exactNow)
    super.init(
      of: hosted.name, in: hosted.virtualHost, type: hosted.arguments.type, options: options, sink: sink, queues: queues
    )
  }

  override var timeout: Duration? { ownTimeout ?? hosted.queue.options.consumerTimeout }

  @discardableResult
  override func settle(_ position: Position, _ settlement: Settlement) -> Bool {
    guard !hosted.isDeleted else { return false }
    let isSettled = hosted.queue.settle(position, settlement, by: id, now: queues.now)
    if isSettled { hosted.measure(settlement, of: position, by: self, now: queues.exactNow) }
    queues.touched(hosted)
    queues.gaveBack(pool)
    if isCancelled { forgetWhenDone() }
    return isSettled
  }

  override func acknowledge(_ positions: [Position]) {
    guard !hosted.isDeleted, !positions.isEmpty else { return }
    let now = queues.exactNow
    var settled: [Position] = []
    settled.reserveCapacity(positions.count)
    hosted.queue.acknowledge(positions, by: id, now: queues.now) { settled.append($0) }
    for position in settled { hosted.measure(.acknowledge, of: position, by: self, now: now) }
    queues.touched(hosted)
    queues.gaveBack(pool)
    if isCancelled { forgetWhenDone() }
  }

  override func holds(_ position: Position) -> Bool {
    !hosted.isDeleted && hosted.queue.isInFlight(position, with: id)
  }

  override func get(isNoAck: Bool, completion: @escaping ((delivery: Delivery, left: Int)?) -> Void) {
    gets.append((isNoAck, completion))
    serveGets()
  }

  /// Answers those who asked, as far as it is known what they get.
  func serveGets() {
    while let (isNoAck, completion) = gets.first {
      guard !hosted.isDeleted, !isClosed else {
        gets.removeFirst()
        completion(nil)
        continue
      }
      let taken = hosted.queue.take(by: id, now: queues.now).first
      queues.touched(hosted)
      if taken == nil, hosted.queue.isAwaitingLoad() {
        queues.getsWait(hosted, self)
        return
      }
      gets.removeFirst()
      guard let taken else {
        completion(nil)
        continue
      }
      hosted.measure(taken, to: self, isNoAck: isNoAck, now: queues.exactNow)
      if isNoAck { hosted.queue.acknowledge(taken.position) }
      completion((taken, hosted.queue.length))
    }
  }

  override func setCredit(_ credit: Int) {
    guard !hosted.isDeleted else { return }
    hosted.queue.setCredit(credit, of: id)
    queues.touched(hosted)
  }

  override func pausedChanged() {
    guard !hosted.isDeleted else { return }
    hosted.queue.setPaused(isPaused, id)
    if !isPaused { queues.touched(hosted) }
  }

  override func cancel() {
    guard !hosted.isDeleted, !isClosed else { return }
    hosted.queue.cancelConsumer(id, now: queues.now)
    hosted.meter.left(&meter, now: queues.exactNow)
    isCancelled = true
    forgetWhenDone()
    queues.consumerLeft(hosted)
    queues.touched(hosted)
  }

  /// A cancelled consumer is needed only as long as it has something in flight.
  private func forgetWhenDone() {
    guard isCancelled, !isClosed, hosted.queue.inFlightCount(of: id) == 0 else { return }
    isClosed = true
    hosted.consumers[id] = nil
    serveGets()
  }

  override func close(isFailure: Bool) {
    guard !isClosed else { return }
    isClosed = true
    if hosted.isDeleted { return serveGets() }
    hosted.queue.removeConsumer(id, isFailure: isFailure, now: queues.now)
    hosted.meter.left(&meter, now: queues.exactNow)
    hosted.consumers[id] = nil
    queues.gaveBack(pool)
    queues.consumerLeft(hosted)
    queues.touched(hosted)
    serveGets()
  }
}
