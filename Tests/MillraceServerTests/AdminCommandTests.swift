// AdminCommandTests: settings, partitions and groups through the blocking client, and positions read from text.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import Testing

@testable import MillraceServer

@Test("a position is an end, an offset or a time; what looks like a time and is none is refused")
func resetPositions() {
  func time(_ milliseconds: Int64) -> ResetPosition { .time(Timestamp(milliseconds: milliseconds)) }
  #expect(ResetPosition("earliest") == .earliest && ResetPosition("latest") == .latest)
  #expect(ResetPosition("17") == .offset(17))
  #expect(ResetPosition("1970-01-01T00:00:00Z") == time(0))
  #expect(ResetPosition("2026-11-20T16:31:00.123Z") == time(1_795_192_260_123))
  #expect(ResetPosition("2026-11-20T17:31:00.1239+01:00") == time(1_795_192_260_123))
  #expect(ResetPosition("2026-11-20T16:01:00-00:30") == time(1_795_192_260_000))
  #expect(ResetPosition("2024-02-29T00:00:00.5Z") == time(1_709_164_800_500))
  for text in [
    "", "-1", "soon", "2026-11-20", "2026-11-20T16:31Z", "2026-13-20T16:31:00Z", "2026-02-29T00:00:00Z",
    "2026-11-31T00:00:00Z", "2026-11-20T24:00:00Z", "2026-11-20T16:31:00", "2026-11-20T16:31:00.Z",
    "2026-11-20T16:31:00Zx", "2026-11-20T16:31:00+1", "٢026-11-20T16:31:00Z",
  ] {
    #expect(ResetPosition(text) == nil, "\(text)")
  }
}

@Test("a topic is configured all at once or not at all, and gets more partitions")
func topicIsConfigured() throws {
  try withServer { server in
    let client = server.client()
    _ = try client.createTopic("t", partitions: 1, configs: [("segment.ms", "5")])
    func set() throws -> [String: String] {
      Dictionary(uniqueKeysWithValues: try client.configs(ofTopic: "t").filter(\.isSet).map { ($0.name, $0.value) })
    }
    try client.configure(topic: "t", set: [("retention.ms", "7")], delete: ["segment.ms"], validateOnly: true)
    #expect(try set() == ["segment.ms": "5"])
    try client.configure(topic: "t", set: [("retention.ms", "7")], delete: ["segment.ms"], validateOnly: false)
    #expect(try set() == ["retention.ms": "7"])
    let refused = #expect(throws: ClientError.self) {
      try client.configure(
        topic: "t", set: [("retention.ms", "8"), ("cleanup.policy", "burn")], delete: [], validateOnly: false)
    }
    #expect(refused?.description.contains("burn") == true && refused?.description.contains("topic t") == true)
    #expect(try set() == ["retention.ms": "7"])
    try client.addPartitions(topic: "t", total: 3, validateOnly: false)
    #expect(try client.topic("t").partitions == [0, 1, 2])
    #expect(throws: ClientError.self) { try client.addPartitions(topic: "t", total: 2, validateOnly: false) }
  }
}

@Test("a group is listed, described, reset to every kind of position and deleted")
func groupsLife() throws {
  try withServer { server in
    let client = server.client()
    _ = try client.createTopic("t", partitions: 2, configs: [])
    let sender = try RecordSender(client, topic: try client.topic("t"))
    for second in 1...5 {
      try sender.add(
        Record(value: Bytes("x"), timestamp: Timestamp(milliseconds: Int64(second) * 1000)), partition: 0)
    }
    try sender.flush()
    try client.commit([TopicPartition("t", 0): 1, TopicPartition("t", 1): 0], group: "g")
    #expect(try client.groups().map { "\($0.name) \($0.state)" } == ["g Empty"])
    func reset(_ position: ResetPosition, _ topics: [String] = []) throws -> [Int32: Offset] {
      let reset = try GroupReset(client, group: "g", topics: topics, to: position)
      try client.commit(reset.offsets, group: "g")
      let committed = try client.committedOffsets(of: "g")
      return Dictionary(uniqueKeysWithValues: committed.map { ($0.key.partition, $0.value) })
    }
    #expect(try reset(.latest) == [0: 5, 1: 0])
    #expect(try reset(.earliest, ["t:0"]) == [0: 0, 1: 0])
    #expect(try reset(.offset(99)) == [0: 5, 1: 0], "beyond the end is the end")
    #expect(try reset(.time(Timestamp(milliseconds: 2500)), ["t"]) == [0: 2, 1: 0])
    let described = try GroupTables(client, "g")
    #expect(described.text.contains("t-0") && described.json.contains("\"lag\":3"))
    for topics in [["none"], ["t:7"], ["t:x"]] {
      let refused = #expect(throws: CommandFailure.self) { _ = try reset(.latest, topics) }
      let named = topics[0].split(separator: ":").last.map(String.init) ?? ""
      #expect(refused?.description.contains(named) == true)
    }
    try client.deleteGroup("g")
    #expect(try client.groups().isEmpty)
    let gone = #expect(throws: ClientError.self) { try client.deleteGroup("g") }
    #expect(gone?.description.contains("group g does not exist") == true)
    #expect(throws: CommandFailure.self) { _ = try reset(.latest) }
  }
}

@Test("a group with members is neither reset nor deleted, and described with what they read")
func groupWithMembers() throws {
  try withServer { server in
    let client = server.client()
    _ = try client.createTopic("t", partitions: 2, configs: [])
    let other = server.client()
    let member = GroupMember(other, group: "g", topic: "t")
    #expect(try member.join().count == 2)
    let group = try client.group("g")
    #expect(try client.members(of: group).flatMap(\.partitions).map(\.description).sorted() == ["t-0", "t-1"])
    let refused = #expect(throws: CommandFailure.self) {
      _ = try GroupReset(client, group: "g", topics: ["t"], to: .earliest)
    }
    #expect(refused?.description.contains("has members") == true)
    let held = #expect(throws: ClientError.self) { try client.deleteGroup("g") }
    #expect(held?.code == .refused(.nonEmptyGroup))
  }
}

@Test("a list of operands may be empty or long, and each of them is checked")
func operandLists() throws {
  guard
    case .run(_, let arguments) = try MillraceCommand.choose(["topic", "configure", "t", "a=1", "--delete", "b", "c=2"])
  else {
    Issue.record("help was chosen")
    return
  }
  #expect(arguments.operands == ["t", "a=1", "c=2"] && arguments.list("--delete") == ["b"])
  #expect(throws: CommandFailure.self) { try MillraceCommand.choose(["topic", "configure"]) }
  #expect(throws: CommandFailure.self) { try MillraceCommand.choose(["topic", "configure", "t", "nothing"]) }
  let refused = #expect(throws: CommandFailure.self) {
    try MillraceCommand.choose(["group", "reset", "g", "--to", "soon"])
  }
  #expect(refused?.description.contains("soon") == true)
}
