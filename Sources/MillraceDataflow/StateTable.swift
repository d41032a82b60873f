// StateTable: one named state of a process function: a value, or any number of elements, for each key.
//
// Each value and each element is one entry and one record of the state log, with the event time at which it was written, so that a change
// costs what it changes. With a time to live it goes once event time has come to that time behind; a heap knows when, and its
// entries may come up early, when something was written again: they go back.
//
// A key's elements are listed by the numbers of their entries, in the order of their bytes: an element that comes behind the last one
// is appended, others have the list sorted before it is next read. So the order in which a function sees elements does not depend on
// how they came there, nor on crashes.

import MillraceBase

/// What a state holds in one place, and the event time at which it was written.
@usableFromInline
struct StampedState<Element: StateCodable, Content: StateCodable>: StateCodable {
  var written: Int64
  var content: Content
  /// The time of the entry in the heap; `.max` without one. Not kept.
  var due = Int64.max

  init(_ content: Content, written: Int64) {
    self.content = content
    self.written = written
  }

  @usableFromInline static var stateEncoding: String {
    "state<\(Element.stateEncoding),\(Content.stateEncoding)>/1"
  }
  @usableFromInline
  func encode(into writer: inout ByteWriter) {
    writer.int64(written)
    content.encode(into: &writer)
  }
  @usableFromInline
  init(from reader: inout ByteReader) throws(DecodingError) {
    written = try reader.int64()
    content = try Content(from: &reader)
  }
}

/// What stands for the element where a key has one value only.
@usableFromInline
struct NoElement: StateCodable {
  @usableFromInline static var stateEncoding: String { "none" }
  @usableFromInline func encode(into writer: inout ByteWriter) {}
  @usableFromInline init(from reader: inout ByteReader) throws(DecodingError) {}
}

/// A state of one run, whatever its types.
///
/// Safety: `@unchecked Sendable` because it is used by the job's worker thread only.
public class BoundState: @unchecked Sendable {
  /// All workers of a job have the same; see ``OperatorState/isShared``.
  var isShared = false
  init() {}
  /// Event time has come to `time`: lets go what is over.
  func expire(_ time: Timestamp) {}
}

/// The values or elements of all keys of one state.
///
/// Safety: `@unchecked Sendable` because it is used by the job's worker thread only.
@usableFromInline
final class StateTable<Element: StateCodable, Content: StateCodable>: BoundState, @unchecked Sendable {
  typealias Cell = Boxed<StampedState<Element, Content>>

  private struct Due: Comparable {
    let time: Int64
    let entry: Int
    static func < (left: Due, right: Due) -> Bool { left.time < right.time }
  }

  let table: KeyedTable
  let hasElements: Bool
  /// In ms; nil for ever.
  let lifetime: Int64?
  private var heap = Heap<Due>()
  let lists: ElementLists
  /// The state log was read; before that nothing is in lists.
  var isRecovered = false

  init(operatorID: UInt16, timeToLive: Duration?) {
    hasElements = Element.self != NoElement.self
    table = KeyedTable(
      operatorID: operatorID, kind: hasElements ? StateRecordKind.element : StateRecordKind.encodedValue, scope: [],
      codec: BoxCodec<StampedState<Element, Content>>())
    lifetime = timeToLive.map { max(0, $0.inMilliseconds) }
    lists = ElementLists(table)
    super.init()
  }

  // MARK: Single places

  /// Calls `body` with the bytes under which `element` of `key` stands.
  private func with<Result>(
    _ key: UnsafeRawBufferPointer, _ element: Element?, _ body: (UnsafeRawBufferPointer) -> Result
  ) -> Result {
    guard let element else { return body(key) }
    var writer = ByteWriter(capacity: 64)
    element.encode(into: &writer)
    return writer.finishJoined().withBuffer { ElementKey.join(key, $0, body) }
  }

  @usableFromInline
  func content(_ key: UnsafeRawBufferPointer, _ element: Element?) -> Content? {
    bringBack(key)
    return with(key, element) { bytes in
      guard let number = table.liveEntry(bytes, Hashing.stable(bytes)) else { return nil }
      return Cell(stateBits: table.bits(of: number)).content.content
    }
  }

  @usableFromInline
  func set(_ key: UnsafeRawBufferPointer, _ element: Element?, _ content: Content?, at time: Timestamp) {
    bringBack(key)
    with(key, element) { bytes in
      let known = table.liveEntry(bytes, Hashing.stable(bytes))
      guard let content else {
        if let known { remove(known) }
        return
      }
      let number =
        known
        ?? table.changeEntry(bytes, Hashing.stable(bytes)) {
          Cell(StampedState(content, written: time.milliseconds)).ownedStateBits()
        }
      if known != nil {
        let cell = Cell(stateBits: table.bits(of: number))
        cell.content.content = content
        cell.content.written = time.milliseconds
        table.noteChange(number)
      } else if hasElements {
        lists.add(number, of: key)
      }
      arm(number)
    }
  }

  private func remove(_ number: Int) {
    if hasElements { lists.remove(number) }
    table.remove(entry: number)
  }

  // MARK: Elements

  @usableFromInline
  func count(_ key: UnsafeRawBufferPointer) -> Int {
    bringBack(key)
    return lists.count(key)
  }

  /// The elements of a key with what they hold, by the elements' bytes.
  @usableFromInline
  func elements(_ key: UnsafeRawBufferPointer) -> [(Element, Content)] {
    bringBack(key)
    return lists.entries(key).map { number in
      (element(of: number), Cell(stateBits: table.bits(of: number)).content.content)
    }
  }

  /// The element with the highest bytes.
  @usableFromInline
  func last(_ key: UnsafeRawBufferPointer) -> Element? {
    bringBack(key)
    return lists.last(key).map { element(of: $0) }
  }

  @usableFromInline
  func removeAll(_ key: UnsafeRawBufferPointer) {
    bringBack(key)
    for number in lists.entries(key) { remove(number) }
  }

  private func element(of number: Int) -> Element {
    guard let element = decoded(table.key(of: number)) else { preconditionFailure("an element of another type") }
    return element
  }

  private func decoded(_ joined: UnsafeRawBufferPointer) -> Element? {
    guard let parts = ElementKey.split(joined) else { return nil }
    var reader = ByteReader(Bytes(copying: parts.element))
    do throws(DecodingError) {
      let element = try Element(from: &reader)
      return reader.remaining == 0 ? element : nil
    } catch {
      return nil
    }
  }

  // MARK: Time to live

  func arm(_ number: Int) {
    guard let lifetime else { return }
    let cell = Cell(stateBits: table.bits(of: number))
    let over = cell.content.written.adding(lifetime)
    guard over < cell.content.due else { return }
    cell.content.due = over
    heap.push(Due(time: over, entry: number))
  }

  override func expire(_ time: Timestamp) {
    guard let lifetime else { return }
    if hasElements { table.fetchDueGroups(time.milliseconds) { _ in } } else { table.fetchDue(time.milliseconds) }
    while let next = heap.first, next.time <= time.milliseconds {
      heap.popFirst()
      // The entry may be another one's by now.
      guard table.isLive(next.entry) else { continue }
      let cell = Cell(stateBits: table.bits(of: next.entry))
      guard cell.content.due == next.time else { continue }
      cell.content.due = .max
      if cell.content.written.adding(lifetime) <= time.milliseconds { remove(next.entry) } else { arm(next.entry) }
    }
  }
}

extension StateTable: OperatorState {
  var operatorID: UInt16 { table.operatorID }
  var waitsForTime: Bool { !heap.isEmpty || table.hasSpilledDues }
  var count: Int { table.count }
  var stateBytes: Int { table.stateBytes }
  var changedCount: Int { table.changedCount }
  // What is held has sizes that are not known before it is written.
  var changedSize: Int { 2 * table.changedSize }
  func writeChanges(into writer: inout StateLogWriter) {
    table.writeChanges(into: &writer)
    lists.forgetChanges()
  }
  func beginRound() { table.beginRound() }
  func sweep(_ quota: Int, upTo size: Int, into writer: inout StateLogWriter) -> Int {
    table.sweep(quota, upTo: size, into: &writer)
  }
  var roundIsDone: Bool { table.roundIsDone }

  func restore(
    _ kind: UInt8, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
  ) throws(JobError) {
    guard kind == table.kind, !hasElements || decoded(key) != nil else {
      throw JobError(
        .corruptState,
        "a state record of kind \(kind) with \(key.count) bytes for operator \(operatorID), a state of keys")
    }
    try table.restore(key, value)
  }

  func recovered() {
    isRecovered = true
    // The elements of one key may be in memory and in files.
    if hasElements, table.hasSpilled { return table.spillAll() }
    table.forEachEntry { number, _ in
      if hasElements, let key = ElementKey.split(table.key(of: number))?.key { lists.add(number, of: key) }
      arm(number)
    }
    lists.forgetChanges()
  }
}
