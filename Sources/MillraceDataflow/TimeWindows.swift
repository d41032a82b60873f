// TimeWindows: windows of a fixed length, cut into slices that are shared by all windows that overlap.
//
// With a length of 10 minutes every 4 minutes, slices are 2 minutes long (the greatest common divisor): a value changes one
// slice, whatever the overlap, and a window that closes adds up 5 of them.
//
//   slices   │ 0 │ 2 │ 4 │ 6 │ 8 │10 │12 │
//   windows  [0 ─────────────── 10)
//                    [4 ──────────────── 14)

import MillraceBase

/// Windows of a fixed length that begin at fixed distances.
///
///     TimeWindows.tumbling(.seconds(60))
///     TimeWindows.hopping(.seconds(600), every: .seconds(240))
public struct TimeWindows: EventTimeWindowAssigner {
  /// Length in ms.
  let length: Int64
  /// Distance of two starts in ms, at most the length.
  let hop: Int64
  /// One of the starts, in ms; at least 0 and less than `hop`.
  let offset: Int64
  /// Length of a slice in ms.
  let sliceLength: Int64

  fileprivate init(length: Int64, hop: Int64, offset: Int64) {
    self.length = length
    self.hop = hop
    self.offset = offset.flooredRemainder(by: hop)
    var (a, b) = (length, hop)
    while b > 0 { (a, b) = (b, a % b) }
    sliceLength = a
  }

  /// Times so near to the ends of what 64 bits can say are in no window.
  static let farthest = Int64.max / 4

  /// Registers the slices of an operator.
  public func makeStore(
    in graph: inout JobGraph, options: WindowOptions, codec: (any StateCodec)?, name: String?
  ) throws(JobError) -> SliceWindowStore {
    try SliceWindowStore.make(self, in: &graph, options: options, codec: codec, name: name)
  }
}

extension WindowAssigner where Self == TimeWindows {
  /// Windows that follow each other without gap or overlap.
  /// - Parameters:
  ///   - length: at least 1 ms; parts of a ms are cut off.
  ///   - offset: moves the starts, which are otherwise multiples of `length` since 1970-01-01T00:00:00Z.
  public static func tumbling(_ length: Duration, offset: Duration = .zero) -> TimeWindows {
    hopping(length, every: length, offset: offset)
  }

  /// Windows that begin every `hop`, and overlap when they are longer than that.
  /// - Parameters:
  ///   - length: at least `hop`.
  ///   - hop: at least 1 ms.
  ///   - offset: moves the starts, which are otherwise multiples of `hop` since 1970-01-01T00:00:00Z.
  public static func hopping(_ length: Duration, every hop: Duration, offset: Duration = .zero) -> TimeWindows {
    let length = length.inMilliseconds
    let hop = hop.inMilliseconds
    precondition(hop >= 1, "windows that begin every \(hop) ms; at least 1 ms is needed")
    precondition(length >= hop, "windows of \(length) ms every \(hop) ms would leave gaps")
    return TimeWindows(length: length, hop: hop, offset: offset.inMilliseconds)
  }
}

extension TimeWindows: SlicedWindows {
  /// The first ms of the first slice that begins at or after 1970-01-01T00:00:00Z.
  var phase: Int64 { offset.flooredRemainder(by: sliceLength) }

  func slice(of time: Int64) -> Range<Int64> {
    let start = time - (time - offset).flooredRemainder(by: sliceLength)
    return start..<start + sliceLength
  }

  func lastEnd(ofSlice start: Int64) -> Int64 { start - (start - offset).flooredRemainder(by: hop) + length }

  func firstEnd(ofSlice start: Int64) -> Int64 {
    // The earliest start that leaves the slice inside: above start + slice − length.
    let lowest = start + sliceLength - length
    let distance = (offset - lowest).flooredRemainder(by: hop)
    return lowest + distance + length
  }

  func nextEnd(after end: Int64) -> Int64 { end + hop - (end - length - offset).flooredRemainder(by: hop) }

  func start(ofWindowEndingAt end: Int64) -> Int64 { end - length }
}

extension Int64 {
  /// The remainder that lies between 0 and `divisor`, which is above 0.
  func flooredRemainder(by divisor: Int64) -> Int64 {
    let remainder = self % divisor
    return remainder < 0 ? remainder + divisor : remainder
  }
}
