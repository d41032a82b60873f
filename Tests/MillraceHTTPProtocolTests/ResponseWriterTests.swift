// ResponseWriterTests: heads of responses, and that no value breaks out of its line.

import MillraceBase
import MillraceHTTPProtocol
import Testing

private func head(
  _ fields: [(name: StaticString, value: String)], _ body: HTTPResponseBody = .length(2), minor: Int = 1,
  keepsAlive: Bool = true, time: Int64 = 784_111_777_000
) -> String {
  var writer = HTTPResponseWriter()
  return writer.head(
    .ok, fields, body: body, minorVersion: minor, keepsAlive: keepsAlive, now: Timestamp(milliseconds: time)
  ).text
}

@Test("a head has status, date, fields and how the body is delimited")
func heads() {
  #expect(
    head([("A", "b")])
      == "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nA: b\r\nContent-Length: 2\r\n\r\n")
  #expect(head([], .streamed).contains("Transfer-Encoding: chunked\r\n"))
  #expect(!head([], .streamed, minor: 0).contains("chunked"))
  #expect(head([], .none, keepsAlive: false).hasSuffix("Connection: close\r\n\r\n"))
  #expect(head([], minor: 0).contains("Connection: keep-alive\r\n"))
  #expect(head([], time: 0).contains("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"))
  #expect(head([], time: 1_709_164_799_999).contains("Date: Wed, 28 Feb 2024 23:59:59 GMT\r\n"))
}

@Test("no value ends its line or begins another")
func injection() {
  for wrong in ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\u{0}b", "é\u{2028}", "a\u{85}\u{7f}"] {
    let text = head([("Location", wrong)])
    #expect(text.split(separator: "\r\n", omittingEmptySubsequences: false).count == 6, "\(text)")
    #expect(text.utf8.allSatisfy { (0x20...0x7e).contains($0) || $0 == 0x0d || $0 == 0x0a })
  }
  #expect(head([("Location", "a\r\nB: c")]).contains("Location: a%0D%0AB: c\r\n"))
}

@Test("a streamed body is chunks, which an empty piece does not end")
func chunks() {
  func text(_ pieces: [Bytes]) -> String { pieces.map(\.text).joined() }
  let piece = Bytes(String(repeating: "x", count: 26))
  #expect(text(HTTPResponseWriter.piece(piece, minorVersion: 1)) == "1a\r\n\(piece.text)\r\n")
  #expect(HTTPResponseWriter.piece(Bytes(), minorVersion: 1).isEmpty)
  #expect(text(HTTPResponseWriter.piece(piece, minorVersion: 0)) == piece.text)
  #expect(text(HTTPResponseWriter.end(minorVersion: 1)) == "0\r\n\r\n")
  #expect(HTTPResponseWriter.end(minorVersion: 0).isEmpty)
}
