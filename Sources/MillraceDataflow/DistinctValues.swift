// DistinctValues: the different elements of a window, as a set that is state.

import MillraceBase

/// Different elements, as bytes.
public struct DistinctSet: StateCodable {
  /// Rising, byte by byte.
  private var elements: [Bytes] = []

  /// None.
  public init() {}

  /// How many.
  public var count: Int { elements.count }

  /// Adds an element unless it is there.
  /// - Complexity: O(log count) comparisons; a new one moves those behind it.
  public mutating func insert(_ element: UnsafeRawBufferPointer) {
    var (low, high) = (0, elements.count)
    while low < high {
      let middle = (low + high) / 2
      let isBelow = elements[middle].withBuffer { $0.lexicographicallyPrecedes(element) }
      if isBelow { low = middle + 1 } else { high = middle }
    }
    if low < elements.count, elements[low].withBuffer({ $0.elementsEqual(element) }) { return }
    elements.insert(Bytes(copying: element), at: low)
  }

  /// Adds what `other` holds.
  public mutating func formUnion(_ other: DistinctSet) {
    if elements.isEmpty {
      elements = other.elements
      return
    }
    var merged: [Bytes] = []
    merged.reserveCapacity(elements.count + other.elements.count)
    var (mine, theirs) = (elements[...], other.elements[...])
    while let left = mine.first, let right = theirs.first {
      if left.isBelow(right) {
        merged.append(left)
        mine.removeFirst()
      } else {
        merged.append(right)
        theirs.removeFirst()
        if !right.isBelow(left) { mine.removeFirst() }
      }
    }
    elements = merged + mine + theirs
  }

  /// Count, varint, and the elements.
  public static var stateEncoding: String { "distinct/1" }
  /// Writes the elements.
  public func encode(into writer: inout ByteWriter) { elements.encode(into: &writer) }
  /// Reads elements.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let at = reader.position
    elements = try [Bytes](from: &reader)
    guard zip(elements, elements.dropFirst()).allSatisfy({ $0.isBelow($1) }) else {
      throw DecodingError("elements that do not rise", at: at)
    }
  }
}

/// Collects the different elements of a key's window. The whole set is written with each step that changes it.
public struct DistinctValues<Input, Element: BytesRepresentable>: WideAggregation {
  @usableFromInline let element: @Sendable (Input) -> Element
  /// The different `element`s; equal ones have equal bytes.
  @inlinable public init(_ element: @escaping @Sendable (Input) -> Element) { self.element = element }
  /// None.
  @inlinable public var initial: DistinctSet { DistinctSet() }
  /// One more, unless it is there.
  @inlinable
  public func add(_ input: Input, to state: inout DistinctSet) { element(input).withBytes { state.insert($0) } }
  /// It is.
  @inlinable public var isCommutative: Bool { true }
  /// Those of both.
  @inlinable
  public func merge(_ other: DistinctSet, into state: inout DistinctSet) { state.formUnion(other) }
}
