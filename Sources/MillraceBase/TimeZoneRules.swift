// TimeZoneRules: by how much the local time of a zone is ahead of UTC, as a zone file says it: TZif, RFC 8536.
//
//   header  "TZif", version (0, or "2" and higher), 15 bytes, then six counts uint32: UT flags, standard flags, leap seconds,
//           changes, types, bytes of names
//   data    times of changes (4 bytes, in version 2 8), the type of each (1), the types (6: offset int32, summer uint8, name uint8),
//           names, leap seconds (8; 12), flags
//   From version 2 on this is there twice, first with times of 4 bytes; behind the second "\n", a rule (PosixTimeZone.swift), "\n".
//
// Before the first change type 0 holds; behind the last one the rule, and without a rule the last type.

/// The offsets of a zone's local time. Times in seconds since 1970-01-01T00:00:00Z.
public struct TimeZoneRules: Sendable {
  /// Rising.
  private let changes: [Int64]
  /// Seconds east of Greenwich from each change on.
  private let offsets: [Int64]
  private let firstOffset: Int64
  private let rule: PosixTimeZone?

  /// Offsets are between −25 and 26 hours. Source: RFC 8536, 3.2.
  private static let offsetRange: ClosedRange<Int64> = -89_999...93_599
  /// No change lies further away: about as far as the age of the universe.
  private static let farthest: Int64 = 1 << 59

  /// Coordinated universal time.
  public static let utc = TimeZoneRules(changes: [], offsets: [], firstOffset: 0, rule: nil)

  private init(changes: [Int64], offsets: [Int64], firstOffset: Int64, rule: PosixTimeZone?) {
    self.changes = changes
    self.offsets = offsets
    self.firstOffset = firstOffset
    self.rule = rule
  }

  private struct Header {
    let version: UInt8
    let universal, standard, leaps, changes, types, names: Int

    init(_ reader: inout ByteReader) throws(DecodingError) {
      let at = reader.position
      guard try reader.uint32() == 0x545a_6966 else { throw DecodingError("no TZif file", at: at) }
      version = try reader.uint8()
      try reader.skip(15)
      universal = Int(try reader.uint32())
      standard = Int(try reader.uint32())
      leaps = Int(try reader.uint32())
      changes = Int(try reader.uint32())
      types = Int(try reader.uint32())
      names = Int(try reader.uint32())
    }

    /// Bytes of the data, with times of so many bytes. Counts have 32 bits, so that the sum has fewer than 64.
    func size(_ time: Int) -> Int {
      changes * (time + 1) + types * 6 + names + leaps * (time + 4) + standard + universal
    }
  }

  /// The rules in `file`.
  /// - Throws: when it is no TZif file of version 1 to 4, is cut, counts leap seconds, or contradicts itself.
  public init(_ file: Bytes) throws(DecodingError) {
    var reader = ByteReader(file)
    var header = try Header(&reader)
    var width = 4
    if header.version >= UInt8(ascii: "2") {
      try reader.skip(header.size(4))
      header = try Header(&reader)
      width = 8
    }
    let at = reader.position
    guard header.leaps == 0 else { throw DecodingError("a zone that counts leap seconds", at: at) }
    guard header.types > 0 else { throw DecodingError("a zone without offsets", at: at) }
    // Everything is there before anything is kept.
    var data = ByteReader(try reader.slice(header.size(width)))
    var changes: [Int64] = []
    for _ in 0..<header.changes {
      let time = try width == 8 ? data.int64() : Int64(data.int32())
      guard abs(time.clamped) <= TimeZoneRules.farthest, time > changes.last ?? .min else {
        throw DecodingError("a change at \(time) s", at: at + data.position - width)
      }
      changes.append(time)
    }
    let indexes = try data.slice(header.changes).array
    var types: [Int64] = []
    for _ in 0..<header.types {
      let offset = Int64(try data.int32())
      try data.skip(2)
      guard TimeZoneRules.offsetRange ~= offset else {
        throw DecodingError("an offset of \(offset) s", at: at + data.position - 6)
      }
      types.append(offset)
    }
    var offsets: [Int64] = []
    for index in indexes {
      guard index < types.count else { throw DecodingError("type \(index) of \(types.count)", at: at) }
      offsets.append(types[Int(index)])
    }
    let rule = try width == 8 ? TimeZoneRules.rule(&reader) : nil
    self.init(changes: changes, offsets: offsets, firstOffset: types[0], rule: rule)
  }

  /// Reads the rule behind the data; nil for an empty one.
  private static func rule(_ reader: inout ByteReader) throws(DecodingError) -> PosixTimeZone? {
    let at = reader.position
    guard try reader.uint8() == UInt8(ascii: "\n") else { throw DecodingError("no line behind the data", at: at) }
    let rest = try reader.slice(reader.remaining)
    guard let end = rest.array.firstIndex(of: UInt8(ascii: "\n")) else {
      throw DecodingError("a rule without an end", at: at + 1)
    }
    guard end > 0 else { return nil }
    do throws(DecodingError) {
      return try PosixTimeZone(rest[0..<end])
    } catch {
      throw DecodingError("the rule \"\(rest[0..<end].text)\": \(error.reason)", at: at + 1 + error.position)
    }
  }

  /// Seconds by which local time is ahead of UTC at `time`.
  /// - Complexity: O(log changes).
  public func offset(at time: Int64) -> Int64 { piece(at: time).offset }

  /// The offset at `time`, and when it ends.
  private func piece(at time: Int64) -> (offset: Int64, end: Int64) {
    var low = 0
    var high = changes.count
    while low < high {
      let middle = (low + high) / 2
      if changes[middle] <= time { low = middle + 1 } else { high = middle }
    }
    if low < changes.count { return (low == 0 ? firstOffset : offsets[low - 1], changes[low]) }
    if let rule { return rule.piece(at: time) }
    return (offsets.last ?? firstOffset, .max)
  }

  /// The first time at which local time has come to `local`, in seconds: of a time that comes twice the first one, of one that is
  /// left out the moment at which it is.
  /// - Complexity: O(log changes + those within two days).
  public func firstTime(ofLocal local: Int64) -> Int64 {
    // By no offset has it come by then.
    var time = local - 26 * 3600
    while true {
      let (offset, end) = piece(at: time)
      let found = max(time, local - offset)
      if found < end { return found }
      time = end
    }
  }
}

extension Int64 {
  /// The same, but not the least number there is, which has no magnitude.
  fileprivate var clamped: Int64 { self == .min ? .max : self }
}
