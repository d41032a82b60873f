// OffsetRanges: a set of offsets as sorted ranges that neither touch nor overlap.

import MillraceModel

/// A set of offsets, as ranges. Memory and time follow the number of gaps, not of offsets.
public struct OffsetRanges: Hashable, Sendable {
  /// Ascending; between two of them at least one offset is missing.
  public private(set) var ranges: [Range<Offset>] = []

  /// No offsets.
  public init() {}

  /// The union of `ranges`, in any order.
  public init(_ ranges: [Range<Offset>]) {
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) { insert(range) }
  }

  /// Whether there are none.
  public var isEmpty: Bool { ranges.isEmpty }
  /// Number of offsets.
  public var count: Int { ranges.reduce(0) { $0 + $1.count } }

  /// The first range that ends behind `offset`.
  private func index(endingBehind offset: Offset) -> Int {
    var low = 0
    var high = ranges.count
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].upperBound > offset { high = middle } else { low = middle + 1 }
    }
    return low
  }

  /// Whether `offset` is in the set. O(log ranges).
  public func contains(_ offset: Offset) -> Bool {
    let index = index(endingBehind: offset)
    return index < ranges.count && ranges[index].lowerBound <= offset
  }

  /// Adds `range`. O(1) at the end, else O(ranges).
  public mutating func insert(_ range: Range<Offset>) {
    guard !range.isEmpty else { return }
    guard let last = ranges.last, last.upperBound >= range.lowerBound else {
      ranges.append(range)
      return
    }
    // The first one that ends at or behind the new one's start, so that neighbours merge.
    let first = range.lowerBound == .min ? 0 : index(endingBehind: range.lowerBound - 1)
    var end = first
    var merged = range
    while end < ranges.count, ranges[end].lowerBound <= range.upperBound {
      merged = min(merged.lowerBound, ranges[end].lowerBound)..<max(merged.upperBound, ranges[end].upperBound)
      end += 1
    }
    ranges.replaceSubrange(first..<end, with: CollectionOfOne(merged))
  }

  /// Takes out everything below `offset`.
  public mutating func remove(below offset: Offset) {
    guard let first = ranges.first, first.lowerBound < offset else { return }
    let index = index(endingBehind: offset)
    ranges.removeFirst(index)
    if let first = ranges.first, first.lowerBound < offset { ranges[0] = offset..<first.upperBound }
  }

  /// The set without `range`. O(ranges).
  public func subtracting(_ range: Range<Offset>) -> OffsetRanges {
    var rest = OffsetRanges()
    for one in ranges {
      rest.insert(one.lowerBound..<max(one.lowerBound, min(one.upperBound, range.lowerBound)))
      rest.insert(min(one.upperBound, max(one.lowerBound, range.upperBound))..<one.upperBound)
    }
    return rest
  }

  /// Takes the first range out.
  mutating func removeFirst() { ranges.removeFirst() }
}
