// PaneCells: what the keys of a PaneStore have, and how it stands in the state log.
//
// A key's value is the number of values since its last result, int64, big endian, then its panes (Stretch.swift).

import MillraceBase

/// How values are gathered and handed on.
struct PaneRules: Sendable {
  /// Values in a pane, in a window and from window to window; nil for one pane that takes all.
  var values: (pane: Int64, window: Int64, step: Int64)?
  /// Panes that stay once a result was handed on.
  var kept: Int
  /// Values that lead to a result.
  var count: Int64?
  /// Multiples of event time, in ms, at which keys with new values are handed on.
  var interval: Int64?

  /// What the state log says of them.
  var numbers: [Int64] { values.map { [$0.pane, $0.window, $0.step] } ?? [0, 0, 0] }
  /// Most panes of a key.
  var most: Int { values.map { Int($0.window / $0.pane) } ?? 1 }
}

/// What a key has.
struct PaneCell {
  /// Oldest first.
  var panes: [Stretch] = []
  /// Values since the last result.
  var since: Int64 = 0
  /// The number of the key's entry in the table; −1 for a cell that is free.
  var entry = -1
  /// Whether it waits for event time to go on.
  var isWaiting = false
}

/// The cells: what the table's entries stand for.
final class PaneCells: StateCodec {
  var list: [PaneCell] = []
  var free: [Int] = []
  private let rules: PaneRules
  /// Of the panes' states.
  let codec: (any StateCodec)?

  init(_ rules: PaneRules, _ codec: (any StateCodec)?) {
    self.rules = rules
    self.codec = codec
  }

  func make() -> Int {
    if let number = free.popLast() { return number }
    list.append(PaneCell())
    return list.count - 1
  }

  func write(_ bits: UInt64, into writer: inout ByteWriter) {
    writer.int64(list[Int(bits)].since)
    for pane in list[Int(bits)].panes { pane.write(codec, into: &writer) }
  }

  func read(_ value: UnsafeRawBufferPointer) throws(JobError) -> UInt64 {
    var reader = ByteReader(Bytes(copying: value))
    let cell = make()
    do throws(DecodingError) {
      list[cell].since = try reader.int64()
      // The triggers of a global window may change under its state.
      let limit = rules.values?.step ?? .max
      guard 0..<limit ~= list[cell].since else {
        throw DecodingError("\(list[cell].since) values since the last result", at: 0)
      }
      repeat {
        guard list[cell].panes.count < rules.most else {
          throw DecodingError("more than \(rules.most) panes", at: reader.position)
        }
        list[cell].panes.append(try Stretch(from: &reader, "pane", codec))
      } while reader.remaining > 0
    } catch {
      release(UInt64(cell))
      throw JobError(.corruptState, "panes of \(value.count) bytes: \(error)")
    }
    return UInt64(cell)
  }

  func release(_ bits: UInt64) {
    for pane in list[Int(bits)].panes { codec?.release(pane.bits) }
    list[Int(bits)] = PaneCell()
    free.append(Int(bits))
  }
}
