// FuzzTargets: the fuzzers of this program: what lies in a data directory, and TLS.

import FuzzHarness

/// Tests hold this list against docs/internals/fuzzing.md and against the parsers in the sources.
let fuzzTargets: [FuzzTarget] = [
  metadataEvents, journalBlocks, recordings, snapshots, segments, queueStates, encryptionHeaders, encryptedPages,
  encryptionKeyFiles, tlsConnection,
]

/// libFuzzer's entry before the first input; the harness has the one for each input.
@_cdecl("LLVMFuzzerInitialize")
public func initializeFuzzer(
  _ count: UnsafeMutablePointer<CInt>, _ words: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>>>
) -> CInt { startFuzzing(fuzzTargets) }
