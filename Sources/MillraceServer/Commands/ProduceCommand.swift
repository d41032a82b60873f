// ProduceCommand: `millrace produce`: lines of standard input become records.

import MillraceBase
import MillraceIO
import MillraceModel

extension Command {
  /// `millrace produce`
  static let produce = Command(
    "produce", "sends each line of standard input as a record",
    discussion: """
      Records are sent in batches, at the latest 5 ms after a line was read, and acknowledged when they are durable. \
      Records with the same key go to the same partition. At the end the number of acknowledged records is written to \
      standard output. Ctrl-C sends what was read so far.
      With --json every line is an object with the members key, value (texts or null), headers and partition; \
      key_base64 and value_base64 take bytes. What `millrace consume --json` writes can be read again.
      """,
    operands: [Operand("TOPIC", "The topic; the server may make it when it does not exist.")],
    options: [
      CommandOption("--key-separator", "TEXT", "What stands before the first TEXT in a line is the record's key."),
      CommandOption("--header", "NAME=VALUE", type: .assignment, count: .repeated, "A header for every record."),
      CommandOption(flag: "--json", "Lines are JSON objects."),
      .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    if arguments.has("--json"), arguments.has("--key-separator") {
      throw CommandFailure(.usage, "--key-separator has no meaning with --json")
    }
    let interruption = try Interruption.begin()
    let client = try arguments.client(interruption)
    let name = arguments.operands[0]
    let sender = try CommandFailure.wrapping { () throws(ClientError) in
      try RecordSender(client, topic: try client.topic(name, create: true))
    }
    var run = ProduceRun(arguments, sender)
    do throws(CommandFailure) {
      try run.read(interruption)
      try CommandFailure.wrapping { () throws(ClientError) in try sender.flush() }
    } catch {
      throw CommandFailure(
        error.exitCode, "\(error.description) (\(Shown.count(sender.acknowledged)) records were acknowledged)")
    }
    let count = sender.acknowledged
    try OutputStream.standardOutput.print("produced \(count) record\(count == 1 ? "" : "s") to \(name)\n")
    return .done
  }
}

private struct ProduceRun {
  let sender: RecordSender
  let isJSON: Bool
  let separator: [UInt8]?
  let headers: [RecordHeader]
  var progress = Progress()
  /// Whether records were added since the last push.
  var isDirty = false
  /// How long a record waits for others.
  static let linger = Duration.milliseconds(5)

  init(_ arguments: Arguments, _ sender: RecordSender) {
    self.sender = sender
    isJSON = arguments.has("--json")
    separator = arguments.text("--key-separator").map { Array($0.utf8) }
    headers = arguments.assignments("--header").map { RecordHeader($0.name, Bytes($0.value)) }
  }

  /// Reads to the end of standard input, or until a signal.
  mutating func read(_ interruption: Interruption) throws(CommandFailure) {
    let input = StandardInput()
    let portion = Chunk(capacity: 256 << 10)
    let room = UnsafeMutableRawBufferPointer(start: portion.base, count: portion.capacity)
    var lines = LineReader()
    var isOver = false
    while !isOver, !interruption.isRequested {
      let wait = isDirty ? ProduceRun.linger : .milliseconds(50)
      let got: Int?
      do throws(IOError) {
        got = try input.waitReadable(wait) ? try input.read(into: room) : nil
      } catch {
        throw CommandFailure(.failed, error.description)
      }
      if let got, got > 0 {
        try lines.take(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(room)[..<got])) {
          (line, number) throws(CommandFailure) in try add(line, number)
        }
      } else if got == 0 {
        isOver = true
      } else if isDirty {
        try CommandFailure.wrapping { () throws(ClientError) in try sender.push() }
        isDirty = false
      }
      progress.show("\(Shown.count(lines.count)) lines read, \(Shown.count(sender.acknowledged)) acknowledged")
    }
    if isOver { try lines.finish { (line, number) throws(CommandFailure) in try add(line, number) } }
    progress.clear()
  }

  private mutating func add(_ line: UnsafeRawBufferPointer, _ number: Int) throws(CommandFailure) {
    var wish = RecordJSON.Wish(record: Record(value: nil), partition: nil)
    if isJSON {
      if line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }) { return }
      do throws(DecodingError) {
        wish = try RecordJSON.read(line)
      } catch {
        throw CommandFailure(.failed, "line \(number): \(error.reason)")
      }
    } else if let separator {
      guard let at = ProduceRun.first(separator, in: line) else {
        throw CommandFailure(
          .failed, "line \(number) does not contain the separator \"\(String(decoding: separator, as: UTF8.self))\"")
      }
      wish.record.key = Bytes(copying: UnsafeRawBufferPointer(rebasing: line[..<at]))
      wish.record.value = Bytes(copying: UnsafeRawBufferPointer(rebasing: line[(at + separator.count)...]))
    } else {
      wish.record.value = Bytes(copying: line)
    }
    wish.record.headers += headers
    if wish.record.timestamp == .none { wish.record.timestamp = .now }
    isDirty = true
    do throws(ClientError) {
      try sender.add(wish.record, partition: wish.partition)
    } catch {
      throw CommandFailure(.failed, "line \(number): \(error.description)")
    }
  }

  /// Where `pattern` first begins.
  static func first(_ pattern: [UInt8], in line: UnsafeRawBufferPointer) -> Int? {
    guard line.count >= pattern.count else { return nil }
    return (0...(line.count - pattern.count)).first { line[$0..<($0 + pattern.count)].elementsEqual(pattern) }
  }
}
