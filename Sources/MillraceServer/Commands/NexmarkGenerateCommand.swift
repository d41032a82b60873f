// NexmarkGenerateCommand: `millrace nexmark generate`: the events of the Nexmark benchmark.

import MillraceBase
import MillraceIO
import MillraceNexmark

extension Command {
  /// `millrace nexmark generate`
  static let nexmarkGenerate = Command(
    "generate", "writes events as lines of JSON",
    discussion: """
      Event N is the same whenever and wherever it is made, with the same rate and kind of times. They are the events of \
      nexmark-rs 0.2; with --float-times their times are, too, beyond the first 671,105, where 32-bit floating point \
      begins to be off by a millisecond.
      """,
    options: [
      CommandOption(
        "--events", "N", type: .integer(1...NexmarkGenerator.eventLimit), isRequired: true, "How many events."),
      CommandOption(
        "--rate", "R", type: .integer(NexmarkGenerator.rates), "Events in a second of event time (default 10000)."),
      CommandOption(
        "--from", "N", type: .integer(0...NexmarkGenerator.eventLimit), "The number of the first event (default 0)."),
      CommandOption(flag: "--exact-times", "Times in whole numbers (the default)."),
      CommandOption(flag: "--float-times", "Times in 32-bit floating point, as nexmark-rs computes them."),
      CommandOption("--output", "FILE", "Where to write; - is standard output (the default). A file is replaced."),
    ]
  ) { (arguments) throws(CommandFailure) in
    if arguments.has("--exact-times"), arguments.has("--float-times") {
      throw CommandFailure(.usage, "--exact-times and --float-times exclude each other")
    }
    let from = arguments.integer("--from") ?? 0
    let count = arguments.integer("--events") ?? 0
    guard count <= NexmarkGenerator.eventLimit - from else {
      throw CommandFailure(.usage, "--from and --events go beyond event \(NexmarkGenerator.eventLimit)")
    }
    let generator = NexmarkGenerator(
      rate: arguments.integer("--rate") ?? 10_000, times: arguments.has("--float-times") ? .float32 : .exact)
    let path = arguments.text("--output") ?? "-"
    let lines = EventLines(generator: generator, events: from..<(from + count))
    do throws(IOError) {
      if path == "-" {
        let output = OutputStream.standardOutput
        try lines.write { (portion, _) throws(IOError) in try output.write(portion) }
      } else {
        let bytes = try lines.write(to: path)
        try OutputStream.standardOutput.write(
          "wrote \(Shown.count(count)) event\(count == 1 ? "" : "s"), \(Shown.bytes(Double(bytes))), to \(path)\n")
      }
    } catch {
      // Whoever reads has enough.
      if path != "-" || !error.isBrokenPipe { throw CommandFailure(.failed, error.description) }
    }
    return .done
  }
}

/// Events of a range as lines of JSON.
private struct EventLines {
  let generator: NexmarkGenerator
  let events: Range<Int64>
  /// Bytes that are written at a time.
  private static let portion = 256 << 10

  /// Makes a file of them.
  /// - Returns: its size.
  func write(to path: String) throws(IOError) -> Int64 {
    let file = try LinuxFileSystem().open(path, [.write, .create, .truncate])
    defer { file.close() }
    var written: Int64 = 0
    var progress = Progress()
    defer { progress.clear() }
    try write { (portion, next) throws(IOError) in
      try file.write(portion, at: written)
      written += Int64(portion.count)
      progress.show("\(Shown.count(next - events.lowerBound)) of \(Shown.count(events.count)) events")
    }
    return written
  }

  /// Hands the lines to `body`, with the number of the event that comes next.
  func write(_ body: (UnsafeRawBufferPointer, Int64) throws(IOError) -> Void) throws(IOError) {
    let room = UnsafeMutableRawBufferPointer.allocate(
      byteCount: NexmarkGenerator.encodedSizeLimit, alignment: 16)
    defer { room.deallocate() }
    var number = events.lowerBound
    while number < events.upperBound {
      var writer = ByteWriter(capacity: EventLines.portion)
      // A line is well below a tenth of a portion.
      while number < events.upperBound, writer.count < EventLines.portion / 10 * 9 {
        let size = generator.encode(number, into: room)
        do throws(DecodingError) {
          try EncodedEvent(UnsafeRawBufferPointer(rebasing: room[..<size])).writeJSONLine(into: &writer)
        } catch {
          preconditionFailure("event \(number) was encoded wrongly: \(error)")
        }
        number += 1
      }
      try writer.finishJoined().withBuffer { portion throws(IOError) in try body(portion, number) }
    }
  }
}
