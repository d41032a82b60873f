// FuzzTarget: what one fuzzer is: a name, what it does with an input, inputs to begin with, and what an input may cost.

import MillraceBase

/// A fuzzer. What breaks a rule ends the program.
struct FuzzTarget: Sendable {
  /// As on the command line and in docs/internals/fuzzing.md.
  let name: String
  /// Bytes that an input may make the program hold, beyond 8 times its own size.
  var allowance = 2 << 20
  /// Processor time that an input may take.
  var limit = Duration.milliseconds(100)
  /// Inputs to begin with, beside those that make-seeds.py writes.
  var seeds: @Sendable () -> [[UInt8]] = { [] }
  /// Does what the program does with such bytes.
  let run: @Sendable (Bytes) -> Void
}

/// All fuzzers. Tests hold this table against docs/internals/fuzzing.md and against the parsers in the sources.
let fuzzTargets: [FuzzTarget] = [
  requestFrames, messages, clientFrames, connection, consumerProtocol,
  amqpFrames, amqpMethods, amqpTables, amqpContentHeaders, amqpConnection,
  recordBatches, compressedBytes, metadataEvents, journalBlocks, logImages, stateLogs, filePositions, recordings,
  queueStates, jsonValues, recordLines, commandLines, addresses, words, canary, snapshots, segments,
  routingSnapshots, queueRecords, queueRequests, queueCalls, nexmarkEvents, nexmarkPositions,
]

/// A reader of an input that never fails: what is missing is 0.
struct Choices {
  private var reader: ByteReader

  init(_ input: Bytes) { reader = ByteReader(input) }

  var isEmpty: Bool { reader.remaining == 0 }

  mutating func byte() -> Int {
    guard reader.remaining > 0 else { return 0 }
    do throws(DecodingError) { return Int(try reader.uint8()) } catch { return 0 }
  }

  /// A number below `limit`, from as many bytes as it takes.
  mutating func number(below limit: Int) -> Int {
    var value = byte()
    if limit > 1 << 8 { value = value << 8 | byte() }
    if limit > 1 << 16 { value = value << 8 | byte() }
    return limit > 0 ? value % limit : 0
  }

  /// The next `count` bytes, or what is left.
  mutating func bytes(_ count: Int) -> Bytes {
    do throws(DecodingError) { return try reader.slice(min(count, reader.remaining)) } catch { return Bytes() }
  }

  /// Everything that is left, in memory of its own, so that the sanitizer sees a read past its end.
  mutating func rest() -> Bytes { bytes(reader.remaining).withBuffer { Bytes(copying: $0) } }
}
