// NexmarkGenerator: the events of the Nexmark benchmark, each a function of its number, as nexmark-rs 0.2 makes them.
//
// Of 50 events in a row the first is a person, the next three are auctions and the rest are bids. Events refer to persons and
// auctions by ids: mostly to few popular ones, else to recent ones or some that will come soon.

import MillraceBase
import MillraceDataflow

/// Makes events. A value: copies in several threads give the same events for the same numbers.
public struct NexmarkGenerator: Equatable, Sendable {
  /// How an event's time follows from its number.
  public enum Times: Sendable {
    /// In whole numbers, rounded to the nearest millisecond.
    case exact
    /// In 32-bit floating point, as nexmark-rs computes it. At 10,000 events a second the first time that differs from the
    /// exact one is that of event 671,105; of the first 16,777,216 one in a hundred does, by one millisecond. Beyond
    /// 168 million events whole milliseconds are lost.
    case float32
  }

  /// When the first event happens: 2015-07-15T00:00:00Z.
  public static let baseTime = Timestamp(milliseconds: 1_436_918_400_000)
  /// Numbers of events lie below this.
  public static let eventLimit: Int64 = 1 << 50
  /// Events a second that can be asked for.
  public static let rates: ClosedRange<Int64> = 1...1_000_000_000
  /// Room that ``encode(_:into:)`` needs.
  public static let encodedSizeLimit = 640

  /// Events in a second of event time.
  public let rate: Int64
  /// How times are computed.
  public let times: Times
  /// Microseconds between two events.
  private let delay: Float

  /// A generator.
  /// - Parameters:
  ///   - rate: events in a second of event time, one of ``rates``.
  ///   - times: how times follow from numbers.
  public init(rate: Int64 = 10_000, times: Times = .exact) {
    precondition(NexmarkGenerator.rates.contains(rate), "\(rate) events a second")
    self.rate = rate
    self.times = times
    delay = 1_000_000 / Float(rate)
  }

  /// When event `number` happens. Later events never happen earlier.
  public func time(of number: Int64) -> Timestamp {
    Timestamp(milliseconds: NexmarkGenerator.baseTime.milliseconds + sinceBase(number))
  }

  @inline(__always)
  func sinceBase(_ number: Int64) -> Int64 {
    switch times {
    case .exact: (2000 &* number &+ rate) / (2 &* rate)
    case .float32: NexmarkGenerator.rounded(Float(number) * delay / 1000)
    }
  }

  /// To the nearest whole number, halves up; exact, which adding a half in 32 bits is not. For numbers from 0.
  @inline(__always)
  static func rounded(_ value: Float) -> Int64 {
    let whole = Int64(value)
    return value - Float(whole) >= 0.5 ? whole + 1 : whole
  }

  /// Event `number` as a value.
  public func event(_ number: Int64) -> NexmarkEvent {
    withUnsafeTemporaryAllocation(byteCount: NexmarkGenerator.encodedSizeLimit, alignment: 16) { room in
      let size = encode(number, into: room)
      do throws(DecodingError) {
        return try NexmarkEvent(EncodedEvent(UnsafeRawBufferPointer(rebasing: room[..<size])))
      } catch {
        preconditionFailure("event \(number) was encoded wrongly: \(error)")
      }
    }
  }
}

/// Ids of persons and auctions around an event.
enum NexmarkIDs {
  static let first: Int64 = 1000
  /// Events after which kinds repeat; 1 person, 3 auctions, 46 bids.
  static let cycle: Int64 = 50
  /// Auctions that are open at a time, and the events that it takes to open as many.
  static let openAuctions: Int64 = 100
  static let openEvents: Int64 = openAuctions * cycle / 3
  /// Persons that sell and bid at a time.
  static let activePersons: Int64 = 1000
  /// How many ids beyond the last one are referred to.
  static let lead: Int64 = 10
  /// One of so many persons or auctions is popular.
  static let popularity: Int64 = 100

  /// The person that was the last at an event, from 0.
  @inline(__always)
  static func lastPerson(_ number: Int64) -> Int64 { number / cycle }

  /// The auction that was the last at an event, from 0; −1 at event 0, before any.
  @inline(__always)
  static func lastAuction(_ number: Int64) -> Int64 {
    let (epoch, place) = number.quotientAndRemainder(dividingBy: cycle)
    return epoch &* 3 &+ min(place, 3) &- 1
  }

  /// A person that is active about then, from 0.
  @inline(__always)
  static func somePerson(_ number: Int64, _ random: inout EventRandom) -> Int64 {
    let persons = lastPerson(number) &+ 1
    let active = min(persons, activePersons)
    return persons &- active &+ Int64(random.below(UInt64(active &+ lead)))
  }

  /// An auction that is open about then, from 0.
  @inline(__always)
  static func someAuction(_ number: Int64, _ random: inout EventRandom) -> Int64 {
    let last = lastAuction(number)
    let oldest = max(0, last &- openAuctions)
    return oldest &+ Int64(random.below(UInt64(last &- oldest &+ 1 &+ lead)))
  }
}
