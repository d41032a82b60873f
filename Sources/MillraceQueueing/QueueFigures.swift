// QueueFigures: a queue's figures at one moment, what a model predicts from them, and their JSON.
//
// {"queues", "length", "unacknowledged", "oldestAgeSeconds": NUMBER or null, "consumers", "busyConsumers",
//  "arrivalsPerSecond": RATE, "deliveriesPerSecond": RATE, "settlementsPerSecond": RATE, "utilisation": NUMBER or null,
//  "transfer": LATENCY, "waiting": LATENCY, "processing": LATENCY,
//  "totals": {"arrived", "refused", "delivered", "redelivered", "acknowledged", "returned",
//             "removed": {"rejected", "expired", "maxlen", "delivery_limit", "purged", "lost"},
//             "deadLettered": the same},
//  "window": {"seconds", "meanLength", "meanUnacknowledged", "offeredPerSecond", "serviceSeconds": NUMBER or null,
//             "arrivalVariability": NUMBER or null, "serviceVariability": NUMBER or null},
//  "littlesLaw": {"meanLength", "departuresPerSecond", "meanSojournSeconds", "product", "endsExplain", "verdict"},
//  "model": null or {"load", "capacityPerSecond", "isStable",
//            when it is: "utilisation", "probabilityOfWaiting", "meanLength", "meanWaitSeconds", "p99WaitSeconds",
//            when it is not: "growthPerSecond", and with a target: "consumersNeeded": NUMBER or null}}
//
// RATE is {"1s", "10s", "60s"}. LATENCY is {"count", "mean", "p50", "p99", "max"} in microseconds since the start and,
// when asked for, "buckets": [[below, count], …] with the first microsecond beyond each bucket.

import MillraceBase

/// The figures of one queue, or of several added up.
public struct QueueFigures: Sendable {
  /// Events per second.
  public struct Rates: Sendable, Equatable {
    /// Over the last second and what has passed of this one.
    public var perSecond = 0.0
    /// Over the last ten seconds.
    public var overTenSeconds = 0.0
    /// Over the last minute.
    public var overAMinute = 0.0

    mutating func add(_ other: Rates) {
      perSecond += other.perSecond
      overTenSeconds += other.overTenSeconds
      overAMinute += other.overAMinute
    }
  }

  /// Queues that these are of.
  public internal(set) var queues = 1
  /// Messages that are not with consumers.
  public internal(set) var length = 0
  /// Messages that are.
  public internal(set) var unacknowledged = 0
  /// Age of the oldest message, if the host knew it.
  public internal(set) var oldestAgeSeconds: Double?
  /// Consumers that are pushed to.
  public internal(set) var consumers = 0
  /// Those of them that have a message in flight.
  public internal(set) var busyConsumers = 0
  /// Since the start.
  public internal(set) var totals = QueueTotals()
  /// Messages that came.
  public internal(set) var arrivals = Rates()
  /// Deliveries.
  public internal(set) var deliveries = Rates()
  /// Deliveries that were settled, one way or the other.
  public internal(set) var settlements = Rates()

  // MARK: over the window

  /// How long the window is, one to two minutes, or since the start.
  public internal(set) var windowSeconds = 0.0
  /// The mean of `length` over time.
  public internal(set) var meanLength = 0.0
  /// The mean of `unacknowledged` over time.
  public internal(set) var meanUnacknowledged = 0.0
  /// Consumers' time with a message in flight, summed.
  public internal(set) var busySeconds = 0.0
  /// Consumers' time, summed.
  public internal(set) var consumerSeconds = 0.0
  /// λ for a model: messages that came or were returned, per second.
  public internal(set) var offeredRate = 0.0
  /// ca², nil when too few came. Of several queues: their mean, weighted with their rates, which is what the sum of
  /// many independent streams tends to over long times. Source: Whitt, "Approximating a Point Process", 1982.
  public internal(set) var arrivalVariability: Double?
  /// Times of consumers for a message, in seconds.
  public internal(set) var service = Moments()
  /// L = λW.
  public internal(set) var littlesLaw = LittlesLaw(
    intervalSeconds: 0, messageSeconds: 0, departures: 0, sojournSeconds: 0, presentAtStart: 0, presentAtEnd: 0,
    ageAtStart: 0, ageAtEnd: 0)

  // MARK: since the start

  /// From the broker's receiving a message until consumers may have it.
  public internal(set) var transfer = LatencyHistogram()
  /// From then, or from coming back, until the delivery.
  public internal(set) var waiting = LatencyHistogram()
  /// From the delivery until it was settled.
  public internal(set) var processing = LatencyHistogram()

  init() {}

  /// The share of their time that consumers were busy, 0…1; nil when there were none.
  public var utilisation: Double? { consumerSeconds > 0 ? min(1, busySeconds / consumerSeconds) : nil }

  /// M/M/c with what was measured, corrected for the variability of arrivals and processing; 1 where it is not known.
  ///
  /// nil without consumers, or when no message was settled in the window. Of several queues it is the model of one
  /// queue that all consumers serve, which waits no longer than queues whose consumers do not help each other.
  public var model: QueueingModel? {
    guard consumers > 0, service.count > 0, service.mean > 0 else { return nil }
    return try? QueueingModel(
      arrivalRate: offeredRate, serviceRate: 1 / service.mean, consumers: consumers,
      arrivalVariability: arrivalVariability ?? 1, serviceVariability: service.squaredVariation ?? 1)
  }

  /// Adds the figures of another queue, taken at the same time.
  public mutating func add(_ other: QueueFigures) {
    queues += other.queues
    length += other.length
    unacknowledged += other.unacknowledged
    oldestAgeSeconds = [oldestAgeSeconds, other.oldestAgeSeconds].compactMap { $0 }.max()
    consumers += other.consumers
    busyConsumers += other.busyConsumers
    totals.add(other.totals)
    arrivals.add(other.arrivals)
    deliveries.add(other.deliveries)
    settlements.add(other.settlements)
    windowSeconds = max(windowSeconds, other.windowSeconds)
    meanLength += other.meanLength
    meanUnacknowledged += other.meanUnacknowledged
    busySeconds += other.busySeconds
    consumerSeconds += other.consumerSeconds
    arrivalVariability = QueueFigures.weighted(
      arrivalVariability, offeredRate, other.arrivalVariability, other.offeredRate)
    offeredRate += other.offeredRate
    service.add(other.service)
    littlesLaw.add(other.littlesLaw)
    transfer.add(other.transfer)
    waiting.add(other.waiting)
    processing.add(other.processing)
  }

  private static func weighted(_ one: Double?, _ weight: Double, _ other: Double?, _ otherWeight: Double) -> Double? {
    guard let one else { return other }
    guard let other, weight + otherWeight > 0 else { return one }
    return (one * weight + other * otherWeight) / (weight + otherWeight)
  }
}
