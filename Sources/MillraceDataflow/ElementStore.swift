// ElementStore: keyed state with any number of elements for each key, each of them one record of the state log.
//
// An element has a rank; those of a key lie in one array by their ranks, and those of one rank by their bytes. So what
// an operator finds, and in which order, depends on what is there and not on how it came there. The elements' bytes and
// values lie in a keyed table, whose entries keep their numbers; a second table, which is in no log, says where a key's
// array is.
//
// A new element costs a search in its key's array, and moves those behind it by 16 bytes each: nothing when ranks rise,
// as times mostly do. Elements leave at the front in O(1), amortised.

import MillraceBase

/// How an element's bytes say its rank.
struct ElementRanking: Sendable {
  /// The rank; nil when the bytes are no element's.
  let rank: @Sendable (UnsafeRawBufferPointer) -> Int64?

  /// A number, int64 big endian, which is the rank.
  static let number = ElementRanking { $0.count == 8 ? $0.bigEndianNumber(at: 0) : nil }
  /// A time, int64 big endian, which is the rank, and the number of the element, uint64 big endian, below 2⁶³.
  static let time = ElementRanking {
    $0.count == 16 && $0.bigEndianNumber(at: 8) >= 0 ? $0.bigEndianNumber(at: 0) : nil
  }
  /// A value's encoding, whose hash is the rank.
  static func value<Value: StateCodable>(_: Value.Type) -> ElementRanking {
    ElementRanking { Value(elementBytes: $0) == nil ? nil : Int64(bitPattern: Hashing.stable($0)) }
  }
}

/// The elements of all keys of one operator.
///
/// Safety: `@unchecked Sendable` because it is handed to the job's worker thread once and used there only.
@usableFromInline
final class ElementStore: @unchecked Sendable {
  struct Element {
    var rank: Int64
    var entry: UInt32
  }

  final class Group {
    /// By rank, then by bytes; those before `first` are gone.
    var elements: [Element] = []
    var first = 0
    /// The number of the key's entry in the index; −1 when the group is free.
    var entry = -1
    /// The time of the group's entry in the heap; `.max` without one.
    var due = Int64.max
    /// Used since the store last looked for what to put into a file.
    var isRecent = true
  }

  private struct Due: Comparable {
    let time: Int64
    let group: Int
    static func < (left: Due, right: Due) -> Bool { (left.time, left.group) < (right.time, right.group) }
  }

  let table: KeyedTable
  let ranking: ElementRanking
  /// The number of each key's group.
  let index = KeyedTable(operatorID: 0)
  var groups: [Group] = []
  var free: [Int] = []
  /// Ranks are times, and elements go when they are over.
  let expires: Bool
  private var heap = Heap<Due>()
  /// Entries that came back from files and are in no group yet.
  var returned: [UInt32] = []
  /// The next group that is looked at for a place in a file.
  var hand = 0
  /// The state log was read; before that there are no groups.
  var isRecovered = false
  /// The next element's number, of those that have one: higher than those of all that are there.
  private var sequence: UInt64 = 0

  /// - Parameters:
  ///   - codec: of the elements' values.
  ///   - expires: whether ``expire(below:)`` is to be called.
  init(operatorID: UInt16, ranking: ElementRanking, codec: any StateCodec, expires: Bool = false) {
    table = KeyedTable(operatorID: operatorID, kind: StateRecordKind.element, scope: [], codec: codec)
    self.ranking = ranking
    self.expires = expires
  }

  /// The elements of a key, which are brought back when they are in files.
  private func group(_ key: UnsafeRawBufferPointer) -> Group? {
    guard let number = index.value(key) else { return table.hasSpilled ? bringBack(key) : nil }
    groups[Int(number)].isRecent = true
    return groups[Int(number)]
  }

  func makeGroup(_ key: UnsafeRawBufferPointer) -> Group {
    let hash = Hashing.stable(key)
    let entry = index.changeEntry(key, hash) {
      if let number = self.free.popLast() { return UInt64(number) }
      self.groups.append(Group())
      return UInt64(self.groups.count - 1)
    }
    let group = groups[Int(index.bits(of: entry))]
    group.entry = entry
    return group
  }

  // MARK: Reading

  /// Whether the key has elements.
  @usableFromInline
  func has(_ key: UnsafeRawBufferPointer) -> Bool { group(key) != nil }

  /// The lowest and the highest rank of the key; nil without elements.
  func ranks(_ key: UnsafeRawBufferPointer) -> ClosedRange<Int64>? {
    guard let group = group(key), let last = group.elements.last else { return nil }
    return group.elements[group.first].rank...last.rank
  }

  /// Calls `body` with the rank, the bytes and the value of each element of the key whose rank lies in `ranks`, by
  /// rank. The memory is valid inside the call; `body` must not change the store.
  @usableFromInline
  func forEach(
    _ key: UnsafeRawBufferPointer, in ranks: ClosedRange<Int64> = .min ... .max,
    _ body: (Int64, UnsafeRawBufferPointer, UInt64) -> Void
  ) {
    guard let group = group(key) else { return }
    let skipped = ElementKey.lengthSize + key.count
    var at = ranks.lowerBound == .min ? group.first : lowerBound(group, ranks.lowerBound)
    while at < group.elements.count, group.elements[at].rank <= ranks.upperBound {
      let entry = Int(group.elements[at].entry)
      body(
        group.elements[at].rank, UnsafeRawBufferPointer(rebasing: table.key(of: entry)[skipped...]),
        table.bits(of: entry))
      at += 1
    }
  }

  // MARK: Changing

  /// Adds an element of `time` with a number of its own.
  @usableFromInline
  func append(_ key: UnsafeRawBufferPointer, at time: Int64, _ bits: UInt64) {
    let element = (time.bigEndian, sequence.bigEndian)
    sequence += 1
    withUnsafeBytes(of: element) { _ = make(key, time, $0, bits) }
  }

  /// Adds `weight` to what the element has: it comes with the first and goes when nothing is left.
  @usableFromInline
  func add(_ weight: Int64, to element: UnsafeRawBufferPointer, rank: Int64, of key: UnsafeRawBufferPointer) {
    let group = group(key)
    ElementKey.join(key, element) { whole in
      guard let entry = table.find(whole, Hashing.stable(whole)), table.isLive(entry) else {
        if weight != 0 { _ = make(key, rank, element, weight.stateBits) }
        return
      }
      let sum = Int64(stateBits: table.bits(of: entry)) &+ weight
      if sum != 0 {
        table.update(whole, initial: 0) { $0 = sum.stateBits }
      } else if let group {
        remove(entry, rank, from: group)
      }
    }
  }

  private func make(
    _ key: UnsafeRawBufferPointer, _ rank: Int64, _ element: UnsafeRawBufferPointer, _ bits: UInt64
  ) -> Int {
    let known = group(key)
    let entry = ElementKey.join(key, element) { table.changeEntry($0, Hashing.stable($0)) { bits } }
    let group = known ?? makeGroup(key)
    var at = group.elements.count
    if at > group.first, group.elements[at - 1].rank > rank {
      at = rank == .max ? at : lowerBound(group, rank + 1)
    }
    let new = Element(rank: rank, entry: UInt32(entry))
    while at > group.first, group.elements[at - 1].rank == rank, precedes(new, group.elements[at - 1]) { at -= 1 }
    group.elements.insert(new, at: at)
    if expires { arm(group) }
    return entry
  }

  /// By bytes, of one rank and one key.
  func precedes(_ left: Element, _ right: Element) -> Bool {
    table.key(of: Int(left.entry)).lexicographicallyPrecedes(table.key(of: Int(right.entry)))
  }

  private func lowerBound(_ group: Group, _ rank: Int64) -> Int {
    var low = group.first
    var high = group.elements.count
    while low < high {
      let middle = (low + high) / 2
      if group.elements[middle].rank < rank { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private func remove(_ entry: Int, _ rank: Int64, from group: Group) {
    var at = lowerBound(group, rank)
    while group.elements[at].entry != UInt32(entry) { at += 1 }
    table.remove(entry: entry)
    if at == group.first {
      group.first += 1
    } else {
      group.elements.remove(at: at)
    }
    settle(group)
  }

  /// Gives back what the front of the array takes, and the group when nothing is left in it.
  private func settle(_ group: Group) {
    if group.first == group.elements.count {
      let number = Int(index.bits(of: group.entry))
      index.remove(entry: group.entry)
      groups[number] = Group()
      free.append(number)
    } else if group.first > 16, group.first * 2 > group.elements.count {
      group.elements.removeFirst(group.first)
      group.first = 0
    }
  }

  func arm(_ group: Group) {
    let rank = group.elements[group.first].rank
    guard rank < group.due else { return }
    group.due = rank
    heap.push(Due(time: rank, group: Int(index.bits(of: group.entry))))
  }

  /// Takes all elements away whose rank is lower.
  func expire(below rank: Int64) {
    if rank > .min { table.fetchDueGroups(rank - 1) { gather($0) } }
    while let next = heap.first, next.time < rank {
      heap.popFirst()
      let group = groups[next.group]
      guard group.due == next.time else { continue }
      group.due = .max
      while group.first < group.elements.count, group.elements[group.first].rank < rank {
        table.remove(entry: Int(group.elements[group.first].entry))
        group.first += 1
      }
      let isEmpty = group.first == group.elements.count
      settle(group)
      if !isEmpty { arm(group) }
    }
  }
}

extension ElementStore: OperatorState {
  var operatorID: UInt16 { table.operatorID }
  var count: Int { table.count }
  var stateBytes: Int { table.stateBytes }
  var changedCount: Int { table.changedCount }
  // The values' own size is not known before they are written.
  var changedSize: Int { 2 * table.changedSize }
  func writeChanges(into writer: inout StateLogWriter) {
    table.writeChanges(into: &writer)
    index.forgetChanges()
  }
  func beginRound() { table.beginRound() }
  func sweep(_ quota: Int, upTo size: Int, into writer: inout StateLogWriter) -> Int {
    table.sweep(quota, upTo: size, into: &writer)
  }
  var roundIsDone: Bool { table.roundIsDone }

  func restore(
    _ kind: UInt8, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
  ) throws(JobError) {
    guard kind == StateRecordKind.element, let parts = ElementKey.split(key), ranking.rank(parts.element) != nil else {
      throw JobError(
        .corruptState,
        "a state record of kind \(kind) with \(key.count) bytes for operator \(operatorID), which has elements of keys")
    }
    if parts.element.count == 16 {
      sequence = max(sequence, UInt64(bitPattern: parts.element.bigEndianNumber(at: 8)) &+ 1)
    }
    try table.restore(key, value)
  }

  func recovered() {
    isRecovered = true
    // The elements of one key may be in memory and in files.
    if table.hasSpilled { return table.spillAll() }
    table.forEachEntry { entry, _ in
      guard let parts = ElementKey.split(table.key(of: entry)), let rank = ranking.rank(parts.element) else { return }
      makeGroup(parts.key).elements.append(Element(rank: rank, entry: UInt32(entry)))
    }
    index.forgetChanges()
    for group in groups { sort(group) }
  }
}

extension UnsafeRawBufferPointer {
  /// The int64 at `position`.
  @usableFromInline
  func bigEndianNumber(at position: Int) -> Int64 {
    Int64(bigEndian: loadUnaligned(fromByteOffset: position, as: Int64.self))
  }
}

extension StateCodable {
  /// The value that an element's bytes say; nil when they are none of the type.
  @usableFromInline
  init?(elementBytes bytes: UnsafeRawBufferPointer) {
    var reader = ByteReader(Bytes(copying: bytes))
    guard let value = try? Self(from: &reader), reader.remaining == 0 else { return nil }
    self = value
  }
}
