// TransientLane: the messages of a lane that no log keeps: in memory, and when that is short those in the middle on disk.
//
//   │ front, in memory │ runs, on disk │ back, in memory │
//   0 …                                              … end
//
// What is consumed next and what came last stay in memory. Runs are written from the low side of the back on, so that all
// three parts rise.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceModel

/// Messages with consecutive offsets that lie in a block on disk.
struct SpilledRun {
  let range: Range<Offset>
  let block: ScratchBlock
  /// Offsets that are not done.
  fileprivate(set) var left: OffsetRanges
}

/// Messages that are to be spilled.
struct SpillChunk {
  let range: Range<Offset>
  let messages: [Message]
}

/// The lanes of one queue. There are few, so they are looked through.
struct TransientLanes {
  private var numbers: [UInt8] = []
  private var lanes: [TransientLane] = []

  /// The messages of a lane; nil when none was ever kept.
  subscript(number: UInt8) -> TransientLane? { numbers.firstIndex(of: number).map { lanes[$0] } }

  /// Changes a lane where it lies.
  mutating func change<Result>(_ number: UInt8, _ body: (inout TransientLane) -> Result) -> Result {
    if numbers.first == number { return body(&lanes[0]) }
    if let index = numbers.firstIndex(of: number) { return body(&lanes[index]) }
    numbers.append(number)
    lanes.append(TransientLane())
    return body(&lanes[lanes.count - 1])
  }

  /// All of them, with their numbers.
  var all: [(number: UInt8, lane: TransientLane)] { Array(zip(numbers, lanes)) }

  /// Memory that all take, overhead included.
  var bytes: Int { lanes.reduce(0) { $0 + $1.bytes } }
}

/// What a log is to a durable queue, for one that has none.
struct TransientLane {
  /// Where messages are.
  enum Place {
    /// In memory, and below `through` there are no others.
    case memory([Message], through: Offset)
    case disk(SpilledRun)
  }

  private var front = MemoryLane()
  private var runs = Deque<SpilledRun>()
  /// Only while there are runs.
  private var back: MemoryLane?

  /// How much lies where.
  struct Limits {
    /// Messages and bytes that stay at the front.
    var front = (messages: 1024, bytes: 1 << 20)
    /// The same of one run.
    var run = (messages: 2048, bytes: 2 << 20)
    /// Less than this is not worth a run.
    var fewestBytes = 64 << 10
  }

  private let limits: Limits
  /// What a run takes in memory.
  private static let runOverhead = 256

  init(limits: Limits = Limits()) { self.limits = limits }

  /// The offset that the next message gets.
  var end: Offset { back?.end ?? front.end }
  /// Bytes that it takes in memory, overhead included.
  var bytes: Int { front.bytes + (back?.bytes ?? 0) + runs.count * TransientLane.runOverhead }

  /// Keeps a message, whose offset must be ``end``. O(1) amortised.
  mutating func append(_ message: Message) {
    if back == nil { front.append(message) } else { back!.append(message) }
  }

  /// These are done with.
  /// - Parameter free: gets blocks that are not needed any more.
  mutating func remove(_ range: Range<Offset>, free: (ScratchBlock) -> Void) {
    front.remove(range)
    guard back != nil else { return }
    back!.remove(range)
    var index = runs.partitioningIndex { $0.range.upperBound <= range.lowerBound }
    while index < runs.count, runs[index].range.lowerBound < range.upperBound {
      if !runs[index].left.isEmpty {
        runs[index].left = runs[index].left.subtracting(range)
        if runs[index].left.isEmpty { free(runs[index].block) }
      }
      index += 1
    }
    join()
  }

  /// Nothing is left of what lay in a run: it cannot be read.
  mutating func lose(_ run: SpilledRun, free: (ScratchBlock) -> Void) {
    remove(run.range, free: free)
  }

  /// Runs that are done go, and once none is left and the front is done the back is the front.
  private mutating func join() {
    while let first = runs.first, first.left.isEmpty { runs.removeFirst() }
    guard runs.isEmpty, front.count == 0, let rest = back else { return }
    front = rest
    back = nil
  }

  /// The messages from `offset` on, up to `limit` offsets further.
  func place(from offset: Offset, limit: Int) -> Place {
    let end = offset + Offset(limit)
    guard let back else { return .memory(front.messages(from: offset, limit: limit), through: end) }
    if offset < front.end {
      let end = min(end, front.end)
      return .memory(front.messages(from: offset, limit: Int(end - offset)), through: end)
    }
    let index = runs.partitioningIndex { $0.range.upperBound <= offset }
    guard index < runs.count else { return .memory(back.messages(from: offset, limit: limit), through: end) }
    let run = runs[index]
    if run.range.lowerBound > offset { return .memory([], through: min(end, run.range.lowerBound)) }
    return run.left.isEmpty ? .memory([], through: min(end, run.range.upperBound)) : .disk(run)
  }

  // MARK: Spilling

  /// What is to go to disk next; nil when that would give back too little. It stays in memory until ``spilled(_:to:free:)``.
  mutating func nextChunk() -> SpillChunk? {
    if back == nil {
      let cut = front.offset(behind: limits.front.messages, bytes: limits.front.bytes)
      guard cut < front.end else { return nil }
      back = front.split(at: cut)
    }
    guard let back, back.bytes >= limits.fewestBytes else {
      join()
      return nil
    }
    let low = back.start
    let high = back.offset(behind: limits.run.messages, bytes: limits.run.bytes)
    return SpillChunk(range: low..<high, messages: back.messages(from: low, limit: Int(high - low)))
  }

  /// What ``nextChunk()`` gave is on disk; what is done meanwhile is not kept there.
  mutating func spilled(_ chunk: SpillChunk, to block: ScratchBlock, free: (ScratchBlock) -> Void) {
    var left = OffsetRanges()
    if let back {
      for message in back.messages(from: chunk.range.lowerBound, limit: chunk.range.count) {
        left.insert(message.offset..<message.offset + 1)
      }
    }
    guard !left.isEmpty else { return free(block) }
    back!.remove(chunk.range)
    runs.append(SpilledRun(range: chunk.range, block: block, left: left))
  }

  /// The queue is gone.
  func freeAll(_ free: (ScratchBlock) -> Void) {
    for index in 0..<runs.count where !runs[index].left.isEmpty { free(runs[index].block) }
  }
}
