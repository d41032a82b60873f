// Ranking: the n highest of a number, each with its value.
//
// The order is total, so that what is kept depends on which values there were and not on the order in which they came: the
// higher number first; of equal numbers the value whose encoding is the lower one, byte by byte. Equal values with equal numbers stand
// side by side, once each. With an identity, only the highest value of each counts: one that fell out of the n comes back
// only with a higher number, so nothing but the n has to be kept.

import MillraceBase

/// The highest values of a key, the highest first.
public struct Ranking<Value: StateCodable>: StateCodable {
  /// A value and the number that it is ranked by.
  @usableFromInline
  struct Entry {
    @usableFromInline let number: Int64
    @usableFromInline let value: Value

    @usableFromInline
    init(number: Int64, value: Value) {
      self.number = number
      self.value = value
    }

    /// Whether it stands above `other`.
    @usableFromInline
    func isAbove(_ other: Entry) -> Bool {
      if number != other.number { return number > other.number }
      return Entry.bytes(value).isBelow(Entry.bytes(other.value))
    }

    private static func bytes(_ value: Value) -> Bytes {
      var writer = ByteWriter(capacity: 64)
      value.encode(into: &writer)
      return writer.finishJoined()
    }
  }

  @usableFromInline private(set) var entries: [Entry] = []

  /// No values.
  @usableFromInline init() {}

  /// The values, the highest first.
  public var values: [Value] { entries.map(\.value) }

  /// The numbers that they are ranked by, falling.
  public var numbers: [Int64] { entries.map(\.number) }

  /// Takes a value in, unless `limit` higher ones are there.
  /// - Parameter isSame: tells values of which only the highest is kept; nil when all count.
  /// - Returns: whether the ranking is another one now.
  @usableFromInline
  mutating func insert(_ entry: Entry, limit: Int, _ isSame: (@Sendable (Value, Value) -> Bool)?) -> Bool {
    if entries.count >= limit, let last = entries.last, entry.number <= last.number, !entry.isAbove(last) {
      return false
    }
    if let isSame, let known = entries.firstIndex(where: { isSame($0.value, entry.value) }) {
      guard entry.isAbove(entries[known]) else { return false }
      entries.remove(at: known)
    }
    var (low, high) = (0, entries.count)
    while low < high {
      let middle = (low + high) / 2
      if entry.isAbove(entries[middle]) { high = middle } else { low = middle + 1 }
    }
    entries.insert(entry, at: low)
    if entries.count > limit { entries.removeLast() }
    return true
  }

  /// The encoding's own name.
  public static var stateEncoding: String { "ranking<\(Value.stateEncoding)>/1" }
  /// Writes the number and the value of each.
  public func encode(into writer: inout ByteWriter) {
    writer.unsignedVarint(UInt32(entries.count))
    for entry in entries {
      writer.int64(entry.number)
      entry.value.encode(into: &writer)
    }
  }
  /// Reads numbers and values.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    for _ in 0..<(try reader.unsignedVarint()) {
      let at = reader.position
      let number = try reader.int64()
      guard number <= entries.last?.number ?? .max else { throw DecodingError("a ranking that rises", at: at) }
      entries.append(Entry(number: number, value: try Value(from: &reader)))
    }
  }
}

extension Bytes {
  /// Whether these bytes come before `other`, byte by byte.
  func isBelow(_ other: Bytes) -> Bool {
    withBuffer { mine in other.withBuffer { theirs in mine.lexicographicallyPrecedes(theirs) } }
  }
}

/// Keeps the values with the highest numbers.
public struct TopValues<Input: StateCodable>: SelectiveAggregation, MergeableAggregation {
  @usableFromInline let limit: Int
  @usableFromInline let number: @Sendable (Input) -> Int64
  @usableFromInline let isSame: (@Sendable (Input, Input) -> Bool)?

  /// The `limit` values with the highest `number`.
  /// - Parameters:
  ///   - limit: at least 1.
  ///   - isSame: tells values of which only the highest counts; nil when all count.
  @inlinable
  public init(
    _ limit: Int, by number: @escaping @Sendable (Input) -> Int64, isSame: (@Sendable (Input, Input) -> Bool)? = nil
  ) {
    precondition(limit >= 1, "the \(limit) highest values")
    self.limit = limit
    self.number = number
    self.isSame = isSame
  }

  /// None.
  @inlinable public var initial: Boxed<Ranking<Input>> { Boxed(Ranking()) }

  /// Takes the value in when it is high enough.
  @inlinable
  public func change(_ state: inout Boxed<Ranking<Input>>, by input: Input, at time: Timestamp) -> Bool {
    state.content.insert(Ranking.Entry(number: number(input), value: input), limit: limit, isSame)
  }

  /// Takes the value in when it is high enough.
  @inlinable
  public func add(_ input: Input, to state: inout Boxed<Ranking<Input>>) {
    _ = change(&state, by: input, at: .none)
  }

  /// The highest of both.
  @inlinable
  public func merge(_ other: Boxed<Ranking<Input>>, into state: inout Boxed<Ranking<Input>>) {
    for entry in other.content.entries { _ = state.content.insert(entry, limit: limit, isSame) }
  }
}
