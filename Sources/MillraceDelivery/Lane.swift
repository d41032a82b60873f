// Lane: one priority's cursor over its log: the window of loaded messages, and what is in flight behind it.
//
//   0 … all done … │ stragglers │ base … in flight, returned … │ cursor … loaded, ready … │ loadedEnd … in the log … │ end
//                     a table      └──────────── a ring of slots, indexed by offset ────────┘
//
// Invariants:
// 1. A message below `loadedEnd` that is not done has a slot, in the ring from `base` on, in the table below it.
// 2. Slots from `cursor` on are ready or done; ready ones hold their message. Those below are anything but ready.
// 3. Offsets at or above `loadedEnd` are untouched, but for the ones in `known`, which were done before the restart, or
//    do not exist.
// 4. The ring is at most `windowMessages` or 1,024 slots long, or 8 times the number of its slots that are not done, whichever is more.
// 5. `undone` counts the messages below `end` that are not done, `inFlight` those of them in flight; the bytes likewise.

import MillraceBase
import MillraceModel

/// What a lane knows of a message that is not done. 32 bytes.
struct Slot {
  enum State: UInt8 {
    case done
    /// Not delivered yet, ahead of the cursor.
    case ready
    /// Delivered, not settled.
    case inFlight
    /// In the order of its offset before all that is ahead of the cursor.
    case returned
    /// In the queue's index by time; `deadline` is when it is due.
    case delayed
    /// Waits until its key is free.
    case blocked
  }

  /// The content; nil when it was let go of and must be loaded again.
  var message: Message?
  /// In flight: when it is taken back; delayed: when it is due. In ms.
  var deadline: Int64 = .max
  var size: UInt32 = 0
  /// Index of the consumer it is in flight with.
  var consumer: Int32 = -1
  /// Number of its group key, once that was claimed or waited for.
  var key: Int32 = -1
  var state = State.done
  /// Whether it was delivered before.
  var isRedelivery = false

  /// All but the content: reading it touches no reference count.
  struct Facts {
    var deadline: Int64
    var consumer: Int32
    var key: Int32
    var size: UInt32
    var state: State
    var isRedelivery: Bool
    var isHeld: Bool
  }

  var facts: Facts {
    @inline(__always) get {
      Facts(
        deadline: deadline, consumer: consumer, key: key, size: size, state: state, isRedelivery: isRedelivery,
        isHeld: message != nil)
    }
  }
}

struct Lane {
  let number: UInt8
  private(set) var base: Offset
  private(set) var cursor: Offset
  private(set) var loadedEnd: Offset
  private(set) var end: Offset
  private var ring: [Slot] = []
  private var ringLive = 0
  private(set) var stragglers: [Offset: Slot] = [:]
  var known: OffsetRanges
  var counts: [Offset: Int32]
  var delays: [Offset: Int64]
  /// Offsets of returned ones, and perhaps of some that have gone since.
  var returned = Heap<Offset>()
  private(set) var undone: Int
  private(set) var undoneBytes: Int64
  private(set) var inFlight = 0
  private(set) var inFlightBytes: Int64 = 0
  /// Content held ahead of the cursor, and behind it.
  private(set) var readyBytes = 0
  private(set) var heldBytes = 0
  /// Done ones below this were delivered in an earlier life, so what is left may have been, too.
  let redeliveredBelow: Offset
  /// A load of the window is under way; one of returned content is.
  var isLoading = false
  var isFetching = false
  /// Done and not yet in a commit.
  private(set) var pending: [Range<Offset>] = []
  private(set) var pendingBytes: Int64 = 0
  /// Sum of the sizes of what is done, from the lane's beginning.
  private var committedBytes: Int64
  var doneBytes: Int64 { committedBytes + pendingBytes }

  /// What sums of sizes from before a restart are taken for at most, so that those of all lanes can be added up.
  private static let largestSum: Int64 = 1 << 54

  /// The ring may be as long, whatever is in it.
  private let smallestRing: Int

  init(number: UInt8, state: QueueState.Lane, end: Offset, bytes: Int64, window: Int) {
    self.number = number
    smallestRing = min(max(window, 16), 1024)
    let start = state.start
    base = start
    cursor = start
    loadedEnd = start
    self.end = max(end, state.done.ranges.last?.upperBound ?? start)
    known = state.done
    committedBytes = min(state.doneBytes, Lane.largestSum)
    counts = state.counts
    delays = state.delays.mapValues(\.milliseconds)
    undone = Int(self.end - start) - known.count
    // A host that does not know the bytes says 0.
    undoneBytes = undone == 0 ? 0 : max(min(max(bytes, 0), Lane.largestSum) - committedBytes, 0)
    redeliveredBelow = state.done.ranges.last?.upperBound ?? start
  }

  // MARK: slots

  /// Messages loaded and not yet delivered, done ones among them.
  var loaded: Int { Int(loadedEnd - cursor) }

  @inline(__always) private func index(_ offset: Offset) -> Int {
    Int(truncatingIfNeeded: offset) & (ring.count &- 1)
  }

  /// The slot of a message that is not done and that the lane has come to. Changes nothing: `mutating` makes the compiler
  /// look into the lane where it lies, in an array, instead of copying all of it first, which cost half of the time.
  @inline(__always) mutating func slot(_ offset: Offset) -> Slot? {
    if offset >= base {
      guard offset < loadedEnd else { return nil }
      let slot = ring[index(offset)]
      return slot.state == .done ? nil : slot
    }
    return stragglers.isEmpty ? nil : stragglers[offset]
  }

  /// The slot without its content; nil as for ``slot(_:)``.
  @inline(__always) mutating func facts(_ offset: Offset) -> Slot.Facts? {
    guard offset >= base else { return stragglers.isEmpty ? nil : stragglers[offset]?.facts }
    guard offset < loadedEnd else { return nil }
    let facts = ring[index(offset)].facts
    return facts.state == .done ? nil : facts
  }

  @inline(__always) private mutating func change(_ offset: Offset, _ body: (inout Slot) -> Void) {
    if offset >= base {
      body(&ring[index(offset)])
    } else {
      body(&stragglers[offset]!)
    }
  }

  private mutating func growRing() {
    var larger = [Slot](repeating: Slot(), count: max(64, 2 * ring.count))
    let mask = larger.count - 1
    for offset in base..<loadedEnd { larger[Int(truncatingIfNeeded: offset) & mask] = ring[index(offset)] }
    ring = larger
  }

  /// Puts a slot at `loadedEnd`.
  private mutating func append(_ slot: Slot) {
    if slot.state == .done, base == loadedEnd {
      loadedEnd += 1
      base = loadedEnd
      cursor = loadedEnd
      return
    }
    if Int(loadedEnd - base) == ring.count { growRing() }
    ring[index(loadedEnd)] = slot
    loadedEnd += 1
    if slot.state != .done { ringLive += 1 }
  }

  /// Every offset the lane has come to and is not done with, ascending in each part.
  func forEachSlot(_ body: (Offset, Slot) -> Void) {
    for (offset, slot) in stragglers.sorted(by: { $0.key < $1.key }) { body(offset, slot) }
    for offset in base..<loadedEnd where ring[index(offset)].state != .done { body(offset, ring[index(offset)]) }
  }

  /// As ``forEachSlot(_:)``, as long as `body` wants more.
  func walkSlots(while body: (Offset, Slot) -> Bool) {
    for (offset, slot) in stragglers.sorted(by: { $0.key < $1.key }) {
      if !body(offset, slot) { return }
    }
    for offset in base..<loadedEnd where ring[index(offset)].state != .done {
      if !body(offset, ring[index(offset)]) { return }
    }
  }

  // MARK: what comes in

  /// The log has grown up to `end`; `bytes` is the size of what came.
  mutating func extend(to end: Offset, bytes: Int64) {
    undone += Int(end - self.end)
    undoneBytes += bytes
    self.end = end
  }

  /// These offsets, at the lane's end, hold no messages.
  mutating func skip(to end: Offset) {
    known.insert(self.end..<end)
    note(self.end..<end, bytes: 0)
    self.end = end
  }

  /// Takes a message of the log's into the window. Its offset must be `loadedEnd`; one that is known to be done is passed
  /// over.
  mutating func admit(_ message: Message) {
    precondition(message.offset == loadedEnd, "message \(message.offset) loaded at \(loadedEnd)")
    if !known.isEmpty, known.contains(loadedEnd) {
      append(Slot())
      return
    }
    let size = UInt32(clamping: max(message.size, 0))
    append(Slot(message: message, size: size, state: .ready, isRedelivery: loadedEnd < redeliveredBelow))
    readyBytes += Int(size)
  }

  /// Passes over offsets known to be done at `loadedEnd`, so that they need not be read.
  mutating func skipKnown() {
    while let range = known.ranges.first, range.lowerBound <= loadedEnd {
      if range.upperBound > loadedEnd {
        if range.upperBound - loadedEnd <= 64 {
          while loadedEnd < range.upperBound { append(Slot()) }
        } else {
          advanceCursor()
          guard cursor == loadedEnd else { return }
          jump(to: range.upperBound)
        }
      }
      known.removeFirst()
    }
  }

  /// Moves the window, which must be empty, to `offset`; what is in flight behind it goes into the table.
  private mutating func jump(to offset: Offset) {
    while base < loadedEnd { shift() }
    base = offset
    cursor = offset
    loadedEnd = offset
    end = max(end, offset)
  }

  /// The offsets from `loadedEnd` to `upper` hold no messages: they are done.
  mutating func lose(to upper: Offset) {
    var lost = OffsetRanges([loadedEnd..<upper])
    for range in known.ranges where range.overlaps(loadedEnd..<upper) {
      lost = lost.subtracting(range)
    }
    for range in lost.ranges {
      undone -= range.count
      note(range, bytes: 0)
      known.insert(range)
    }
    // What was counted before a restart and is lost before it was loaded again.
    if !counts.isEmpty { counts = counts.filter { !lost.contains($0.key) } }
    if !delays.isEmpty { delays = delays.filter { !lost.contains($0.key) } }
    settleBytes()
    skipKnown()
  }

  /// Content for a message that waits without any.
  mutating func fill(_ message: Message) {
    guard let slot = slot(message.offset), slot.message == nil, slot.state == .returned else { return }
    change(message.offset) { $0.message = message }
    heldBytes += Int(slot.size)
  }

  // MARK: what changes

  /// Moves the cursor over what is done, to the next ready message or the window's end.
  @inline(__always) mutating func advanceCursor() {
    if cursor < base { cursor = base }
    while cursor < loadedEnd, ring[index(cursor)].state != .ready { cursor += 1 }
  }

  /// Hands `offset` to `consumer`. Its content is kept while there is room for it.
  @inline(__always)
  mutating func deliver(_ offset: Offset, to consumer: Int32, deadline: Int64, key: Int32, room: Int) {
    var size = 0
    var isHeld = false
    var wasReady = false
    change(offset) { slot in
      size = Int(slot.size)
      wasReady = slot.state == .ready
      isHeld = slot.message != nil
      slot.state = .inFlight
      slot.consumer = consumer
      slot.deadline = deadline
      slot.key = key
    }
    if isHeld {
      if wasReady { readyBytes -= size } else { heldBytes -= size }
      hold(offset, size: size, room: room)
    }
    inFlight += 1
    inFlightBytes += Int64(size)
    if wasReady { cursor = offset + 1 }
  }

  /// The slot's content no longer counts where it did.
  @inline(__always) private mutating func release(_ slot: Slot.Facts) {
    if slot.state == .ready { readyBytes -= Int(slot.size) } else { heldBytes -= Int(slot.size) }
  }

  @inline(__always) private mutating func hold(_ offset: Offset, size: Int, room: Int) {
    if heldBytes + size <= room {
      heldBytes += size
    } else {
      change(offset) { $0.message = nil }
    }
  }

  /// Moves a message that is not in flight, or no longer, to `state`.
  mutating func park(_ offset: Offset, as state: Slot.State, due: Int64 = .max, key: Int32, room: Int) {
    guard let slot = facts(offset) else { preconditionFailure("message \(offset) is done") }
    let size = Int(slot.size)
    if slot.isHeld { release(slot) }
    if slot.state == .inFlight {
      inFlight -= 1
      inFlightBytes -= Int64(size)
    }
    change(offset) {
      if $0.state == .inFlight { $0.isRedelivery = true }
      $0.state = state
      $0.consumer = -1
      $0.deadline = due
      $0.key = key
      // What waits for a time is read again when that has come.
      if state == .delayed { $0.message = nil }
    }
    if slot.isHeld, state != .delayed { hold(offset, size: size, room: room) }
    if state == .returned { returned.push(offset) }
    if slot.state == .ready { cursor = offset + 1 }
  }

  mutating func setDeadline(_ offset: Offset, _ deadline: Int64) { change(offset) { $0.deadline = deadline } }

  /// The message is done: it leaves the lane, and enters the next commit.
  @inline(__always) @discardableResult
  mutating func finish(_ offset: Offset) -> Slot.Facts {
    guard let slot = facts(offset) else { preconditionFailure("message \(offset) is done already") }
    let size = Int(slot.size)
    if slot.isHeld { release(slot) }
    if slot.state == .inFlight {
      inFlight -= 1
      inFlightBytes -= Int64(size)
    }
    undone -= 1
    undoneBytes = max(undoneBytes - Int64(size), inFlightBytes)
    if undone == 0 { settleBytes() }
    if !counts.isEmpty { counts[offset] = nil }
    if !delays.isEmpty { delays[offset] = nil }
    note(offset..<offset + 1, bytes: Int64(size))
    if offset >= base {
      ring[index(offset)] = Slot()
      ringLive -= 1
      while base < loadedEnd, ring[index(base)].state == .done { base += 1 }
      if cursor < base { cursor = base }
      shorten()
    } else {
      stragglers[offset] = nil
    }
    return slot
  }

  /// Keeps the ring in proportion to what is in it: stragglers that hold its start go into the table.
  private mutating func shorten() {
    while Int(loadedEnd - base) > smallestRing, Int(loadedEnd - base) > 8 * ringLive, base < cursor { shift() }
  }

  private mutating func shift() {
    let slot = ring[index(base)]
    if slot.state != .done {
      stragglers[base] = slot
      ringLive -= 1
      ring[index(base)] = Slot()
    }
    base += 1
  }

  /// Everything that was not loaded yet is done. The window must be empty of ready messages.
  /// - Returns: how many messages that were.
  mutating func finishUnloaded() -> Int {
    advanceCursor()
    precondition(cursor == loadedEnd, "messages from \(cursor) to \(loadedEnd) are loaded")
    let before = undone
    pendingBytes += undoneBytes - inFlightBytes
    undoneBytes = inFlightBytes
    if loadedEnd < end { lose(to: end) }
    return before - undone
  }

  /// A message ahead of the window is done without having been loaded.
  /// - Returns: false when it was done before, or is not ahead of the window.
  mutating func finishUnloaded(_ offset: Offset, size: Int) -> Bool {
    guard offset >= loadedEnd, offset < end, !known.contains(offset) else { return false }
    let bytes = min(Int64(size), undoneBytes - inFlightBytes)
    undone -= 1
    undoneBytes -= bytes
    known.insert(offset..<offset + 1)
    note(offset..<offset + 1, bytes: bytes)
    counts[offset] = nil
    delays[offset] = nil
    settleBytes()
    skipKnown()
    return true
  }

  /// An empty lane has no bytes: what is left over stood for messages whose size was not known.
  private mutating func settleBytes() {
    guard undone == 0 else { return }
    pendingBytes += undoneBytes
    undoneBytes = 0
  }

  // MARK: commits

  @inline(__always) private mutating func note(_ range: Range<Offset>, bytes: Int64) {
    pendingBytes += bytes
    if let last = pending.last, last.upperBound == range.lowerBound {
      pending[pending.count - 1] = last.lowerBound..<range.upperBound
    } else {
      pending.append(range)
    }
  }

  /// What is done since the last call, as a change; nil when nothing is.
  mutating func takePending() -> QueueChange? {
    guard !pending.isEmpty || pendingBytes > 0 else { return nil }
    defer {
      pending.removeAll(keepingCapacity: true)
      committedBytes += pendingBytes
      pendingBytes = 0
    }
    let ranges = pending.count == 1 ? pending : OffsetRanges(pending).ranges
    return .done(lane: number, ranges: ranges, bytes: pendingBytes)
  }
}
