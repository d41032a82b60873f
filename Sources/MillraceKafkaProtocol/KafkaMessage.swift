// KafkaMessage: what all requests, responses and the structures inside them can do.

import MillraceBase

/// A structure of Kafka's protocol: how it looks depends on the version of the message it belongs to.
public protocol KafkaStructure: Equatable, Sendable {
  /// Reads the structure as version `version` of its message lays it out.
  init(from reader: inout ByteReader, version: Int16) throws(DecodingError)
  /// Writes the structure as version `version` of its message lays it out.
  func encode(to writer: inout ByteWriter, version: Int16)
}

/// A request or response of Kafka's protocol, without its header.
public protocol KafkaMessage: KafkaStructure {
  /// The API it belongs to.
  static var api: APIKey { get }
  /// Versions that can be read and written.
  static var versions: ClosedRange<Int16> { get }
}

/// A request of Kafka's protocol.
public protocol KafkaRequest: KafkaMessage {
  /// What answers it.
  associatedtype Response: KafkaResponse
}

/// A response of Kafka's protocol.
public protocol KafkaResponse: KafkaMessage {}

extension KafkaMessage {
  /// Refuses to read a version that the message does not have.
  static func check(_ version: Int16, at reader: ByteReader) throws(DecodingError) {
    guard versions.contains(version) else {
      throw DecodingError(
        "\(Self.self) has versions \(versions.lowerBound) to \(versions.upperBound), not \(version)",
        at: reader.position)
    }
  }

  /// Traps when the caller wants to write a version that the message does not have.
  static func require(_ version: Int16) {
    precondition(
      versions.contains(version),
      "\(Self.self) has versions \(versions.lowerBound) to \(versions.upperBound), not \(version)")
  }
}
