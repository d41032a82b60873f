// KafkaFrame: requests and responses as they travel: an int32 size, a header, a body.

import MillraceBase

/// Encodes and decodes whole frames, for brokers and for clients.
public enum KafkaFrame {
  /// A request with size and header, as pieces to be sent in order.
  ///
  /// Large byte fields are spliced in, not copied.
  /// - Parameter version: one of `Request.versions`.
  public static func request<Request: KafkaRequest>(
    _ request: Request, version: Int16, correlationID: Int32, clientID: String? = nil
  ) -> [Bytes] {
    let header = RequestHeader(
      apiKey: Request.api.rawValue, apiVersion: version, correlationID: correlationID, clientID: clientID)
    return sized { writer in
      header.encode(to: &writer)
      request.encode(to: &writer, version: version)
    }
  }

  /// A response with size and header, as pieces to be sent in order.
  ///
  /// Large byte fields are spliced in, not copied.
  /// - Parameter version: the request's version; one of `Response.versions`.
  public static func response<Response: KafkaResponse>(
    _ response: Response, version: Int16, correlationID: Int32
  ) -> [Bytes] {
    sized { writer in
      ResponseHeader(correlationID: correlationID).encode(to: &writer, api: Response.api, version: version)
      response.encode(to: &writer, version: version)
    }
  }

  /// The answer to an ApiVersions request in a version that is not supported: version 0, error 35, with the versions
  /// of ApiVersions itself in the list. Source: KIP-511.
  public static func unsupportedApiVersions(correlationID: Int32) -> [Bytes] {
    let versions = APIKey.apiVersions.advertisedVersions
    let entry = ApiVersionsResponse.ApiVersion(
      apiKey: APIKey.apiVersions.rawValue, minVersion: versions.lowerBound, maxVersion: versions.upperBound)
    return response(
      ApiVersionsResponse(errorCode: .unsupportedVersion, apiKeys: [entry]), version: 0, correlationID: correlationID)
  }

  /// Reads a request's header and body.
  /// - Parameter frame: what follows the size.
  /// - Returns: the request; bytes behind it are ignored, as Kafka's brokers do.
  /// - Throws: also when the header names another API or version than can be read.
  public static func decodeRequest<Request: KafkaRequest>(
    _ type: Request.Type, from frame: Bytes
  ) throws(DecodingError) -> (header: RequestHeader, body: Request) {
    var reader = ByteReader(frame)
    let header = try RequestHeader(from: &reader)
    guard header.api == Request.api, header.isSupported else {
      throw DecodingError("API \(header.apiKey) version \(header.apiVersion) is not \(Request.api)", at: 0)
    }
    return (header, try Request(from: &reader, version: header.apiVersion))
  }

  /// Reads the answer to a request that was sent in `version`.
  ///
  /// An ApiVersions response with error 35 is read as version 0, whatever was asked for.
  /// - Parameter frame: what follows the size.
  /// - Returns: the correlation id and the response; bytes behind it are ignored.
  public static func decodeResponse<Request: KafkaRequest>(
    to request: Request.Type, version: Int16, from frame: Bytes
  ) throws(DecodingError) -> (correlationID: Int32, body: Request.Response) {
    var reader = ByteReader(frame)
    let header = try ResponseHeader(from: &reader, api: Request.api, version: version)
    var bodyVersion = version
    if Request.api == .apiVersions, version > 0 {
      var ahead = reader
      if KafkaErrorCode(rawValue: try ahead.int16()) == .unsupportedVersion { bodyVersion = 0 }
    }
    return (header.correlationID, try Request.Response(from: &reader, version: bodyVersion))
  }

  private static func sized(_ encode: (inout ByteWriter) -> Void) -> [Bytes] {
    var writer = ByteWriter()
    writer.int32(0)
    encode(&writer)
    let size = writer.count - 4
    precondition(size <= Int(Int32.max), "a frame of \(size) bytes does not fit into 32 bits")
    writer.patchInt32(Int32(size), at: 0)
    return writer.finish()
  }
}
