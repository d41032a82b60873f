// QueueCommand: `millrace queue`: declares, lists, empties and deletes message queues, and moves messages between them.

import MillraceBase
import MillraceIO
import MillraceKafkaServer
import MillraceRouting

extension Command {
  /// `millrace queue`
  static let queue = Command(
    "queue", "declares, lists, fills, empties and deletes message queues",
    discussion: "Queues of type stream are topics: `millrace topic`, `produce` and `consume` are for them.",
    subcommands: [
      .queueDeclare, .queueList, .queuePublish, .queueGet, .queueListDelayed, .queueCancel, .queueMove, .queueRedrive,
      .queuePurge, .queueDelete,
    ])

  static let queueOperand = Operand("QUEUE", "The queue's name.")
  /// How long the server may take for all of a long queue.
  static let longWork = Duration.seconds(86_400)

  private static let queueDeclare = Command(
    "declare", "makes a queue",
    discussion: """
      A queue that is there already is left as it is; that it was declared otherwise is an error. docs/reference/amqp.md \
      lists the arguments.
      """,
    operands: [queueOperand],
    options: [
      CommandOption(
        "--type", "TYPE", type: .word(["classic", "quorum", "stream"]), "classic (default), quorum or stream."),
      .durable, .transient,
      CommandOption(flag: "--auto-delete", "It goes with its last consumer."),
      .argument, .virtualHost, .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    var fields = try arguments.routingArguments()
    if let type = arguments.text("--type") {
      if fields.contains(where: { $0.name == "x-queue-type" }) {
        throw CommandFailure(.usage, "--type and the argument x-queue-type mean the same")
      }
      fields.append(RoutingTable.Field("x-queue-type", .string(type)))
    }
    let request = QueueRequest.declareQueue(
      name: arguments.operands[0], isDurable: try arguments.isDurable(), isAutoDelete: arguments.has("--auto-delete"),
      arguments: RoutingTable(fields))
    let answer = try arguments.ask(request, arguments.client())
    guard case .declared(let name, let messages, let consumers) = answer else { throw .unexpected(answer) }
    try OutputStream.standardOutput.print(
      "declared queue \(Shown.safe(name)): \(Shown.messages(messages)), \(Shown.messages(Int64(consumers), "consumer"))\n"
    )
    return .done
  }

  private static let queueList = Command(
    "list", "shows all queues of a virtual host",
    discussion: """
      The length counts messages that are not with a consumer; of those, delayed ones wait for a time. Unacknowledged \
      ones are with a consumer.
      """,
    options: [.jsonLine, .virtualHost, .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    var queues: [QueueEntry] = []
    while true {
      let answer = try arguments.ask(.listQueues(after: queues.last?.name), client)
      guard case .queues(let page, let isMore) = answer else { throw .unexpected(answer) }
      queues += page
      if !isMore || page.isEmpty { break }
    }
    let output = OutputStream.standardOutput
    try output.print(arguments.has("--json") ? QueueTables.json(queues) : QueueTables.text(queues))
    return .done
  }

  private static let queuePurge = Command(
    "purge", "removes the messages of a queue that are not with a consumer",
    discussion: "Delayed ones go as well. They are not dead-lettered.", operands: [queueOperand],
    options: [.virtualHost, .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let name = arguments.operands[0]
    let count = try arguments.count(.purgeQueue(name: name), arguments.client(), extra: longWork)
    try OutputStream.standardOutput.print("removed \(Shown.messages(count)) from \(Shown.safe(name))\n")
    return .done
  }

  private static let queueDelete = Command(
    "delete", "deletes a queue with its messages and bindings", discussion: "They are not dead-lettered.",
    operands: [queueOperand],
    options: [
      CommandOption(flag: "--if-unused", "Only if it has no consumers."),
      CommandOption(flag: "--if-empty", "Only if it has no messages."),
      .virtualHost, .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    let name = arguments.operands[0]
    let request = QueueRequest.deleteQueue(
      name: name, ifUnused: arguments.has("--if-unused"), ifEmpty: arguments.has("--if-empty"))
    let count = try arguments.count(request, arguments.client(), extra: longWork)
    try OutputStream.standardOutput.print("deleted queue \(Shown.safe(name)) with \(Shown.messages(count))\n")
    return .done
  }

  private static let most = CommandOption(
    "--count", "N", type: .integer(1...Int64.max), "At most so many (default: all).")

  private static let queueMove = Command(
    "move", "moves messages from one queue to another",
    discussion: """
      In their order; each is taken out of one queue and put into the other in one commit. Those that are with a \
      consumer or wait for a time stay. That the other queue recognises duplicates does not count. Ctrl-C ends it; what \
      was moved stays moved.
      """,
    operands: [Operand("FROM", "The queue to take from."), Operand("TO", "The queue to put into.")],
    options: [most, .virtualHost, .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let (from, to) = (arguments.operands[0], arguments.operands[1])
    let request = QueueRequest.move(queue: from, to: to, limit: arguments.integer("--count") ?? .max)
    let count = try arguments.count(request, arguments.client(), extra: longWork)
    try OutputStream.standardOutput.print(
      "moved \(Shown.messages(count)) from \(Shown.safe(from)) to \(Shown.safe(to))\n")
    return .done
  }

  private static let queueRedrive = Command(
    "redrive", "moves dead letters back to the queues that they left last",
    discussion: """
      They begin anew there, without a history and with no failures. Messages that are no dead letters, and those whose \
      queue is not there any more, stay; they count for --count. Ctrl-C ends it; what was moved stays moved.
      """,
    operands: [Operand("QUEUE", "The queue with dead letters.")], options: [most, .virtualHost, .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let name = arguments.operands[0]
    let request = QueueRequest.move(queue: name, to: nil, limit: arguments.integer("--count") ?? .max)
    let count = try arguments.count(request, arguments.client(), extra: longWork)
    try OutputStream.standardOutput.print("moved \(Shown.messages(count, "dead letter")) out of \(Shown.safe(name))\n")
    return .done
  }
}

/// Lists of queues for people and for programs.
enum QueueTables {
  static func text(_ queues: [QueueEntry]) -> String {
    if queues.isEmpty { return "" }
    return Shown.table(
      [["queue", "type", "is", "length", "size", "delayed", "unacknowledged", "consumers", "arguments"]]
        + queues.map { queue in
          [
            Shown.safe(queue.name), queue.type, properties(queue), Shown.count(queue.length),
            Shown.bytes(Double(queue.lengthBytes)), Shown.count(queue.delayed), Shown.count(queue.inFlight),
            Shown.count(queue.consumers), arguments(queue.arguments),
          ]
        })
  }

  private static func properties(_ queue: QueueEntry) -> String {
    let words = [
      queue.isDurable ? "durable" : "transient", queue.isExclusive ? "exclusive" : nil,
      queue.isAutoDelete ? "auto-delete" : nil,
    ]
    return words.compactMap { $0 }.joined(separator: ",")
  }

  /// In the form in which `--argument` takes them.
  static func arguments(_ table: RoutingTable) -> String {
    let shown = table.fields.filter { $0.name != "x-queue-type" }
    return shown.isEmpty ? "-" : Shown.safe(shown.map { "\($0.name)=\($0.value.words)" }.joined(separator: " "))
  }

  static func json(_ queues: [QueueEntry]) -> String {
    var json = JSONWriter()
    json.array { json in
      for queue in queues {
        json.object { json in
          json.name("name")
          json.string(queue.name)
          json.name("type")
          json.string(queue.type)
          for (name, flag) in [
            ("durable", queue.isDurable), ("exclusive", queue.isExclusive), ("autoDelete", queue.isAutoDelete),
          ] {
            json.name(name)
            json.bool(flag)
          }
          for (name, number) in [
            ("length", queue.length), ("lengthBytes", queue.lengthBytes), ("delayed", queue.delayed),
            ("unacknowledged", queue.inFlight), ("consumers", queue.consumers),
          ] {
            json.name(name)
            json.number(number)
          }
          json.name("arguments")
          json.value(queue.arguments)
        }
      }
    }
    return json.text + "\n"
  }
}

extension JSONWriter {
  /// Arguments as an object.
  mutating func value(_ table: RoutingTable) {
    object { json in
      for field in table.fields {
        json.name(field.name)
        json.value(field.value)
      }
    }
  }

  private mutating func value(_ value: RoutingValue) {
    switch value {
    case .null: null()
    case .bool(let value): bool(value)
    case .int64(let value), .timestamp(let value): number(value)
    case .double(let value): number(value)
    case .string(let bytes): string(bytes.text)
    case .array(let values): array { json in for value in values { json.value(value) } }
    case .table(let table): self.value(table)
    }
  }
}
