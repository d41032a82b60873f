// SmallSteps: options with which jobs of tests make many steps of few records.

import MillraceDataflow

/// Options for small steps.
func smallSteps(readBytes: Int = 2000, idleWait: Duration = .zero) -> JobOptions {
  var options = JobOptions()
  options.readBytes = readBytes
  options.stepBytes = 1
  options.idleWait = idleWait
  options.briefWait = .zero
  options.commitsInFlight = 3
  return options
}
