// PreparedSlices: what a worker makes of its own values of each slice of time before they go to the workers that have their keys.
//
// Windows are handed on as event time goes on, so what a batch brought is handed over behind the batch, and what event time sets free
// behind that. All values of a slice are in time or none is: a part of a slice is judged like a value of it.

import MillraceBase

/// One worker's prepared states of an operator with windows, and its end of the lanes in which they go.
///
/// Safety: `@unchecked Sendable` because it is used by one worker, on whatever thread that is.
@usableFromInline
final class PreparedSlices: @unchecked Sendable {
  /// The values of a slice.
  @usableFromInline
  final class Part {
    @usableFromInline let table: KeyedTable
    @usableFromInline var start: Int64 = 0
    @usableFromInline var values: UInt64 = 0

    init(_ codec: (any StateCodec)?) {
      table = KeyedTable(operatorID: 0, kind: StateRecordKind.keyedValue, scope: [], codec: codec)
    }
  }

  /// Parts whose memory is kept for the next batch.
  private static var kept: Int { 4 }

  @usableFromInline let end: ExchangeEnd<PreparedState>
  @usableFromInline let gauge = PreparationGauge()
  private let windows: any SlicedWindows
  private let codec: (any StateCodec)?
  private var parts: [Part] = []
  private var unused: [Part] = []
  /// Boxes on their way, to be let go when they have been received.
  private var sent: [UInt64] = []
  /// Keys that were sent.
  private var keysSent = 0
  /// Of the value that came last.
  @usableFromInline private(set) var lastPart: Part?
  @usableFromInline private(set) var lastStart: Int64 = 0
  @usableFromInline private(set) var lastLength: Int64 = 0

  init(_ end: ExchangeEnd<PreparedState>, _ windows: any SlicedWindows, codec: (any StateCodec)?) {
    self.end = end
    self.windows = windows
    self.codec = codec
  }

  deinit { release() }

  private func release() {
    if let codec { for bits in sent { codec.release(bits) } }
    sent.removeAll(keepingCapacity: true)
  }

  /// About the bytes that the commit will have because of what is prepared: nothing is left behind a batch.
  var changedSize: Int { parts.reduce(0) { $0 + $1.table.changedSize } }

  /// A round begins: what was sent has been received.
  @usableFromInline
  func begin() {
    end.begin()
    release()
  }

  /// The part for a value of `time`; nil when the value is to go as it is.
  @inlinable @inline(__always)
  func part(for time: Timestamp) -> Part? {
    guard gauge.preparesNext({ keys }) else { return nil }
    let distance = time.milliseconds &- lastStart
    if distance >= 0, distance < lastLength, let lastPart { return lastPart }
    return findPart(for: time.milliseconds)
  }

  @usableFromInline var keys: Int { parts.reduce(keysSent) { $0 + $1.table.count } }

  @usableFromInline @inline(never)
  func findPart(for time: Int64) -> Part? {
    guard time > -TimeWindows.farthest, time < TimeWindows.farthest else { return nil }
    let range = windows.slice(of: time)
    (lastStart, lastLength) = (range.lowerBound, range.upperBound - range.lowerBound)
    if let known = parts.first(where: { $0.start == lastStart }) {
      lastPart = known
    } else {
      let part = unused.popLast() ?? Part(codec)
      part.start = lastStart
      part.values = 0
      parts.append(part)
      lastPart = part
    }
    return lastPart
  }

  /// Sends what was prepared since the last call to the workers that have the keys.
  @usableFromInline
  func send(on lanes: UnsafeMutablePointer<UnsafeMutablePointer<Lane<PreparedState>.Core>>) {
    for part in parts {
      var values = part.values
      part.table.forEachChange { key, bits in
        guard let bits else { return }
        let state = PreparedState(
          key: end.arena.copy(key), bits: bits, slice: Timestamp(milliseconds: part.start), values: values)
        end.send(state, .none, hash: Hashing.stable(key), on: lanes)
        if codec != nil { sent.append(bits) }
        values = 0
      }
      keysSent += part.table.count
      part.table.removeAll(releasing: false)
      if unused.count < PreparedSlices.kept { unused.append(part) }
    }
    parts.removeAll(keepingCapacity: true)
    lastPart = nil
    lastLength = 0
  }
}
