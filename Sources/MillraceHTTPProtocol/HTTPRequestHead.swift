// HTTPRequestHead: a request line and its fields, read strictly, and what they say of the body behind them.
//
// Every line ends with CR LF, names are tokens with the colon right behind them, no line is folded. What two readers could
// understand differently is refused: a length twice, a length beside chunks, a coding other than `chunked`, a second Host.
// Sources: RFC 9112 (messages), RFC 9110 (fields).

import MillraceBase

/// What a client wants done. Others than these are refused with 501.
public enum HTTPMethod: String, CaseIterable, Sendable {
  case get = "GET"
  case head = "HEAD"
  case post = "POST"
  case put = "PUT"
  case patch = "PATCH"
  case delete = "DELETE"
  case options = "OPTIONS"
  // Known, so that they are told apart from what is no method; nothing here answers them.
  case trace = "TRACE"
  case query = "QUERY"

  /// Whether nothing is changed by it.
  public var isSafe: Bool { self == .get || self == .head || self == .options }
}

/// How a request's body is delimited.
public enum HTTPBodyKind: Equatable, Sendable {
  /// Without one.
  case none
  /// So many bytes, more than 0.
  case length(Int)
  /// In chunks.
  case chunked
}

/// The head of a request.
public struct HTTPRequestHead: Equatable, Sendable {
  /// A field.
  public struct Field: Equatable, Sendable {
    /// Name in small letters.
    public let name: String
    /// Value without blanks around it; bytes that are not UTF-8 are replaced.
    public let value: String
  }

  /// Method.
  public let method: HTTPMethod
  /// Path and query.
  public let target: HTTPTarget
  /// 0 or 1, of HTTP/1.
  public let minorVersion: Int
  /// Fields in order.
  public let fields: [Field]
  /// How the body is delimited.
  public let body: HTTPBodyKind
  /// Whether the client may send another request behind this one.
  public let keepsAlive: Bool
  /// The client waits for a word before it sends the body.
  public let expectsContinue: Bool
  /// Whom the client means to talk to, from the target or the field `Host`; nil when an HTTP/1.0 client does not say.
  public let host: String?

  /// The value of a field that stands there once; nil when it is not there or stands there more often.
  /// - Parameter name: in small letters.
  public subscript(name: String) -> String? {
    var found: String?
    for field in fields where field.name == name {
      if found != nil { return nil }
      found = field.value
    }
    return found
  }

  /// How often a field stands there.
  public func count(_ name: String) -> Int { fields.reduce(0) { $0 + ($1.name == name ? 1 : 0) } }

  /// Reads the lines of a head, without the empty one that ends it.
  /// - Throws: 400, 413, 414, 417, 431, 501, 505.
  init(_ lines: UnsafeRawBufferPointer, _ limits: HTTPLimits) throws(HTTPError) {
    var rest = lines
    let line = try HTTPRequestHead.takeLine(&rest)
    guard line.count <= limits.requestLine else {
      throw HTTPError(.uriTooLong, "the request line has more than \(limits.requestLine) bytes")
    }
    let parts = line.split(separator: 0x20, omittingEmptySubsequences: false)
    guard parts.count == 3 else {
      throw HTTPError(
        .badRequest, "the request line is not a method, a target and a version with one blank between them")
    }
    minorVersion = try HTTPRequestHead.version(parts[2])
    method = try HTTPRequestHead.method(parts[0])
    target = try HTTPTarget(UnsafeRawBufferPointer(rebasing: parts[1]))
    if target.isServer, method != .options { throw HTTPError(.badRequest, "the target * is for OPTIONS alone") }
    fields = try HTTPRequestHead.fields(rest, limits)
    let minor = minorVersion
    let all = fields
    func values(_ name: String) -> [String] { all.filter { $0.name == name }.map(\.value) }
    let hosts = values("host")
    guard hosts.count <= 1, minor == 0 || hosts.count == 1 else {
      throw HTTPError(.badRequest, hosts.isEmpty ? "the field Host is missing" : "there is more than one field Host")
    }
    if let host = hosts.first, !HTTPRequestHead.isHost(host) {
      throw HTTPError(.badRequest, "the field Host is no host with an optional port")
    }
    host = target.authority ?? hosts.first
    body = try HTTPRequestHead.body(lengths: values("content-length"), codings: values("transfer-encoding"), minor)
    let options = values("connection").flatMap { $0.split(separator: ",") }.map {
      String($0.drop { $0 == " " || $0 == "\t" }.reversed().drop { $0 == " " || $0 == "\t" }.reversed()).lowercased()
    }
    keepsAlive = options.contains("close") ? false : minor == 1 || options.contains("keep-alive")
    switch values("expect").map({ $0.lowercased() }) {
    case []: expectsContinue = false
    // An expectation of an HTTP/1.0 client must be ignored. Source: RFC 9110 section 10.1.1.
    case ["100-continue"]: expectsContinue = minor == 1 && body != .none
    default: throw HTTPError(.expectationFailed, "only the expectation 100-continue is known")
    }
  }

  /// Takes a line with its end, CR LF; neither may stand alone.
  static func takeLine(_ rest: inout UnsafeRawBufferPointer) throws(HTTPError) -> UnsafeRawBufferPointer {
    guard let end = rest.firstIndex(where: { $0 == 0x0a || $0 == 0x0d }), end + 1 < rest.count, rest[end] == 0x0d,
      rest[end + 1] == 0x0a
    else { throw HTTPError(.badRequest, "a line does not end with CR LF") }
    defer { rest = UnsafeRawBufferPointer(rebasing: rest[(end + 2)...]) }
    return UnsafeRawBufferPointer(rebasing: rest[..<end])
  }

  private static func version(_ bytes: UnsafeRawBufferPointer.SubSequence) throws(HTTPError) -> Int {
    let text = Array(bytes)
    guard text.count == 8, text.starts(with: "HTTP/".utf8), HTTPCharacters.isDigit(text[5]),
      text[6] == UInt8(ascii: "."), HTTPCharacters.isDigit(text[7])
    else { throw HTTPError(.badRequest, "the request line does not end with a version such as HTTP/1.1") }
    guard text[5] == UInt8(ascii: "1"), text[7] <= UInt8(ascii: "1") else {
      throw HTTPError(.versionNotSupported, "HTTP/1.0 and HTTP/1.1 are spoken here")
    }
    return Int(text[7] - 0x30)
  }

  private static func method(_ bytes: UnsafeRawBufferPointer.SubSequence) throws(HTTPError) -> HTTPMethod {
    guard !bytes.isEmpty, bytes.allSatisfy({ HTTPCharacters.isToken($0) }) else {
      throw HTTPError(.badRequest, "the method is no token")
    }
    guard let method = HTTPMethod(rawValue: String(decoding: bytes, as: UTF8.self)) else {
      throw HTTPError(.notImplemented, "the method is none of \(HTTPMethod.allCases.map(\.rawValue))")
    }
    return method
  }

  /// Reads fields, of a head or of a trailer.
  static func fields(_ lines: UnsafeRawBufferPointer, _ limits: HTTPLimits) throws(HTTPError) -> [Field] {
    var fields: [Field] = []
    var rest = lines
    while !rest.isEmpty {
      let line = try takeLine(&rest)
      guard fields.count < limits.fields else {
        throw HTTPError(.fieldsTooLarge, "there are more than \(limits.fields) header fields")
      }
      guard let first = line.first, first != 0x20, first != 0x09 else {
        throw HTTPError(.badRequest, "a header field is folded or empty")
      }
      guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > 0,
        line[..<colon].allSatisfy({ HTTPCharacters.isToken($0) })
      else { throw HTTPError(.badRequest, "a header field has no name, or one that is no token") }
      let value = line[(colon + 1)...]
      guard value.allSatisfy({ HTTPCharacters.isValue($0) }) else {
        throw HTTPError(.badRequest, "a header field's value holds a control character")
      }
      let start = value.firstIndex { $0 != 0x20 && $0 != 0x09 } ?? value.endIndex
      let end = value.lastIndex { $0 != 0x20 && $0 != 0x09 }.map { $0 + 1 } ?? start
      fields.append(
        Field(
          name: String(decoding: line[..<colon].map(HTTPCharacters.lowercased), as: UTF8.self),
          value: String(decoding: value[start..<end], as: UTF8.self)))
    }
    return fields
  }

  private static func isHost(_ host: String) -> Bool {
    host.utf8.allSatisfy { byte in
      HTTPCharacters.isTarget(byte) && byte != UInt8(ascii: "/") && byte != UInt8(ascii: "?")
        && byte != UInt8(ascii: "@") || byte == UInt8(ascii: "[") || byte == UInt8(ascii: "]")
    }
  }

  private static func body(
    lengths: [String], codings: [String], _ minorVersion: Int
  ) throws(HTTPError) -> HTTPBodyKind {
    guard !codings.isEmpty else {
      guard lengths.count <= 1 else { throw HTTPError(.badRequest, "there is more than one Content-Length") }
      guard let text = lengths.first else { return .none }
      guard !text.isEmpty, text.utf8.allSatisfy({ HTTPCharacters.isDigit($0) }) else {
        throw HTTPError(.badRequest, "Content-Length is no number")
      }
      guard text.utf8.count <= 18, let length = Int(text) else {
        throw HTTPError(.contentTooLarge, "Content-Length is beyond everything that is taken")
      }
      return length == 0 ? .none : .length(length)
    }
    guard lengths.isEmpty else { throw HTTPError(.badRequest, "Content-Length stands beside Transfer-Encoding") }
    guard minorVersion == 1 else { throw HTTPError(.badRequest, "HTTP/1.0 knows no Transfer-Encoding") }
    guard codings.count == 1, let coding = codings.first else {
      throw HTTPError(.badRequest, "there is more than one Transfer-Encoding")
    }
    if coding.lowercased() == "chunked" { return .chunked }
    // Without `chunked` as its last word nobody could tell where the body ends.
    let last = coding.split(separator: ",").last.map { $0.drop { $0 == " " || $0 == "\t" }.lowercased() }
    throw HTTPError(
      last == "chunked" ? .notImplemented : .badRequest, "the one Transfer-Encoding that is taken is chunked")
  }
}
