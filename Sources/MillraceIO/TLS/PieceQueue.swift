// PieceQueue: output in order, as pieces that are consumed by bytes.

import MillraceBase

/// Pieces of output that wait.
struct PieceQueue {
  /// Pieces from `head` on are still there.
  private var pieces: [Bytes] = []
  private var head = 0
  /// Bytes in all pieces.
  private(set) var count = 0

  /// The next piece; only when there is one.
  var first: Bytes { pieces[head] }
  /// Whether ``first`` is all there is.
  var isLastPiece: Bool { head == pieces.count - 1 }

  mutating func append(_ piece: Bytes) {
    pieces.append(piece)
    count += piece.count
  }

  /// Takes `length` bytes of the first piece away.
  mutating func consume(_ length: Int) {
    count -= length
    if length < pieces[head].count {
      pieces[head] = pieces[head][length..<pieces[head].count]
      return
    }
    pieces[head] = Bytes()
    head += 1
    if head == pieces.count {
      pieces.removeAll(keepingCapacity: pieces.count <= 1024)
      head = 0
    } else if head >= 1024 && 2 * head >= pieces.count {
      pieces.removeFirst(head)
      head = 0
    }
  }

  /// Copies up to `room.count` bytes out of the next pieces and takes them away.
  mutating func gather(into room: UnsafeMutableRawBufferPointer) -> Int {
    var filled = 0
    while filled < room.count && count > 0 {
      let piece = first
      let part = min(piece.count, room.count - filled)
      piece.withBuffer {
        UnsafeMutableRawBufferPointer(rebasing: room[filled...]).copyMemory(from: .init(rebasing: $0[..<part]))
      }
      filled += part
      consume(part)
    }
    return filled
  }

  mutating func removeAll() { self = PieceQueue() }
}
