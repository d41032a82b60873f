// Heap: a binary heap.

/// A binary heap: the smallest element first. Adding and taking are O(log n).
public struct Heap<Element: Comparable> {
  @usableFromInline var storage: [Element]

  /// Without elements.
  @inlinable public init() { storage = [] }

  /// In no order but that the first is the smallest.
  @inlinable public var elements: [Element] { storage }
  /// How many there are.
  @inlinable public var count: Int { storage.count }
  /// Whether there are none.
  @inlinable public var isEmpty: Bool { storage.isEmpty }
  /// The smallest; nil without any.
  @inlinable public var first: Element? { storage.first }

  /// Adds an element.
  @inlinable
  public mutating func push(_ element: Element) {
    storage.append(element)
    var at = storage.count - 1
    while at > 0 {
      let parent = (at - 1) / 2
      guard storage[at] < storage[parent] else { break }
      storage.swapAt(at, parent)
      at = parent
    }
  }

  /// Takes the smallest away.
  @inlinable @discardableResult
  public mutating func popFirst() -> Element? {
    guard let last = storage.popLast() else { return nil }
    guard let first = storage.first else { return last }
    storage[0] = last
    sink(0)
    return first
  }

  @inlinable
  mutating func sink(_ start: Int) {
    var at = start
    while true {
      var child = 2 * at + 1
      guard child < storage.count else { return }
      if child + 1 < storage.count, storage[child + 1] < storage[child] { child += 1 }
      guard storage[child] < storage[at] else { return }
      storage.swapAt(at, child)
      at = child
    }
  }

  /// Keeps what `isLive` says. O(n).
  @inlinable
  public mutating func keep(_ isLive: (Element) -> Bool) {
    storage.removeAll { !isLive($0) }
    for index in stride(from: storage.count / 2 - 1, through: 0, by: -1) { sink(index) }
  }

  /// Takes all away.
  @inlinable public mutating func removeAll() { storage = [] }
}

extension Heap: Sendable where Element: Sendable {}
