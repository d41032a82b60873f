// Deque: a growable ring, for queues whose head leaves while the tail grows.

/// A first-in-first-out list with random access. Appending and removing the first are O(1) amortised.
public struct Deque<Element> {
  private var slots: [Element?]
  private var head = 0
  /// Number of elements.
  public private(set) var count = 0

  /// An empty deque; memory is taken at the first append.
  public init() { slots = [] }

  /// Whether there are no elements.
  public var isEmpty: Bool { count == 0 }

  private func slot(_ index: Int) -> Int {
    let at = head + index
    return at < slots.count ? at : at - slots.count
  }

  /// The element at `index`, 0 being the first.
  public subscript(index: Int) -> Element {
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
  public var first: Element? { isEmpty ? nil : self[0] }
  /// The newest element.
  public var last: Element? { isEmpty ? nil : self[count - 1] }

  /// Adds an element at the end.
  public mutating func append(_ element: Element) {
    if count == slots.count {
      var larger: [Element?] = []
      larger.reserveCapacity(max(8, 2 * count))
      for index in 0..<count { larger.append(slots[slot(index)]) }
      while larger.count < max(8, 2 * count) { larger.append(nil) }
      slots = larger
      head = 0
    }
    count += 1
    slots[slot(count - 1)] = element
  }

  /// Takes the oldest element out.
  @discardableResult
  public mutating func removeFirst() -> Element {
    let element = self[0]
    slots[head] = nil
    head = slot(1)
    count -= 1
    if count == 0, slots.count > 1024 {
      // A long queue that ran empty gives its memory back.
      slots = []
      head = 0
    }
    return element
  }

  /// Takes the oldest element out, nil when there is none.
  public mutating func popFirst() -> Element? { isEmpty ? nil : removeFirst() }

  /// Takes the newest element out, nil when there is none.
  public mutating func popLast() -> Element? {
    guard count > 0 else { return nil }
    let at = slot(count - 1)
    let element = slots[at]
    slots[at] = nil
    count -= 1
    return element
  }

  /// The first index whose element does not satisfy `isBefore`, when the elements are partitioned by it.
  /// - Complexity: O(log count).
  public func partitioningIndex(_ isBefore: (Element) -> Bool) -> Int {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if isBefore(self[middle]) { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
