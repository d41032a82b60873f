// KeptEvent: an event that state holds: a copy of its encoding, still read in place.

import MillraceBase
import MillraceDataflow
import MillraceNexmark

/// A copy of an event.
public struct KeptEvent<Event: EncodedEventKind>: StateCodable, Equatable, Sendable {
  /// The event's encoding; it was read once.
  private let bytes: Bytes

  /// A copy of the event that `encoded` holds.
  /// - Throws: when it holds none of the kind.
  public init(_ encoded: Bytes) throws(DecodingError) {
    guard try Event.read(encoded.buffer) != nil else { throw DecodingError("an event of another kind", at: 0) }
    bytes = encoded
  }

  /// A copy of `event`.
  public init(_ event: Event) { bytes = Bytes(copying: event.encoded) }

  /// Lends the event to `body`.
  @discardableResult
  public func with<Result>(_ body: (Event) -> Result) -> Result {
    defer { extendLifetime(bytes) }
    do throws(DecodingError) {
      if let event = try Event.read(bytes.buffer) { return body(event) }
    } catch {
      preconditionFailure("a copy of an event cannot be read: \(error)")
    }
    preconditionFailure("a copy of an event has become one of another kind")
  }

  /// The event's own encoding, of the first version.
  public static var stateEncoding: String { "nexmark-event/1" }
  /// Writes length and encoding.
  public func encode(into writer: inout ByteWriter) { bytes.encode(into: &writer) }
  /// Reads a copy.
  public init(from reader: inout ByteReader) throws(DecodingError) { try self.init(Bytes(from: &reader)) }
}
