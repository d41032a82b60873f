// CumulatingWindows: windows that begin together and end one step after the other.
//
//   slices   │ 0 │ 1 │ 2 │ 3 │ 4 │
//   windows  [0 ─ 1)         [3 ─ 4)      of at most 3, every 1
//            [0 ───── 2)     [3 ───── …
//            [0 ───────── 3)

import MillraceBase

/// Windows that begin together at fixed distances, and end one step after the other until the longest is as long as the distance.
public struct CumulatingWindows: EventTimeWindowAssigner {
  /// Length of the longest in ms; a multiple of the step.
  let longest: Int64
  /// Distance of two ends in ms.
  let step: Int64
  /// One of the starts in ms; at least 0 and less than `longest`.
  let offset: Int64

  fileprivate init(longest: Int64, step: Int64, offset: Int64) {
    self.longest = longest
    self.step = step
    self.offset = offset.flooredRemainder(by: longest)
  }

  /// Registers the slices of an operator.
  public func makeStore(
    in graph: inout JobGraph, options: WindowOptions, codec: (any StateCodec)?, name: String?
  ) throws(JobError) -> SliceWindowStore {
    try SliceWindowStore.make(self, in: &graph, options: options, codec: codec, name: name)
  }
}

extension WindowAssigner where Self == CumulatingWindows {
  /// Windows that begin every `longest` and end every `step` after that: a day so far, by the hour.
  ///
  ///     clicks.keyBy(\.page).window(.cumulating(.seconds(86_400), step: .seconds(3600))).count()
  /// - Parameters:
  ///   - longest: a multiple of `step`.
  ///   - step: at least 1 ms.
  ///   - offset: moves the starts, which are otherwise multiples of `longest` since 1970-01-01T00:00:00Z.
  public static func cumulating(
    _ longest: Duration, step: Duration, offset: Duration = .zero
  ) -> CumulatingWindows {
    let longest = longest.inMilliseconds
    let step = step.inMilliseconds
    precondition(step >= 1, "windows that end every \(step) ms; at least 1 ms is needed")
    precondition(
      longest >= step && longest % step == 0, "windows of up to \(longest) ms are no whole number of \(step) ms")
    return CumulatingWindows(longest: longest, step: step, offset: offset.inMilliseconds)
  }
}

extension CumulatingWindows: SlicedWindows {
  var sliceLength: Int64 { step }
  var phase: Int64 { offset.flooredRemainder(by: step) }

  func slice(of time: Int64) -> Range<Int64> {
    let start = time - (time - offset).flooredRemainder(by: step)
    return start..<start + step
  }

  func firstEnd(ofSlice start: Int64) -> Int64 { start + step }
  func lastEnd(ofSlice start: Int64) -> Int64 { first(start) + longest }
  func nextEnd(after end: Int64) -> Int64 { end + step - (end - offset).flooredRemainder(by: step) }
  func start(ofWindowEndingAt end: Int64) -> Int64 { first(end - 1) }

  /// The start of the windows that hold `time`.
  private func first(_ time: Int64) -> Int64 { time - (time - offset).flooredRemainder(by: longest) }
}
