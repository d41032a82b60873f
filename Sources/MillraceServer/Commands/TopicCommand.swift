// TopicCommand: `millrace topic`: makes, lists, describes, configures and deletes topics.

import MillraceIO

extension Command {
  /// `millrace topic`
  static let topic = Command(
    "topic", "makes, lists, describes, configures and deletes topics",
    subcommands: [.topicCreate, .topicList, .topicDescribe, .topicConfigure, .topicAddPartitions, .topicDelete])

  private static let nameOperand = Operand("NAME", "The topic's name.")

  private static let topicCreate = Command(
    "create", "makes a topic", operands: [nameOperand],
    options: [
      CommandOption("--partitions", "N", type: .integer(1...10_000), "How many partitions (default: the server's)."),
      CommandOption("--config", "NAME=VALUE", type: .assignment, count: .repeated, "A setting, by Kafka's name."),
      .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    let name = arguments.operands[0]
    let partitions = try CommandFailure.wrapping { () throws(ClientError) in
      try client.createTopic(
        name, partitions: arguments.integer("--partitions").map { Int32($0) },
        configs: arguments.assignments("--config"))
    }
    // Brokers before version 5 of the answer do not say how many.
    let text = partitions > 0 ? ", \(partitions) partition\(partitions == 1 ? "" : "s")" : ""
    try OutputStream.standardOutput.print("created topic \(name)\(text)\n")
    return .done
  }

  private static let topicList = Command(
    "list", "names all topics, one a line", discussion: "Internal topics, whose names begin with __, are left out.",
    options: [.bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    let topics = try CommandFailure.wrapping { () throws(ClientError) in try client.topics() }
    try OutputStream.standardOutput.print(topics.filter { !$0.isInternal }.map { $0.name + "\n" }.joined())
    return .done
  }

  private static let topicDescribe = Command(
    "describe", "shows a topic's partitions, offsets and settings", operands: [nameOperand], options: [.bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    let text = try CommandFailure.wrapping { () throws(ClientError) in
      try describe(arguments.operands[0], client)
    }
    try OutputStream.standardOutput.print(text)
    return .done
  }

  private static func describe(_ name: String, _ client: KafkaClient) throws(ClientError) -> String {
    let topic = try client.topic(name)
    let earliest = try client.offsets(name, topic.partitions, .earliest)
    let latest = try client.offsets(name, topic.partitions, .latest)
    let configs = try client.configs(ofTopic: name)
    var text = "topic       \(topic.name)\nid          \(topic.id)\npartitions  \(topic.partitions.count)\n\n"
    text += Shown.table(
      [["partition", "start", "end", "records"]]
        + topic.partitions.map { partition in
          let start = earliest[partition] ?? 0
          let end = latest[partition] ?? 0
          return ["\(partition)", "\(start)", "\(end)", "\(end - start)"]
        })
    text += "\nsettings (* set for this topic)\n"
    for config in configs { text += "  \(config.name)=\(config.value)\(config.isSet ? " *" : "")\n" }
    return text
  }

  private static let topicConfigure = Command(
    "configure", "changes a topic's settings",
    discussion: """
      All changes are made, or none. They count at once and are kept. `millrace topic describe` shows all settings; \
      docs/reference/settings.md explains them.
      """,
    operands: [
      nameOperand, Operand("KEY=VALUE", type: .assignment, isList: true, "A setting's new value, by Kafka's name."),
    ],
    options: [
      CommandOption("--delete", "KEY", count: .repeated, "Takes a setting back to its standard."),
      CommandOption(flag: "--dry-run", "Checks the changes and makes none."),
      .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    let name = arguments.operands[0]
    let set = Arguments.assignments(arguments.operands.dropFirst())
    let deleted = arguments.list("--delete")
    guard !set.isEmpty || !deleted.isEmpty else {
      throw CommandFailure(.usage, "nothing to change: KEY=VALUE or --delete KEY is missing")
    }
    let client = try arguments.client()
    let isDry = arguments.has("--dry-run")
    try CommandFailure.wrapping { () throws(ClientError) in
      try client.configure(topic: name, set: set, delete: deleted, validateOnly: isDry)
    }
    try OutputStream.standardOutput.print("\(isDry ? "would configure" : "configured") topic \(name)\n")
    return .done
  }

  private static let topicAddPartitions = Command(
    "add-partitions", "gives a topic more partitions",
    discussion: """
      Partitions cannot be taken away again. Records with a key may go to other partitions than before, so that the \
      order of one key's records holds before and after, but not across the change.
      """,
    operands: [nameOperand],
    options: [
      CommandOption(
        "--total", "N", type: .integer(1...10_000), isRequired: true, "How many partitions it is to have in all."),
      CommandOption(flag: "--dry-run", "Checks the change and does not make it."),
      .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    let name = arguments.operands[0]
    let total = Int32(arguments.integer("--total") ?? 0)
    let isDry = arguments.has("--dry-run")
    try CommandFailure.wrapping { () throws(ClientError) in
      try client.addPartitions(topic: name, total: total, validateOnly: isDry)
    }
    try OutputStream.standardOutput.print("topic \(name) \(isDry ? "would have" : "has") \(total) partitions\n")
    return .done
  }

  private static let topicDelete = Command(
    "delete", "deletes a topic with its records", operands: [nameOperand], options: [.bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    let name = arguments.operands[0]
    try CommandFailure.wrapping { () throws(ClientError) in try client.deleteTopic(name) }
    try OutputStream.standardOutput.print("deleted topic \(name)\n")
    return .done
  }
}
