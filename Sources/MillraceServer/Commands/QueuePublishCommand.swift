// QueuePublishCommand: `millrace queue publish`: an argument, a file or lines of standard input become messages.

import Glibc
import MillraceAMQPProtocol
import MillraceBase
import MillraceIO
import MillraceKafkaServer

extension Command {
  /// Properties that are texts, by their options.
  private static let texts: [(option: String, summary: String)] = [
    ("--message-id", "The message's id; a queue that deduplicates goes by it."),
    ("--content-type", "MIME type of the body."), ("--correlation-id", "Names the request that this answers."),
    ("--reply-to", "Queue for the answer."), ("--message-type", "Kind of message."),
    ("--app-id", "The application that publishes."),
  ]

  static let queuePublish = Command(
    "publish", "publishes messages and waits until they are kept",
    discussion: """
      The message's body is BODY, or what --file holds, or else each line of standard input is a message. They are \
      persistent unless --transient says otherwise, and durable in durable queues when the command ends. With --exchange \
      there is no QUEUE, and they go where --key leads them. A message that goes to no queue, or is refused because a \
      queue is full, makes the exit code 1; what comes behind it is still published. Times are in seconds, down to a ms. \
      A topic that is bound to the exchange takes no notice of --delay.
      """,
    operands: [
      Operand("QUEUE", isOptional: true, "The queue's name."),
      Operand("BODY", type: .anything, isOptional: true, "What the message says."),
    ],
    options: [
      CommandOption("--file", "PATH", "The body is what this file holds; - stands for all of standard input."),
      CommandOption("--exchange", "NAME", "Publishes to this exchange instead of one queue."),
      CommandOption("--key", "KEY", type: .anything, "The routing key, with --exchange (default: none)."),
      CommandOption(
        "--header", "NAME=VALUE", type: .assignment, count: .repeated,
        "A header: true, false, a number, or else a text; in double quotes always a text."),
      CommandOption(
        "--priority", "N", type: .integer(0...255), "Higher ones come first in a queue with x-max-priority."),
      CommandOption("--delay", "SECONDS", type: .seconds, "Time to wait before it is delivered."),
      CommandOption("--expiration", "SECONDS", type: .seconds, "Time after which it is no longer delivered."),
      CommandOption(flag: "--transient", "It need not survive a restart."),
    ] + texts.map { CommandOption($0.option, "TEXT", $0.summary) } + [.virtualHost, .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let run = try PublishRun(arguments, properties: try properties(arguments))
    try run.go()
    return try run.finish()
  }

  private static func properties(_ arguments: Arguments) throws(CommandFailure) -> Bytes {
    var builder = BasicPropertiesBuilder()
    builder.deliveryMode = arguments.has("--transient") ? 1 : 2
    builder.priority = arguments.integer("--priority").map { UInt8($0) }
    if let life = arguments.seconds("--expiration") {
      builder.expiration = ShortString("\(max(1, life.inMilliseconds))")
    }
    var short: [String: ShortString] = [:]
    for (option, _) in texts {
      guard let text = arguments.text(option) else { continue }
      guard let fitting = ShortString(text) else {
        throw CommandFailure(.usage, "\(option) has \(text.utf8.count) bytes, at most \(ShortString.limit) fit")
      }
      short[option] = fitting
    }
    builder.messageID = short["--message-id"]
    builder.contentType = short["--content-type"]
    builder.correlationID = short["--correlation-id"]
    builder.replyTo = short["--reply-to"]
    builder.type = short["--message-type"]
    builder.appID = short["--app-id"]
    let headers = try arguments.typed("--header")
    if !headers.isEmpty { builder.encodedHeaders = AMQPFieldTable(headers.map { ($0.name, $0.value.amqp) }).encoded }
    return builder.build().encoded
  }
}

/// One run of `millrace queue publish`.
private final class PublishRun {
  private enum Input {
    case body(Bytes)
    case file(String)
    case lines
  }

  private let arguments: Arguments
  private let client: KafkaClient
  private let interruption: Interruption
  private let input: Input
  private let publication: QueuePublication
  private let properties: Bytes
  private let target: String
  private var pending: [NewQueueMessage] = []
  private var pendingBytes = 0
  private var progress = Progress()
  private(set) var confirmed: Int64 = 0
  private var unroutable: Int64 = 0
  private var refused: Int64 = 0

  /// How long a line waits for others.
  private static let linger = Duration.milliseconds(5)
  private static let batchBytes = 256 << 10
  private static let batchMessages = 1000
  /// Larger than any message that a server takes.
  private static let largestBody = 128 << 20

  init(_ arguments: Arguments, properties: Bytes) throws(CommandFailure) {
    self.arguments = arguments
    self.properties = properties
    var operands = arguments.operands[...]
    let key: String
    if let exchange = arguments.text("--exchange") {
      key = arguments.text("--key") ?? ""
      target = "exchange \(exchange)"
    } else {
      if arguments.has("--key") { throw CommandFailure(.usage, "--key has a meaning only with --exchange") }
      guard let queue = operands.popFirst(), !queue.isEmpty else { throw CommandFailure(.usage, "QUEUE is missing") }
      key = queue
      target = queue
    }
    if key.utf8.count > ShortString.limit {
      throw CommandFailure(.usage, "a key of \(key.utf8.count) bytes, at most \(ShortString.limit) fit")
    }
    let body = operands.popFirst()
    if let extra = operands.first { throw CommandFailure(.usage, "unexpected argument \"\(extra)\"") }
    if body != nil, arguments.has("--file") { throw CommandFailure(.usage, "BODY and --file contradict each other") }
    input = body.map { .body(Bytes($0)) } ?? arguments.text("--file").map { .file($0) } ?? .lines
    publication = QueuePublication(
      exchange: arguments.text("--exchange") ?? "", routingKey: Bytes(key),
      delayMilliseconds: arguments.seconds("--delay").map { max(1, $0.inMilliseconds) } ?? 0,
      format: PublishRun.amqpProperties, messages: [])
    interruption = try Interruption.begin()
    client = try arguments.client(interruption)
  }

  /// The code of the format in which AMQP's properties lie in queues.
  private static let amqpProperties: UInt8 = 1

  func go() throws(CommandFailure) {
    switch input {
    case .body(let body): try add(body)
    case .file(let path): try add(try PublishRun.contents(of: path))
    case .lines: try readLines()
    }
    try flush()
  }

  /// Says what became of the messages.
  func finish() throws(CommandFailure) -> ExitCode {
    if confirmed > 0 || unroutable + refused == 0 {
      try OutputStream.standardOutput.print("published \(Shown.messages(confirmed)) to \(Shown.safe(target))\n")
    }
    var problems: [String] = []
    if unroutable > 0 { problems.append("\(Shown.messages(unroutable)) went to no queue") }
    if refused > 0 { problems.append("\(Shown.messages(refused)) refused, because a queue is full") }
    guard problems.isEmpty else { throw CommandFailure(.failed, problems.joined(separator: ", ")) }
    return .done
  }

  private func readLines() throws(CommandFailure) {
    let input = StandardInput()
    let portion = Chunk(capacity: 256 << 10)
    let room = UnsafeMutableRawBufferPointer(start: portion.base, count: portion.capacity)
    var lines = LineReader()
    while !interruption.isRequested {
      let got: Int?
      do throws(IOError) {
        got =
          try input.waitReadable(pending.isEmpty ? .milliseconds(50) : PublishRun.linger)
          ? try input.read(into: room) : nil
      } catch {
        throw CommandFailure(.failed, error.description)
      }
      if let got, got > 0 {
        let read = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(room)[..<got])
        try lines.take(read) { (line, _) throws(CommandFailure) in try add(Bytes(copying: line)) }
      } else if got == 0 {
        try lines.finish { (line, _) throws(CommandFailure) in try add(Bytes(copying: line)) }
        break
      } else {
        try flush()
      }
      progress.show("\(Shown.count(lines.count)) lines read, \(Shown.count(confirmed)) confirmed")
    }
    progress.clear()
  }

  private func add(_ body: Bytes) throws(CommandFailure) {
    pending.append(NewQueueMessage(properties: properties, body: body))
    pendingBytes += body.count + properties.count
    if pending.count >= PublishRun.batchMessages || pendingBytes >= PublishRun.batchBytes { try flush() }
  }

  private func flush() throws(CommandFailure) {
    guard !pending.isEmpty else { return }
    var batch = publication
    batch.messages = pending
    pending = []
    pendingBytes = 0
    let answer: QueueAnswer
    do throws(CommandFailure) {
      // While the journal is full, confirms wait for room in it.
      answer = try arguments.ask(.publish(batch), client, extra: .seconds(60))
    } catch {
      throw failure(error.description)
    }
    guard case .published(let outcomes, let problem) = answer else { throw .unexpected(answer) }
    for outcome in outcomes {
      switch outcome {
      case .confirmed: confirmed += 1
      case .unroutable: unroutable += 1
      case .refused: refused += 1
      }
    }
    if let problem { throw failure("\(problem.name) - \(problem.message)") }
  }

  /// Ends a run that may have published something before.
  private func failure(_ reason: String) -> CommandFailure {
    if case .lines = input {
      return CommandFailure(.failed, "\(reason) (\(Shown.messages(confirmed)) confirmed)")
    }
    return CommandFailure(.failed, reason)
  }

  private static func contents(of path: String) throws(CommandFailure) -> Bytes {
    let descriptor = path == "-" ? 0 : open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw CommandFailure(.failed, "cannot open \(path): \(String(cString: strerror(errno)))")
    }
    defer { if descriptor > 0 { close(descriptor) } }
    var contents: [UInt8] = []
    let portion = Chunk(capacity: 256 << 10)
    while true {
      let got = read(descriptor, portion.base, portion.capacity)
      if got < 0, errno == EINTR { continue }
      guard got >= 0 else {
        throw CommandFailure(.failed, "cannot read \(path): \(String(cString: strerror(errno)))")
      }
      if got == 0 { return Bytes(contents) }
      guard contents.count + got <= largestBody else {
        throw CommandFailure(.failed, "\(path) holds more than \(largestBody) bytes, which no server takes")
      }
      contents.append(contentsOf: UnsafeRawBufferPointer(start: portion.base, count: got))
    }
  }
}
