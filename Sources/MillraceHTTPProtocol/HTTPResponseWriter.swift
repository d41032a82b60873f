// HTTPResponseWriter: the bytes of responses: heads, bodies of known length, chunks.
//
// Names of fields are written in this program; values may hold what clients sent, and every byte of them that is not printable
// ASCII is percent-encoded: no value can end its line, or begin another.

import MillraceBase

/// How a response's body is delimited.
public enum HTTPResponseBody: Equatable, Sendable {
  /// So many bytes.
  case length(Int)
  /// In chunks, or up to the connection's end when the client does not know chunks.
  case streamed
  /// Without one, as the status demands (204).
  case none
}

/// Writes the responses of one connection. A pure value.
public struct HTTPResponseWriter {
  private var dateSecond = Int64.min
  private var date = ""
  private static let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]

  /// A writer.
  public init() {}

  /// The word that lets a client send its body.
  public static let continues = Bytes("HTTP/1.1 100 Continue\r\n\r\n")

  /// The head of a response.
  /// - Parameters:
  ///   - fields: beside Date, Content-Length, Transfer-Encoding and Connection, which are written here.
  ///   - minorVersion: the client's.
  ///   - keepsAlive: whether the connection goes on behind it.
  public mutating func head(
    _ status: HTTPStatus, _ fields: [(name: StaticString, value: String)], body: HTTPResponseBody, minorVersion: Int,
    keepsAlive: Bool, now: Timestamp
  ) -> Bytes {
    var out: [UInt8] = []
    out.reserveCapacity(512)
    out += "HTTP/1.1 \(status.code) \(status.phrase)\r\n".utf8
    HTTPResponseWriter.field("Date", text(of: now), to: &out)
    for (name, value) in fields { HTTPResponseWriter.field(name, value, to: &out) }
    switch body {
    case .length(let length): HTTPResponseWriter.field("Content-Length", "\(length)", to: &out)
    case .streamed where minorVersion > 0: HTTPResponseWriter.field("Transfer-Encoding", "chunked", to: &out)
    case .streamed, .none: break
    }
    if !keepsAlive {
      HTTPResponseWriter.field("Connection", "close", to: &out)
    } else if minorVersion == 0 {
      HTTPResponseWriter.field("Connection", "keep-alive", to: &out)
    }
    out += [0x0d, 0x0a]
    return Bytes(out)
  }

  private static func field(_ name: StaticString, _ value: String, to out: inout [UInt8]) {
    name.withUTF8Buffer { out.append(contentsOf: $0) }
    out += [UInt8(ascii: ":"), 0x20]
    for byte in value.utf8 {
      if (0x20...0x7e).contains(byte) {
        out.append(byte)
      } else {
        let digits = Array("0123456789ABCDEF".utf8)
        out += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    out += [0x0d, 0x0a]
  }

  /// A piece of a streamed body as it goes out; empty pieces, which would end the body, write nothing.
  public static func piece(_ bytes: Bytes, minorVersion: Int) -> [Bytes] {
    guard bytes.count > 0 else { return [] }
    guard minorVersion > 0 else { return [bytes] }
    return [Bytes(String(bytes.count, radix: 16) + "\r\n"), bytes, Bytes("\r\n")]
  }

  /// What ends a streamed body.
  public static func end(minorVersion: Int) -> [Bytes] { minorVersion > 0 ? [Bytes("0\r\n\r\n")] : [] }

  /// The time as `Date` wants it (RFC 9110 section 5.6.7).
  private mutating func text(of time: Timestamp) -> String {
    let second = time.milliseconds.floored(by: 1000)
    if second == dateSecond { return date }
    let dayNumber = second.floored(by: 86_400)
    let civil = CivilDate(dayNumber: dayNumber)
    let inDay = second - dayNumber * 86_400
    func two(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }
    // 1970-01-01 was a Thursday.
    let weekday = Int(((dayNumber % 7) + 7) % 7)
    dateSecond = second
    date =
      "\(HTTPResponseWriter.days[weekday]), \(two(civil.day)) \(HTTPResponseWriter.months[Int(civil.month) - 1]) "
      + "\(civil.year) \(two(inDay / 3600)):\(two(inDay / 60 % 60)):\(two(inDay % 60)) GMT"
    return date
  }
}
