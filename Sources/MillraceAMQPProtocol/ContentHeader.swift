// ContentHeader: the payload of the frame between a method that has a content and the content's body.
//
//   uint16 class, always 60; uint16 weight, always 0; uint64 size of the body; properties

import MillraceBase

/// What is said about a content before its body.
public struct ContentHeader: Equatable, Sendable {
  /// Bytes of the body that follows in body frames; none follow when it is 0.
  public var bodySize: UInt64
  /// The message's properties.
  public var properties: BasicProperties

  /// A header. Nothing is checked.
  public init(bodySize: UInt64, properties: BasicProperties) {
    self.bodySize = bodySize
    self.properties = properties
  }

  /// Reads the payload of a header frame, sharing memory.
  /// - Throws: 505, as RabbitMQ, for another class or a weight; 502 when the properties are not what they should be.
  public init(decoding payload: Bytes) throws(AMQPError) {
    guard payload.count >= 14 else {
      throw AMQPError(.syntaxError, "a content header of \(payload.count) bytes")
    }
    let (classID, weight, size) = payload.withBuffer { buffer in
      (
        UInt16(bigEndian: buffer.loadUnaligned(fromByteOffset: 0, as: UInt16.self)),
        UInt16(bigEndian: buffer.loadUnaligned(fromByteOffset: 2, as: UInt16.self)),
        UInt64(bigEndian: buffer.loadUnaligned(fromByteOffset: 4, as: UInt64.self))
      )
    }
    guard classID == 60 else {
      throw AMQPError(.unexpectedFrame, "expected content header for class 60, got one for class \(classID) instead")
    }
    guard weight == 0 else { throw AMQPError(.unexpectedFrame, "a content header of weight \(weight); 0 is allowed") }
    bodySize = size
    do throws(DecodingError) {
      properties = try BasicProperties(decoding: payload[12..<payload.count])
    } catch {
      throw AMQPError(.syntaxError, "content header: \(DecodingError(error.reason, at: 12 + error.position))")
    }
  }
}
