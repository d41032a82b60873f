// FieldTable: a schema as the codecs work on it: names, kinds and places in memory, of no type in particular.

import MillraceBase
import MillraceDataflow

/// A field as it was declared.
struct FieldContent {
  let name: String
  let kind: FieldKind
  let isOptional: Bool
  /// Bytes from the start of the record.
  let offset: Int
  let isRequired: Bool
  /// Copies the field from the defaults to a record.
  let setDefault: (UnsafeRawPointer, UnsafeMutableRawPointer) -> Void
  /// Of a record in the record.
  var nested: FieldTable?
  /// Of a list.
  var list: ListField?
  /// Of a type of the user's: stores the value of a text, or says false.
  var readText: ((UnsafeRawBufferPointer, UnsafeMutableRawPointer) -> Bool)?
  var writeText: ((UnsafeRawPointer) -> String)?
}

/// The fields of one type of records.
///
/// Safety: everything in it stays as `init` made it; the memory goes with it.
final class FieldTable {
  /// What a reader looks at for every value: plain memory, so that nothing is counted.
  struct Entry {
    let kind: FieldKind
    let isOptional: Bool
    let offset: Int
    /// The name as JSON has it, in quotes and with its colon.
    let name: UnsafeRawBufferPointer
  }

  let fields: [FieldContent]
  let entries: UnsafeBufferPointer<Entry>
  let refusesUnknown: Bool
  /// Whether a name looks otherwise in JSON than it is.
  let hasEscapedNames: Bool
  /// A bit for each field.
  let all: UInt64
  let required: UInt64
  private let defaults: UnsafeRawPointer
  private let release: () -> Void
  private let names: UnsafeMutableRawBufferPointer

  init(
    _ fields: [FieldContent], refusesUnknown: Bool, defaults: UnsafeRawPointer, release: @escaping () -> Void
  ) {
    precondition(!fields.isEmpty && fields.count <= 64, "a schema of \(fields.count) fields; 1 to 64 may be")
    precondition(Set(fields.map(\.name)).count == fields.count, "two of \(fields.map(\.name)) have the same name")
    self.fields = fields
    self.refusesUnknown = refusesUnknown
    self.defaults = defaults
    self.release = release
    all = UInt64.max >> UInt64(64 - fields.count)
    required = fields.indices.reduce(0) { $0 | (fields[$1].isRequired ? 1 << UInt64($1) : 0) }
    let quoted = fields.map { field in
      var writer = JSONWriter()
      writer.name(field.name)
      return writer.bytes
    }
    hasEscapedNames = quoted.contains { $0.contains(UInt8(ascii: "\\")) }
    names = .allocate(byteCount: quoted.reduce(0) { $0 + $1.count }, alignment: 8)
    let made = UnsafeMutableBufferPointer<Entry>.allocate(capacity: fields.count)
    var at = 0
    for (index, field) in fields.enumerated() {
      let name = UnsafeMutableRawBufferPointer(rebasing: names[at..<(at + quoted[index].count)])
      name.copyBytes(from: quoted[index])
      at += name.count
      made.initializeElement(
        at: index,
        to: Entry(
          kind: field.kind, isOptional: field.isOptional, offset: field.offset, name: UnsafeRawBufferPointer(name)))
    }
    entries = UnsafeBufferPointer(made)
  }

  deinit {
    entries.deallocate()
    names.deallocate()
    release()
  }

  /// Gives a field of a record its default.
  func setDefault(_ index: Int, in record: UnsafeMutableRawPointer) { fields[index].setDefault(defaults, record) }

  /// Gives the fields of a record that are not in `seen`, a bit for each, their defaults.
  /// - Throws: when one of them may not be missing.
  func complete(_ record: UnsafeMutableRawPointer, seen: UInt64, at position: Int) throws(DecodingError) {
    var missing = all & ~seen
    if missing & required != 0 {
      let name = fields[(missing & required).trailingZeroBitCount].name
      throw DecodingError("the field \"\(name)\" is missing", at: position)
    }
    while missing != 0 {
      setDefault(missing.trailingZeroBitCount, in: record)
      missing &= missing &- 1
    }
  }

  /// Refuses what no row of cells can hold.
  func checkCells() throws(JobError) {
    guard let field = fields.first(where: { $0.kind == .object || $0.kind == .list }) else { return }
    let what = field.kind == .object ? "record" : "list"
    throw JobError(.invalidJob, "the field \"\(field.name)\" is a \(what), which CSV does not have")
  }

  /// The field with this name; nil when there is none.
  func index(of name: some Collection<UInt8>) -> Int? { fields.firstIndex { $0.name.utf8.elementsEqual(name) } }
}

extension FieldTable.Entry {
  /// Stores a whole number.
  /// - Returns: whether it fits.
  @inline(__always)
  func store(_ magnitude: UInt64, isNegative: Bool, in record: UnsafeMutableRawPointer) -> Bool {
    switch kind {
    case .int64:
      guard magnitude <= UInt64(Int64.max) + (isNegative ? 1 : 0) else { return false }
      let value = Int64(truncatingIfNeeded: magnitude)
      return store(isNegative ? 0 &- value : value, in: record)
    case .int32: return narrow(Int32.self, magnitude, isNegative, record)
    case .int16: return narrow(Int16.self, magnitude, isNegative, record)
    case .int8: return narrow(Int8.self, magnitude, isNegative, record)
    case .uint64: return narrow(UInt64.self, magnitude, isNegative, record)
    case .uint32: return narrow(UInt32.self, magnitude, isNegative, record)
    case .uint16: return narrow(UInt16.self, magnitude, isNegative, record)
    case .uint8: return narrow(UInt8.self, magnitude, isNegative, record)
    default: return false
    }
  }

  @inline(never)
  private func narrow<Value: FixedWidthInteger>(
    _ type: Value.Type, _ magnitude: UInt64, _ isNegative: Bool, _ record: UnsafeMutableRawPointer
  ) -> Bool {
    if !isNegative {
      guard let value = Value(exactly: magnitude) else { return false }
      return store(value, in: record)
    }
    guard magnitude <= UInt64(Int64.max) + 1, let value = Value(exactly: 0 &- Int64(truncatingIfNeeded: magnitude))
    else { return false }
    return store(value, in: record)
  }

  /// Stores a value of the field's own type, or wrapped when the field is optional.
  @inline(__always) @discardableResult
  func store<Value>(_ value: Value, in record: UnsafeMutableRawPointer) -> Bool {
    let place = record + offset
    if isOptional {
      place.assumingMemoryBound(to: Value?.self).pointee = value
    } else {
      place.assumingMemoryBound(to: Value.self).pointee = value
    }
    return true
  }

  /// The value of the field, which has this type or is an optional of it; nil where there is none.
  @inline(__always)
  func load<Value>(_: Value.Type, from record: UnsafeRawPointer) -> Value? {
    let place = record + offset
    return isOptional
      ? place.assumingMemoryBound(to: Value?.self).pointee : place.assumingMemoryBound(to: Value.self).pointee
  }
}
