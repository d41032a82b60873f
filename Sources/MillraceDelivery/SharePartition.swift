// SharePartition: the rules of one partition that a share group reads: who may have which records, and what is done.
//
// As Kafka's share groups have them (KIP-932). Events in, acquisitions and durable changes out, time an argument; it knows
// no log and no bytes. The host reads the log from `nextOffset(below:)`, tells what it found, and sends on what was acquired.
//
//   0 … done … │ start … done, available, acquired … │ end … not looked at … │ end of the log
//
//                     acquire                    accept, reject, gap
//   not looked at ───────────────▶ acquired ─────────────────────────▶ done
//                      ▲              │ release, the lock's end, its member's end
//                      └─ available ◀─┘ and done instead, when it was delivered too often
//
// Invariants:
// 1. From `start` to `end` each offset is either done or has a slot: available, or acquired by one member until a time.
// 2. The offset `start` has a slot, unless it is `end`.
// 3. At most `limits.locks` offsets have slots, save those of a state that was made under a higher limit; between two ranges
//    of done offsets there is one with a slot. So memory is bounded by that limit, whatever is done out of order.
// 4. The durable count of an available record is the number of its deliveries, of an acquired one what it was before.
//
// Where this differs from Kafka: what is done does not count against the limit, so one record that stays behind does not stop
// the others; what no consumer may see (markers, aborted transactions, gaps between batches) is done as soon as it is
// found; a record's last delivery is one by itself, so that it takes no others with it.

import MillraceBase
import MillraceModel

/// A member of a share group, by a number that the host gave it.
public typealias ShareMember = Int

/// What a consumer says of a record. Raw values are those of Kafka's protocol.
public enum ShareAcknowledgement: Int8, Sendable {
  /// There is no record with this offset.
  case gap = 0
  /// It is processed.
  case accept = 1
  /// Somebody else shall have it, or this one again.
  case release = 2
  /// It cannot be processed.
  case reject = 3
  /// It is still being processed: the lock begins anew.
  case renew = 4
}

/// Why an acknowledgement is refused, as a whole.
public struct ShareRefusal: Error, Equatable {
  /// The kinds.
  public enum Code: Sendable {
    /// A record is not acquired by the member, or not any more.
    case invalidRecordState
    /// The request contradicts itself.
    case invalidRequest
  }
  /// The kind.
  public let code: Code
  /// The offsets, in words.
  public let reason: String
}

/// The rules that a group's settings give its partitions.
public struct ShareLimits: Equatable, Sendable {
  /// How long a record stays with its member.
  public var lockDuration: Duration
  /// Records with slots. Source: Kafka, `group.share.partition.max.record.locks`.
  public var locks: Int
  /// A record that was delivered so often and not accepted is done. Source: Kafka, `group.share.delivery.count.limit`.
  public var deliveries: Int16

  /// Rules.
  public init(lockDuration: Duration = .seconds(30), locks: Int = 2000, deliveries: Int16 = 5) {
    self.lockDuration = lockDuration
    self.locks = locks
    self.deliveries = deliveries
  }
}

/// A record batch, as far as the rules must know it.
public struct ShareBatch: Equatable, Sendable {
  /// From its first offset to behind its last one.
  public var range: Range<Offset>
  /// No consumer may see what is in it.
  public var isHidden: Bool

  /// A batch.
  public init(_ range: Range<Offset>, isHidden: Bool = false) {
    self.range = range
    self.isHidden = isHidden
  }
}

/// Records that a member got.
public struct ShareAcquisition: Equatable, Sendable {
  /// Their offsets.
  public var range: Range<Offset>
  /// Deliveries of each of them, this one included.
  public var deliveries: Int16
}

/// What a member says of a range of records.
public struct ShareSettlement: Sendable {
  /// The records.
  public var range: Range<Offset>
  /// One for all of them, or one for each.
  public var kinds: [ShareAcknowledgement]

  /// What is said of `range`.
  public init(_ range: Range<Offset>, _ kinds: [ShareAcknowledgement]) {
    self.range = range
    self.kinds = kinds
  }
}

/// One partition that a share group reads. A value: events in, acquisitions and changes out.
public struct SharePartition: Sendable {
  struct Slot: Equatable, Sendable {
    /// Nil while it is available.
    var member: ShareMember?
    /// The end of the lock; nil while it is available.
    var deadline: MonotonicTime?
    /// How often it was delivered.
    var deliveries: Int16
  }

  /// The group's rules; a change of the lock's duration counts for locks to come.
  public var limits: ShareLimits
  /// Everything below is done.
  public private(set) var start: Offset
  /// Everything from here on was not looked at yet.
  public private(set) var end: Offset
  private var done: OffsetRanges
  private(set) var slots = OffsetRuns<Slot>()
  private var availableCount = 0
  /// What lies below was taken away with the log's beginning, and what is said of it is of no consequence.
  private var logStart: Offset = 0
  private var newlyDone = OffsetRanges()
  private var newlyCounted = OffsetRuns<Int16>()

  /// A partition that goes on from its durable state.
  public init(_ state: ShareState, limits: ShareLimits) {
    self.limits = limits
    start = state.start
    end = state.end
    done = state.done
    var open = OffsetRanges([start..<end])
    for gone in done.ranges { open = open.subtracting(gone) }
    for range in open.ranges {
      slots.set(range, Slot(member: nil, deadline: nil, deliveries: 0))
      for run in state.counts.runs(in: range) {
        slots.set(run.range, Slot(member: nil, deadline: nil, deliveries: run.value))
      }
    }
    availableCount = slots.count
  }

  /// Records that members have.
  public var acquiredCount: Int { slots.count - availableCount }

  /// Where to read on for whoever asks next; nil when there is nothing to be had.
  /// - Parameter logEnd: the offset behind the last record that may be seen.
  public func nextOffset(below logEnd: Offset) -> Offset? {
    if availableCount > 0, let first = slots.runs.first(where: { $0.value.member == nil }) {
      return first.range.lowerBound < logEnd ? first.range.lowerBound : nil
    }
    return end < logEnd && slots.count < limits.locks ? end : nil
  }

  /// Gives a member what was found in the log.
  ///
  /// - Parameters:
  ///   - position: where the log was read from; nothing is acquired when records before it were not looked at.
  ///   - batches: all that there is from there on, in order; the first may begin before `position`.
  ///   - count: most records, more only to the end of a batch, and only when `isWholeBatches`.
  /// - Complexity: O(batches + runs of slots).
  public mutating func acquire(
    by member: ShareMember, from position: Offset, _ batches: [ShareBatch], atMost count: Int, isWholeBatches: Bool,
    now: MonotonicTime
  ) -> [ShareAcquisition] {
    guard position <= end else { return [] }
    var grant = Grant(member: member, deadline: now + limits.lockDuration, left: count)
    var next = position
    for batch in batches where batch.range.upperBound > next && !grant.isOver {
      guard grant.left > 0 else { break }
      if batch.range.lowerBound > next { hide(next..<batch.range.lowerBound) }
      let rest = max(next, batch.range.lowerBound)..<batch.range.upperBound
      if batch.isHidden { hide(rest) } else { take(rest, isWhole: isWholeBatches, &grant) }
      next = batch.range.upperBound
    }
    return grant.acquired
  }

  private struct Grant {
    let member: ShareMember
    let deadline: MonotonicTime
    var left: Int
    /// Nothing more is to be taken.
    var isOver = false
    var acquired: [ShareAcquisition] = []

    mutating func add(_ range: Range<Offset>, _ deliveries: Int16) {
      left -= range.count
      if let last = acquired.last, last.range.upperBound == range.lowerBound, last.deliveries == deliveries {
        acquired[acquired.count - 1].range = last.range.lowerBound..<range.upperBound
      } else {
        acquired.append(ShareAcquisition(range: range, deliveries: deliveries))
      }
    }
  }

  /// Acquires what can be had of `range`, whose first offset is not behind `end`.
  private mutating func take(_ range: Range<Offset>, isWhole: Bool, _ grant: inout Grant) {
    func most(_ length: Int) -> Int { isWhole ? length : min(length, grant.left) }
    for run in slots.runs(in: range.lowerBound..<min(range.upperBound, max(end, range.lowerBound)))
    where run.value.member == nil {
      guard most(run.range.count) > 0 else { return }
      let deliveries = run.value.deliveries + 1
      var part = run.range.lowerBound..<run.range.lowerBound + Offset(most(run.range.count))
      if deliveries >= limits.deliveries, limits.deliveries > 1 {
        guard grant.acquired.isEmpty else { continue }
        part = part.lowerBound..<part.lowerBound + 1
        grant.isOver = true
      }
      availableCount -= part.count
      slots.set(part, Slot(member: grant.member, deadline: grant.deadline, deliveries: deliveries))
      grant.add(part, deliveries)
      if grant.isOver { return }
    }
    guard range.upperBound > end else { return }
    let room = min(limits.locks - slots.count, most(Int(range.upperBound - end)))
    guard room > 0 else {
      grant.isOver = true
      return
    }
    let part = end..<end + Offset(room)
    slots.set(part, Slot(member: grant.member, deadline: grant.deadline, deliveries: 1))
    grant.add(part, 1)
    end = part.upperBound
    if end < range.upperBound { grant.isOver = true }
  }

  /// What nobody may see is done, save what somebody has.
  private mutating func hide(_ range: Range<Offset>) {
    let known = range.lowerBound..<min(range.upperBound, max(end, range.lowerBound))
    for run in slots.runs(in: known) where run.value.member == nil { finish(run.range, isAvailable: true) }
    if range.upperBound > end {
      let new = max(end, range.lowerBound)..<range.upperBound
      end = range.upperBound
      finish(new, isAvailable: false)
    }
  }

  // MARK: Settling

  /// Takes over what a member says of records that it has, all of it or nothing.
  ///
  /// - Parameter settlements: in rising order, without overlaps. What lies before the log's beginning is passed over.
  /// - Returns: whether records became available.
  /// - Throws: ``ShareRefusal``; nothing has changed then.
  /// - Complexity: O(settlements · runs of slots).
  @discardableResult
  public mutating func settle(
    _ settlements: [ShareSettlement], by member: ShareMember, now: MonotonicTime
  ) throws(ShareRefusal) -> Bool {
    var last: Offset = -1
    for settlement in settlements {
      let range = settlement.range
      guard range.lowerBound > last, !range.isEmpty else {
        throw ShareRefusal(code: .invalidRequest, reason: "offsets \(range) do not follow \(last)")
      }
      last = range.upperBound - 1
      guard settlement.kinds.count == 1 || settlement.kinds.count == range.count else {
        throw ShareRefusal(
          code: .invalidRequest, reason: "\(settlement.kinds.count) acknowledgements for \(range.count) records")
      }
      let wanted = max(range.lowerBound, min(logStart, range.upperBound))..<range.upperBound
      let held = slots.runs(in: wanted).reduce(0) { $0 + ($1.value.member == member ? $1.range.count : 0) }
      guard held == wanted.count else {
        throw ShareRefusal(
          code: .invalidRecordState, reason: "\(wanted.count - held) of the records \(range) are not with the member")
      }
    }
    let before = availableCount
    for settlement in settlements where settlement.range.upperBound > logStart {
      if settlement.kinds.count == 1 {
        settle(settlement.range.lowerBound..<settlement.range.upperBound, settlement.kinds[0], now)
        continue
      }
      var first = 0
      for index in settlement.kinds.indices
      where index + 1 == settlement.kinds.count || settlement.kinds[index + 1] != settlement.kinds[first] {
        let lower = settlement.range.lowerBound
        settle(lower + Offset(first)..<lower + Offset(index) + 1, settlement.kinds[first], now)
        first = index + 1
      }
    }
    return availableCount > before
  }

  private mutating func settle(_ range: Range<Offset>, _ kind: ShareAcknowledgement, _ now: MonotonicTime) {
    // A part of it may be behind the log's beginning, or done with it.
    let held = slots.runs(in: range)
    switch kind {
    case .accept, .reject, .gap: for run in held { finish(run.range, isAvailable: false) }
    case .release: for run in held { giveBack(run.range, run.value, isDelivered: true) }
    case .renew:
      for run in held {
        var slot = run.value
        slot.deadline = now + limits.lockDuration
        slots.set(run.range, slot)
      }
    }
  }

  /// A member is gone, or has closed its session: what it has becomes available.
  /// - Parameter isDelivered: whether that counts as a delivery that failed. It does not when the member says that it has not
  ///   looked at the records.
  /// - Returns: whether records became available.
  @discardableResult
  public mutating func release(_ member: ShareMember, isDelivered: Bool) -> Bool {
    let before = availableCount
    for run in slots.runs where run.value.member == member { giveBack(run.range, run.value, isDelivered: isDelivered) }
    return availableCount > before
  }

  /// Locks whose time is over end.
  /// - Returns: whether records became available.
  @discardableResult
  public mutating func expire(_ now: MonotonicTime) -> Bool {
    let before = availableCount
    for run in slots.runs {
      if let deadline = run.value.deadline, deadline <= now { giveBack(run.range, run.value, isDelivered: true) }
    }
    return availableCount > before
  }

  /// When ``expire(_:)`` has something to do next. O(runs of slots).
  public var nextDeadline: MonotonicTime? {
    var next: MonotonicTime?
    for run in slots.runs {
      if let deadline = run.value.deadline { next = min(next ?? deadline, deadline) }
    }
    return next
  }

  private mutating func giveBack(_ range: Range<Offset>, _ slot: Slot, isDelivered: Bool) {
    if isDelivered, slot.deliveries >= limits.deliveries { return finish(range, isAvailable: false) }
    let deliveries = isDelivered ? slot.deliveries : slot.deliveries - 1
    slots.set(range, Slot(member: nil, deadline: nil, deliveries: deliveries))
    availableCount += range.count
    // Otherwise the durable count is right as it is.
    if isDelivered { newlyCounted.set(range, deliveries) }
  }

  private mutating func finish(_ range: Range<Offset>, isAvailable: Bool) {
    if isAvailable { availableCount -= range.count }
    slots.remove(range)
    newlyCounted.remove(range)
    newlyDone.insert(range)
    done.insert(range)
    moveStart()
  }

  private mutating func moveStart() {
    guard let first = done.ranges.first, first.lowerBound <= start else { return }
    start = max(start, first.upperBound)
    done.removeFirst()
  }

  // MARK: The log's beginning, and another one

  /// The log begins at `offset` now: what lies before is gone, whoever has it.
  public mutating func logStarts(at offset: Offset) {
    guard offset > start else { return }
    logStart = offset
    let gone = start..<min(offset, end)
    for run in slots.runs(in: gone) where run.value.member == nil { availableCount -= run.range.count }
    slots.remove(gone)
    newlyCounted.remove(start..<offset)
    newlyDone.insert(start..<offset)
    done.remove(below: offset)
    start = offset
    end = max(end, offset)
    moveStart()
  }

  /// What has changed durably since this was asked last, as few changes as say it.
  public mutating func takeChanges() -> [ShareChange] {
    var changes: [ShareChange] = []
    if !newlyDone.isEmpty { changes.append(.done(newlyDone.ranges)) }
    var counted: [Int16: [Range<Offset>]] = [:]
    for run in newlyCounted.runs { counted[run.value, default: []].append(run.range) }
    for (deliveries, ranges) in counted.sorted(by: { $0.key < $1.key }) {
      changes.append(.counted(ranges, deliveries: deliveries))
    }
    newlyDone = OffsetRanges()
    newlyCounted = OffsetRuns()
    return changes
  }

  /// Changes that were taken did not become durable: they come again with the next ones, as they hold by then.
  public mutating func takeBack(_ changes: [ShareChange]) {
    for change in changes {
      switch change {
      case .done(let ranges):
        for range in ranges {
          newlyDone.insert(range)
          newlyCounted.remove(range)
        }
      case .counted(let ranges, _):
        for range in ranges {
          for run in slots.runs(in: range) {
            newlyCounted.set(
              run.range, run.value.member == nil ? run.value.deliveries : run.value.deliveries - 1)
          }
        }
      }
    }
  }
}
