// ContentBody: the body of a message, in the pieces in which it was received.

import MillraceBase

/// A body: the payloads of its frames, sharing the memory that they were received in. A body of one piece allocates nothing.
public struct ContentBody: Equatable, Sendable {
  /// The first piece; empty only when the body is.
  public private(set) var first: Bytes
  /// Further pieces, none of them empty.
  public private(set) var rest: [Bytes]
  /// Bytes in all.
  public private(set) var count: Int

  /// No bytes.
  public init() { self.init(Bytes()) }

  /// One piece.
  public init(_ bytes: Bytes) {
    first = bytes
    rest = []
    count = bytes.count
  }

  /// These pieces in order.
  public init(_ pieces: some Sequence<Bytes>) {
    self.init()
    for piece in pieces { append(piece) }
  }

  /// Appends a piece, sharing it; an empty one leaves no trace.
  public mutating func append(_ piece: Bytes) {
    guard !piece.isEmpty else { return }
    if count == 0 { first = piece } else { rest.append(piece) }
    count += piece.count
  }

  /// Number of pieces.
  var pieceCount: Int { count == 0 ? 0 : 1 + rest.count }

  /// Pieces from this size on keep the memory that they were received in: it is mostly theirs.
  static let ownMemory = 64 << 10

  /// Puts small pieces, from the one numbered `index` on, into memory of their own.
  mutating func detach(from index: Int) {
    if index == 0, count > 0, first.count < ContentBody.ownMemory { first = first.withBuffer { Bytes(copying: $0) } }
    for number in rest.indices.dropFirst(max(0, index - 1)) where rest[number].count < ContentBody.ownMemory {
      rest[number] = rest[number].withBuffer { Bytes(copying: $0) }
    }
  }

  /// The body with its small pieces in memory of their own.
  public var detached: ContentBody {
    var copy = self
    copy.detach(from: 0)
    return copy
  }

  /// Calls `body` with each piece in order.
  public func forEachPiece(_ body: (Bytes) -> Void) {
    if count > 0 { body(first) }
    for piece in rest { body(piece) }
  }

  /// Everything as one run; copies only when there is more than one piece.
  public var joined: Bytes {
    guard !rest.isEmpty else { return first }
    let whole = Chunk(capacity: count)
    var at = 0
    forEachPiece { piece in
      piece.withBuffer { UnsafeMutableRawBufferPointer(start: whole.base + at, count: $0.count).copyMemory(from: $0) }
      at += piece.count
    }
    return whole.bytes(0..<count)
  }

  /// Compares the bytes, however they are cut.
  public static func == (left: ContentBody, right: ContentBody) -> Bool {
    left.count == right.count && left.joined == right.joined
  }
}
