// SlicedWindows: windows that are put together from slices of time, so that a value changes one of them, whatever the overlap.

/// How time is cut into slices, and which windows hold them. Every window is a run of slices; the windows of a slice are those with
/// ends from the first to the last that it has.
protocol SlicedWindows: Sendable {
  /// What the state log says of the slices: those of other numbers are refused.
  var sliceLength: Int64 { get }
  /// See ``sliceLength``.
  var phase: Int64 { get }
  /// The slice that holds `time`.
  func slice(of time: Int64) -> Range<Int64>
  /// End of the first window that the slice at `start` belongs to.
  func firstEnd(ofSlice start: Int64) -> Int64
  /// End of the last window that the slice at `start` belongs to.
  func lastEnd(ofSlice start: Int64) -> Int64
  /// The first end of a window behind `end`.
  func nextEnd(after end: Int64) -> Int64
  /// The start of a window.
  func start(ofWindowEndingAt end: Int64) -> Int64
}
