// HTTPTarget: a request's path and query, decoded once and without any rewriting.
//
// A path is cut at its slashes before it is decoded, so that `%2F` stays part of a segment. Segments `.` and `..` are refused
// rather than resolved, and empty ones are kept: what a proxy in front of us may have checked is what is served.

import MillraceBase

/// What a request is about.
public struct HTTPTarget: Equatable, Sendable {
  /// The path as it came, for log lines.
  public let path: String
  /// The path's segments, decoded; `/` is one empty segment. Empty for `*`.
  public let segments: [String]
  /// The query's names and values in order, decoded; `+` is a blank, as forms write it.
  public let query: [Parameter]
  /// The target was `*`, which stands for the server as a whole.
  public let isServer: Bool
  /// The host that stood in the target itself, which counts more than the field `Host`; nil when none did.
  public let authority: String?

  /// A part of the query.
  public struct Parameter: Equatable, Sendable {
    /// Name.
    public let name: String
    /// Value; empty without an equals sign.
    public let value: String
  }

  /// The value of the first parameter of this name.
  public func parameter(_ name: String) -> String? { query.first { $0.name == name }?.value }

  /// Reads a target: `/path?query`, `http://host/path?query` or `*`.
  /// - Throws: 400 for everything else, a byte that must be encoded, and escapes that make no valid UTF-8 or a NUL.
  init(_ bytes: UnsafeRawBufferPointer) throws(HTTPError) {
    if bytes.count == 1, bytes[0] == UInt8(ascii: "*") {
      (path, segments, query, isServer, authority) = ("*", [], [], true, nil)
      return
    }
    guard bytes.allSatisfy({ HTTPCharacters.isTarget($0) }) else {
      throw HTTPError(.badRequest, "the target holds a character that must be percent-encoded")
    }
    var rest = UnsafeRawBufferPointer(rebasing: bytes[...])
    var host: String?
    if let scheme = HTTPTarget.scheme(rest) {
      let afterScheme = UnsafeRawBufferPointer(rebasing: rest[scheme...])
      let end = afterScheme.firstIndex { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") } ?? afterScheme.count
      guard end > 0 else { throw HTTPError(.badRequest, "the target names no host") }
      host = String(decoding: afterScheme[..<end], as: UTF8.self)
      rest = UnsafeRawBufferPointer(rebasing: afterScheme[end...])
    } else if rest.first != UInt8(ascii: "/") {
      throw HTTPError(.badRequest, "the target does not begin with a slash")
    }
    authority = host
    isServer = false
    let pathEnd = rest.firstIndex(of: UInt8(ascii: "?")) ?? rest.count
    let raw = rest[..<pathEnd]
    path = raw.isEmpty ? "/" : String(decoding: raw, as: UTF8.self)
    var segments: [String] = []
    for part in raw.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
      if part.elementsEqual(".".utf8) || part.elementsEqual("..".utf8) {
        throw HTTPError(.badRequest, "the path has a segment of dots, which nobody resolves here")
      }
      segments.append(try HTTPTarget.decoded(UnsafeRawBufferPointer(rebasing: part), plusIsBlank: false))
    }
    self.segments = segments.isEmpty ? [""] : segments
    var query: [Parameter] = []
    if pathEnd < rest.count {
      for part in rest[(pathEnd + 1)...].split(separator: UInt8(ascii: "&")) {
        let equals = part.firstIndex(of: UInt8(ascii: "=")) ?? part.endIndex
        query.append(
          Parameter(
            name: try HTTPTarget.decoded(UnsafeRawBufferPointer(rebasing: part[..<equals]), plusIsBlank: true),
            value: try HTTPTarget.decoded(
              UnsafeRawBufferPointer(rebasing: part[equals...].dropFirst()), plusIsBlank: true)))
      }
    }
    self.query = query
  }

  /// Length of `http://` or `https://` in front; nil when neither is there.
  private static func scheme(_ bytes: UnsafeRawBufferPointer) -> Int? {
    for scheme in ["http://", "https://"] where bytes.count >= scheme.utf8.count {
      if zip(bytes, scheme.utf8).allSatisfy({ HTTPCharacters.lowercased($0) == $1 }) { return scheme.utf8.count }
    }
    return nil
  }

  private static func decoded(_ bytes: UnsafeRawBufferPointer, plusIsBlank: Bool) throws(HTTPError) -> String {
    var out: [UInt8] = []
    out.reserveCapacity(bytes.count)
    var at = 0
    while at < bytes.count {
      let byte = bytes[at]
      at += 1
      if byte == UInt8(ascii: "%") {
        guard at + 2 <= bytes.count, let high = HTTPCharacters.hexValue(bytes[at]),
          let low = HTTPCharacters.hexValue(bytes[at + 1])
        else { throw HTTPError(.badRequest, "a percent sign in the target is not followed by two hexadecimal digits") }
        let value = high << 4 | low
        guard value != 0 else { throw HTTPError(.badRequest, "the target holds a NUL") }
        out.append(value)
        at += 2
      } else {
        out.append(plusIsBlank && byte == UInt8(ascii: "+") ? 0x20 : byte)
      }
    }
    guard let text = String(validating: out, as: UTF8.self) else {
      throw HTTPError(.badRequest, "the target is not valid UTF-8 once it is decoded")
    }
    return text
  }

  /// The text with everything but letters, digits and `-._~` percent-encoded, as one segment of a path.
  public static func encoded(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF".utf8)
    var out: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
        UInt8(ascii: "~"):
        out.append(byte)
      default: out += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return String(decoding: out, as: UTF8.self)
  }
}
