// FiguresAPI: Millrace's own request on Kafka's port: a running server's live figures as JSON.
//
// Request: header v1 with API key 31000 and version 0, no body. Response: header v0, then int32 length and JSON text; or int32 −1,
// and as a text why the client gets none.
// The key is not advertised, so that clients never meet it; `millrace stats` asks for it.

import MillraceBase

/// The request behind `millrace stats`.
public enum FiguresAPI {
  /// What a server answers.
  public enum Answer: Equatable, Sendable {
    /// JSON text.
    case figures(String)
    /// Why there are none for this client.
    case refused(String)
  }

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
  static func response(_ answer: Answer, correlationID: Int32) -> [Bytes] {
    let text: String
    var writer = ByteWriter(capacity: 4096)
    writer.int32(0)
    writer.int32(correlationID)
    switch answer {
    case .figures(let json): text = json
    case .refused(let reason):
      text = reason
      writer.int32(-1)
    }
    writer.int32(Int32(text.utf8.count))
    writer.utf8(text)
    writer.patchInt32(Int32(writer.count - 4), at: 0)
    return writer.finish()
  }

  /// What a response says, without its size.
  public static func answer(ofResponse frame: Bytes) throws(DecodingError) -> Answer {
    var reader = ByteReader(frame)
    _ = try reader.int32()
    let length = try reader.int32()
    guard length == -1 else { return .figures(try reader.string(Int(length))) }
    return .refused(try reader.string(Int(try reader.int32())))
  }
}
