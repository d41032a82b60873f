// StateMemory: keeps the state of a job's worker within its part of the memory that the job may use.

import MillraceBase

/// What one worker's state may take.
///
/// Safety: `@unchecked Sendable` because it is used by the worker's thread only.
final class StateMemory: @unchecked Sendable {
  /// In bytes.
  let limit: Int
  let makeFile: () throws(JobError) -> any StateFile
  /// Takes what breaks the run.
  let failed: (JobError) -> Void
  /// What could not be put into files is not tried again before the state has grown to this.
  private var nextTry = 0

  init(
    limit: Int, makeFile: @escaping () throws(JobError) -> any StateFile, failed: @escaping (JobError) -> Void
  ) {
    self.limit = limit
    self.makeFile = makeFile
    self.failed = failed
  }

  /// Puts state into files until the rest takes less than the limit. What the step changed must have been written before.
  ///
  /// A file that cannot be written breaks the run only once the state takes twice the limit: until then there may be room again.
  func relieve(_ states: [any OperatorState]) {
    var size = states.reduce(0) { $0 + $1.memorySize }
    guard size > max(limit, nextTry) else { return }
    // Some more, so that files are not made in every step, but little, so that no step waits for long.
    let goal = limit - limit / 32
    do throws(JobError) {
      for state in states.sorted(by: { $0.memorySize > $1.memorySize }) {
        while size > goal {
          let before = state.memorySize
          guard try state.spill(size - goal) > 0 else { break }
          size -= before - state.memorySize
        }
      }
      nextTry = size > limit ? size + limit / 8 : 0
    } catch {
      guard size < 2 * limit else { return failed(error) }
      nextTry = size + limit / 8
    }
  }
}
