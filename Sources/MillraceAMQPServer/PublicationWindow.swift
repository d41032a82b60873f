// PublicationWindow: a channel's publications between being handed to the broker and being settled, and what is to be told.
//
//   first … settled and told │ settled │ unsettled … │ next
//
// Numbers are given from 1 on, whether or not confirms were asked for; those below the number from which on they were are
// never told.

import MillraceBase

/// A channel's publications, by number, until they are settled and told. A pure state machine.
struct PublicationWindow {
  private enum State: UInt8 { case waiting, accepted, refused, told }

  private struct Entry {
    var size: UInt32
    var state: State
  }

  private var entries = Deque<Entry>()
  /// The number of the first entry.
  private var first: UInt64 = 1
  /// Number of the last publication that is not confirmed; nil when none are.
  private var unconfirmedThrough: UInt64?
  /// Settled and not told.
  private var fresh: [UInt64] = []
  /// Publications that are not settled.
  private(set) var waiting = 0
  /// Their bytes.
  private(set) var bytes = 0

  /// An answer: `basic.ack` or `basic.nack`.
  struct Answer: Equatable {
    /// The client's number.
    var number: UInt64
    var isMultiple: Bool
    var isAccepted: Bool
  }

  /// Whether there is something to be told.
  var hasAnswers: Bool { !fresh.isEmpty }
  /// Whether publications are confirmed.
  var isConfirming: Bool { unconfirmedThrough != nil }

  /// Publications from now on are confirmed, and numbered from 1. Once only; more often means nothing.
  mutating func confirm() {
    if unconfirmedThrough == nil { unconfirmedThrough = first + UInt64(entries.count) - 1 }
  }

  /// One more publication.
  /// - Returns: its number in this window.
  mutating func add(size: Int) -> UInt64 {
    entries.append(Entry(size: UInt32(clamping: size), state: .waiting))
    waiting += 1
    bytes += Int(UInt32(clamping: size))
    return first + UInt64(entries.count) - 1
  }

  /// The newest one takes more memory than was known.
  /// - Returns: the bytes that it counts for in addition.
  mutating func grow(by extra: Int) -> Int {
    let index = entries.count - 1
    guard index >= 0, entries[index].state == .waiting else { return 0 }
    let before = entries[index].size
    entries[index].size = UInt32(clamping: Int(before) + extra)
    bytes += Int(entries[index].size - before)
    return Int(entries[index].size - before)
  }

  /// The newest one was not taken at all: its number is given again.
  /// - Returns: its bytes.
  mutating func withdraw() -> Int {
    guard let entry = entries.popLast() else { preconditionFailure("nothing was published") }
    precondition(entry.state == .waiting, "a publication that is settled was withdrawn")
    waiting -= 1
    bytes -= Int(entry.size)
    return Int(entry.size)
  }

  /// A publication is settled.
  /// - Returns: its bytes; 0 when it was settled before.
  mutating func settle(_ number: UInt64, isAccepted: Bool) -> Int {
    guard number >= first, number - first < UInt64(entries.count) else { return 0 }
    let index = Int(number - first)
    guard entries[index].state == .waiting else { return 0 }
    let size = Int(entries[index].size)
    waiting -= 1
    bytes -= size
    if let unconfirmedThrough, number > unconfirmedThrough {
      entries[index].state = isAccepted ? .accepted : .refused
      fresh.append(number)
    } else {
      entries[index].state = .told
      if index == 0 { dropTold() }
    }
    return size
  }

  private mutating func dropTold() {
    while let entry = entries.first, entry.state == .told {
      entries.removeFirst()
      first += 1
    }
  }

  /// What is to be told: runs of equal outcome from the first one on with one answer each, then single ones.
  mutating func takeAnswers(_ answer: (Answer) -> Void) {
    guard !fresh.isEmpty, let base = unconfirmedThrough else { return }
    let settled = fresh
    fresh = []
    var run: (last: UInt64, count: Int, isAccepted: Bool)?
    func tell() {
      guard let run else { return }
      answer(Answer(number: run.last - base, isMultiple: run.count > 1, isAccepted: run.isAccepted))
    }
    while let entry = entries.first, entry.state != .waiting {
      if entry.state != .told {
        let isAccepted = entry.state == .accepted
        if let current = run, current.isAccepted == isAccepted {
          run = (first, current.count + 1, isAccepted)
        } else {
          tell()
          run = (first, 1, isAccepted)
        }
      }
      entries.removeFirst()
      first += 1
    }
    tell()
    for number in settled where number >= first {
      let index = Int(number - first)
      answer(Answer(number: number - base, isMultiple: false, isAccepted: entries[index].state == .accepted))
      entries[index].state = .told
    }
  }
}
