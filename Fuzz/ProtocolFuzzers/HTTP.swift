// HTTP: what a client sends on a connection, whole and in pieces.

import FuzzHarness
import MillraceBase
import MillraceHTTPProtocol

/// The first byte says how long the pieces are that the rest comes in.
let httpRequests = FuzzTarget(
  name: "http-requests",
  seeds: {
    [
      "GET /api/v1/topics?limit=1&after=%2Fa+b HTTP/1.1\r\nHost: localhost:8080\r\nAccept: */*\r\n\r\n",
      "\r\nPOST /a%2Fb//c HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabcGET / HTTP/1.0\r\n\r\n",
      "PUT http://h:1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3;a=\"b\"\r\nxyz\r\nA\r\n"
        + "0123456789\r\n0\r\nT: 1\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    ].map { [7] + Array($0.utf8) }
  }
) { input in
  var choices = Choices(input)
  let step = 1 + Int(choices.byte()) % 64
  let stream = choices.rest()
  let whole = read(stream, step: max(1, stream.count))
  let pieces = read(stream, step: step)
  precondition(whole.heads == pieces.heads, "\(whole.heads.count) heads at once, \(pieces.heads.count) in pieces")
  // Which of several faults is met first may depend on the pieces.
  precondition(whole.body == pieces.body && (whole.status == nil) == (pieces.status == nil), "bodies or ends differ")
  var writer = HTTPResponseWriter()
  for head in whole.heads {
    // What a client sent may go out again: never more than its line.
    let out = writer.head(
      .ok,
      [("Location", head.target.path), ("X", head.target.segments.joined(separator: "/"))]
        + head.fields.map {
          (name: "Y", value: $0.value)
        }, body: .length(0), minorVersion: head.minorVersion, keepsAlive: head.keepsAlive,
      now: Timestamp(milliseconds: 0))
    let lines = out.withBuffer { $0.split(separator: 0x0a, omittingEmptySubsequences: false).count }
    precondition(lines <= head.fields.count + 9, "\(lines) lines")
  }
}

private func read(_ stream: Bytes, step: Int) -> (heads: [HTTPRequestHead], body: [UInt8], status: HTTPStatus?) {
  var reader = HTTPRequestReader()
  var heads: [HTTPRequestHead] = []
  var body: [UInt8] = []
  var (start, end) = (0, 0)
  while end < stream.count {
    end = min(stream.count, end + step)
    let input = stream[start..<end]
    var at = 0
    do throws(HTTPError) {
      loop: while true {
        switch try reader.next(input, at: &at) {
        case .needsMore: break loop
        case .head(let head): heads.append(head)
        case .body(let piece): piece.withBuffer { body.append(contentsOf: $0) }
        case .end: break
        }
        precondition(at <= input.count, "at \(at) of \(input.count)")
      }
    } catch {
      precondition((400...599).contains(error.status.code), "\(error)")
      return (heads, body, error.status)
    }
    start += at
  }
  return (heads, body, nil)
}
