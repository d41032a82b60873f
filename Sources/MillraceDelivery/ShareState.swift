// ShareState: the durable part of a share-partition: what is done, and how often what is not was delivered.
//
// State:   version 1 (u8) · start (i64) · ranges (varint), each: gap from the last end, length (varlong, unsigned)
//          · counts (varint), each: gap from the last end, length (varlong, unsigned), deliveries (varint, unsigned)
// Change:  kind (u8: 1 done, 2 counted) · done: ranges as above, the first gap counting from 0; counted: deliveries
//          (varint, unsigned), ranges. Small, because every acknowledgement writes some.
//
// Numbers are big endian, varints LEB128. Offsets ascend, gaps between done ranges are at least 1.

import MillraceBase
import MillraceModel

/// A change of a share-partition's durable state. Absolute: applying one twice does no harm.
public enum ShareChange: Hashable, Sendable {
  /// These records are done with: accepted, rejected, given up after too many deliveries, or none at all.
  case done([Range<Offset>])
  /// These records were delivered so often and are to be delivered again; 0 for never.
  case counted([Range<Offset>], deliveries: Int16)
}

/// What a share-partition needs to go on after a restart, beside its log.
///
/// What was in flight is not in it: such records are delivered again, with the count that they had before. Memory follows
/// the records that are out of order.
public struct ShareState: Equatable, Sendable {
  /// Everything below is done.
  public private(set) var start: Offset
  /// Done ones above `start`; the offset `start` itself is not done.
  public private(set) var done = OffsetRanges()
  /// Deliveries of records that are not done and had some.
  var counts = OffsetRuns<Int16>()

  /// A partition in which everything from `start` on is still to be delivered.
  public init(start: Offset) { self.start = max(0, start) }

  /// Applies `change`. Total: what makes no sense, such as a count of a record that is done, changes nothing.
  public mutating func apply(_ change: ShareChange) {
    switch change {
    case .done(let ranges):
      for range in ranges where range.upperBound > start {
        done.insert(max(range.lowerBound, start)..<range.upperBound)
        counts.remove(range)
      }
      if let first = done.ranges.first, first.lowerBound == start {
        start = first.upperBound
        done.removeFirst()
      }
    case .counted(let ranges, let deliveries):
      for range in ranges where range.upperBound > start {
        var rest = OffsetRanges([max(range.lowerBound, start)..<range.upperBound])
        for gone in done.ranges where gone.overlaps(range) { rest = rest.subtracting(gone) }
        for part in rest.ranges {
          if deliveries > 0 { counts.set(part, deliveries) } else { counts.remove(part) }
        }
      }
    }
  }

  /// The offset behind everything that is known of.
  public var end: Offset {
    max(start, done.ranges.last?.upperBound ?? start, counts.runs.last?.range.upperBound ?? start)
  }

  /// Number of records below `logEnd` that are not done, as far as offsets are records.
  public func lag(below logEnd: Offset) -> Int64 {
    guard logEnd > start else { return 0 }
    return logEnd - start - done.ranges.reduce(0) { $0 + Int64($1.clamped(to: start..<logEnd).count) }
  }
}

// MARK: Bytes

extension ShareState {
  static let version: UInt8 = 1

  /// Writes the snapshot. The same state always gives the same bytes.
  public func encode(to writer: inout ByteWriter) {
    writer.uint8(ShareState.version)
    writer.int64(start)
    QueueState.encode(done.ranges, from: start, to: &writer)
    writer.unsignedVarint(UInt32(counts.runs.count))
    var last = start
    for run in counts.runs {
      writer.unsignedVarlong(UInt64(run.range.lowerBound - last))
      writer.unsignedVarlong(UInt64(run.range.count))
      writer.unsignedVarint(UInt32(run.value))
      last = run.range.upperBound
    }
  }

  /// Reads a snapshot.
  /// - Throws: for another version, and for what ``encode(to:)`` would not write. Allocates in proportion to the bytes.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let version = try reader.uint8()
    guard version == ShareState.version else {
      throw DecodingError(
        "share-partition of version \(version), known is \(ShareState.version)", at: reader.position - 1)
    }
    let at = reader.position
    start = try reader.int64()
    guard start >= 0 else { throw DecodingError("a share-partition starts at \(start)", at: at) }
    done = OffsetRanges(try QueueState.ranges(from: start, of: &reader, minimumGap: 1))
    var last = start
    for _ in 0..<(try reader.unsignedVarint()) {
      let at = reader.position
      let range = try reader.offsetRange(behind: last)
      let deliveries = try reader.unsignedVarint()
      guard deliveries > 0, deliveries <= UInt32(Int16.max), !done.ranges.contains(where: { $0.overlaps(range) }) else {
        throw DecodingError("\(deliveries) deliveries of records \(range), some of which may be done", at: at)
      }
      counts.set(range, Int16(deliveries))
      last = range.upperBound
    }
  }
}

extension ShareChange {
  /// Writes the change.
  public func encode(to writer: inout ByteWriter) {
    switch self {
    case .done(let ranges):
      writer.uint8(1)
      QueueState.encode(ranges, from: 0, to: &writer)
    case .counted(let ranges, let deliveries):
      writer.uint8(2)
      writer.unsignedVarint(UInt32(max(0, deliveries)))
      QueueState.encode(ranges, from: 0, to: &writer)
    }
  }

  /// Reads a change.
  /// - Throws: for what ``encode(to:)`` would not write. Allocates in proportion to the bytes.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let at = reader.position
    switch try reader.uint8() {
    case 1: self = .done(try QueueState.ranges(from: 0, of: &reader, minimumGap: 0))
    case 2:
      let deliveries = try reader.unsignedVarint()
      guard deliveries <= UInt32(Int16.max) else { throw DecodingError("\(deliveries) deliveries", at: at) }
      self = .counted(
        try QueueState.ranges(from: 0, of: &reader, minimumGap: 0), deliveries: Int16(deliveries))
    case let kind: throw DecodingError("share change of kind \(kind), which this program does not know", at: at)
    }
  }
}

extension ByteReader {
  fileprivate mutating func offsetRange(behind last: Offset) throws(DecodingError) -> Range<Offset> {
    let at = position
    let gap = try unsignedVarlong()
    let length = try unsignedVarlong()
    let most = UInt64(Int64.max - last)
    guard gap <= most, length > 0, length <= most - gap else {
      throw DecodingError("a range of \(length) offsets, \(gap) behind \(last)", at: at)
    }
    let lower = last + Int64(gap)
    return lower..<lower + Int64(length)
  }
}
