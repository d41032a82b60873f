// FuzzTargets: the fuzzers of this program: what needs a broker to run, or code that is linked with one.

import FuzzHarness

/// Tests hold this list against docs/internals/fuzzing.md and against the parsers in the sources.
let fuzzTargets: [FuzzTarget] = [
  connection, amqpConnection, queueCalls, logImages, clientFrames, queueRequests, queueRecords, filePositions,
  recordLines, commandLines, addresses, workerRequests, workerCalls, savepoints,
  sourcePositions, configurationFiles, listenerURLs,
]

/// libFuzzer's entry before the first input; the harness has the one for each input.
@_cdecl("LLVMFuzzerInitialize")
public func initializeFuzzer(
  _ count: UnsafeMutablePointer<CInt>, _ words: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>>>
) -> CInt { startFuzzing(fuzzTargets) }
