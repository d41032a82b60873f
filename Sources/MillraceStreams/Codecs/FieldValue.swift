// FieldValue: the types that a field of a typed record may have, and how each lies in memory.

import MillraceBase
import MillraceDataflow

/// How a field lies in memory, and so what it takes.
enum FieldKind: UInt8 {
  case int8, int16, int32, int64, uint8, uint16, uint32, uint64
  case double, bool
  /// `String`, `Bytes` and ``BorrowedBytes``: text.
  case string, bytes, lent
  /// A type of the user's, by closures from and to text.
  case text
  /// A record in the record.
  case object
  /// Values, or records, in order.
  case list
}

/// What the codecs know of a type.
public struct FieldType: Sendable {
  let kind: FieldKind
  let isOptional: Bool
  /// Of arrays: what their elements are, for a field of this name.
  let list: (@Sendable (String) -> ListField)?

  init(_ kind: FieldKind, isOptional: Bool = false, list: (@Sendable (String) -> ListField)? = nil) {
    self.kind = kind
    self.isOptional = isOptional
    self.list = list
  }
}

/// A type that a field may have: the integers, `Double`, `Bool`, `String`, `Bytes`, ``BorrowedBytes``, `Timestamp` (as
/// ms), optionals of them, and arrays (JSON only). The codecs know these alone; for other types there is
/// ``RecordField/text(_:_:missing:read:write:)``.
public protocol FieldValue: SendableMetatype {
  /// Some value.
  init()
  /// Which of them it is.
  static var fieldType: FieldType { get }
}

extension Int8: FieldValue {
  /// A whole number.
  public static var fieldType: FieldType { FieldType(.int8) }
}
extension Int16: FieldValue {
  /// A whole number.
  public static var fieldType: FieldType { FieldType(.int16) }
}
extension Int32: FieldValue {
  /// A whole number.
  public static var fieldType: FieldType { FieldType(.int32) }
}
extension Int64: FieldValue {
  /// A whole number.
  public static var fieldType: FieldType { FieldType(.int64) }
}
extension Int: FieldValue {
  /// A whole number.
  public static var fieldType: FieldType { FieldType(.int64) }
}
extension UInt8: FieldValue {
  /// A whole number that is not negative.
  public static var fieldType: FieldType { FieldType(.uint8) }
}
extension UInt16: FieldValue {
  /// A whole number that is not negative.
  public static var fieldType: FieldType { FieldType(.uint16) }
}
extension UInt32: FieldValue {
  /// A whole number that is not negative.
  public static var fieldType: FieldType { FieldType(.uint32) }
}
extension UInt64: FieldValue {
  /// A whole number that is not negative.
  public static var fieldType: FieldType { FieldType(.uint64) }
}
extension UInt: FieldValue {
  /// A whole number that is not negative.
  public static var fieldType: FieldType { FieldType(.uint64) }
}
extension Timestamp: FieldValue {
  /// No time.
  public init() { self = .none }
  /// Milliseconds since the epoch, as a whole number.
  public static var fieldType: FieldType { FieldType(.int64) }
}
extension Double: FieldValue {
  /// A number.
  public static var fieldType: FieldType { FieldType(.double) }
}
extension Bool: FieldValue {
  /// `true` or `false`.
  public static var fieldType: FieldType { FieldType(.bool) }
}
extension String: FieldValue {
  /// A copy of the text; of more than 15 bytes, in memory of its own.
  public static var fieldType: FieldType { FieldType(.string) }
}
extension Bytes: FieldValue {
  /// A copy of the text's UTF-8.
  public static var fieldType: FieldType { FieldType(.bytes) }
}
extension BorrowedBytes: FieldValue {
  /// No bytes.
  public init() { self.init(UnsafeRawBufferPointer(start: nil, count: 0)) }
  /// The text where it lies, lent like the record: nothing is copied, unless there are escapes in it.
  public static var fieldType: FieldType { FieldType(.lent) }
}
extension Array: FieldValue where Element: FieldValue {
  /// A list of values. An element that is `null` is refused, unless elements are optionals.
  public static var fieldType: FieldType {
    FieldType(.list) { name in ListField.values(of: Element.self, field: name) }
  }
}
extension Optional: FieldValue where Wrapped: FieldValue {
  /// Nil.
  public init() { self = .none }
  /// What the value is; nil when it is missing.
  public static var fieldType: FieldType {
    precondition(!Wrapped.fieldType.isOptional, "a field may not be an optional of an optional")
    return FieldType(Wrapped.fieldType.kind, isOptional: true, list: Wrapped.fieldType.list)
  }
}
