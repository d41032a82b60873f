// QueueState+Encoding: the bytes of a queue's snapshot and of its changes.
//
// State:   version 1 (u8) · lanes (varint) · each: lane (u8) · start (i64) · doneBytes (i64)
//          · ranges (varint), each: gap from the last end, length (varlong, unsigned)
//          · counts (varint), each: gap from the last offset, count (varint)
//          · delays (varint), each: gap from the last offset, until (i64, ms)
// Change:  kind (u8: 1 done, 2 counted, 3 delayed) · lane (u8) · done: bytes (varlong), ranges as above, the first gap
//          counting from 0; counted: offset (varlong, unsigned), count (varint, signed); delayed: offset (varlong,
//          unsigned), until (varlong, ms). Small, because every batch of acknowledgements writes some.
//
// Numbers are big endian, varints LEB128, signed ones zig-zag. Offsets ascend up to 2^55, gaps between done ranges are at least
// 1.

import MillraceBase
import MillraceModel

extension QueueState {
  static let version: UInt8 = 1
  /// No lane's end lies above, so that the messages of all 256 can be added up.
  static let largestOffset: Offset = 1 << 55

  /// Writes the snapshot. The same state always gives the same bytes.
  public func encode(to writer: inout ByteWriter) {
    writer.uint8(QueueState.version)
    writer.unsignedVarint(UInt32(lanes.count))
    for (number, lane) in lanes.sorted(by: { $0.key < $1.key }) {
      writer.uint8(number)
      writer.int64(lane.start)
      writer.int64(lane.doneBytes)
      QueueState.encode(lane.done.ranges, from: lane.start, to: &writer)
      writer.unsignedVarint(UInt32(lane.counts.count))
      var last = lane.start
      for (offset, count) in lane.counts.sorted(by: { $0.key < $1.key }) {
        writer.unsignedVarlong(UInt64(offset - last))
        writer.unsignedVarint(UInt32(count))
        last = offset
      }
      writer.unsignedVarint(UInt32(lane.delays.count))
      last = lane.start
      for (offset, until) in lane.delays.sorted(by: { $0.key < $1.key }) {
        writer.unsignedVarlong(UInt64(offset - last))
        writer.int64(until.milliseconds)
        last = offset
      }
    }
  }

  static func encode(_ ranges: [Range<Offset>], from start: Offset, to writer: inout ByteWriter) {
    writer.unsignedVarint(UInt32(ranges.count))
    var last = start
    for range in ranges {
      writer.unsignedVarlong(UInt64(range.lowerBound - last))
      writer.unsignedVarlong(UInt64(range.upperBound - range.lowerBound))
      last = range.upperBound
    }
  }

  /// Reads a snapshot.
  /// - Throws: for another version, and for what ``encode(to:)`` would not write. Allocates in proportion to the bytes.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let version = try reader.uint8()
    guard version == QueueState.version else {
      throw DecodingError("queue state of version \(version), known is \(QueueState.version)", at: reader.position - 1)
    }
    self.init()
    let count = try reader.unsignedVarint()
    guard count <= 256 else { throw DecodingError("\(count) lanes, 256 are possible", at: reader.position) }
    var last = -1
    for _ in 0..<count {
      let number = try reader.uint8()
      guard Int(number) > last else { throw DecodingError("lane \(number) after \(last)", at: reader.position) }
      last = Int(number)
      lanes[number] = try Lane(from: &reader)
    }
  }

  static func ranges(from start: Offset, of reader: inout ByteReader, minimumGap: UInt64)
    throws(DecodingError) -> [Range<Offset>]
  {
    let count = try reader.length(ofParts: 2)
    var ranges: [Range<Offset>] = []
    ranges.reserveCapacity(count)
    var last = start
    for index in 0..<count {
      let lower = try reader.offset(behind: last, minimum: index == 0 ? minimumGap : 1)
      let upper = try reader.offset(behind: lower, minimum: 1)
      ranges.append(lower..<upper)
      last = upper
    }
    return ranges
  }
}

extension QueueState.Lane {
  fileprivate init(from reader: inout ByteReader) throws(DecodingError) {
    self.init(start: try reader.int64())
    doneBytes = try reader.int64()
    guard start >= 0, start <= QueueState.largestOffset, doneBytes >= 0 else {
      throw DecodingError("lane starts at \(start) with \(doneBytes) bytes done", at: reader.position)
    }
    for range in try QueueState.ranges(from: start, of: &reader, minimumGap: 1) { done.insert(range) }
    var last = start
    for index in 0..<(try reader.length(ofParts: 2)) {
      last = try reader.offset(behind: last, minimum: index == 0 ? 0 : 1)
      guard let count = Int32(exactly: try reader.unsignedVarint()), count > 0, !isDone(last) else {
        throw DecodingError("delivery count of offset \(last) that cannot be", at: reader.position)
      }
      counts[last] = count
    }
    last = start
    for index in 0..<(try reader.length(ofParts: 9)) {
      last = try reader.offset(behind: last, minimum: index == 0 ? 0 : 1)
      guard !isDone(last) else { throw DecodingError("delay of offset \(last), which is done", at: reader.position) }
      delays[last] = Timestamp(milliseconds: try reader.int64())
    }
  }
}

extension QueueChange {
  /// Writes the change.
  public func encode(to writer: inout ByteWriter) {
    switch self {
    case .done(let lane, let ranges, let bytes):
      writer.uint8(1)
      writer.uint8(lane)
      writer.varlong(bytes)
      QueueState.encode(ranges, from: 0, to: &writer)
    case .counted(let lane, let offset, let count):
      writer.uint8(2)
      writer.uint8(lane)
      writer.unsignedVarlong(UInt64(bitPattern: offset))
      writer.varint(count)
    case .delayed(let lane, let offset, let until):
      writer.uint8(3)
      writer.uint8(lane)
      writer.unsignedVarlong(UInt64(bitPattern: offset))
      writer.varlong(until.milliseconds)
    }
  }

  /// Reads a change.
  /// - Throws: for an unknown kind, offsets that are negative, too large or do not ascend. Allocates in proportion to the bytes.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    let kind = try reader.uint8()
    let lane = try reader.uint8()
    switch kind {
    case 1:
      let bytes = try reader.varlong()
      self = .done(lane: lane, ranges: try QueueState.ranges(from: 0, of: &reader, minimumGap: 0), bytes: bytes)
    case 2:
      let offset = Offset(bitPattern: try reader.unsignedVarlong())
      self = .counted(lane: lane, offset: offset, count: try reader.varint())
    case 3:
      let offset = Offset(bitPattern: try reader.unsignedVarlong())
      self = .delayed(lane: lane, offset: offset, until: Timestamp(milliseconds: try reader.varlong()))
    default: throw DecodingError("queue change of kind \(kind)", at: reader.position - 2)
    }
    switch self {
    case .counted(_, let offset, _), .delayed(_, let offset, _):
      guard offset >= 0, offset <= QueueState.largestOffset else {
        throw DecodingError("offset \(offset)", at: reader.position)
      }
    case .done: break
    }
  }
}

extension ByteReader {
  /// A number of parts of at least `size` bytes each, as far as so many can follow.
  fileprivate mutating func length(ofParts size: Int) throws(DecodingError) -> Int {
    let count = Int(try unsignedVarint())
    guard count <= remaining / size else {
      throw DecodingError("\(count) parts of \(size) bytes, \(remaining) are left", at: position)
    }
    return count
  }

  /// An offset, given by its distance from `last`.
  fileprivate mutating func offset(behind last: Offset, minimum: UInt64) throws(DecodingError) -> Offset {
    let gap = try unsignedVarlong()
    let largest = QueueState.largestOffset
    guard gap >= minimum, last <= largest, gap <= UInt64(largest - last) else {
      throw DecodingError("offset \(gap) behind \(last)", at: position)
    }
    return last + Offset(gap)
  }
}
