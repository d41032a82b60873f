// FuzzTargets: the fuzzers of this program: records, state of jobs, and texts.

import FuzzHarness

/// Tests hold this list against docs/internals/fuzzing.md and against the parsers in the sources.
let fuzzTargets: [FuzzTarget] = [
  recordBatches, compressedBytes, jsonValues, words, routingSnapshots, stateLogs, nexmarkEvents, nexmarkPositions,
  jsonRecords, csvRecords, nexmarkQueries, timeZones, stateSegments,
  scramMessages, plainMessages, storedCredentials, principalRules, bearerMessages, bearerTokens, keyFiles,
  canary,
]

/// libFuzzer's entry before the first input; the harness has the one for each input.
@_cdecl("LLVMFuzzerInitialize")
public func initializeFuzzer(
  _ count: UnsafeMutablePointer<CInt>, _ words: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>>>
) -> CInt { startFuzzing(fuzzTargets) }
