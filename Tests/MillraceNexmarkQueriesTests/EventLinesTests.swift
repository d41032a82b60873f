// EventLinesTests: events that are read from lines of JSON are those that were written.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceNexmark
import MillraceStreams
import Testing

@testable import MillraceNexmarkQueries

/// Lines by hand, so many a batch; the position is the number of lines.
private final class Lines: ReplayableSource {
  private let lines: [String]
  private let size: Int
  private var next = 0

  init(_ lines: [String], by size: Int = 7) {
    self.lines = lines
    self.size = size
  }

  func restore(_ position: Bytes?) throws(JobError) { next = position?.count ?? 0 }

  func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    let portion = lines[next..<min(lines.count, next + size)]
    next = portion.endIndex
    var builder = RecordBatchBuilder()
    for line in portion { builder.append(Record(value: Bytes(line), timestamp: Timestamp(milliseconds: 1))) }
    return SourceBatch(
      batch: portion.isEmpty ? nil : builder.finish(), position: Bytes([UInt8](repeating: 0, count: next)),
      isFinished: next == lines.count)
  }
}

/// The lines of events.
private func lines(_ events: some Sequence<NexmarkEvent>) throws -> [String] {
  try events.map { event in
    let bytes = event.encoded.array
    return try bytes.withUnsafeBytes { buffer in
      var writer = ByteWriter()
      try EncodedEvent(buffer).writeJSONLine(into: &writer)
      return String(writer.finishJoined().text.dropLast())
    }
  }
}

/// The records that a source gives, up to its end.
private func records(of source: any ReplayableSource) throws -> [Record] {
  var found: [Record] = []
  while true {
    let batch = try source.next(maxBytes: 1 << 20)
    if let bytes = batch.batch {
      let header = try RecordBatchHeader(bytes)
      found += try RecordReader.records(bytes[RecordBatchHeader.size..<header.totalSize], header: header)
    }
    if batch.isFinished { return found }
  }
}

@Test("events read from their lines have the encodings and times of those that were written")
func readsWhatWasWritten() throws {
  let generator = NexmarkGenerator(rate: 100)
  let read = try records(of: EventLinesSource(Lines(lines((0..<500).map { generator.event($0) }))))
  let made = try records(of: NexmarkSource(generator, events: 0..<500))
  #expect(read.map(\.value) == made.map(\.value))
  #expect(read.map(\.timestamp) == made.map(\.timestamp))
  let awkward = NexmarkEvent.bid(
    Bid(
      auction: .min, bidder: .max, price: -1, channel: "a \"quoted\" \\ line\n", url: "",
      dateTime: Timestamp(milliseconds: 3), extra: "\u{1F600} ä \u{0}"))
  #expect(try records(of: EventLinesSource(Lines(lines([awkward])))).map(\.value) == [awkward.encoded])
}

@Test("a position is the other source's")
func goesOnAtAPosition() throws {
  let all = try lines((0..<20).map { NexmarkGenerator().event($0) })
  let first = try EventLinesSource(Lines(all))
  let batch = try first.next(maxBytes: 1)
  let second = try EventLinesSource(Lines(all))
  try second.restore(batch.position)
  #expect(try records(of: second).map(\.value) == (7..<20).map { NexmarkGenerator().event($0).encoded })
}

@Test(
  "a line that is no event is refused, and named",
  arguments: [
    "", "{}", "{\"Bid\":}", "{\"Bid\":{}}", "{\"Bid\":{\"auction\":1}}", "[\"Bid\"]", "{\"Offer\":{\"id\":1}}",
    "{\"Person\":{\"id\":\"x\"}}", "{\"Auction\":1}",
  ])
func refusesOtherLines(_ line: String) throws {
  let good = try lines([NexmarkGenerator().event(0)])
  let source = try EventLinesSource(Lines(good + [line]))
  #expect {
    _ = try source.next(maxBytes: 1 << 20)
  } throws: {
    ($0 as? JobError)?.code == .corruptInput && "\($0)".contains("no event: \(line)")
  }
}

@Test("a query over lines gives what it gives over the events", arguments: ["q3", "q5", "q9"])
func queriesReadLines(_ name: String) throws {
  let query = try #require(NexmarkQuery.all.first { $0.name == name })
  let generator = NexmarkGenerator(rate: 200)
  let all = try lines((0..<3_000).map { generator.event($0) })
  func result(_ run: NexmarkRun) throws -> (String, Int64) {
    let outcome = try run.run()
    var text = ""
    try ResultLines(outcome.outputs, columns: query.columns).write { text += String(decoding: $0, as: UTF8.self) }
    return (text, outcome.events)
  }
  let made = try result(NexmarkRun(query, generator, events: 0..<3_000))
  var run = NexmarkRun(query, generator, events: 0..<0)
  run.lines = { Lines(all, by: 100) }
  #expect(!made.0.isEmpty)
  for isPrepared in [false, true] {
    run.isPrepared = isPrepared
    let read = try result(run)
    #expect(read == made, "prepared: \(isPrepared)")
  }
}
