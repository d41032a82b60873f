// ConfigsTests: settings described, changed and refused over the wire.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import Testing

@testable import MillraceKafkaServer

@Test("a changed setting of a topic is told with its source, and counts for the next batch")
func alteredTopic() throws {
  let client = AdminClient(try ServerWorld())
  #expect(try client.alter([("max.message.bytes", 0, "200")]).errorCode == .none)
  let entry = try #require(try client.describe()["max.message.bytes"])
  #expect(entry.value == "200" && entry.configSource == ConfigSource.topic && !entry.readOnly)
  #expect(entry.synonyms.map(\.name) == ["max.message.bytes", "message.max.bytes"])
  #expect(try client.ask(produce(500), 9).responses[0].partitionResponses[0].errorCode == .messageTooLarge)
  #expect(try client.alter([("max.message.bytes", 1, nil)]).errorCode == .none)
  #expect(try client.describe()["max.message.bytes"]?.configSource == ConfigSource.standard)
  #expect(try client.ask(produce(500), 9).responses[0].partitionResponses[0].errorCode == .none)
}

@Test("validate-only checks all and changes nothing, for topics, the broker, groups and log levels")
func validateOnly() throws {
  let client = AdminClient(try ServerWorld())
  let changes: [(Int8, String, String, String)] = [
    (2, "t", "retention.ms", "5"), (4, "0", "num.partitions", "7"), (4, "", "num.partitions", "7"),
    (32, "g", "consumer.session.timeout.ms", "50000"), (16, "m", "interval.ms", "500"), (8, "0", "root", "DEBUG"),
  ]
  for (type, name, key, value) in changes {
    #expect(try client.alter(type, name, [(key, 0, value)], validateOnly: true).errorCode == .none, "\(type)")
    #expect(try client.describe(type, name)[key]?.value != value)
    #expect(try client.alter(type, name, [(key, 0, value)]).errorCode == .none, "\(type)")
    #expect(try client.describe(type, name)[key]?.value == value)
  }
  #expect(client.world.broker.settings.partitions == 7)
  let legacy = try client.ask(
    AlterConfigsRequest(
      resources: [.init(resourceType: 2, resourceName: "t", configs: [.init(name: "segment.ms", value: "9")])],
      validateOnly: true))
  #expect(legacy.responses[0].errorCode == .none && client.world.broker.topic("t")?.configs == ["retention.ms": "5"])
}

@Test("the older AlterConfigs takes back what it does not name")
func alterConfigsReplaces() throws {
  let client = AdminClient(try ServerWorld())
  _ = try client.alter([("retention.ms", 0, "5"), ("segment.ms", 0, "6")])
  let answer = try client.ask(
    AlterConfigsRequest(
      resources: [
        .init(resourceType: 2, resourceName: "t", configs: [.init(name: "segment.ms", value: "9")]),
        .init(resourceType: 8, resourceName: "0", configs: [.init(name: "root", value: "DEBUG")]),
      ]))
  #expect(answer.responses.map(\.errorCode) == [.none, .invalidRequest])
  #expect(client.world.broker.topic("t")?.configs == ["segment.ms": "9"])
}

private let impossibleConfigs: [(Int8, String, [(String, Int8, String?)], KafkaErrorCode, String)] = [
  (2, "none", [("retention.ms", 0, "5")], .unknownTopicOrPartition, "none"),
  (2, "t", [("retention.ms", 0, "soon")], .invalidConfig, "soon"),
  (2, "t", [("no.such.thing", 0, "5")], .invalidConfig, "no.such.thing"),
  (2, "t", [("no.such.thing", 1, nil)], .invalidConfig, "no.such.thing"),
  (2, "t", [("retention.ms", 0, nil)], .invalidRequest, "retention.ms"),
  (2, "t", [("retention.ms", 9, "5")], .invalidRequest, "9"),
  (2, "t", [("retention.ms", 2, "5")], .invalidConfig, "retention.ms"),
  (4, "1", [("num.partitions", 0, "5")], .invalidRequest, "\"1\""),
  (4, "0", [("socket.request.max.bytes", 0, "5000")], .invalidRequest, "socket.request.max.bytes"),
  (4, "0", [("num.partitions", 0, "0")], .invalidConfig, "num.partitions"),
  (8, "0", [("root", 0, "LOUD")], .invalidConfig, "LOUD"), (8, "0", [("root", 1, nil)], .invalidRequest, "root"),
  (8, "0", [("kafka", 0, "INFO")], .invalidConfig, "kafka"),
  (32, "", [("consumer.session.timeout.ms", 0, "5")], .invalidRequest, "name"), (3, "x", [], .invalidRequest, "3"),
]

@Test("what cannot be set is refused with Kafka's code and the value's name", arguments: impossibleConfigs)
func refusedConfigs(
  _ type: Int8, _ name: String, _ changes: [(String, Int8, String?)], _ code: KafkaErrorCode, _ text: String
) throws {
  let client = AdminClient(try ServerWorld())
  let answer = try client.alter(type, name, changes)
  #expect(answer.errorCode == code && answer.errorMessage?.contains(text) == true, "\(answer)")
}

@Test("a resource that stands twice in a request is refused both times")
func repeatedResource() throws {
  let client = AdminClient(try ServerWorld())
  let one = IncrementalAlterConfigsRequest.AlterConfigsResource(
    resourceType: 2, resourceName: "t", configs: [.init(name: "retention.ms", configOperation: 0, value: "5")])
  let answer = try client.ask(IncrementalAlterConfigsRequest(resources: [one, one]))
  #expect(answer.responses.map(\.errorCode) == [.invalidRequest, .invalidRequest])
  #expect(client.world.broker.topic("t")?.configs == [:])
}

@Test("the broker tells where each value comes from, and which can only be set at the start")
func brokerSources() throws {
  let client = AdminClient(try ServerWorld())
  _ = try client.alter(4, "", [("num.partitions", 0, "3"), ("message.max.bytes", 0, "999")])
  _ = try client.alter(4, "0", [("num.partitions", 0, "4")])
  let all = try client.describe(4, "0")
  #expect(all["num.partitions"]?.value == "4" && all["num.partitions"]?.configSource == ConfigSource.node)
  #expect(all["num.partitions"]?.synonyms.map(\.value) == ["4", "3", "1"])
  #expect(all["message.max.bytes"]?.configSource == ConfigSource.cluster)
  #expect(all["socket.request.max.bytes"]?.readOnly == true && all["message.max.bytes"]?.readOnly == false)
  #expect(try client.describe(4, "").keys.sorted() == ["message.max.bytes", "num.partitions"])
  let topic = try #require(try client.describe()["max.message.bytes"])
  #expect(topic.value == "999" && topic.configSource == ConfigSource.cluster)
}

@Test("resources with settings are listed by their types")
func listedResources() throws {
  let client = AdminClient(try ServerWorld())
  _ = try client.alter(32, "g", [("consumer.session.timeout.ms", 0, "50000")])
  _ = try client.alter(16, "m", [("interval.ms", 0, "500")])
  func list(_ types: [Int8], _ version: Int16 = 1) throws -> [String] {
    let answer = try client.ask(ListConfigResourcesRequest(resourceTypes: types), version)
    guard answer.errorCode == .none else { return ["\(answer.errorCode)"] }
    return answer.configResources.map { "\($0.resourceType) \($0.resourceName)" }
  }
  #expect(try list([]) == ["2 t", "4 0", "8 0", "16 m", "32 g"])
  #expect(try list([32, 2]) == ["2 t", "32 g"])
  #expect(try list([], 0) == ["16 m"])
  #expect(try list([5]) == ["\(KafkaErrorCode.unsupportedVersion)"])
}
