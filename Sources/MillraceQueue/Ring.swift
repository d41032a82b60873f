// Ring: a bounded ring of slots that many threads fill and empty without a lock.
//
// Message number i lives in slot i mod `size`, a power of two of at least 2 and at least `capacity`. Each slot has a
// sequence number that says whose turn it is:
//
//   sequence[i mod size] == i              empty, waits for message i
//   sequence[i mod size] == i + 1          holds message i
//   sequence[i mod size] == i + size       message i was taken out; waits for message i + size
//
// `tail` is the number of the next message to be accepted, with the top bit set once the ring is closed; `head` is the
// number of the next message to be taken. A producer looks which slots from `tail` on are empty and claims a run of them
// by moving `tail` with one compare-and-swap; then it fills them and publishes each with its sequence number. Consumers do
// the same with `head`. Source: Dmitry Vyukov, "Bounded MPMC queue", 2010; the runs, the exact capacity and closing are ours.
//
// 1. Messages leave in the order in which `tail` accepted them; a run keeps its order.
// 2. Message i is accepted only once message i − capacity was taken out, so never more than `capacity` are held.
// 3. A slot is written only by the producer that claimed it and emptied only by the consumer that claimed it. Publishing
//    releases, looking acquires: whoever sees the sequence number sees the contents.
// 4. Once the closed bit is set no compare-and-swap of `tail` succeeds: what was accepted is fixed. The ring is finished
//    when `head` has reached `tail` after that.
// 5. A thread that stops between claim and publish delays those behind it; they see "empty" or "full" and sleep, and its
//    publishing wakes them.

import Synchronization

@usableFromInline
struct CacheLinePair {
  // Two lines of 64 bytes: processors fetch them in pairs.
  let words: InlineArray<16, UInt> = .init(repeating: 0)
}

/// What a ring answers to a producer.
@usableFromInline
enum Offer {
  case accepted
  case full
  case closed
}

/// Safety: the slots' contents are guarded by their sequence numbers (invariant 3).
@usableFromInline
final class Ring<Element: Sendable>: @unchecked Sendable {
  @usableFromInline let capacity: UInt
  @usableFromInline let size: UInt
  @usableFromInline let mask: UInt
  @usableFromInline let elements: UnsafeMutablePointer<Element>
  @usableFromInline let sequences: UnsafeMutablePointer<Atomic<UInt>>
  private let paddingBeforeTail = CacheLinePair()
  @usableFromInline let tail = Atomic<UInt>(0)
  private let paddingBeforeHead = CacheLinePair()
  @usableFromInline let head = Atomic<UInt>(0)
  private let paddingAfterHead = CacheLinePair()

  @inlinable static var closedBit: UInt { 1 << (UInt.bitWidth - 1) }

  init(capacity: Int) {
    var size: UInt = 2
    while size < UInt(capacity) { size <<= 1 }
    self.capacity = UInt(capacity)
    self.size = size
    mask = size - 1
    elements = .allocate(capacity: Int(size))
    sequences = .allocate(capacity: Int(size))
    for index in 0..<size { (sequences + Int(index)).initialize(to: Atomic(index)) }
  }

  deinit {
    let end = tail.load(ordering: .acquiring) & ~Self.closedBit
    var index = head.load(ordering: .acquiring)
    while index != end {
      (elements + Int(index & mask)).deinitialize(count: 1)
      index += 1
    }
    sequences.deinitialize(count: Int(size))
    sequences.deallocate()
    elements.deallocate()
  }

  @inlinable
  @inline(__always)
  func sequence(_ index: UInt) -> UInt { sequences[Int(index & mask)].load(ordering: .acquiring) }

  /// Whether slot `index` is empty and its message would not exceed the capacity (invariant 2).
  @inlinable
  @inline(__always)
  func isFree(_ index: UInt) -> Bool {
    guard sequence(index) == index else { return false }
    // With a capacity below the size, message `index − capacity` is another slot's and must be gone too.
    return capacity == size || sequence(index &- capacity) == index &- capacity &+ size
  }

  @inlinable
  @inline(__always)
  func isHeld(_ index: UInt) -> Bool { sequence(index) == index + 1 }

  @inlinable
  @inline(__always)
  func push(_ element: Element) -> Offer {
    var index = tail.load(ordering: .relaxed)
    while true {
      if index & Self.closedBit != 0 { return .closed }
      if isFree(index) {
        let (exchanged, seen) = tail.weakCompareExchange(expected: index, desired: index + 1, ordering: .relaxed)
        if exchanged {
          (elements + Int(index & mask)).initialize(to: element)
          sequences[Int(index & mask)].store(index + 1, ordering: .releasing)
          return .accepted
        }
        index = seen
      } else {
        let seen = tail.load(ordering: .relaxed)
        if seen == index { return .full }
        index = seen
      }
    }
  }

  /// Accepts as many of `source` as there is room for, as one run; `.full` only when none.
  @inlinable
  func push(_ source: UnsafeBufferPointer<Element>, count accepted: inout Int) -> Offer {
    accepted = 0
    guard let from = source.baseAddress, source.count > 0 else { return .accepted }
    let wanted = min(UInt(source.count), capacity)
    var index = tail.load(ordering: .relaxed)
    while true {
      if index & Self.closedBit != 0 { return .closed }
      var run: UInt = 0
      while run < wanted && isFree(index + run) { run += 1 }
      if run > 0 {
        let (exchanged, seen) = tail.weakCompareExchange(expected: index, desired: index + run, ordering: .relaxed)
        if exchanged {
          let slot = Int(index & mask)
          let first = min(Int(run), Int(size) - slot)
          (elements + slot).initialize(from: from, count: first)
          if first < Int(run) { elements.initialize(from: from + first, count: Int(run) - first) }
          for number in index..<(index + run) {
            sequences[Int(number & mask)].store(number + 1, ordering: .releasing)
          }
          accepted = Int(run)
          return .accepted
        }
        index = seen
      } else {
        let seen = tail.load(ordering: .relaxed)
        if seen == index { return .full }
        index = seen
      }
    }
  }

  @inlinable
  @inline(__always)
  func pop() -> Element? {
    var index = head.load(ordering: .relaxed)
    while true {
      if isHeld(index) {
        let (exchanged, seen) = head.weakCompareExchange(expected: index, desired: index + 1, ordering: .relaxed)
        if exchanged {
          let element = (elements + Int(index & mask)).move()
          sequences[Int(index & mask)].store(index + size, ordering: .releasing)
          return element
        }
        index = seen
      } else {
        let seen = head.load(ordering: .relaxed)
        if seen == index { return nil }
        index = seen
      }
    }
  }

  /// Moves a run of at most `maximum` messages to the end of `out`.
  /// - Returns: how many.
  @inlinable
  func pop(into out: inout [Element], maximum: Int) -> Int {
    guard maximum > 0 else { return 0 }
    let wanted = min(UInt(maximum), capacity)
    var index = head.load(ordering: .relaxed)
    while true {
      var run: UInt = 0
      while run < wanted && isHeld(index + run) { run += 1 }
      if run > 0 {
        let (exchanged, seen) = head.weakCompareExchange(expected: index, desired: index + run, ordering: .relaxed)
        if exchanged {
          let slot = Int(index & mask)
          let first = min(Int(run), Int(size) - slot)
          take(slot, first, &out)
          if first < Int(run) { take(0, Int(run) - first, &out) }
          for number in index..<(index + run) {
            sequences[Int(number & mask)].store(number + size, ordering: .releasing)
          }
          return Int(run)
        }
        index = seen
      } else {
        let seen = head.load(ordering: .relaxed)
        if seen == index { return 0 }
        index = seen
      }
    }
  }

  @inlinable
  @inline(__always)
  func take(_ slot: Int, _ count: Int, _ out: inout [Element]) {
    out.append(contentsOf: UnsafeBufferPointer(start: elements + slot, count: count))
    (elements + slot).deinitialize(count: count)
  }

  /// Accepts nothing from here on.
  func close() { tail.bitwiseOr(Self.closedBit, ordering: .sequentiallyConsistent) }

  /// Whether nothing more is accepted.
  var isClosed: Bool { tail.load(ordering: .acquiring) & Self.closedBit != 0 }

  /// Whether the ring is closed and the last message was claimed.
  @usableFromInline var isFinished: Bool {
    let end = tail.load(ordering: .acquiring)
    return end & Self.closedBit != 0 && head.load(ordering: .acquiring) == end & ~Self.closedBit
  }

  /// Whether a producer that looks now gets an answer other than "full".
  @usableFromInline var isWritable: Bool {
    let index = tail.load(ordering: .acquiring)
    return index & Self.closedBit != 0 || isFree(index)
  }

  /// Whether a consumer that looks now gets a message, or the end.
  @usableFromInline var isReadable: Bool { isHeld(head.load(ordering: .acquiring)) || isFinished }

  /// Messages accepted and not claimed, as far as one look can tell.
  var count: Int {
    let first = head.load(ordering: .acquiring)
    let end = tail.load(ordering: .acquiring) & ~Self.closedBit
    return min(Int(capacity), end > first ? Int(end - first) : 0)
  }

  /// Number of the next message to be accepted.
  var end: UInt { tail.load(ordering: .acquiring) & ~Self.closedBit }

  /// Number of the next message to be taken.
  var start: UInt { head.load(ordering: .acquiring) }
}
