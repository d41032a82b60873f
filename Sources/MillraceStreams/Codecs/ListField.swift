// ListField: a list in a record, as the codecs work on it: what an element is, and how elements become an array.
//
// Elements are read in memory of the reader, one behind the other, each from its first value on, and then moved into an array of
// just that size. Whoever reads knows the elements by a table: of one field, or of the fields of a record.

import MillraceBase
import MillraceDataflow

/// The elements of a field that is an array.
///
/// Safety: `@unchecked Sendable` because nothing changes after `init`.
final class ListField: @unchecked Sendable {
  /// The fields of an element that is a record; else one field, which is the element.
  let table: FieldTable
  let isOfRecords: Bool
  /// Bytes from one element to the next.
  let stride: Int
  /// Gives an element in memory that holds none its first value.
  let begin: (UnsafeMutableRawPointer) -> Void
  /// Moves elements to memory that holds none.
  let move: (_ from: UnsafeMutableRawPointer, _ to: UnsafeMutableRawPointer, _ count: Int) -> Void
  /// Ends elements; their memory holds none then.
  let end: (UnsafeMutableRawPointer, _ count: Int) -> Void
  /// Moves elements into the array of a record.
  let store: (UnsafeMutableRawPointer, _ count: Int, FieldTable.Entry, _ record: UnsafeMutableRawPointer) -> Void
  /// Calls a closure for each element of a record's array, in order; false when there is no array.
  let forEach: (FieldTable.Entry, _ record: UnsafeRawPointer, (UnsafeRawPointer) -> Void) -> Bool

  private init<Element>(
    of _: Element.Type, _ table: FieldTable, isOfRecords: Bool, first: @escaping () -> Element
  ) {
    precondition(MemoryLayout<Element>.alignment <= ElementRoom.alignment, "\(Element.self) is aligned more than any")
    self.table = table
    self.isOfRecords = isOfRecords
    stride = MemoryLayout<Element>.stride
    begin = { $0.initializeMemory(as: Element.self, to: first()) }
    move = { from, to, count in
      _ = to.moveInitializeMemory(as: Element.self, from: from.assumingMemoryBound(to: Element.self), count: count)
    }
    end = { $0.assumingMemoryBound(to: Element.self).deinitialize(count: $1) }
    store = { elements, count, entry, record in
      let array = [Element](unsafeUninitializedCapacity: count) { buffer, made in
        buffer.baseAddress?.moveInitialize(from: elements.assumingMemoryBound(to: Element.self), count: count)
        made = count
      }
      entry.store(array, in: record)
    }
    forEach = { entry, record, body in
      guard let array = entry.load([Element].self, from: record) else { return false }
      array.withUnsafeBytes { elements in
        guard let base = elements.baseAddress else { return }
        for index in array.indices { body(base + index * MemoryLayout<Element>.stride) }
      }
      return true
    }
  }

  /// Values that the codecs know. The field's name is for those who ask why a text is refused.
  static func values<Element: FieldValue>(of type: Element.Type, field name: String) -> ListField {
    let first = UnsafeMutablePointer<Element>.allocate(capacity: 1)
    first.initialize(to: Element())
    let element = Element.fieldType
    let name = name + "[]"
    let content = FieldContent(
      name: name, kind: element.kind, isOptional: element.isOptional, offset: 0, isRequired: !element.isOptional,
      setDefault: { defaults, place in
        place.assumingMemoryBound(to: Element.self).pointee = defaults.assumingMemoryBound(to: Element.self).pointee
      }, list: element.list?(name))
    let table = FieldTable([content], refusesUnknown: false, defaults: UnsafeRawPointer(first)) {
      first.deinitialize(count: 1)
      first.deallocate()
    }
    return ListField(of: type, table, isOfRecords: false) { Element() }
  }

  /// Records.
  static func records<Element: TypedRecord>(of type: Element.Type) -> ListField {
    ListField(of: type, Element.schema.table, isOfRecords: true) { Element() }
  }
}

/// Elements of a list that is being read. Whoever has it ends it.
struct ElementRoom {
  /// Of any element.
  static let alignment = 16
  private static let smallest = 1024

  private let list: ListField
  private var memory: UnsafeMutableRawBufferPointer
  private(set) var count = 0

  /// Room of any size, in memory that holds nothing.
  init(_ list: ListField, in memory: UnsafeMutableRawBufferPointer?) {
    self.list = list
    self.memory =
      memory ?? .allocate(byteCount: max(ElementRoom.smallest, list.stride), alignment: ElementRoom.alignment)
  }

  private func place(_ index: Int) -> UnsafeMutableRawPointer {
    guard let base = memory.baseAddress else { preconditionFailure("no memory for \(index) elements") }
    return base + index * list.stride
  }

  /// Begins another element.
  mutating func add() -> UnsafeMutableRawPointer {
    if (count + 1) * list.stride > memory.count { grow() }
    list.begin(place(count))
    count += 1
    return place(count - 1)
  }

  private mutating func grow() {
    let larger = UnsafeMutableRawBufferPointer.allocate(
      byteCount: 2 * (count + 1) * list.stride, alignment: ElementRoom.alignment)
    if let to = larger.baseAddress, count > 0 { list.move(place(0), to, count) }
    memory.deallocate()
    memory = larger
  }

  /// Makes them the array of a record.
  mutating func store(_ entry: FieldTable.Entry, in record: UnsafeMutableRawPointer) {
    list.store(place(0), count, entry, record)
    count = 0
  }

  /// Ends what is here.
  /// - Returns: the memory, to be used again.
  mutating func end() -> UnsafeMutableRawBufferPointer {
    if count > 0 { list.end(place(0), count) }
    count = 0
    return memory
  }
}
