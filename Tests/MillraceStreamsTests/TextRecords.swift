// TextRecords: the structs that tests of formats read and write.

import MillraceBase
import MillraceDataflow
import MillraceStreams

/// A record in a record.
struct Place: TypedRecord, Equatable {
  var x: Int64 = 0
  var label = "none"

  static let schema = RecordSchema<Place>(.field("x", \.x), .field("label", \.label, missing: .useDefault))
}

/// Fields of many kinds.
struct Reading: TypedRecord {
  var id: Int64 = 0
  var level: Int16 = 7
  var ratio = 1.5
  var isOn = false
  var name = ""
  var note: String?
  var count: Int?
  var raw = BorrowedBytes()
  var place = Place()

  static let schema = RecordSchema<Reading>(
    .field("id", \.id), .field("level", \.level, missing: .useDefault), .field("ratio", \.ratio),
    .field("isOn", \.isOn), .field("name", \.name), .field("note", \.note), .field("count", \.count),
    .field("raw", \.raw, missing: .useDefault), .object("place", \.place, missing: .useDefault))

  /// Everything that was read, as one text; of a zero, without its sign.
  var summary: String {
    let (note, count) = (note ?? "nil", count.map { "\($0)" } ?? "nil")
    return
      "\(id) \(level) \(ratio == 0 ? 0 : ratio) \(isOn) \(name) \(note) \(count) \(raw.text) \(place.x) \(place.label)"
  }
}

/// Three columns.
struct Row: TypedRecord, Equatable {
  var number: Int64 = 0
  var text = ""
  var note: String?

  static let schema = RecordSchema<Row>(.field("number", \.number), .field("text", \.text), .field("note", \.note))
}

extension RecordDecoder {
  /// Reads text that lies in memory of its own size, and hands on what `look` makes of it while it is lent.
  func read<Seen>(_ text: some Collection<UInt8>, _ look: (Record) -> Seen) -> Result<Seen?, DecodingError> {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: text.count, alignment: 1)
    defer { memory.deallocate() }
    memory.copyBytes(from: text)
    do throws(DecodingError) {
      return .success(try decode(UnsafeRawBufferPointer(memory)).map(look))
    } catch {
      return .failure(error)
    }
  }

  func read<Seen>(_ text: String, _ look: (Record) -> Seen) -> Result<Seen?, DecodingError> {
    read(Array(text.utf8), look)
  }
}

extension Result where Failure == DecodingError {
  /// What was wrong; empty when nothing was.
  var reason: String {
    if case .failure(let error) = self { error.description } else { "" }
  }
}
