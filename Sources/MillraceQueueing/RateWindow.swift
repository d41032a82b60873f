// RateWindow: exact counts of the last minute, in slots of one second.

import MillraceBase

/// What is counted by the second.
enum CountedEvent: Int, CaseIterable {
  case arrival
  case delivery
  case settlement
}

/// Counts of events in the current second and the 60 before it. Nothing is allocated before the first event.
struct RateWindow: Sendable {
  /// Of each slot, the events in order. A second's slot is its number modulo the number of slots.
  private var counts: [UInt32] = []
  /// The youngest second that something was counted in.
  private var youngest: Int64 = .min
  private static let slots = 61
  private static let width = CountedEvent.allCases.count
  /// Longest span that can be asked for.
  static let mostSeconds = 60

  private static func second(_ time: MonotonicTime) -> Int64 {
    // Rounds down, also below 0.
    time.nanoseconds >= 0 ? time.nanoseconds / 1_000_000_000 : ~(~time.nanoseconds / 1_000_000_000)
  }

  private static func slot(_ second: Int64) -> Int {
    let rest = Int(second % Int64(slots))
    return (rest < 0 ? rest + slots : rest) * width
  }

  /// Counts events; times must not go back by more than a minute.
  /// - Complexity: O(1), and at most one pass over the slots for each second that begins.
  mutating func count(_ event: CountedEvent, _ number: Int = 1, now: MonotonicTime) {
    let second = max(RateWindow.second(now), youngest)
    if second != youngest {
      if counts.isEmpty {
        counts = Array(repeating: 0, count: RateWindow.slots * RateWindow.width)
      } else if second - youngest >= Int64(RateWindow.slots) {
        for index in counts.indices { counts[index] = 0 }
      } else {
        for passed in youngest + 1...second {
          let slot = RateWindow.slot(passed)
          for index in slot..<slot + RateWindow.width { counts[index] = 0 }
        }
      }
      youngest = second
    }
    let index = RateWindow.slot(second) + event.rawValue
    let (sum, overflow) = counts[index].addingReportingOverflow(UInt32(clamping: number))
    counts[index] = overflow ? .max : sum
  }

  /// Events per second over the last `seconds` whole seconds and what has passed of the current one, or since `started`
  /// if that is later: the number of events in that time, divided by it.
  func rate(_ event: CountedEvent, seconds: Int, started: MonotonicTime, now: MonotonicTime) -> Double {
    guard !counts.isEmpty else { return 0 }
    let current = max(RateWindow.second(now), youngest)
    let first = current - Int64(min(max(seconds, 0), RateWindow.mostSeconds))
    var sum = 0
    for second in max(first, youngest - Int64(RateWindow.slots) + 1)...max(youngest, first) where second <= youngest {
      sum += Int(counts[RateWindow.slot(second) + event.rawValue])
    }
    let begin = max(first.multipliedReportingOverflow(by: 1_000_000_000).partialValue, started.nanoseconds)
    let span = now.nanoseconds - begin
    return span > 0 ? Double(sum) / (Double(span) / 1e9) : 0
  }

  /// Bytes on the heap.
  var heldBytes: Int { counts.isEmpty ? 0 : counts.capacity * 4 + 32 }
}
