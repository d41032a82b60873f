// ValueCount: how values are counted at the places between which operators are fused.
//
// Counting takes one addition to a variable of the call for each value, and one to memory for each batch: nothing stands between the operators.

import MillraceBase

/// Where the values are counted that come to the end of a chain, on one worker; nowhere before the flow is bound to a job.
///
/// Safety: `@unchecked Sendable` because it is used by one worker, on whatever thread that is; the job's graph keeps the meter that it points
/// into as long as what counts.
@usableFromInline
struct ValueCount: @unchecked Sendable {
  @usableFromInline let place: UnsafeMutablePointer<UInt64>?

  @inlinable
  init(_ place: UnsafeMutablePointer<UInt64>?) { self.place = place }

  /// Of a flow that is not bound.
  @inlinable static var nowhere: ValueCount { ValueCount(nil) }

  /// So many more values have come.
  @inlinable @inline(__always)
  func add(_ values: UInt64) { if let place { place.pointee &+= values } }
}

extension Flow {
  /// As ``process(_:_:)``, and counts what is handed on.
  @inlinable @inline(__always)
  func process(
    _ run: InputRun, countedBy count: ValueCount, _ body: (Output, Timestamp) -> Void
  ) throws(JobError) {
    var values: UInt64 = 0
    try process(run) { value, time in
      values &+= 1
      body(value, time)
    }
    count.add(values)
  }

  /// As ``advance(_:)``, and counts what is handed on.
  @inlinable @inline(__always)
  func advance(countedBy count: ValueCount, _ body: (Output, Timestamp) -> Void) -> Timestamp {
    var values: UInt64 = 0
    let watermark = advance { value, time in
      values &+= 1
      body(value, time)
    }
    if values > 0 { count.add(values) }
    return watermark
  }

  /// As ``endStep(_:)``, and counts what is handed on.
  @inlinable @inline(__always)
  func endStep(countedBy count: ValueCount, _ body: (Output, Timestamp) -> Void) {
    var values: UInt64 = 0
    endStep { value, time in
      values &+= 1
      body(value, time)
    }
    if values > 0 { count.add(values) }
  }
}
