// ExchangeCommand: `millrace exchange`, `bind` and `unbind`: exchanges, and where their messages go.

import MillraceBase
import MillraceIO
import MillraceKafkaServer
import MillraceRouting

extension Command {
  /// `millrace exchange`
  static let exchange = Command(
    "exchange", "declares, lists and deletes exchanges",
    subcommands: [.exchangeDeclare, .exchangeList, .exchangeDelete])

  private static let nameOperand = Operand("NAME", "The exchange's name.")

  private static let exchangeDeclare = Command(
    "declare", "makes an exchange",
    discussion: "One that is there already is left as it is; that it was declared otherwise is an error.",
    operands: [nameOperand],
    options: [
      CommandOption(
        "--type", "TYPE", "direct (default), fanout, topic, headers, or another of docs/reference/amqp.md."),
      .durable, .transient,
      CommandOption(flag: "--auto-delete", "It goes with the last binding from it."),
      CommandOption(flag: "--internal", "Only other exchanges may send to it."),
      .argument, .virtualHost, .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    let name = arguments.operands[0]
    let request = QueueRequest.declareExchange(
      name: name, type: arguments.text("--type") ?? "direct", isDurable: try arguments.isDurable(),
      isAutoDelete: arguments.has("--auto-delete"), isInternal: arguments.has("--internal"),
      arguments: RoutingTable(try arguments.routingArguments()))
    _ = try arguments.ask(request, arguments.client())
    try OutputStream.standardOutput.print("declared exchange \(Shown.safe(name))\n")
    return .done
  }

  private static let exchangeList = Command(
    "list", "shows all exchanges of a virtual host", options: [.jsonLine, .virtualHost, .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    var exchanges: [Exchange] = []
    while true {
      let answer = try arguments.ask(.listExchanges(after: exchanges.last?.name), client)
      guard case .exchanges(let page, let isMore) = answer else { throw .unexpected(answer) }
      exchanges += page
      if !isMore || page.isEmpty { break }
    }
    let output = OutputStream.standardOutput
    try output.print(arguments.has("--json") ? ExchangeTables.json(exchanges) : ExchangeTables.text(exchanges))
    return .done
  }

  private static let exchangeDelete = Command(
    "delete", "deletes an exchange with its bindings", operands: [nameOperand],
    options: [CommandOption(flag: "--if-unused", "Only if nothing is bound to it."), .virtualHost, .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let name = arguments.operands[0]
    let request = QueueRequest.deleteExchange(name: name, ifUnused: arguments.has("--if-unused"))
    _ = try arguments.ask(request, arguments.client())
    try OutputStream.standardOutput.print("deleted exchange \(Shown.safe(name))\n")
    return .done
  }

  // MARK: Bindings

  private static let key = CommandOption(
    "--key", "KEY", type: .anything, "The key, pattern or weight of the binding (default: none).")
  private static let kind = CommandOption(
    "--to", "KIND", type: .word(["queue", "exchange"]), "What DESTINATION is: queue (default) or exchange.")

  /// `millrace bind`
  static let bind = Command(
    "bind", "lets messages of an exchange go to a queue or another exchange, or lists who does",
    discussion: """
      With --list all bindings of the virtual host are shown, or those of EXCHANGE; the binding that every queue has to \
      the default exchange is not among them.
      """,
    operands: [
      Operand("EXCHANGE", isOptional: true, "Where messages come from."),
      Operand("DESTINATION", isOptional: true, "Where they go."),
    ],
    options: [
      key, kind, .argument, CommandOption(flag: "--list", "Shows bindings and makes none."), .jsonLine, .virtualHost,
      .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    if arguments.has("--list") { return try list(arguments) }
    if arguments.has("--json") { throw CommandFailure(.usage, "--json has a meaning only with --list") }
    let binding = try binding(arguments)
    _ = try arguments.ask(.bind(binding), arguments.client())
    try OutputStream.standardOutput.print("bound \(words(binding))\n")
    return .done
  }

  /// `millrace unbind`
  static let unbind = Command(
    "unbind", "takes a binding away",
    discussion: "Key and arguments must be those with which it was made. One that is not there is no error.",
    operands: [
      Operand("EXCHANGE", "Where messages come from."), Operand("DESTINATION", "Where they go."),
    ],
    options: [key, kind, .argument, .virtualHost, .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let binding = try binding(arguments)
    _ = try arguments.ask(.unbind(binding), arguments.client())
    try OutputStream.standardOutput.print("unbound \(words(binding))\n")
    return .done
  }

  private static func binding(_ arguments: Arguments) throws(CommandFailure) -> Binding {
    guard let source = arguments.operands.first else { throw CommandFailure(.usage, "EXCHANGE is missing") }
    guard arguments.operands.count == 2 else { throw CommandFailure(.usage, "DESTINATION is missing") }
    let name = arguments.operands[1]
    return Binding(
      source: source, destination: arguments.text("--to") == "exchange" ? .exchange(name) : .queue(name),
      key: arguments.text("--key") ?? "", arguments: RoutingTable(try arguments.routingArguments()))
  }

  private static func words(_ binding: Binding) -> String {
    let key = binding.key.isEmpty ? "" : " with key \(Shown.safe(binding.key.text))"
    return
      "\(binding.destination.kind) \(Shown.safe(binding.destination.name)) to exchange \(Shown.safe(binding.source))"
      + key
  }

  private static func list(_ arguments: Arguments) throws(CommandFailure) -> ExitCode {
    for option in ["--key", "--to", "--argument"] where arguments.has(option) {
      throw CommandFailure(.usage, "\(option) has no meaning with --list")
    }
    guard arguments.operands.count < 2 else {
      throw CommandFailure(.usage, "unexpected argument \"\(arguments.operands[1])\"")
    }
    let client = try arguments.client()
    let source = arguments.operands.first
    var bindings: [Binding] = []
    var next = source.map { BindingCursor(exchange: $0, count: 0) }
    repeat {
      let answer = try arguments.ask(.listBindings(after: next), client)
      guard case .bindings(let page, let cursor) = answer else { throw .unexpected(answer) }
      guard let source else {
        bindings += page
        next = cursor
        continue
      }
      bindings += page.filter { $0.source.utf8.elementsEqual(source.utf8) }
      next = cursor.flatMap { $0.exchange.utf8.elementsEqual(source.utf8) ? $0 : nil }
    } while next != nil
    let output = OutputStream.standardOutput
    try output.print(arguments.has("--json") ? ExchangeTables.json(bindings) : ExchangeTables.text(bindings))
    return .done
  }
}

/// Lists of exchanges and bindings for people and for programs.
enum ExchangeTables {
  static func text(_ exchanges: [Exchange]) -> String {
    Shown.table(
      [["exchange", "type", "is", "arguments"]]
        + exchanges.map { exchange in
          let words = [
            exchange.isDurable ? "durable" : "transient", exchange.isAutoDelete ? "auto-delete" : nil,
            exchange.isInternal ? "internal" : nil,
          ]
          return [
            exchange.name.isEmpty ? "(default)" : Shown.safe(exchange.name), exchange.type.rawValue,
            words.compactMap { $0 }.joined(separator: ","), QueueTables.arguments(exchange.arguments),
          ]
        })
  }

  static func json(_ exchanges: [Exchange]) -> String {
    var json = JSONWriter()
    json.array { json in
      for exchange in exchanges {
        json.object { json in
          json.name("name")
          json.string(exchange.name)
          json.name("type")
          json.string(exchange.type.rawValue)
          for (name, flag) in [
            ("durable", exchange.isDurable), ("autoDelete", exchange.isAutoDelete), ("internal", exchange.isInternal),
          ] {
            json.name(name)
            json.bool(flag)
          }
          json.name("arguments")
          json.value(exchange.arguments)
        }
      }
    }
    return json.text + "\n"
  }

  static func text(_ bindings: [Binding]) -> String {
    if bindings.isEmpty { return "" }
    return Shown.table(
      [["exchange", "to", "destination", "key", "arguments"]]
        + bindings.map { binding in
          [
            Shown.safe(binding.source), binding.destination.kind, Shown.safe(binding.destination.name),
            binding.key.isEmpty ? "-" : Shown.safe(binding.key.text), QueueTables.arguments(binding.arguments),
          ]
        })
  }

  static func json(_ bindings: [Binding]) -> String {
    var json = JSONWriter()
    json.array { json in
      for binding in bindings {
        json.object { json in
          for (name, text) in [
            ("source", binding.source), ("destination", binding.destination.name),
            ("kind", binding.destination.kind), ("key", binding.key.text),
          ] {
            json.name(name)
            json.string(text)
          }
          json.name("arguments")
          json.value(binding.arguments)
        }
      }
    }
    return json.text + "\n"
  }
}
