// HTTPStatus: the status codes that are answered, with their phrases.

/// A status code. Source: RFC 9110 section 15, RFC 6585.
public struct HTTPStatus: Hashable, Sendable, CustomStringConvertible {
  /// Three digits.
  public let code: Int
  /// The phrase behind it.
  public let phrase: StaticString

  init(_ code: Int, _ phrase: StaticString) {
    self.code = code
    self.phrase = phrase
  }

  /// By the code.
  public static func == (left: HTTPStatus, right: HTTPStatus) -> Bool { left.code == right.code }
  /// By the code.
  public func hash(into hasher: inout Hasher) { hasher.combine(code) }
  /// Code and phrase.
  public var description: String { "\(code) \(phrase)" }

  /// 100, Continue.
  public static let continues = HTTPStatus(100, "Continue")
  /// 200, OK.
  public static let ok = HTTPStatus(200, "OK")
  /// 201, Created.
  public static let created = HTTPStatus(201, "Created")
  /// 204, No Content.
  public static let noContent = HTTPStatus(204, "No Content")
  /// 400, Bad Request.
  public static let badRequest = HTTPStatus(400, "Bad Request")
  /// 401, Unauthorized.
  public static let unauthorized = HTTPStatus(401, "Unauthorized")
  /// 403, Forbidden.
  public static let forbidden = HTTPStatus(403, "Forbidden")
  /// 404, Not Found.
  public static let notFound = HTTPStatus(404, "Not Found")
  /// 405, Method Not Allowed.
  public static let methodNotAllowed = HTTPStatus(405, "Method Not Allowed")
  /// 406, Not Acceptable.
  public static let notAcceptable = HTTPStatus(406, "Not Acceptable")
  /// 408, Request Timeout.
  public static let requestTimeout = HTTPStatus(408, "Request Timeout")
  /// 409, Conflict.
  public static let conflict = HTTPStatus(409, "Conflict")
  /// 410, Gone.
  public static let gone = HTTPStatus(410, "Gone")
  /// 413, Content Too Large.
  public static let contentTooLarge = HTTPStatus(413, "Content Too Large")
  /// 414, URI Too Long.
  public static let uriTooLong = HTTPStatus(414, "URI Too Long")
  /// 415, Unsupported Media Type.
  public static let unsupportedMediaType = HTTPStatus(415, "Unsupported Media Type")
  /// 416, Range Not Satisfiable.
  public static let rangeNotSatisfiable = HTTPStatus(416, "Range Not Satisfiable")
  /// 417, Expectation Failed.
  public static let expectationFailed = HTTPStatus(417, "Expectation Failed")
  /// 421, Misdirected Request.
  public static let misdirected = HTTPStatus(421, "Misdirected Request")
  /// 422, Unprocessable Content.
  public static let unprocessable = HTTPStatus(422, "Unprocessable Content")
  /// 429, Too Many Requests.
  public static let tooManyRequests = HTTPStatus(429, "Too Many Requests")
  /// 431, Request Header Fields Too Large.
  public static let fieldsTooLarge = HTTPStatus(431, "Request Header Fields Too Large")
  /// 500, Internal Server Error.
  public static let internalError = HTTPStatus(500, "Internal Server Error")
  /// 501, Not Implemented.
  public static let notImplemented = HTTPStatus(501, "Not Implemented")
  /// 503, Service Unavailable.
  public static let unavailable = HTTPStatus(503, "Service Unavailable")
  /// 505, HTTP Version Not Supported.
  public static let versionNotSupported = HTTPStatus(505, "HTTP Version Not Supported")
  /// 507, Insufficient Storage.
  public static let insufficientStorage = HTTPStatus(507, "Insufficient Storage")
}

/// Bytes that are no request this server takes. Nothing behind them can be read, so the connection ends with the answer.
public struct HTTPError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What it is answered with.
  public let status: HTTPStatus
  /// What is wrong, in words; without bytes of the request.
  public let reason: String

  /// An error.
  public init(_ status: HTTPStatus, _ reason: String) {
    self.status = status
    self.reason = reason
  }

  /// Status and reason.
  public var description: String { "\(status): \(reason)" }
}
