// GeneratorBenchmark: how fast events are made on one core: encoded, as JSON lines, and as the batches that a job reads.

import Glibc
import MillraceBase
import MillraceNexmark

/// The generator alone.
enum GeneratorBenchmark {
  /// Prints what making `events` events takes.
  static func run(_ events: Int64) {
    let generator = NexmarkGenerator()
    let room = UnsafeMutableRawBufferPointer.allocate(
      byteCount: NexmarkGenerator.encodedSizeLimit, alignment: 16)
    defer { room.deallocate() }
    measure("encoded", events) {
      var bytes = 0
      for number in 0..<events { bytes += generator.encode(number, into: room) }
      return bytes
    }
    measure("JSON lines", events) {
      var bytes = 0
      var writer = ByteWriter(capacity: 1 << 20)
      for number in 0..<events {
        let size = generator.encode(number, into: room)
        do throws(DecodingError) {
          try EncodedEvent(UnsafeRawBufferPointer(rebasing: room[..<size])).writeJSONLine(into: &writer)
        } catch {
          fatalError("event \(number): \(error)")
        }
        guard writer.count > 512 << 10 else { continue }
        bytes += writer.count
        writer = ByteWriter(capacity: 1 << 20)
      }
      return bytes + writer.count
    }
    measure("batches", events) {
      let source = NexmarkSource(generator, events: 0..<events)
      var bytes = 0
      do {
        while true {
          let batch = try source.next(maxBytes: 256 << 10)
          bytes += batch.batch?.count ?? 0
          if batch.isFinished { return bytes }
        }
      } catch {
        fatalError("\(error)")
      }
    }
  }

  /// Prints what `body`, which returns how many bytes it made, took of the processor.
  private static func measure(_ what: String, _ events: Int64, _ body: () -> Int) {
    let begin = ProcessorTime.thread
    let bytes = body()
    let seconds = Double((ProcessorTime.thread - begin).inNanoseconds) / 1e9
    let (rate, megabytes) = (Double(events) / seconds / 1e6, Double(bytes) / seconds / 1e6)
    print(
      "\(what): \(NexmarkBenchmark.tenths(rate)) M events/s per core, \(NexmarkBenchmark.tenths(megabytes)) MB/s, "
        + "\(NexmarkBenchmark.tenths(Double(bytes) / Double(events))) bytes an event")
  }
}
