// KafkaHeader: the headers in front of requests and responses.
//
//   request header v1    api key int16, version int16, correlation id int32, client id nullable string (int16 length)
//   request header v2    the same, then tagged fields; the client id's length stays an int16
//   response header v0   correlation id int32
//   response header v1   the same, then tagged fields
//
// Flexible versions of an API use the higher header, except that ApiVersions is always answered with v0.
// Source: Kafka protocol, RequestHeader.json and ResponseHeader.json; KIP-511.

import MillraceBase

/// The header of a request.
public struct RequestHeader: Equatable, Sendable {
  /// Key of the API as sent, which may be one that nobody here knows.
  public var apiKey: Int16
  /// Version of the request as sent.
  public var apiVersion: Int16
  /// What the response repeats.
  public var correlationID: Int32
  /// The client's name for itself.
  public var clientID: String?

  /// A header.
  public init(apiKey: Int16, apiVersion: Int16, correlationID: Int32, clientID: String? = nil) {
    self.apiKey = apiKey
    self.apiVersion = apiVersion
    self.correlationID = correlationID
    self.clientID = clientID
  }

  /// The API, nil when it is not spoken here.
  public var api: APIKey? { APIKey(rawValue: apiKey) }

  /// Whether the body behind the header can be read.
  public var isSupported: Bool { api?.supportedVersions.contains(apiVersion) ?? false }

  /// Reads the header; behind it the reader stands at the body.
  ///
  /// Of a request that is not supported only what all header versions share is read, so that it can be answered;
  /// what follows cannot be understood.
  /// - Throws: when the bytes end too early or the client id is not valid.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    apiKey = try reader.int16()
    apiVersion = try reader.int16()
    correlationID = try reader.int32()
    clientID = try reader.nullableString(compact: false)
    if let api, isSupported, api.requestHeaderVersion(apiVersion) == 2 { try reader.skipTaggedFields() }
  }

  /// Writes the header in the version that its API and version ask for; an unknown API gets v1.
  public func encode(to writer: inout ByteWriter) {
    writer.int16(apiKey)
    writer.int16(apiVersion)
    writer.int32(correlationID)
    writer.string(clientID, compact: false)
    if let api, api.requestHeaderVersion(apiVersion) == 2 { writer.noTaggedFields() }
  }
}

/// The header of a response.
public struct ResponseHeader: Equatable, Sendable {
  /// The request's number.
  public var correlationID: Int32

  /// A header.
  public init(correlationID: Int32) { self.correlationID = correlationID }

  /// Reads the header of an answer to a request of `api` in `version`.
  public init(from reader: inout ByteReader, api: APIKey, version: Int16) throws(DecodingError) {
    correlationID = try reader.int32()
    if api.responseHeaderVersion(version) == 1 { try reader.skipTaggedFields() }
  }

  /// Writes the header of an answer to a request of `api` in `version`.
  public func encode(to writer: inout ByteWriter, api: APIKey, version: Int16) {
    writer.int32(correlationID)
    if api.responseHeaderVersion(version) == 1 { writer.noTaggedFields() }
  }
}
