// RequestReaderTests: what is a request and what is none, whole and byte by byte.

import MillraceBase
import Testing

@testable import MillraceHTTPProtocol

/// What a connection's bytes are read as.
private struct Reading: Equatable {
  var heads: [HTTPRequestHead] = []
  var bodies: [String] = []
  var error: HTTPError?
  var rest = 0
  var isBetween = true
}

private func read(_ text: String, piecewise: Bool = false, limits: HTTPLimits = HTTPLimits()) -> Reading {
  read([UInt8](text.utf8), piecewise: piecewise, limits: limits)
}

private func read(_ bytes: [UInt8], piecewise: Bool, limits: HTTPLimits) -> Reading {
  var reader = HTTPRequestReader(limits: limits)
  var reading = Reading()
  var held: [UInt8] = []
  var body: [UInt8] = []
  for part in piecewise ? bytes.map({ [$0] }) : [bytes] {
    held += part
    let input = Bytes(held)
    var at = 0
    do throws(HTTPError) {
      while true {
        let event = try reader.next(input, at: &at)
        if event == .needsMore { break }
        switch event {
        case .head(let head): reading.heads.append(head)
        case .body(let piece): body += piece.array
        case .end:
          reading.bodies.append(String(decoding: body, as: UTF8.self))
          body = []
        case .needsMore: break
        }
      }
    } catch {
      reading.error = error
      return reading
    }
    held.removeFirst(at)
  }
  reading.rest = held.count
  reading.isBetween = reader.isBetweenRequests
  return reading
}

/// Reads whole and byte by byte, which must be the same.
private func readBoth(_ text: String) -> Reading {
  let whole = read(text)
  let pieces = read(text, piecewise: true)
  #expect(whole.heads == pieces.heads && whole.bodies == pieces.bodies, "\(text)")
  #expect(whole.error?.status == pieces.error?.status, "\(text)")
  return whole
}

@Test("a request without a body, with a length, and in chunks, one behind the other on a connection")
func pipelined() {
  let reading = readBoth(
    "GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
      + "PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;q=\"1\"\r\nxyz\r\nA \r\n0123456789\r\n0\r\nT: 1\r\n\r\n"
      + "\r\nDELETE /d HTTP/1.0\r\n\r\n")
  #expect(reading.error == nil)
  #expect(reading.heads.map(\.method) == [.get, .post, .put, .delete])
  #expect(reading.heads.map(\.target.path) == ["/a", "/b", "/c", "/d"])
  #expect(reading.bodies == ["", "abc", "xyz0123456789", ""])
  #expect(reading.heads.map(\.keepsAlive) == [true, true, true, false])
  #expect(reading.isBetween && reading.rest == 0)
}

@Test("what two readers could understand differently is refused, and nothing is read behind it")
func smuggling() {
  let post = "POST / HTTP/1.1\r\nHost: x\r\n"
  for (text, status) in [
    (post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    (post + "Content-Length: 3, 3\r\n\r\nabc", 400), (post + "Content-Length: +3\r\n\r\nabc", 400),
    (post + "Content-Length: 0x3\r\n\r\nabc", 400), (post + "Content-Length:\r\n\r\n", 400),
    (post + "Content-Length: -1\r\n\r\n", 400),
    (post + "Content-Length: 99999999999999999999\r\n\r\n", 413),
    (post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (post + "Transfer-Encoding: chunked, identity\r\n\r\n", 400), (post + "Transfer-Encoding: xchunked\r\n\r\n", 400),
    (post + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501), (post + "Transfer-Encoding:\u{b}chunked\r\n\r\n", 400),
    (post + "Transfer-Encoding : chunked\r\n\r\n", 400), (post + "Transfer-Encoding\r\n\r\n", 400),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (post + "A: 1\r\n folded\r\n\r\n", 400), (post + " A: 1\r\n\r\n", 400), (post + ": 1\r\n\r\n", 400),
    (post + "A: 1\nB: 2\r\n\r\n", 400), (post + "A: 1\rB: 2\r\n\r\n", 400), (post + "A: \u{0}\r\n\r\n", 400),
    (post + "A: \u{7f}\r\n\r\n", 400), (post + "A\u{e9}: 1\r\n\r\n", 400), ("GET / HTTP/1.1\n\n", 400),
    ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400), ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400),
    ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400), ("GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
    ("GET /\r\n\r\n", 400), ("GET / http/1.1\r\nHost: x\r\n\r\n", 400), ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    ("GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505), ("GET / HTTP/11\r\nHost: x\r\n\r\n", 400),
    ("BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501), ("CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    ("G@T / HTTP/1.1\r\nHost: x\r\n\r\n", 400), ("get / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400), ("\u{16}\u{3}\u{1}\r\n\r\n", 400),
    (post + "Expect: 200-ok\r\n\r\n", 417),
    (post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
    (post + "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400),
    (post + "Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n", 400),
    (post + "Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n", 400),
    (post + "Transfer-Encoding: chunked\r\n\r\n3 x\r\nabc\r\n", 400),
    (post + "Transfer-Encoding: chunked\r\n\r\n3;\u{0}\r\nabc\r\n", 400),
    (post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n", 413),
    (post + "Transfer-Encoding: chunked\r\n\r\n0\r\nT: 1\n\r\n\r\n", 400),
  ] {
    #expect(readBoth(text).error?.status.code == status, "\(text)")
  }
}

@Test("a reader that has failed fails again, and takes nothing")
func staysFailed() throws {
  var reader = HTTPRequestReader()
  var at = 0
  #expect(throws: HTTPError.self) { try reader.next(Bytes("GET\r\n\r\n"), at: &at) }
  at = 0
  #expect(throws: HTTPError.self) { try reader.next(Bytes("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), at: &at) }
  #expect(at == 0)
}

@Test("a path is cut before it is decoded, dots are not resolved, and nothing is rewritten")
func targets() throws {
  func segments(_ target: String) -> [String]? {
    read("GET \(target) HTTP/1.1\r\nHost: x\r\n\r\n").heads.first?.target.segments
  }
  #expect(segments("/") == [""])
  #expect(segments("/a/b") == ["a", "b"])
  #expect(segments("/a%2Fb/c%2f") == ["a/b", "c/"])
  #expect(segments("//a//") == ["", "a", "", ""])
  #expect(segments("/%2e%2e/a%20b+c/%C3%A9%25") == ["..", "a b+c", "é%"])
  #expect(segments("http://h:1/a?b") == ["a"] && segments("HTTPS://h") == [""])
  for wrong in [
    "/../a", "/a/./b", "/..", "/%", "/%4", "/%zz", "/%00", "/%ff", "/%C3%28", "/a#b", "/a\"", "/<", "/é", "/\\", "/{a}",
    "a", "?a", "http://", "http:///a", "*", "/a\u{7f}",
  ] {
    #expect(read("GET \(wrong) HTTP/1.1\r\nHost: x\r\n\r\n").error?.status == .badRequest, "\(wrong)")
  }
  #expect(read("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").heads.first?.target.isServer == true)
  let head = try #require(read("GET /a?x=1&x=2+3&y&=z&q=%26%3D&& HTTP/1.1\r\nHost: h\r\n\r\n").heads.first)
  #expect(head.target.query.map { "\($0.name)|\($0.value)" } == ["x|1", "x|2 3", "y|", "|z", "q|&="])
  #expect(head.target.parameter("x") == "1" && head.host == "h")
  #expect(read("GET http://t/a HTTP/1.1\r\nHost: h\r\n\r\n").heads.first?.host == "t")
  #expect(HTTPTarget.encoded("a/b c%é.~") == "a%2Fb%20c%25%C3%A9.~")
}

@Test("heads, lines, fields and trailers have limits, however they arrive")
func limits() {
  var small = HTTPLimits()
  (small.requestLine, small.fields, small.head, small.chunkLine) = (40, 3, 120, 8)
  func status(_ text: String) -> [Int?] {
    [read(text, limits: small).error?.status.code, read(text, piecewise: true, limits: small).error?.status.code]
  }
  let long = String(repeating: "x", count: 200)
  #expect(status("GET /\(long.prefix(10)) HTTP/1.1\r\nHost: x\r\n\r\n") == [nil, nil])
  #expect(status("GET /\(long.prefix(40)) HTTP/1.1\r\nHost: x\r\n\r\n") == [414, 414])
  #expect(status("GET /\(long)") == [414, 414])
  #expect(status("GET / HTTP/1.1\r\nHost: x\r\nA: \(long)") == [431, 431])
  #expect(status("GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n") == [431, 431])
  let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
  #expect(status(chunked + "1;aaaaaaaaaaaaaa") == [400, 400])
  #expect(status(chunked + "1;aaaaaaaaaaaaaa\r\n") == [400, 400])
  #expect(status(chunked + "0\r\nA: \(long)") == [431, 431])
  #expect(status(chunked + "0\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\n\r\n") == [431, 431])
}

@Test("what a head says of the connection and of waiting for a word")
func connectionFields() {
  func head(_ fields: String, version: String = "1.1") -> HTTPRequestHead? {
    read("POST / HTTP/\(version)\r\nHost: x\r\n\(fields)\r\n").heads.first
  }
  #expect(head("Connection: Close\r\n")?.keepsAlive == false)
  #expect(head("Connection: upgrade ,\tclose\r\n")?.keepsAlive == false)
  #expect(head("Connection: keep-alive\r\n", version: "1.0")?.keepsAlive == true)
  #expect(head("", version: "1.0")?.keepsAlive == false)
  #expect(head("Expect: 100-Continue\r\nContent-Length: 1\r\n")?.expectsContinue == true)
  #expect(head("Expect: 100-continue\r\n")?.expectsContinue == false, "without a body there is nothing to wait for")
  #expect(head("Expect: 100-continue\r\nContent-Length: 1\r\n", version: "1.0")?.expectsContinue == false)
  #expect(head("X: 1\r\nx: 2\r\nY:\t v \t\r\n")?.count("x") == 2)
  #expect(head("X: 1\r\nx: 2\r\nY:\t v \t\r\n")?["y"] == "v")
  #expect(head("X: 1\r\nx: 2\r\n")?["x"] == nil, "which of the two is meant nobody knows")
}

@Test("every cut of a stream into two pieces reads the same")
func everyCut() {
  let text =
    "\r\nPOST /a?b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwxyz\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: y\r\n\r\n"
  let bytes = [UInt8](text.utf8)
  let whole = read(bytes, piecewise: false, limits: HTTPLimits())
  #expect(whole.heads.count == 2 && whole.error == nil)
  for cut in 0...bytes.count {
    var reader = HTTPRequestReader()
    var (heads, body, held): ([HTTPRequestHead], [UInt8], [UInt8]) = ([], [], [])
    for part in [bytes[..<cut], bytes[cut...]] {
      held += part
      let input = Bytes(held)
      var at = 0
      while let event = try? reader.next(input, at: &at), event != .needsMore {
        if case .head(let head) = event { heads.append(head) }
        if case .body(let piece) = event { body += piece.array }
      }
      held.removeFirst(at)
    }
    #expect(heads == whole.heads && body == [UInt8]("wxyz".utf8) && held.isEmpty, "cut at \(cut)")
  }
}

@Test("a hundred thousand one-byte pieces of a head are looked at once each")
func headIsSearchedOnce() {
  var reader = HTTPRequestReader()
  let bytes = Bytes(
    "GET / HTTP/1.1\r\n" + (0..<90).map { "A\($0): \(String(repeating: "v", count: 600))\r\n" }.joined())
  // Linear work: the reader remembers how far it has looked.
  for count in 1...bytes.count {
    var at = 0
    #expect((try? reader.next(bytes[0..<count], at: &at)) == .needsMore && at == 0)
  }
}
