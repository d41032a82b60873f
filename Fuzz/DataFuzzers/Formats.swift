// Formats: records as users write them: JSON and CSV, read in place by a schema.

import FuzzHarness
import MillraceBase
import MillraceDataflow
import MillraceStreams

private struct Inner: TypedRecord {
  var x: Int16 = 0
  var label = BorrowedBytes()
  static let schema = RecordSchema<Inner>(.field("x", \.x), .field("label", \.label, missing: .useDefault))
}

private struct Outer: TypedRecord {
  var number: Int64 = 0
  var ratio: Double?
  var isOn: Bool?
  var text = ""
  var lent = BorrowedBytes()
  var inner = Inner()
  var numbers: [Int32]? = nil
  var texts: [String] = []
  var lents: [BorrowedBytes?] = []
  var grid: [[Double]] = []
  var inners: [Inner] = []
  static let schema = RecordSchema<Outer>(
    .field("number", \.number, missing: .useDefault), .field("ratio", \.ratio), .field("isOn", \.isOn),
    .field("text", \.text, missing: .useDefault), .field("lent", \.lent, missing: .useDefault),
    .object("inner", \.inner, missing: .useDefault), .field("numbers", \.numbers),
    .field("texts", \.texts, missing: .useDefault), .field("lents", \.lents, missing: .useDefault),
    .field("grid", \.grid, missing: .useDefault), .objects("inners", \.inners, missing: .useDefault))
}

private struct Cells: TypedRecord {
  var number: Int64?
  var ratio: Double?
  var text = ""
  var lent = BorrowedBytes()
  static let schema = RecordSchema<Cells>(
    .field("number", \.number), .field("ratio", \.ratio), .field("text", \.text),
    .field("lent", \.lent, missing: .useDefault))
}

/// Writes a record and reads it again: what comes must be written as before.
private func checkWriting<Record: TypedRecord>(_ record: Record, _ format: TextFormat) {
  do {
    let encoder = try RecordEncoder<Record>(format)
    let text = encoder.text(of: record)
    let written = Bytes(text)
    // Lends what it took escapes out of: it must live as long as the record.
    let decoder = try RecordDecoder<Record>(format)
    guard let again = try decoder.decode(written.buffer) else { preconditionFailure("taken for a header: \(text)") }
    precondition(encoder.text(of: again) == text, "\(text) was read as another record")
    extendLifetime(written)
    extendLifetime(decoder)
  } catch {
    preconditionFailure("what was written is refused: \(error)")
  }
}

/// An object of JSON as a struct. What is taken is taken by the tree of values, too, unless a name comes twice or a
/// number that nobody asked for is too large; and it survives writing and reading again.
let jsonRecords = FuzzTarget(
  name: "json-records",
  seeds: {
    [
      #"{"number":-12,"ratio":2.5e3,"isOn":true,"text":"a\"\u00e9\n","lent":"plain","inner":{"x":1,"label":"\ud83d\ude00"}}"#,
      #" { "other" : [ {"a":[1,2,{}]}, null , "x" ] , "number" : 9223372036854775807 } "#,
      #"{"ratio":null,"number":1,"number":2}"#,
      #"{"numbers":[1,-2],"texts":["a","\u00e9"],"lents":[null,"b\n"],"grid":[[],[1.5,2]],"inners":[{"x":1},{"x":2,"label":"c"}]}"#,
    ].map { Array($0.utf8) }
  }
) { input in
  do throws(JobError) {
    let decoder = try RecordDecoder<Outer>(.json)
    do throws(DecodingError) {
      guard let record = try decoder.decode(input.buffer) else { preconditionFailure("JSON has no header") }
      do throws(DecodingError) {
        _ = try input.withBuffer { buffer throws(DecodingError) in try JSONValue(buffer) }
      } catch {
        precondition(error.reason.contains("twice") || error.reason.contains("too large"), "the tree: \(error)")
      }
      checkWriting(record, .json)
    } catch {
      precondition(error.position >= 0 && error.position <= input.count, "position \(error.position) of \(input.count)")
    }
    extendLifetime(decoder)
  } catch {
    preconditionFailure("\(error)")
  }
  extendLifetime(input)
}

/// The first line is the header, the rest a row. What is taken survives writing and reading again.
let csvRecords = FuzzTarget(
  name: "csv-records",
  seeds: {
    ["number,text\n1,\"a\"\"b\"", "lent,ratio,x\n\"a\nb\",1.5,", "\"text\"\n\n", "text,number\r\nü,-1\r\n"].map {
      Array($0.utf8)
    }
  }
) { input in
  var parts = input.array.split(separator: 10, maxSplits: 1, omittingEmptySubsequences: false).map { Bytes(Array($0)) }
  if parts.count < 2 { parts.append(Bytes()) }
  do throws(JobError) {
    let decoder = try RecordDecoder<Cells>(.csv(columns: .recordKey))
    do throws(DecodingError) {
      if let record = try decoder.decode(parts[1].buffer, key: parts[0].buffer) { checkWriting(record, .csv) }
    } catch {
      precondition(error.position >= 0 && error.position <= input.count, "position \(error.position) of \(input.count)")
    }
    extendLifetime(decoder)
  } catch {
    preconditionFailure("\(error)")
  }
  extendLifetime(parts)
}
