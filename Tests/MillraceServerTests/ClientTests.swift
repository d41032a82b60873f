// ClientTests: the blocking client against a whole server in this process.

import MillraceBase
import MillraceCompression
import MillraceKafkaProtocol
import MillraceModel
import Testing

@testable import MillraceServer

/// Sends `values` to a topic and waits for the acknowledgement.
private func send(_ client: KafkaClient, _ topic: String, _ values: [String], keys: Bool = false) throws {
  let sender = try RecordSender(client, topic: try client.topic(topic, create: true))
  for value in values {
    try sender.add(Record(key: keys ? Bytes(value) : nil, value: Bytes(value), timestamp: .now))
  }
  try sender.flush()
  #expect(sender.acknowledged == values.count)
}

/// Reads records until `count` have come.
private func read(_ fetcher: RecordFetcher, _ count: Int) throws -> [FetchedRecord] {
  var out: [FetchedRecord] = []
  let end = MonotonicTime.now + .seconds(10)
  while out.count < count, MonotonicTime.now < end {
    for record in try fetcher.fetch(wait: .milliseconds(100)).records {
      out.append(record)
      fetcher.took(record)
    }
  }
  return out
}

private func fetcher(_ client: KafkaClient, _ name: String, from offset: Offset = 0) throws -> RecordFetcher {
  let topic = try client.topic(name)
  let fetcher = RecordFetcher(client)
  fetcher.assign(
    Dictionary(uniqueKeysWithValues: topic.partitions.map { (TopicPartition(name, $0), offset) }), of: [topic])
  return fetcher
}

@Test("a topic is created, listed, described and deleted")
func topicsLife() throws {
  try withServer { server in
    let client = server.client()
    #expect(try client.createTopic("t", partitions: 3, configs: [("retention.ms", "1000")]) == 3)
    #expect(try client.topics().filter { !$0.isInternal }.map(\.name) == ["t"])
    #expect(try client.topic("t").partitions == [0, 1, 2])
    #expect(try client.configs(ofTopic: "t").contains { $0 == ("retention.ms", "1000", true) })
    #expect(try client.configs(ofTopic: "t").contains { $0 == ("segment.ms", "604800000", false) })
    #expect(try client.offsets("t", [0, 1, 2], .latest) == [0: 0, 1: 0, 2: 0])
    try client.deleteTopic("t")
    #expect(try client.topics().filter { !$0.isInternal }.isEmpty)
  }
}

@Test("refusals name the topic and carry the server's reason")
func refusalsNameTheTopic() throws {
  try withServer { server in
    let client = server.client()
    _ = try client.createTopic("t", partitions: nil, configs: [])
    func refused(_ part: String, _ body: () throws -> Void) {
      #expect {
        try body()
      } throws: { error in
        guard let error = error as? ClientError, case .refused = error.code else { return false }
        return error.description.contains(part)
      }
    }
    refused("t exists") { _ = try client.createTopic("t", partitions: nil, configs: []) }
    refused("colour") { _ = try client.createTopic("u", partitions: nil, configs: [("colour", "red")]) }
    refused("never.made does not exist") { _ = try client.topic("never.made") }
    refused("never.made does not exist") { try client.deleteTopic("never.made") }
    refused("partition 9") {
      try RecordSender(client, topic: try client.topic("t")).add(Record(value: nil), partition: 9)
    }
    #expect(try client.topics().count == 1, "asking for a topic must not make it")
  }
}

@Test("what is sent is read, in order within each partition, also over several batches")
func sendsAndReads() throws {
  try withServer { server in
    let client = server.client()
    _ = try client.createTopic("t", partitions: 4, configs: [])
    let values = (0..<20_000).map { "value number \($0) with some padding to fill several batches of the topic" }
    try send(client, "t", values)
    let got = try read(try fetcher(client, "t"), values.count)
    #expect(Set(got.compactMap { $0.record.value?.text }) == Set(values))
    for records in Dictionary(grouping: got, by: \.partition).values {
      #expect(records.map(\.record.offset) == (0..<Int64(records.count)).map { $0 })
    }
    #expect(Set(got.map(\.partition)).count == 4, "records without a key go round the partitions")
  }
}

@Test("a key always leads to the partition that Kafka's partitioner gives it")
func keysChoosePartitions() throws {
  try withServer { server in
    let client = server.client()
    _ = try client.createTopic("t", partitions: 5, configs: [])
    try send(client, "t", (0..<200).map { "key \($0 % 50)" }, keys: true)
    for record in try read(try fetcher(client, "t"), 200) {
      let key = try #require(record.record.key)
      let expected = key.withBuffer { Hashing.kafkaPartition(key: $0, partitions: 5) }
      #expect(record.partition.partition == Int32(expected))
    }
  }
}

@Test("batches of every codec are decompressed", arguments: CompressionFormat.allCases)
func readsEveryCodec(_ format: CompressionFormat) throws {
  try withServer { server in
    let client = server.client()
    _ = try client.createTopic("t", partitions: 1, configs: [])
    var builder = RecordBatchBuilder()
    for number in 0..<100 { builder.append(Record(value: Bytes("value \(number)"), timestamp: .now)) }
    let codec = try #require(CompressionCodec(rawValue: format.rawValue))
    let batch = try builder.finish(codec: codec) { try Compression.compress($0, format: format) }
    let answer = try client.call(
      ProduceRequest(
        acks: -1, timeoutMilliseconds: 1000,
        topicData: [.init(name: "t", partitionData: [.init(index: 0, records: batch)])]))
    #expect(answer.responses[0].partitionResponses[0].errorCode == .none)
    let got = try read(try fetcher(client, "t", from: 40), 60)
    #expect(got.compactMap { $0.record.value?.text } == (40..<100).map { "value \($0)" })
  }
}

@Test("a batch with a wrong checksum is an error, not a record")
func wrongChecksum() throws {
  var builder = RecordBatchBuilder()
  builder.append(Record(value: Bytes("value"), timestamp: .now))
  var bytes = builder.finish().array
  bytes[bytes.count - 2] ^= 1
  #expect {
    try RecordFetcher.records([Bytes(bytes)], of: TopicPartition("t", 0), from: 0)
  } throws: { error in
    "\(error)".contains("CRC")
  }
}

@Test("an offset that the server does not have is reported, not read")
func offsetOutOfRange() throws {
  try withServer { server in
    let client = server.client()
    _ = try client.createTopic("t", partitions: 1, configs: [])
    let fetched = try fetcher(client, "t", from: 5).fetch(wait: .zero)
    #expect(fetched.outOfRange == [TopicPartition("t", 0)])
    #expect(fetched.records.isEmpty)
  }
}

@Test("a sender goes on over a new connection, and nothing is there twice")
func senderSurvivesLostConnections() throws {
  try withServer { server in
    let client = server.client()
    _ = try client.createTopic("t", partitions: 2, configs: [])
    let sender = try RecordSender(client, topic: try client.topic("t"))
    for number in 0..<300 {
      try sender.add(Record(value: Bytes("\(number)"), timestamp: .now), partition: Int32(number % 2))
      // Sent, perhaps appended, but the answer is lost.
      if number % 50 == 7 {
        try sender.push()
        client.close()
      }
    }
    try sender.flush()
    let got = try read(try fetcher(server.client(), "t"), 300)
    #expect(got.compactMap { $0.record.value.map { Int($0.text) ?? -1 } }.sorted() == Array(0..<300))
    let ends = try client.offsets("t", [0, 1], .latest)
    #expect(ends == [0: 150, 1: 150])
  }
}

@Test("nobody at the address is said with the address and what to do")
func nobodyThere() {
  let client = KafkaClient(ServerAddress(host: "127.0.0.1", port: 1), timeout: .seconds(1))
  #expect {
    try client.topics()
  } throws: { error in
    guard let error = error as? ClientError else { return false }
    return error.code == .unreachable
      && error.description == "cannot reach 127.0.0.1:1: connection refused; is `millrace serve` running?"
  }
}

@Test("figures tell topics, groups and rates, and can be shown as tables")
func figures() throws {
  try withServer { server in
    let client = server.client()
    _ = try client.createTopic("t", partitions: 2, configs: [])
    try send(client, "t", ["a", "b", "c"])
    let member = GroupMember(client, group: "g", topic: "t")
    _ = try member.join()
    #expect(try member.commit([TopicPartition("t", 0): 1]))
    let text = try client.figures()
    let figures = try JSONValue(text)
    #expect(figures["connections"]?.integer == 1)
    let topic = try #require(figures["topics"]?.array?.first)
    #expect(topic["name"]?.string == "t")
    #expect(topic["length"]?.integer == 3)
    #expect(topic["recordsIn"]?.integer == 3)
    #expect(try #require(topic["recordsInPerSecond"]?["1s"]?.double) > 0)
    let group = try #require(figures["groups"]?.array?.first)
    #expect(group["state"]?.string == "Stable")
    #expect(group["members"]?.integer == 1)
    #expect(group["topics"]?.array?.first?["committed"]?.integer == 1)
    #expect(group["lag"]?.integer == 2)
    #expect(try #require(figures["journal"]?["commit"]?["max"]?.integer) > 0)
    #expect(try #require(figures["memory"]?["residentBytes"]?.integer) > 1 << 20)
    let shown = FigureTables.text(figures)
    for part in ["lag", "commit", "flush", "memory", "Stable"] { #expect(shown.contains(part)) }
    try member.leave()
  }
}

@Test("figures of another version are shown with dashes instead of failing")
func unknownFigures() throws {
  #expect(FigureTables.text(try JSONValue("{}")).contains("- commits"))
}
