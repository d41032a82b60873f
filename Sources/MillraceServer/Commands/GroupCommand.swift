// GroupCommand: `millrace group`: lists, describes, resets and deletes consumer groups and share groups.

import MillraceBase
import MillraceIO
import MillraceModel

extension Command {
  /// `millrace group`
  static let group = Command(
    "group", "lists, describes, resets and deletes consumer groups and share groups",
    subcommands: [.groupList, .groupDescribe, .groupReset, .groupDelete])

  private static let groupOperand = Operand("GROUP", "The group's name.")
  private static let json = CommandOption(flag: "--json", "Writes it as JSON, one line.")

  private static let groupList = Command(
    "list", "names all groups, with their states", options: [json, .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    let groups = try CommandFailure.wrapping { () throws(ClientError) in try client.groups() }
    guard arguments.has("--json") else {
      if groups.isEmpty { return .done }
      try OutputStream.standardOutput.print(
        Shown.table([["group", "state", "type"]] + groups.map { [$0.name, $0.state, $0.type] }))
      return .done
    }
    var json = JSONWriter()
    json.array { json in
      for group in groups { json.object { json in GroupTables.write(group, to: &json) } }
    }
    try OutputStream.standardOutput.print(json.text + "\n")
    return .done
  }

  private static let groupDescribe = Command(
    "describe", "shows a group's members, offsets and lag",
    discussion: """
      The lag is how many records of a partition the group has not committed. Of a share group, which commits nothing, the \
      offset is that of the first record that is not done with, and the lag how many are not.
      """,
    operands: [groupOperand], options: [json, .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    let description = try CommandFailure.wrapping { () throws(ClientError) in
      try GroupTables(client, arguments.operands[0])
    }
    let text = arguments.has("--json") ? description.json : description.text
    try OutputStream.standardOutput.print(text)
    return .done
  }

  private static let groupReset = Command(
    "reset", "lets a group without members go on elsewhere",
    discussion: """
      Without --topic all partitions are meant that the group has committed offsets of. An offset beyond an end of a \
      partition becomes that end. Times are as 2026-11-20T16:31:00Z: the group goes on at the first record from then on. \
      While the group has members, which commit themselves, it is refused.
      """,
    operands: [groupOperand],
    options: [
      CommandOption(
        "--to", "POSITION", type: .reset, isRequired: true, "earliest, latest, an offset or a time."),
      CommandOption("--topic", "T[:P]", count: .repeated, "Only this topic, or this partition of it."),
      CommandOption(flag: "--dry-run", "Shows what would be done and does nothing."),
      json,
      .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    let isDry = arguments.has("--dry-run")
    guard let position = arguments.text("--to").flatMap({ ResetPosition($0) }) else {
      throw CommandFailure(.usage, "--to is missing")
    }
    let reset = try GroupReset(client, group: arguments.operands[0], topics: arguments.list("--topic"), to: position)
    if !isDry {
      try CommandFailure.wrapping { () throws(ClientError) in
        if reset.isShared {
          try client.alterShareOffsets(reset.offsets, group: reset.group)
        } else {
          try client.commit(reset.offsets, group: reset.group)
        }
      }
    }
    try OutputStream.standardOutput.print(arguments.has("--json") ? reset.json(isDry: isDry) : reset.text)
    return .done
  }

  private static let groupDelete = Command(
    "delete", "deletes a group without members, with its offsets", operands: [groupOperand], options: [.bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    let name = arguments.operands[0]
    try CommandFailure.wrapping { () throws(ClientError) in try client.deleteGroup(name) }
    try OutputStream.standardOutput.print("deleted group \(name)\n")
    return .done
  }
}

/// A group's members and offsets, for people and programs.
struct GroupTables {
  private let group: ClientGroup
  private let members: [ClientGroupMember]
  private let rows: [Row]

  private struct Row {
    var partition: TopicPartition
    var committed: Offset
    /// Nil when the topic is gone.
    var end: Offset?
    /// Records of the partition that are still to be processed; nil when the topic is gone.
    var lag: Int64?
  }

  /// Asks the server about the group of this name.
  init(_ client: KafkaClient, _ name: String) throws(ClientError) {
    group = try client.group(name)
    members = try client.members(of: group)
    let shared = group.isShared ? try client.shareOffsets(of: name) : [:]
    let committed = group.isShared ? shared.mapValues(\.start) : try client.committedOffsets(of: name)
    var ends: [TopicPartition: Offset] = [:]
    let existing = Set(try client.topics().map(\.name))
    for (topic, partitions) in Dictionary(grouping: committed.keys, by: \.topic) where existing.contains(topic) {
      for (number, end) in try client.offsets(topic, partitions.map(\.partition), .latest) {
        ends[TopicPartition(topic, number)] = end
      }
    }
    var rows: [Row] = []
    for (partition, offset) in committed.sorted(by: {
      ($0.key.topic, $0.key.partition) < ($1.key.topic, $1.key.partition)
    }) {
      let end = ends[partition]
      rows.append(
        Row(
          partition: partition, committed: offset, end: end,
          lag: shared[partition]?.lag ?? end.map { max(0, $0 - offset) }))
    }
    self.rows = rows
  }

  var text: String {
    var out = "group    \(group.name)\nstate    \(group.state)\ntype     \(group.type)\nmembers  \(members.count)\n"
    if !members.isEmpty {
      out += "\n"
      out += Shown.table(
        [["member", "client", "host", "partitions"]]
          + members.map { member in
            [
              member.instanceID ?? member.id, member.clientID, member.host,
              member.partitions.isEmpty ? "-" : member.partitions.map(\.description).joined(separator: " "),
            ]
          })
    }
    if !rows.isEmpty {
      out += "\n"
      out += Shown.table(
        [["partition", group.isShared ? "start" : "committed", "end", "lag"]]
          + rows.map { row in
            [
              row.partition.description, "\(row.committed)", row.end.map { "\($0)" } ?? "-",
              row.lag.map { "\($0)" } ?? "-",
            ]
          })
    }
    return out
  }

  /// The members of an object that name a group.
  static func write(_ group: ClientGroup, to json: inout JSONWriter) {
    for (name, value) in [
      ("group", group.name), ("state", group.state), ("type", group.type), ("protocolType", group.protocolType),
    ] {
      json.name(name)
      json.string(value)
    }
  }

  var json: String {
    var json = JSONWriter()
    func number(_ name: String, _ value: Int64?, _ json: inout JSONWriter) {
      json.name(name)
      if let value { json.number(value) } else { json.null() }
    }
    json.object { json in
      GroupTables.write(group, to: &json)
      json.name("members")
      json.array { json in
        for member in members {
          json.object { json in
            json.name("id")
            json.string(member.id)
            json.name("instanceId")
            if let instance = member.instanceID { json.string(instance) } else { json.null() }
            json.name("clientId")
            json.string(member.clientID)
            json.name("host")
            json.string(member.host)
            json.name("partitions")
            json.array { json in for one in member.partitions { json.string(one.description) } }
          }
        }
      }
      json.name("offsets")
      json.array { json in
        for row in rows {
          json.object { json in
            json.name("topic")
            json.string(row.partition.topic)
            number("partition", Int64(row.partition.partition), &json)
            number(group.isShared ? "start" : "committed", row.committed, &json)
            number("end", row.end, &json)
            number("lag", row.lag, &json)
          }
        }
      }
    }
    return json.text + "\n"
  }
}

/// Where a group's partitions are to go on.
struct GroupReset {
  let group: String
  /// The new offset of each partition.
  private(set) var offsets: [TopicPartition: Offset] = [:]
  private let before: [TopicPartition: Offset]
  /// The group shares partitions, so that its offsets are where it begins.
  let isShared: Bool

  /// Works out the new offsets.
  /// - Parameter topics: `TOPIC` or `TOPIC:PARTITION`; none means what the group has committed.
  /// - Throws: when the group has members, or nothing is to be reset.
  init(
    _ client: KafkaClient, group name: String, topics: [String], to position: ResetPosition
  ) throws(CommandFailure) {
    group = name
    let found = try CommandFailure.wrapping { () throws(ClientError) in
      let group = try client.groups().first { $0.name == name }
      if group?.isShared ?? false { return (group, try client.shareOffsets(of: name).mapValues(\.start)) }
      return (group, try client.committedOffsets(of: name))
    }
    before = found.1
    isShared = found.0?.isShared ?? false
    // A group may be made by this, but only where it is said of what.
    guard let state = found.0?.state ?? (topics.isEmpty ? nil : "Empty") else {
      throw CommandFailure(.failed, "group \(name) does not exist; --topic says what a new one is to begin with")
    }
    guard state == "Empty" || state == "Dead" else {
      throw CommandFailure(.failed, "group \(name) has members (it is \(state)); only a group without members is reset")
    }
    let wanted = try GroupReset.partitions(client, topics, committed: before)
    guard !wanted.isEmpty else { throw CommandFailure(.failed, "group \(name) has committed nothing") }
    for (topic, partitions) in wanted {
      let new = try CommandFailure.wrapping { () throws(ClientError) in
        try GroupReset.offsets(client, topic, partitions, position)
      }
      for (partition, offset) in new { offsets[TopicPartition(topic, partition)] = offset }
    }
  }

  private static func partitions(
    _ client: KafkaClient, _ topics: [String], committed: [TopicPartition: Offset]
  ) throws(CommandFailure) -> [String: [Int32]] {
    var wanted: [String: Set<Int32>] = [:]
    guard !topics.isEmpty else {
      let existing = Set(
        try CommandFailure.wrapping { () throws(ClientError) in try client.topics() }.map(\.name))
      for partition in committed.keys where existing.contains(partition.topic) {
        wanted[partition.topic, default: []].insert(partition.partition)
      }
      return wanted.mapValues { $0.sorted() }
    }
    for text in topics {
      // A topic's name holds no colon.
      let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      let topic = try CommandFailure.wrapping { () throws(ClientError) in try client.topic(String(parts[0])) }
      guard parts.count == 2 else {
        wanted[topic.name, default: []].formUnion(topic.partitions)
        continue
      }
      guard let number = Int32(parts[1]) else {
        throw CommandFailure(.usage, "--topic must be TOPIC or TOPIC:PARTITION, not \"\(text)\"")
      }
      guard topic.partitions.contains(number) else {
        throw CommandFailure(.failed, "topic \(topic.name) has no partition \(number)")
      }
      wanted[topic.name, default: []].insert(number)
    }
    return wanted.mapValues { $0.sorted() }
  }

  private static func offsets(
    _ client: KafkaClient, _ topic: String, _ partitions: [Int32], _ position: ResetPosition
  ) throws(ClientError) -> [Int32: Offset] {
    switch position {
    case .earliest: return try client.offsets(topic, partitions, .earliest)
    case .latest: return try client.offsets(topic, partitions, .latest)
    case .time(let time): return try client.offsets(topic, partitions, from: time)
    case .offset(let wanted):
      let first = try client.offsets(topic, partitions, .earliest)
      let last = try client.offsets(topic, partitions, .latest)
      var out: [Int32: Offset] = [:]
      for partition in partitions { out[partition] = min(max(wanted, first[partition] ?? 0), last[partition] ?? 0) }
      return out
    }
  }

  private var sorted: [(partition: TopicPartition, offset: Offset)] {
    offsets.sorted { ($0.key.topic, $0.key.partition) < ($1.key.topic, $1.key.partition) }.map { ($0.key, $0.value) }
  }

  var text: String {
    Shown.table(
      [["partition", "before", "after"]]
        + sorted.map { [$0.partition.description, before[$0.partition].map { "\($0)" } ?? "-", "\($0.offset)"] })
  }

  func json(isDry: Bool) -> String {
    var json = JSONWriter()
    json.object { json in
      json.name("group")
      json.string(group)
      json.name("dryRun")
      json.bool(isDry)
      json.name("offsets")
      json.array { json in
        for (partition, offset) in sorted {
          json.object { json in
            json.name("topic")
            json.string(partition.topic)
            json.name("partition")
            json.number(partition.partition)
            json.name("before")
            if let old = before[partition] { json.number(old) } else { json.null() }
            json.name("after")
            json.number(offset)
          }
        }
      }
    }
    return json.text + "\n"
  }
}
