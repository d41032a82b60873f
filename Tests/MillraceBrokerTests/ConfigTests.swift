// ConfigTests: settings of topics and of the broker change, count at once, survive a power loss, and refuse nonsense.

import MillraceModel
import Testing

@testable import MillraceBroker

@Test("a topic's settings are set, added to, subtracted from and deleted, and are durable when told so")
func topicSettings() throws {
  let world = try AdminWorld()
  try world.createTopic(configs: ["retention.ms": "1000"])
  try world.configure(("cleanup.policy", .append("compact")), ("max.message.bytes", .set("100")))
  #expect(try world.topic().configs["cleanup.policy"] == "delete,compact")
  #expect(refusal { _ = try world.produce(200) } == .messageTooLarge, "the change counts for the next batch")
  try world.configure(("cleanup.policy", .subtract("delete")), ("max.message.bytes", .delete))
  #expect(
    refusal { _ = try world.produce(200) } == .invalidRecord, "its size is allowed again; a compacted topic wants keys")
  try world.restart()
  #expect(try world.topic().configs == ["retention.ms": "1000", "cleanup.policy": "compact"])
  try world.configure(("segment.ms", .set("5")), replacing: true)
  #expect(try world.topic().configs == ["segment.ms": "5"], "what is not named is back at its standard")
}

@Test(
  "what cannot be a topic's setting is refused with its name and value, and changes nothing",
  arguments: [
    ("no.such.thing", SettingChange.set("1"), BrokerError.Code.invalidConfig, "no.such.thing"),
    ("retention.ms", .set("soon"), .invalidConfig, "soon"),
    ("retention.ms", .set("-2"), .invalidConfig, "-2"),
    ("retention.ms", .append("1"), .invalidConfig, "retention.ms"),
    ("cleanup.policy", .append("burn"), .invalidConfig, "burn"),
    ("min.compaction.lag.ms", .set("9"), .invalidConfig, "min.compaction.lag.ms would be 9"),
    ("remote.storage.enable", .set("true"), .invalidConfig, "remote.storage.enable"),
  ])
func refusedTopicSettings(_ name: String, _ change: SettingChange, _ code: BrokerError.Code, _ text: String) throws {
  let world = try AdminWorld()
  try world.createTopic(configs: ["max.compaction.lag.ms": "8"])
  do {
    try world.configure((name, change))
    Issue.record("\(name) was taken")
  } catch let error as BrokerError {
    #expect(error.code == code && error.reason.contains(text), "\(error)")
  }
  #expect(try world.topic().configs == ["max.compaction.lag.ms": "8"])
  #expect(refusal { try world.configure(("segment.ms", .set("1")), ("segment.ms", .delete)) } == .invalidRequest)
}

@Test("the broker's dynamic settings count at once and after a start; the node's own are stronger than the cluster's")
func brokerSettings() throws {
  let world = try AdminWorld()
  let cluster = ConfigResource(.broker, "")
  let node = ConfigResource(.broker, "0")
  try world.configure(cluster, ("num.partitions", .set("3")), ("message.max.bytes", .set("500")))
  try world.configure(node, ("num.partitions", .set("4")))
  #expect(world.broker.settings.partitions == 4 && world.broker.settings.largestMessage == 500)
  try world.restart()
  #expect(world.broker.settings.partitions == 4 && world.broker.settings.largestMessage == 500)
  #expect(
    world.broker.settings.values(of: "num.partitions").map(\.value) == ["4", "3", "1"],
    "all that was set, the strongest first")
  try world.configure(node, ("num.partitions", .delete))
  #expect(world.broker.settings.partitions == 3)
  try world.configure(cluster, ("num.partitions", .delete))
  #expect(world.broker.settings.partitions == 1)
}

@Test("a setting of the start cannot be changed, and values that contradict each other are refused")
func refusedBrokerSettings() throws {
  let world = try AdminWorld()
  let node = ConfigResource(.broker, "0")
  #expect(refusal { try world.configure(node, ("socket.request.max.bytes", .set("2048"))) } == .invalidRequest)
  #expect(refusal { try world.configure(node, ("no.such.thing", .set("1"))) } == .invalidConfig)
  #expect(
    refusal { try world.configure(node, ("group.max.session.timeout.ms", .set("5999"))) } == .invalidConfig,
    "the shortest is 6000")
  try world.configure(
    node, ("group.max.session.timeout.ms", .set("5999")), ("group.min.session.timeout.ms", .set("1")))
  #expect(world.broker.settings.sessionTimeouts == 1...5999)
}

@Test("a group's settings are kept with the group's name, and count for it alone")
func groupSettings() throws {
  let world = try AdminWorld()
  try world.configure(ConfigResource(.group, "g"), ("consumer.session.timeout.ms", .set("50000")))
  #expect(
    refusal { try world.configure(ConfigResource(.group, "g"), ("consumer.session.timeout.ms", .set("1234"))) }
      == .invalidConfig)
  try world.restart()
  #expect(world.broker.groups.rules(of: "g").sessionTimeout == .seconds(50))
  #expect(world.broker.groups.rules(of: "h").sessionTimeout == .seconds(45))
  #expect(world.broker.configuredResources == [ConfigResource(.group, "g")])
}
