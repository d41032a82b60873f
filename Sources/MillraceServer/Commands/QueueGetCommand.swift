// QueueGetCommand: `millrace queue get`, `list-delayed` and `cancel`: messages taken out of a queue, or looked at.

import MillraceBase
import MillraceDelivery
import MillraceIO
import MillraceKafkaServer

extension Command {
  static let queueGet = Command(
    "get", "takes messages out of a queue and writes them to standard output",
    discussion: """
      Each body is written as a line. A message is acknowledged once it is written, by a request of its own: when the \
      command or its connection dies before, it goes back into the queue and is delivered again, with its count of \
      deliveries raised. So none is lost, and the last ones may be written twice. With --browse nothing is taken: \
      messages are shown that are ready, from the head of the queue on. When there is none, the exit code is 1, and 0 \
      with --browse.
      With --json each line is an object: position, exchange, routingKey, redelivered, failures, timestamp (ms since \
      1970), properties with headers, and body; bytes that are not UTF-8 stand as base 64 under body_base64.
      """,
    operands: [queueOperand],
    options: [
      CommandOption("--count", "N", type: .integer(1...Int64.max), "At most so many (default 1)."),
      CommandOption(flag: "--browse", "Leaves them in the queue."),
      CommandOption(flag: "--peek", "The same."),
      CommandOption(flag: "--raw", "Writes bodies as they are, with nothing between them."),
      CommandOption(flag: "--json", "Writes whole messages as JSON."),
      .virtualHost, .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    if arguments.has("--raw"), arguments.has("--json") {
      throw CommandFailure(.usage, "--raw and --json contradict each other")
    }
    let run = try QueueGetRun(arguments, try Interruption.begin())
    if arguments.has("--browse") || arguments.has("--peek") {
      try run.browse()
      return .done
    }
    try run.take()
    if run.written == 0, !run.isOutputClosed {
      throw CommandFailure(.failed, "no message is ready in queue \(Shown.safe(arguments.operands[0]))")
    }
    return .done
  }

  static let queueListDelayed = Command(
    "list-delayed", "shows messages that wait for a time before they are delivered",
    discussion: """
      Those that were published with a delay, and those that wait to be tried again. The position is what `millrace \
      queue cancel` takes. All of the queue is looked through, or as far as it takes for --count.
      """,
    operands: [queueOperand],
    options: [
      CommandOption("--count", "N", type: .integer(1...1_000_000), "At most so many (default 100)."),
      CommandOption(
        flag: "--json", "Writes whole messages as JSON, one a line, as `get` does, with due in ms since 1970."),
      .virtualHost, .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    let run = try QueueGetRun(arguments, try Interruption.begin())
    try run.listDelayed()
    return .done
  }

  static let queueCancel = Command(
    "cancel", "removes one message from a queue, such as one that is delayed",
    discussion: "It is not dead-lettered. One that is with a consumer, or gone, is an error.",
    operands: [
      queueOperand,
      Operand("POSITION", type: .queuePosition, "Where it is, as `list-delayed` and `get --json` show it."),
    ],
    options: [.virtualHost, .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let (queue, text) = (arguments.operands[0], arguments.operands[1])
    guard let position = Position(typed: text) else { throw CommandFailure(.usage, "POSITION must be LANE:OFFSET") }
    guard try arguments.count(.remove(queue: queue, position), arguments.client()) > 0 else {
      throw CommandFailure(
        .failed, "no message at \(text) of queue \(Shown.safe(queue)), or it is with a consumer at the moment")
    }
    try OutputStream.standardOutput.print("removed the message at \(text) of queue \(Shown.safe(queue))\n")
    return .done
  }
}

extension Position {
  /// A position as it is shown, `LANE:OFFSET`.
  init?(typed text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, let lane = UInt8(parts[0]), let offset = Int64(parts[1]), offset >= 0 else { return nil }
    self.init(lane: lane, offset: offset)
  }
}

/// One run of a command that writes messages of a queue.
private final class QueueGetRun {
  private let arguments: Arguments
  private let client: KafkaClient
  private let interruption: Interruption
  private let output = OutputStream.standardOutput
  private let queue: String
  private let limit: Int64
  private(set) var written: Int64 = 0
  private(set) var isOutputClosed = false

  init(_ arguments: Arguments, _ interruption: Interruption) throws(CommandFailure) {
    self.arguments = arguments
    self.interruption = interruption
    client = try arguments.client(interruption)
    queue = arguments.operands[0]
    limit = arguments.integer("--count") ?? 1
  }

  private var isOver: Bool { written >= limit || isOutputClosed || interruption.isRequested }

  private func pageSize() -> Int32 { Int32(min(limit - written, Int64(QueueAPI.mostEntries))) }

  // MARK: Taking

  func take() throws(CommandFailure) {
    while !isOver {
      let answer = try arguments.ask(.take(queue: queue, limit: pageSize()), client)
      guard case .messages(let messages, _, _) = answer else { throw .unexpected(answer) }
      if messages.isEmpty { return }
      let isWritten: Bool
      do throws(CommandFailure) {
        isWritten = try write(messages)
      } catch {
        // They are not lost on a full disk: they go back as if they had never been delivered.
        _ = try arguments.count(.settle(isAcknowledged: false), client)
        throw error
      }
      let count: Int64
      do throws(CommandFailure) {
        count = try arguments.count(.settle(isAcknowledged: isWritten), client, extra: .seconds(60))
      } catch {
        throw CommandFailure(
          error.exitCode, "\(error.description) (\(words(messages.count)) may be delivered again)")
      }
      if isWritten, count < messages.count {
        throw CommandFailure(
          .failed, "the server had taken \(words(messages.count - Int(count))) back, which may be delivered again")
      }
    }
  }

  private func words(_ count: Int) -> String {
    "\(Shown.messages(Int64(count))) that \(count == 1 ? "was" : "were") written"
  }

  /// Hands messages to the system.
  /// - Returns: false when nobody reads them any more.
  private func write(_ messages: [QueueMessage]) throws(CommandFailure) -> Bool {
    var buffer: [UInt8] = []
    for message in messages {
      if arguments.has("--json") {
        buffer.append(contentsOf: QueueMessageJSON.text(message).utf8)
      } else {
        message.body.withBuffer { buffer.append(contentsOf: $0) }
        if arguments.has("--raw") { continue }
      }
      buffer.append(UInt8(ascii: "\n"))
    }
    do throws(IOError) {
      try buffer.span.withUnsafeBytes { bytes throws(IOError) in try output.write(bytes) }
    } catch {
      guard error.isBrokenPipe else { throw CommandFailure(.failed, error.description) }
      isOutputClosed = true
      return false
    }
    written += Int64(messages.count)
    return true
  }

  // MARK: Looking

  func browse() throws(CommandFailure) {
    try look(.ready) { (messages) throws(CommandFailure) in _ = try write(messages) }
  }

  func listDelayed() throws(CommandFailure) {
    let most = arguments.integer("--count") ?? 100
    var left = most
    if arguments.has("--json") {
      return try look(.scheduled, most: most) { (messages) throws(CommandFailure) in _ = try write(messages) }
    }
    var rows = [["position", "due", "body", "routing key", "begins with"]]
    try look(.scheduled, most: most) { (messages) throws(CommandFailure) in
      left -= Int64(messages.count)
      for message in messages {
        rows.append([
          message.position.description, message.due.map { Shown.time($0) } ?? "-",
          Shown.bytes(Double(message.body.count)), Shown.safe(message.routingKey),
          QueueGetRun.beginning(of: message.body),
        ])
      }
      written += Int64(messages.count)
    }
    if rows.count > 1 { try output.print(Shown.table(rows)) }
  }

  private static func beginning(of body: Bytes) -> String {
    let shown = body.withBuffer { String(decoding: $0.prefix(160), as: UTF8.self) }
    return shown.isEmpty ? "-" : Shown.safe(shown.prefix(40))
  }

  private func look(
    _ selection: QueueRequest.Selection, most: Int64? = nil,
    _ body: ([QueueMessage]) throws(CommandFailure) -> Void
  ) throws(CommandFailure) {
    let most = most ?? limit
    var next: Position?
    repeat {
      let request = QueueRequest.browse(queue: queue, selection, from: next, limit: Int32(QueueAPI.mostEntries))
      let answer = try arguments.ask(request, client)
      guard case .messages(let messages, _, let end) = answer else { throw .unexpected(answer) }
      try body(Array(messages.prefix(Int(min(most - written, Int64(messages.count))))))
      next = end
    } while next != nil && written < most && !isOutputClosed && !interruption.isRequested
  }
}
