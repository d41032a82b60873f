// NaiveSharePartition: a share-partition as an array with an entry for each offset, searched from its beginning each time.

import MillraceBase
import MillraceModel

@testable import MillraceDelivery

struct NaiveSharePartition {
  enum State: Equatable {
    case available
    case acquired(ShareMember, until: MonotonicTime)
    case done
  }
  struct Entry: Equatable {
    var state = State.available
    var deliveries: Int16 = 0
    /// What is durable, once all changes are written.
    var durable: Int16 = 0
  }

  var limits: ShareLimits
  var first: Offset
  var logStart: Offset = 0
  /// From `first` on; what is behind was not looked at.
  var entries: [Entry] = []

  var end: Offset { first + Offset(entries.count) }
  var start: Offset {
    entries.firstIndex { $0.state != .done }.map { first + Offset($0) } ?? end
  }
  var slotCount: Int { entries.count { $0.state != .done } }
  var acquired: Int { entries.count { if case .acquired = $0.state { true } else { false } } }

  subscript(offset: Offset) -> Entry {
    get { entries[Int(offset - first)] }
    set { entries[Int(offset - first)] = newValue }
  }

  func isAvailable(_ offset: Offset) -> Bool { offset >= end || (offset >= first && self[offset].state == .available) }

  func nextOffset(below logEnd: Offset) -> Offset? {
    if let index = entries.firstIndex(where: { $0.state == .available }) {
      let offset = first + Offset(index)
      return offset < logEnd ? offset : nil
    }
    return end < logEnd && slotCount < limits.locks ? end : nil
  }

  /// The same as ``SharePartition/acquire(by:from:_:atMost:isWholeBatches:now:)``, a record at a time.
  mutating func acquire(
    by member: ShareMember, from position: Offset, _ batches: [ShareBatch], atMost count: Int, isWholeBatches: Bool,
    now: MonotonicTime
  ) -> [(offset: Offset, deliveries: Int16)] {
    var got: [(offset: Offset, deliveries: Int16)] = []
    var next = position
    for batch in batches where batch.range.upperBound > next {
      if got.count >= count { return got }
      while next < batch.range.upperBound {
        let offset = next
        next += 1
        if offset < batch.range.lowerBound || batch.isHidden {
          if offset == end { entries.append(Entry()) }
          if self[offset].state == .available { self[offset].state = .done }
          continue
        }
        if offset < end, self[offset].state != .available { continue }
        if !isWholeBatches, got.count >= count { return got }
        if offset == end {
          if slotCount >= limits.locks { return got }
          entries.append(Entry())
        }
        if self[offset].deliveries + 1 >= limits.deliveries, limits.deliveries > 1 {
          if !got.isEmpty { continue }
          give(offset, member, now)
          return [(offset, self[offset].deliveries)]
        }
        give(offset, member, now)
        got.append((offset, self[offset].deliveries))
      }
    }
    return got
  }

  private mutating func give(_ offset: Offset, _ member: ShareMember, _ now: MonotonicTime) {
    self[offset].deliveries += 1
    self[offset].state = .acquired(member, until: now + limits.lockDuration)
  }

  /// Nil when it is refused.
  mutating func settle(_ settlements: [ShareSettlement], by member: ShareMember, now: MonotonicTime) -> Bool {
    var last: Offset = -1
    for one in settlements {
      if one.range.isEmpty || one.range.lowerBound <= last { return false }
      last = one.range.upperBound - 1
      if one.kinds.count != 1 && one.kinds.count != one.range.count { return false }
      for offset in one.range where offset >= logStart {
        guard offset >= first, offset < end, case .acquired(member, _) = self[offset].state else { return false }
      }
    }
    for one in settlements {
      for (index, offset) in one.range.enumerated() where offset >= max(logStart, first) {
        switch one.kinds[one.kinds.count == 1 ? 0 : index] {
        case .accept, .reject, .gap: self[offset].state = .done
        case .release: giveBack(offset)
        case .renew: self[offset].state = .acquired(member, until: now + limits.lockDuration)
        }
      }
    }
    return true
  }

  private mutating func giveBack(_ offset: Offset) {
    if self[offset].deliveries >= limits.deliveries {
      self[offset].state = .done
    } else {
      self[offset].state = .available
      self[offset].durable = self[offset].deliveries
    }
  }

  mutating func release(_ member: ShareMember, isDelivered: Bool) {
    for offset in first..<end {
      guard case .acquired(member, _) = self[offset].state else { continue }
      if isDelivered {
        giveBack(offset)
      } else {
        self[offset].deliveries -= 1
        self[offset].state = .available
      }
    }
  }

  mutating func expire(_ now: MonotonicTime) {
    for offset in first..<end {
      if case .acquired(_, let until) = self[offset].state, until <= now { giveBack(offset) }
    }
  }

  var nextDeadline: MonotonicTime? {
    entries.compactMap { if case .acquired(_, let until) = $0.state { until } else { nil } }.min()
  }

  mutating func logStarts(at offset: Offset) {
    guard offset > start else { return }
    logStart = offset
    while end < offset { entries.append(Entry()) }
    for gone in first..<offset { self[gone].state = .done }
  }

  /// What a restart makes of it.
  func restarted() -> NaiveSharePartition {
    var next = self
    for offset in first..<end where self[offset].state != .done {
      next[offset].state = .available
      next[offset].deliveries = self[offset].durable
    }
    next.logStart = 0
    // Nothing is known of what was in flight at the end.
    while let last = next.entries.last, last.state == .available, last.durable == 0 { next.entries.removeLast() }
    return next
  }
}
