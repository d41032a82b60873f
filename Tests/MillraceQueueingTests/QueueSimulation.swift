// QueueSimulation: a queue with c consumers, event by event, from one seed; what theory and meter are held against.

import Foundation
import MillraceBase

@testable import MillraceQueueing

/// Draws times with a given mean.
enum Distribution {
  /// cs² = 1.
  case exponential
  /// cs² = 0.
  case constant
  /// Sum of two exponential times: cs² = 1/2.
  case erlang
  /// With probability 1/10 eleven times as long as otherwise, both exponential: cs² = 2·(0.9·0.5² + 0.1·5.5²) − 1.
  case mixed

  func draw(mean: Double, _ random: inout SeededRandom) -> Double {
    func exponential(_ mean: Double) -> Double { -mean * log(1 - Double.random(in: 0..<1, using: &random)) }
    switch self {
    case .exponential: return exponential(mean)
    case .constant: return mean
    case .erlang: return exponential(mean / 2) + exponential(mean / 2)
    case .mixed: return random.oneIn(10) ? exponential(mean * 5.5) : exponential(mean / 2)
    }
  }

  var squaredVariation: Double {
    switch self {
    case .exponential: 1
    case .constant: 0
    case .erlang: 0.5
    case .mixed: 5.5
    }
  }
}

/// Runs messages through a queue. Each consumer gets up to `prefetch` messages and processes them one after the other.
struct QueueSimulation {
  var arrivalRate: Double
  var serviceRate: Double
  var consumers: Int
  var arrivals = Distribution.exponential
  var services = Distribution.exponential
  var prefetch = 1
  var seed: UInt64

  struct Outcome {
    /// Time before processing begins, of each message in order of arrival.
    var waits: [Double] = []
    /// Over all time: messages not delivered; delivered and not settled.
    var meanReady = 0.0
    var meanUnacknowledged = 0.0
    /// Share of consumers' time spent processing.
    var utilisation = 0.0
    var end = 0.0
    var meter: QueueMeter
  }

  private struct Server {
    var held: [(message: Int, arrived: Double)] = []
    var head = 0
    var finish = Double.infinity
    var meter = ConsumerMeter()
    var count: Int { held.count - head }
  }

  /// - Parameter isMetered: whether events are told to a meter.
  func run(messages: Int, isMetered: Bool = true) -> Outcome {
    var random = SeededRandom(seed: seed)
    var outcome = Outcome(meter: QueueMeter(now: MonotonicTime(nanoseconds: 0)))
    var servers = Array(repeating: Server(), count: consumers)
    if isMetered {
      for index in servers.indices { outcome.meter.joined(&servers[index].meter, now: MonotonicTime(nanoseconds: 0)) }
    }
    outcome.waits = Array(repeating: 0, count: messages)
    var waiting: [(message: Int, arrived: Double)] = []
    var (head, arrived, unacknowledged, done) = (0, 0, 0, 0)
    var now = 0.0
    var busy = 0.0
    var nextArrival = arrivals.draw(mean: 1 / arrivalRate, &random)

    func time(_ seconds: Double) -> MonotonicTime { MonotonicTime(nanoseconds: Int64(seconds * 1e9)) }
    func begin(_ index: Int) {
      let (message, came) = servers[index].held[servers[index].head]
      let service = services.draw(mean: 1 / serviceRate, &random)
      outcome.waits[message] = now - came
      servers[index].finish = now + service
      busy += service
    }

    while done < messages {
      var first = 0
      for index in servers.indices where servers[index].finish < servers[first].finish { first = index }
      let next = min(nextArrival, servers[first].finish)
      outcome.meanReady += Double(waiting.count - head) * (next - now)
      outcome.meanUnacknowledged += Double(unacknowledged) * (next - now)
      now = next
      let stamp = time(now)
      if servers[first].finish <= nextArrival {
        let message = servers[first].held[servers[first].head].message
        servers[first].head += 1
        servers[first].finish = .infinity
        unacknowledged -= 1
        done += 1
        if isMetered {
          outcome.meter.acknowledged(MessageKey(offset: Int64(message)), by: &servers[first].meter, now: stamp)
        }
        if servers[first].count > 0 { begin(first) } else { (servers[first].held, servers[first].head) = ([], 0) }
      } else {
        waiting.append((arrived, now))
        if isMetered { outcome.meter.arrived(receivedAt: stamp, now: stamp) }
        arrived += 1
        nextArrival = arrived < messages ? now + arrivals.draw(mean: 1 / arrivalRate, &random) : .infinity
      }
      // To whoever has least, so that nobody is idle while another holds two.
      while head < waiting.count, let index = servers.indices.min(by: { servers[$0].count < servers[$1].count }),
        servers[index].count < prefetch
      {
        let message = waiting[head]
        head += 1
        servers[index].held.append(message)
        unacknowledged += 1
        if servers[index].count == 1 { begin(index) }
        if isMetered {
          outcome.meter.delivered(
            MessageKey(offset: Int64(message.message)), arrivedAt: time(message.arrived), isRedelivered: false,
            to: &servers[index].meter, now: stamp)
        }
      }
      if head > 1000, head * 2 > waiting.count {
        waiting.removeFirst(head)
        head = 0
      }
      if isMetered {
        outcome.meter.observe(ready: waiting.count - head, unacknowledged: unacknowledged, now: stamp)
      }
    }
    outcome.end = now
    outcome.meanReady /= now
    outcome.meanUnacknowledged /= now
    outcome.utilisation = busy / now / Double(consumers)
    return outcome
  }
}

/// Mean of values that depend on their neighbours, and the standard error of that mean, from the means of 20 batches.
func batchMeans(_ values: [Double], skipping warmUp: Int) -> (mean: Double, error: Double) {
  let size = (values.count - warmUp) / 20
  let means = (0..<20).map { batch in
    values[warmUp + batch * size..<warmUp + (batch + 1) * size].reduce(0, +) / Double(size)
  }
  let mean = means.reduce(0, +) / 20
  let variance = means.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 19
  return (mean, (variance / 20).squareRoot())
}
