// HTTPRequestReader: takes a connection's bytes apart: heads, pieces of bodies, ends of requests.
//
//   head ─┬─ no body ───────────────────────────────┬─▶ end ─▶ head
//         ├─ length ─▶ its bytes ───────────────────┤
//         └─ chunks ─▶ size ─▶ its bytes ─▶ CR LF ─┐│
//                        ▲  └─ 0 ─▶ trailer ───────┼┘
//                        └─────────────────────────┘
//
// Invariants: 1. what is taken never lies beyond what a limit allows; 2. each byte is looked at a bounded number of times,
// however small the pieces are that it comes in; 3. after an error nothing more is taken.

import MillraceBase

/// Reads the requests of one connection. A pure value: bytes in, events out.
public struct HTTPRequestReader: Sendable {
  /// What comes next.
  public enum Event: Equatable, Sendable {
    /// Nothing can be said before there are more bytes.
    case needsMore
    /// A request begins.
    case head(HTTPRequestHead)
    /// A piece of its body, which shares the input's memory.
    case body(Bytes)
    /// The request is whole.
    case end
  }

  private enum State {
    case head
    case length(Int)
    case chunkSize
    case chunk(Int)
    case chunkEnd
    case trailer
    case end
    case failed(HTTPError)
  }

  private let limits: HTTPLimits
  private var state = State.head
  /// Bytes of a head, a chunk's line or a trailer that were searched for its end already.
  private var searched = 0
  private var hasSkippedLine = false

  /// A reader at the beginning of a connection.
  public init(limits: HTTPLimits = HTTPLimits()) { self.limits = limits }

  /// Nothing of a request has been taken, so that the connection may end here.
  public var isBetweenRequests: Bool {
    if case .head = state { true } else { false }
  }

  /// Takes the next event out of `input` and moves `position` behind it.
  ///
  /// With `.needsMore` the caller keeps what is behind `position` and calls again, with the same bytes and more behind them.
  /// - Throws: what the request must be answered with, and once more what it threw before.
  public mutating func next(_ input: Bytes, at position: inout Int) throws(HTTPError) -> Event {
    do throws(HTTPError) {
      return try input.withBuffer { (buffer) throws(HTTPError) in try take(input, buffer, &position) }
    } catch {
      state = .failed(error)
      throw error
    }
  }

  private mutating func take(
    _ input: Bytes, _ buffer: UnsafeRawBufferPointer, _ position: inout Int
  ) throws(HTTPError) -> Event {
    while true {
      let rest = UnsafeRawBufferPointer(rebasing: buffer[position...])
      switch state {
      case .failed(let error): throw error
      case .head:
        // One empty line in front of a request is passed over. Source: RFC 9112 section 2.2.
        if !hasSkippedLine, rest.count >= 2, rest[0] == 0x0d, rest[1] == 0x0a {
          hasSkippedLine = true
          position += 2
          continue
        }
        guard let size = try headSize(rest) else { return .needsMore }
        let head = try HTTPRequestHead(UnsafeRawBufferPointer(rebasing: rest[..<(size - 2)]), limits)
        position += size
        (searched, hasSkippedLine) = (0, false)
        switch head.body {
        case .none: state = .end
        case .length(let length): state = .length(length)
        case .chunked: state = .chunkSize
        }
        return .head(head)
      case .length(let left):
        guard let piece = piece(input, &position, atMost: left) else { return .needsMore }
        state = piece.count == left ? .end : .length(left - piece.count)
        return .body(piece)
      case .chunkSize:
        guard let line = try line(rest, atMost: limits.chunkLine) else { return .needsMore }
        let size = try HTTPRequestReader.chunkSize(UnsafeRawBufferPointer(rebasing: rest[..<line]))
        position += line + 2
        state = size == 0 ? .trailer : .chunk(size)
      case .chunk(let left):
        guard let piece = piece(input, &position, atMost: left) else { return .needsMore }
        state = piece.count == left ? .chunkEnd : .chunk(left - piece.count)
        return .body(piece)
      case .chunkEnd:
        guard rest.count >= 2 else {
          if rest.first.map({ $0 != 0x0d }) ?? false { throw HTTPError(.badRequest, "a chunk is longer than it says") }
          return .needsMore
        }
        guard rest[0] == 0x0d, rest[1] == 0x0a else { throw HTTPError(.badRequest, "a chunk is longer than it says") }
        position += 2
        state = .chunkSize
      case .trailer:
        if rest.count >= 2, rest[0] == 0x0d, rest[1] == 0x0a {
          position += 2
          state = .end
          continue
        }
        guard let size = try headSize(rest) else { return .needsMore }
        // Nothing in a trailer means anything here, but it must be well-formed.
        _ = try HTTPRequestHead.fields(UnsafeRawBufferPointer(rebasing: rest[..<(size - 2)]), limits)
        position += size
        searched = 0
        state = .end
      case .end:
        state = .head
        return .end
      }
    }
  }

  private func piece(_ input: Bytes, _ position: inout Int, atMost left: Int) -> Bytes? {
    let count = min(left, input.count - position)
    guard count > 0 else { return nil }
    defer { position += count }
    return input[position..<(position + count)]
  }

  /// Bytes of a block of lines, the empty line at its end included; nil when that is not there yet.
  private mutating func headSize(_ rest: UnsafeRawBufferPointer) throws(HTTPError) -> Int? {
    var at = searched
    while at < rest.count {
      guard rest[at] == 0x0a else {
        at += 1
        continue
      }
      guard at > 0, rest[at - 1] == 0x0d else { throw HTTPError(.badRequest, "a line does not end with CR LF") }
      if at >= 3, rest[at - 2] == 0x0a { return try within(at + 1) }
      at += 1
    }
    searched = rest.count
    if rest.count > limits.requestLine, case .head = state,
      !rest[...limits.requestLine].contains(0x0a)
    {
      throw HTTPError(.uriTooLong, "the request line has more than \(limits.requestLine) bytes")
    }
    _ = try within(rest.count)
    return nil
  }

  private func within(_ size: Int) throws(HTTPError) -> Int {
    guard size <= limits.head else {
      throw HTTPError(.fieldsTooLarge, "the head of the request has more than \(limits.head) bytes")
    }
    return size
  }

  /// Bytes of a line without its end; nil when that is not there yet.
  private mutating func line(_ rest: UnsafeRawBufferPointer, atMost limit: Int) throws(HTTPError) -> Int? {
    guard let end = rest[min(searched, rest.count)...].firstIndex(of: 0x0a) else {
      searched = rest.count
      guard rest.count <= limit else { throw HTTPError(.badRequest, "a chunk's line has more than \(limit) bytes") }
      return nil
    }
    searched = 0
    guard end > 0, rest[end - 1] == 0x0d else { throw HTTPError(.badRequest, "a chunk's line does not end with CR LF") }
    guard end <= limit else { throw HTTPError(.badRequest, "a chunk's line has more than \(limit) bytes") }
    return end - 1
  }

  /// The size that a chunk's line names; extensions behind it are passed over.
  private static func chunkSize(_ line: UnsafeRawBufferPointer) throws(HTTPError) -> Int {
    let digits = line.prefix { HTTPCharacters.hexValue($0) != nil }
    guard !digits.isEmpty else { throw HTTPError(.badRequest, "a chunk's line does not begin with its size") }
    guard digits.count <= 15 else { throw HTTPError(.contentTooLarge, "a chunk is beyond everything that is taken") }
    let rest = line[digits.endIndex...].drop { $0 == 0x20 || $0 == 0x09 }
    guard rest.isEmpty || rest.first == UInt8(ascii: ";"), rest.allSatisfy({ HTTPCharacters.isValue($0) }) else {
      throw HTTPError(.badRequest, "something other than an extension stands behind a chunk's size")
    }
    return digits.reduce(0) { $0 << 4 | Int(HTTPCharacters.hexValue($1) ?? 0) }
  }
}
