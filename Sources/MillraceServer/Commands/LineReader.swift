// LineReader: lines out of portions of bytes, whatever their borders, with a bound on a line's length.

import MillraceBase

/// Cuts a stream of bytes into lines. A line ends with LF; what follows the last one is a line, too, unless empty.
struct LineReader {
  /// Longest line in bytes.
  let limit: Int
  private var held: [UInt8] = []
  /// Lines that were handed out.
  private(set) var count = 0

  /// Nothing read yet.
  init(limit: Int = 64 << 20) {
    self.limit = limit
  }

  /// Takes the next portion, calling `body` for each line that ends in it.
  /// - Throws: when a line is too long, or what `body` throws.
  mutating func take(
    _ portion: UnsafeRawBufferPointer,
    _ body: (UnsafeRawBufferPointer, Int) throws(CommandFailure) -> Void
  ) throws(CommandFailure) {
    var rest = portion[...]
    while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
      let part = UnsafeRawBufferPointer(rebasing: rest[rest.startIndex..<end])
      rest = rest[(end + 1)...]
      count += 1
      if held.isEmpty {
        try body(part, count)
      } else {
        try keep(part)
        let line = held
        held = []
        try line.span.withUnsafeBytes { line throws(CommandFailure) in try body(line, count) }
      }
    }
    try keep(UnsafeRawBufferPointer(rebasing: rest))
  }

  /// The stream has ended.
  mutating func finish(_ body: (UnsafeRawBufferPointer, Int) throws(CommandFailure) -> Void) throws(CommandFailure) {
    guard !held.isEmpty else { return }
    count += 1
    let line = held
    held = []
    try line.span.withUnsafeBytes { line throws(CommandFailure) in try body(line, count) }
  }

  private mutating func keep(_ part: UnsafeRawBufferPointer) throws(CommandFailure) {
    guard held.count + part.count <= limit else {
      throw CommandFailure(.failed, "line \(count + 1) is longer than \(limit) bytes")
    }
    held.append(contentsOf: part)
  }
}
