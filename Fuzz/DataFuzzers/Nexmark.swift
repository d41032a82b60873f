// Nexmark: encoded events of the benchmark, and positions of the source that generates them.

import FuzzHarness
import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceNexmark
import MillraceNexmarkQueries
import MillraceStreams

/// An encoded event. What is accepted must be JSON when written as a line, and have the same bytes when encoded again.
let nexmarkEvents = FuzzTarget(
  name: "nexmark-events",
  seeds: {
    let generator = NexmarkGenerator()
    return [0, 1, 4, 5, 50].map { generator.event($0).encoded.array }
  }
) { input in
  do throws(DecodingError) {
    try input.withBuffer { buffer throws(DecodingError) in
      let encoded = try EncodedEvent(buffer)
      var writer = ByteWriter()
      encoded.writeJSONLine(into: &writer)
      let line = writer.finishJoined()
      do throws(DecodingError) {
        _ = try line.withBuffer { line throws(DecodingError) in try JSONValue(line) }
      } catch {
        preconditionFailure("a line is no JSON: \(error)")
      }
      let event = try NexmarkEvent(encoded)
      precondition(event.encoded == input && event.dateTime == encoded.dateTime, "another event when encoded again")
    }
  } catch {
    return
  }
}

/// A position of a source whose range and share the first bytes choose. From one that is accepted, the source must give
/// what is left of its events.
let nexmarkPositions = FuzzTarget(
  name: "nexmark-positions",
  seeds: {
    [(0, 0, 0, 100), (120, 2, 1, 104), (9, 6, 255, 105)].map { size, shares, choice, position in
      [size, shares, choice, 0, 0, 0, 0, 0, 0, 0, position]
    }
  }
) { input in
  var choices = Choices(input)
  let events = 100..<(100 + Int64(choices.byte()))
  let count = 1 + choices.byte() % 8
  let choice = choices.byte()
  let share = NexmarkShare(choice % count, of: count, choice < 128 ? .strided : .contiguous)
  let source = NexmarkSource(NexmarkGenerator(), events: events, share: share)
  do throws(JobError) {
    try source.restore(choices.rest())
    var records = 0
    while true {
      let batch = try source.next(maxBytes: 4096)
      if let bytes = batch.batch {
        do throws(RecordBatchError) {
          records += Int(try RecordBatchHeader.checked(bytes).recordCount)
        } catch {
          preconditionFailure("a batch cannot be read: \(error)")
        }
      }
      precondition(records <= events.count, "\(records) of \(events.count) events")
      let again = NexmarkSource(NexmarkGenerator(), events: events, share: share)
      try again.restore(batch.position)
      if batch.isFinished { return }
    }
  } catch {
    return
  }
}

/// The first byte chooses. Below 128: a query, whose state log holds the records that the rest is cut into, each of one
/// of the queries' operators; its job must start from it or say why not, and then work. From 128 on: the rest is a row
/// of a result.
let nexmarkQueries = FuzzTarget(
  name: "nexmark-queries", allowance: 4 << 20,
  seeds: {
    func state(_ query: UInt8, _ name: UInt8, _ kind: UInt8, _ type: String, _ value: [UInt8]) -> [UInt8] {
      let fingerprint = Bytes(type).withBuffer { UInt32(truncatingIfNeeded: Hashing.stable($0)) }
      let encoded = withUnsafeBytes(of: fingerprint.bigEndian) { Array($0) } + value
      return [query, name, kind, 8] + [UInt8](repeating: 0, count: 8) + [UInt8(encoded.count)] + encoded
    }
    let number = [UInt8](repeating: 0, count: 7) + [5]
    var row: [UInt8] = [128, 0]
    row += number + [1, 0, 0, 0, 2, 97, 34, 2] + number + [3] + number
    return [row, state(10, 3, 4, "bid-statistics/1", number + number + number + number + number + number)]
  }
) { input in
  var choices = Choices(input)
  let first = choices.byte()
  if first >= 128 {
    var builder = RecordBatchBuilder()
    builder.append(Record(value: choices.rest()))
    do throws(DecodingError) {
      let lines = try ResultLines([builder.finish()], columns: ["a", "b", "c", "d"])
      lines.write { line in
        do throws(DecodingError) {
          _ = try JSONValue(UnsafeRawBufferPointer(rebasing: line.dropLast()))
        } catch {
          preconditionFailure("a row is no JSON: \(error)")
        }
      }
    } catch {
      return
    }
    return
  }
  let query = NexmarkQuery.all[first % NexmarkQuery.all.count]
  let names = [
    "bids", "most", "highest", "statistics", "sellers", "sessions", "contenders", "winning", "averages", "last",
    "top", "local.left", "local.right", "auctions.left", "auctions.right",
  ]
  var writer = StateLogWriter(timestamp: Timestamp(milliseconds: 1))
  while !choices.isEmpty {
    let id = JobGraph.operatorID(names[choices.byte() % names.count])
    let kind = UInt8(choices.byte() % 6)
    let key = [UInt8(id >> 8), UInt8(id & 255), kind, 0] + choices.bytes(choices.byte() % 40).array
    let length = choices.byte()
    let value = choices.bytes(length)
    key.withUnsafeBytes { key in
      value.withBuffer { value in writer.put(key: key, value: length == 255 ? nil : value) }
    }
  }
  let state = writer.finish()
  guard !state.isEmpty else { return }
  let host = ResultHost(keepsOutputs: true)
  do throws(JobError) {
    let epoch = try host.open(job: query.name) { _ in }
    _ = try host.wait(
      host.submit(StepCommit(job: query.name, epoch: epoch, outputs: [], state: state, stateLogStart: nil)))
    let events = NexmarkEvents.source("nexmark") { NexmarkSource(NexmarkGenerator(rate: 10), events: 0..<60) }
    let executor = try JobExecutor(query.output(events).job(named: query.name), host: host)
    while try executor.turn() != .finished {}
    do throws(DecodingError) {
      _ = try ResultLines(host.outputs, columns: query.columns)
    } catch {
      preconditionFailure("a row cannot be read: \(error)")
    }
  } catch {
    return
  }
}
