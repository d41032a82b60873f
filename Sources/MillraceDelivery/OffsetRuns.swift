// OffsetRuns: values of offsets, as sorted runs of offsets with equal values.

import MillraceModel

/// A table from offsets to values in which neighbours are mostly equal. Memory and time follow the number of runs.
struct OffsetRuns<Value: Equatable & Sendable>: Equatable, Sendable {
  /// Offsets with one value.
  struct Run: Equatable, Sendable {
    var range: Range<Offset>
    var value: Value
  }

  /// Ascending, not empty, without overlaps; neighbours that touch differ in their values.
  private(set) var runs: [Run] = []
  /// Number of offsets.
  private(set) var count = 0

  /// The first run that ends behind `offset`.
  func index(endingBehind offset: Offset) -> Int {
    var low = 0
    var high = runs.count
    while low < high {
      let middle = (low + high) / 2
      if runs[middle].range.upperBound > offset { high = middle } else { low = middle + 1 }
    }
    return low
  }

  subscript(offset: Offset) -> Value? {
    let index = index(endingBehind: offset)
    guard index < runs.count, runs[index].range.lowerBound <= offset else { return nil }
    return runs[index].value
  }

  /// The runs of `range`, cut to it, in order. O(log runs + result).
  func runs(in range: Range<Offset>) -> [Run] {
    var found: [Run] = []
    var index = index(endingBehind: range.lowerBound)
    while index < runs.count, runs[index].range.lowerBound < range.upperBound {
      let part = runs[index].range.clamped(to: range)
      if !part.isEmpty { found.append(Run(range: part, value: runs[index].value)) }
      index += 1
    }
    return found
  }

  /// Gives all of `range` a value. O(runs).
  mutating func set(_ range: Range<Offset>, _ value: Value) { replace(range, with: value) }

  /// Takes `range` out. O(runs).
  mutating func remove(_ range: Range<Offset>) { replace(range, with: nil) }

  private mutating func replace(_ range: Range<Offset>, with value: Value?) {
    guard !range.isEmpty else { return }
    let first = index(endingBehind: range.lowerBound)
    var end = first
    var parts: [Run] = []
    while end < runs.count, runs[end].range.lowerBound < range.upperBound {
      let old = runs[end]
      count -= old.range.clamped(to: range).count
      if old.range.lowerBound < range.lowerBound {
        parts.append(Run(range: old.range.lowerBound..<range.lowerBound, value: old.value))
      }
      if old.range.upperBound > range.upperBound {
        parts.append(Run(range: range.upperBound..<old.range.upperBound, value: old.value))
      }
      end += 1
    }
    if let value {
      count += range.count
      let place = parts.firstIndex { $0.range.lowerBound >= range.upperBound } ?? parts.count
      parts.insert(Run(range: range, value: value), at: place)
    }
    runs.replaceSubrange(first..<end, with: parts)
    join(max(0, first - 1), min(runs.count, first + parts.count + 1))
  }

  /// Joins neighbours that touch and are equal, among the runs from `first` to before `end`.
  private mutating func join(_ first: Int, _ end: Int) {
    var index = max(first, 0) + 1
    var end = end
    while index < end {
      let (left, right) = (runs[index - 1], runs[index])
      if left.range.upperBound == right.range.lowerBound, left.value == right.value {
        runs[index - 1].range = left.range.lowerBound..<right.range.upperBound
        runs.remove(at: index)
        end -= 1
      } else {
        index += 1
      }
    }
  }
}
