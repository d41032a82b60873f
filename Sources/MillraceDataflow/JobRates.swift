// JobRates: what a job does in a second.

import MillraceBase

/// What a job does in a second, on average over some time.
public struct JobRates: Equatable, Sendable {
  /// Records read.
  public var recordsIn = 0.0
  /// Records emitted.
  public var recordsOut = 0.0
  /// Bytes of record batches read.
  public var bytesIn = 0.0
  /// Steps handed over.
  public var steps = 0.0
  /// Commits that became durable.
  public var commits = 0.0
  /// Threads that were busy, on average.
  public var busy = 0.0

  /// Nothing.
  public init() {}
}

/// The last figures of a job, at most one set a second, that its rates are made from.
struct JobSamples {
  private typealias Sample = (time: MonotonicTime, figures: [Double])
  private var ring = Deque<Sample>()
  private static let interval = Duration.seconds(1)
  private static let most = 11

  private static func values(_ figures: JobFigures) -> [Double] {
    [
      Double(figures.recordsIn), Double(figures.recordsOut), Double(figures.bytesIn), Double(figures.steps),
      Double(figures.commits), figures.busy / .seconds(1),
    ]
  }

  /// Sets the rates of `figures`, which are of now.
  mutating func rate(_ figures: inout JobFigures, now: MonotonicTime) {
    let values = JobSamples.values(figures)
    if ring.last.map({ now - $0.time >= JobSamples.interval }) ?? true {
      ring.append((now, values))
      if ring.count > JobSamples.most { ring.removeFirst() }
    }
    figures.lastSecond = rates(values, now, over: JobSamples.interval)
    figures.lastTenSeconds = rates(values, now, over: JobSamples.interval * 10)
  }

  /// Over the time since the youngest sample that is at least `age` old, else since the oldest.
  private func rates(_ values: [Double], _ now: MonotonicTime, over age: Duration) -> JobRates {
    var rates = JobRates()
    let index = (0..<ring.count).last { now - ring[$0].time >= age } ?? 0
    guard index < ring.count, now > ring[index].time else { return rates }
    let seconds = (now - ring[index].time) / .seconds(1)
    let each = zip(values, ring[index].figures).map { max(0, $0 - $1) / seconds }
    rates.recordsIn = each[0]
    rates.recordsOut = each[1]
    rates.bytesIn = each[2]
    rates.steps = each[3]
    rates.commits = each[4]
    rates.busy = each[5]
    return rates
  }
}
