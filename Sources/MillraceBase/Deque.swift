// Deque: a growable ring, for queues whose head leaves while the tail grows.

/// A first-in-first-out list with random access. Appending and removing the first are O(1) amortised.
public struct Deque<Element> {
  @usableFromInline var slots: [Element?]
  @usableFromInline var head = 0
  /// Number of elements.
  @inlinable public var count: Int { length }
  @usableFromInline var length = 0

  /// An empty deque; memory is taken at the first append.
  @inlinable public init() { slots = [] }

  /// Whether there are no elements.
  @inlinable public var isEmpty: Bool { count == 0 }

  @inlinable func slot(_ index: Int) -> Int {
    let at = head + index
    return at < slots.count ? at : at - slots.count
  }

  /// The element at `index`, 0 being the first.
  @inlinable public subscript(index: Int) -> Element {
    get {
      precondition(index >= 0 && index < count, "element \(index) of \(count)")
      guard let element = slots[slot(index)] else { preconditionFailure("slot \(index) of \(count) is empty") }
      return element
    }
    set {
      precondition(index >= 0 && index < count, "element \(index) of \(count)")
      slots[slot(index)] = newValue
    }
  }

  /// The oldest element.
  @inlinable public var first: Element? { isEmpty ? nil : self[0] }
  /// The newest element.
  @inlinable public var last: Element? { isEmpty ? nil : self[count - 1] }

  /// Adds an element at the end.
  @inlinable public mutating func append(_ element: Element) {
    if count == slots.count {
      var larger: [Element?] = []
      larger.reserveCapacity(max(8, 2 * count))
      for index in 0..<count { larger.append(slots[slot(index)]) }
      while larger.count < max(8, 2 * count) { larger.append(nil) }
      slots = larger
      head = 0
    }
    length += 1
    slots[slot(count - 1)] = element
  }

  /// Takes the oldest element out.
  @discardableResult
  @inlinable public mutating func removeFirst() -> Element {
    let element = self[0]
    slots[head] = nil
    head = slot(1)
    length -= 1
    if count == 0, slots.count > 1024 {
      // A long queue that ran empty gives its memory back.
      slots = []
      head = 0
    }
    return element
  }

  /// Takes the oldest element out, nil when there is none.
  @inlinable public mutating func popFirst() -> Element? { isEmpty ? nil : removeFirst() }

  /// Takes the newest element out, nil when there is none.
  @inlinable public mutating func popLast() -> Element? {
    guard count > 0 else { return nil }
    let at = slot(count - 1)
    let element = slots[at]
    slots[at] = nil
    length -= 1
    return element
  }

  /// The first index whose element does not satisfy `isBefore`, when the elements are partitioned by it.
  /// - Complexity: O(log count).
  @inlinable public func partitioningIndex(_ isBefore: (Element) -> Bool) -> Int {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if isBefore(self[middle]) { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
