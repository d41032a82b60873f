// RecordSchema: the fields of a user's struct, declared once, for JSON and CSV, to read and to write.
//
// A schema is made once, from key paths. What reads and writes works on a table of names, kinds and places in memory,
// so it is not generic: it is compiled once, and a record costs one call across the border between targets.

import MillraceBase
import MillraceDataflow

/// A struct whose fields are read from records and written to them.
///
///     struct Click: TypedRecord {
///       var user: Int64 = 0
///       var page = BorrowedBytes()
///       var referrer: String?
///       var seconds = 1.0
///
///       static let schema = RecordSchema<Click>(
///         .field("user", \.user), .field("page", \.page), .field("referrer", \.referrer),
///         .field("seconds", \.seconds, missing: .useDefault))
///     }
///
/// A record made by `init()` has the defaults of all fields.
public protocol TypedRecord: SendableMetatype {
  /// A record with the default of every field.
  init()
  /// The fields. A `static let`: it is made once.
  static var schema: RecordSchema<Self> { get }
}

/// What to do when a record does not have a field, or has `null` for it.
public enum MissingField: Sendable {
  /// The record is refused.
  case refuse
  /// The field keeps its default; of optionals that is mostly nil.
  case useDefault
}

/// What to do with fields that a schema does not name.
public enum UnknownFields: Sendable {
  /// They are passed over; they must be well-formed all the same.
  case ignore
  /// The record is refused.
  case refuse
}

/// The fields of a struct.
///
/// Safety: `@unchecked Sendable` because nothing changes after `init`: defaults that are not Sendable themselves are
/// only copied.
public struct RecordSchema<Record: TypedRecord>: @unchecked Sendable {
  let table: FieldTable

  /// Most fields of a struct.
  public static var fieldLimit: Int { 64 }

  /// A schema; its order is the order in which fields are written.
  ///
  /// - Parameters:
  ///   - unknownFields: what to do with fields that are not named here.
  ///   - fields: at most 64, each name once.
  public init(unknownFields: UnknownFields = .ignore, _ fields: RecordField<Record>...) {
    let defaults = UnsafeMutablePointer<Record>.allocate(capacity: 1)
    defaults.initialize(to: Record())
    table = FieldTable(
      fields.map(\.content), refusesUnknown: unknownFields == .refuse, defaults: UnsafeRawPointer(defaults),
      release: {
        defaults.deinitialize(count: 1)
        defaults.deallocate()
      })
  }
}

/// A field of a struct: its name in records, and where it is.
public struct RecordField<Record: TypedRecord> {
  let content: FieldContent

  private static func content<Value>(
    _ name: String, _ path: WritableKeyPath<Record, Value>, _ type: FieldType, _ missing: MissingField?
  ) -> FieldContent {
    guard let offset = MemoryLayout<Record>.offset(of: path) else {
      preconditionFailure("the field \"\(name)\" of \(Record.self) is not stored in the struct")
    }
    return FieldContent(
      name: name, kind: type.kind, isOptional: type.isOptional, offset: offset,
      isRequired: (missing ?? (type.isOptional ? .useDefault : .refuse)) == .refuse,
      setDefault: { defaults, record in
        (record + offset).assumingMemoryBound(to: Value.self).pointee =
          (defaults + offset).assumingMemoryBound(to: Value.self).pointee
      }, list: type.list?(name))
  }

  /// A stored property of a type that the codecs know.
  ///
  /// - Parameter missing: what to do without it; nil refuses the record, or is nil for an optional.
  public static func field<Value: FieldValue>(
    _ name: String, _ path: WritableKeyPath<Record, Value>, missing: MissingField? = nil
  ) -> RecordField {
    RecordField(content: content(name, path, Value.fieldType, missing))
  }

  /// A stored property of any type, which stands as text in records.
  ///
  /// - Parameters:
  ///   - read: the value from the text, which is lent for the call; nil when it stands for none, which refuses the
  ///     record.
  ///   - write: the text of a value.
  public static func text<Value>(
    _ name: String, _ path: WritableKeyPath<Record, Value>, missing: MissingField = .refuse,
    read: @escaping @Sendable (BorrowedBytes) -> Value?, write: @escaping @Sendable (Value) -> String
  ) -> RecordField {
    var content = content(name, path, FieldType(.text), missing)
    content.readText = { text, place in
      guard let value = read(BorrowedBytes(text)) else { return false }
      place.assumingMemoryBound(to: Value.self).pointee = value
      return true
    }
    content.writeText = { write($0.assumingMemoryBound(to: Value.self).pointee) }
    return RecordField(content: content)
  }

  /// A stored property that is a record itself: an object in JSON. CSV has none.
  public static func object<Value: TypedRecord>(
    _ name: String, _ path: WritableKeyPath<Record, Value>, missing: MissingField = .refuse
  ) -> RecordField {
    var content = content(name, path, FieldType(.object), missing)
    content.nested = Value.schema.table
    return RecordField(content: content)
  }

  /// A stored property that is an array of records: a list of objects in JSON. CSV has none.
  public static func objects<Value: TypedRecord>(
    _ name: String, _ path: WritableKeyPath<Record, [Value]>, missing: MissingField = .refuse
  ) -> RecordField {
    var content = content(name, path, FieldType(.list), missing)
    content.list = ListField.records(of: Value.self)
    return RecordField(content: content)
  }
}
