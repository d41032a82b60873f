// DataStream+ProcessingTime: the clock on the wall instead of the times in the records.

import MillraceBase
import MillraceDataflow

extension DataStream {
  /// The same values with the times at which they are processed as their event times: windows, timers and times to live behind this go by the
  /// clock on the wall, also while no records come. No value is late.
  ///
  ///     clicks.processingTime().keyBy(\.page).window(.tumbling(.seconds(10))).count()
  ///
  /// All values of a step have the same time. Results depend on when records are read: they are exact, but another run over the same records
  /// gives others. The clock never runs back, not over restarts either. What is due comes at most ``JobOptions/commitInterval`` late, and what a
  /// commit takes.
  /// - Parameter name: owns the clock in the job's state; give one when the job's code may change.
  @inlinable
  public func processingTime(name: String? = nil) -> DataStream<AssignProcessingTime<Source>> {
    DataStream<AssignProcessingTime<Source>>(AssignProcessingTime(flow, name: name))
  }
}
