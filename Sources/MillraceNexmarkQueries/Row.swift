// Row: a row of a result, as the value of a record.
//
// The columns stand one behind the other: a byte that says the type, then the value. Numbers are big endian.
//
//   0  whole number    int64
//   1  text            length uint32, UTF-8
//   2  thousandths     int64: a decimal number with three decimals
//   3  day             int64: days since 1970-01-01

import MillraceBase
import MillraceDataflow

/// Types of columns.
@usableFromInline
enum RowLayout {
  @usableFromInline static let number: UInt8 = 0
  @usableFromInline static let text: UInt8 = 1
  @usableFromInline static let thousandths: UInt8 = 2
  @usableFromInline static let day: UInt8 = 3
}

/// A place in memory that columns are written to.
///
/// Safety: used inside one call only, on memory with room for the row.
public struct RowWriter {
  @usableFromInline var at: UnsafeMutableRawPointer

  @inlinable @inline(__always)
  init(_ at: UnsafeMutableRawPointer) { self.at = at }

  @inlinable @inline(__always)
  mutating func put(_ type: UInt8, _ number: Int64) {
    at.storeBytes(of: type, as: UInt8.self)
    (at + 1).storeBytes(of: number.bigEndian, as: Int64.self)
    at += 9
  }

  @inlinable @inline(__always)
  mutating func put(_ text: UnsafeRawBufferPointer) {
    at.storeBytes(of: RowLayout.text, as: UInt8.self)
    (at + 1).storeBytes(of: UInt32(truncatingIfNeeded: text.count).bigEndian, as: UInt32.self)
    if let from = text.baseAddress { (at + 5).copyMemory(from: from, byteCount: text.count) }
    at += 5 &+ text.count
  }
}

/// A value that can stand in a row.
public protocol RowColumn {
  /// Bytes that it takes.
  var columnSize: Int { get }
  /// Writes it.
  func writeColumn(into writer: inout RowWriter)
}

extension Int64: RowColumn {
  /// Type and number.
  @inlinable public var columnSize: Int { 9 }
  /// A whole number.
  @inlinable @inline(__always)
  public func writeColumn(into writer: inout RowWriter) { writer.put(RowLayout.number, self) }
}

extension Timestamp: RowColumn {
  /// Type and number.
  @inlinable public var columnSize: Int { 9 }
  /// Milliseconds since the epoch.
  @inlinable @inline(__always)
  public func writeColumn(into writer: inout RowWriter) { writer.put(RowLayout.number, milliseconds) }
}

extension BorrowedBytes: RowColumn {
  /// Type, length and text.
  @inlinable public var columnSize: Int { 5 &+ count }
  /// A text.
  @inlinable @inline(__always)
  public func writeColumn(into writer: inout RowWriter) { writer.put(buffer) }
}

extension String: RowColumn {
  /// Type, length and text.
  public var columnSize: Int { 5 + utf8.count }
  /// A text.
  public func writeColumn(into writer: inout RowWriter) {
    var text = self
    text.withUTF8 { writer.put(UnsafeRawBufferPointer($0)) }
  }
}

/// A decimal number with three decimals, exactly.
public struct Thousandths: RowColumn {
  /// A thousand times the number.
  public let count: Int64
  /// `count` thousandths.
  @inlinable public init(_ count: Int64) { self.count = count }
  /// Type and number.
  @inlinable public var columnSize: Int { 9 }
  /// The number.
  @inlinable public func writeColumn(into writer: inout RowWriter) { writer.put(RowLayout.thousandths, count) }
}

/// A day in UTC.
public struct Day: RowColumn {
  /// Days since 1970-01-01.
  public let number: Int64
  /// The day with this number.
  @inlinable public init(number: Int64) { self.number = number }
  /// The day that `time` is on.
  @inlinable public init(of time: Timestamp) {
    let length: Int64 = 86_400_000
    number = time.milliseconds / length - (time.milliseconds % length < 0 ? 1 : 0)
  }
  /// Type and number.
  @inlinable public var columnSize: Int { 9 }
  /// The day.
  @inlinable public func writeColumn(into writer: inout RowWriter) { writer.put(RowLayout.day, number) }
}

/// A row of a result. Texts that are borrowed make it valid only inside the call that has them.
public struct Row<each Column: RowColumn>: BytesRepresentable {
  @usableFromInline let columns: (repeat each Column)

  /// A row of these columns.
  @inlinable @inline(__always)
  public init(_ columns: repeat each Column) { self.columns = (repeat each columns) }

  /// The row's encoding.
  @inlinable @inline(__always)
  public func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
    var size = 0
    repeat size &+= (each columns).columnSize
    withUnsafeTemporaryAllocation(byteCount: size, alignment: 1) { room in
      guard let base = room.baseAddress else { return body(UnsafeRawBufferPointer(start: nil, count: 0)) }
      var writer = RowWriter(base)
      repeat (each columns).writeColumn(into: &writer)
      body(UnsafeRawBufferPointer(room))
    }
  }
}
