// Nexmark: encoded events of the benchmark, and positions of the source that generates them.

import FuzzHarness
import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceNexmark

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
