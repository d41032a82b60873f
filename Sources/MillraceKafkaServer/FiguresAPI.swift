// FiguresAPI: Millrace's own request on Kafka's port: a running server's live figures as JSON.
//
// Request: header v1 with API key 31000 and version 0, no body. Response: header v0, then int32 length and JSON text.
// The key is not advertised, so that clients never meet it; `millrace stats` asks for it.

import MillraceBase

/// The request behind `millrace stats`.
public enum FiguresAPI {
  /// Far from the keys that Kafka gives out.
  public static let key: Int16 = 31_000

  /// A whole request frame.
  public static func request(correlationID: Int32) -> [Bytes] {
    var writer = ByteWriter(capacity: 64)
    writer.int32(12)
    writer.int16(key)
    writer.int16(0)
    writer.int32(correlationID)
    writer.int16(-1)
    writer.int16(0)
    return writer.finish()
  }

  /// A whole response frame.
  static func response(_ json: String, correlationID: Int32) -> [Bytes] {
    var writer = ByteWriter(capacity: json.utf8.count + 64)
    writer.int32(0)
    writer.int32(correlationID)
    writer.int32(Int32(json.utf8.count))
    writer.utf8(json)
    writer.patchInt32(Int32(writer.count - 4), at: 0)
    return writer.finish()
  }

  /// The JSON text of a response, without its size.
  public static func text(ofResponse frame: Bytes) throws(DecodingError) -> String {
    var reader = ByteReader(frame)
    _ = try reader.int32()
    return try reader.string(Int(try reader.int32()))
  }
}
