// Heap: a binary heap, and the entries of the queue's indexes by time.

import MillraceModel

/// The smallest first. Adding and taking are O(log n).
struct Heap<Element: Comparable> {
  private(set) var elements: [Element] = []

  var count: Int { elements.count }
  var isEmpty: Bool { elements.isEmpty }
  var first: Element? { elements.first }

  mutating func push(_ element: Element) {
    elements.append(element)
    var at = elements.count - 1
    while at > 0 {
      let parent = (at - 1) / 2
      guard elements[at] < elements[parent] else { break }
      elements.swapAt(at, parent)
      at = parent
    }
  }

  @discardableResult
  mutating func popFirst() -> Element? {
    guard let last = elements.popLast() else { return nil }
    guard let first = elements.first else { return last }
    elements[0] = last
    sink(0)
    return first
  }

  private mutating func sink(_ start: Int) {
    var at = start
    while true {
      var child = 2 * at + 1
      guard child < elements.count else { return }
      if child + 1 < elements.count, elements[child + 1] < elements[child] { child += 1 }
      guard elements[child] < elements[at] else { return }
      elements.swapAt(at, child)
      at = child
    }
  }

  /// Keeps what `isLive` says. O(n).
  mutating func keep(_ isLive: (Element) -> Bool) {
    elements.removeAll { !isLive($0) }
    for index in stride(from: elements.count / 2 - 1, through: 0, by: -1) { sink(index) }
  }

  mutating func removeAll() { elements = [] }
}

/// A message and a time in ms. What it stands for may have passed: it counts only while the slot has the same time.
struct TimeEntry: Comparable {
  var time: Int64
  var position: Position

  static func < (left: TimeEntry, right: TimeEntry) -> Bool {
    left.time != right.time ? left.time < right.time : left.position < right.position
  }
}
