// MessageTests: every message in every version, against an encoder that shares no code with the messages.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import Testing

@Test("agrees: random messages in every version read and write as an interpreter of the schema does", arguments: 0..<6)
func agreesWithSchema(seed: UInt64) throws {
  var random = SeededRandom(seed: seed)
  let schemas = try WireSchema.all()
  #expect(schemas.count == messageTypes.count)
  for schema in schemas {
    let type = try #require(messageTypes[schema.name])
    #expect(Int(type.versions.lowerBound) == schema.versions.lowerBound)
    #expect(Int(type.versions.upperBound) == schema.versions.upperBound)
    for version in schema.versions {
      let bytes = schema.sample(version: version, using: &random)
      let recoded = try recode(type, bytes, version: Int16(version))
      #expect(recoded.bytes == bytes, "\(schema.name) version \(version), seed \(seed)")
      #expect(recoded.unread == 0 && recoded.isStable, "\(schema.name) version \(version), seed \(seed)")
    }
  }
}

@Test("a message with Kafka's defaults is read back in every version, and tags are then not written")
func defaults() throws {
  func check<Message: KafkaMessage>(_ message: Message) throws {
    for version in Message.versions {
      var writer = ByteWriter()
      message.encode(to: &writer, version: version)
      let bytes = writer.finishJoined()
      var reader = ByteReader(bytes)
      #expect(try Message(from: &reader, version: version) == message, "version \(version)")
      #expect(reader.remaining == 0)
      if Message.api.isFlexible(version) { #expect(bytes[bytes.count - 1] == 0) }
    }
  }
  try check(FetchRequest())
  try check(FetchResponse())
  try check(ProduceRequest(transactionalID: nil))
  try check(ProduceResponse())
  try check(ApiVersionsResponse())
  try check(MetadataRequest())
  try check(MetadataResponse())
  try check(OffsetFetchResponse())
}

@Test("null where a version knows no null is written as empty, and refused when read")
func nullability() throws {
  var writer = ByteWriter()
  MetadataRequest(topics: nil).encode(to: &writer, version: 0)
  #expect(writer.finishJoined().array == [0, 0, 0, 0])
  var reader = ByteReader(Bytes([255, 255, 255, 255]))
  #expect(throws: DecodingError.self) { try MetadataRequest(from: &reader, version: 0) }
  reader = ByteReader(Bytes([255, 255, 255, 255]))
  #expect(try MetadataRequest(from: &reader, version: 1).topics == nil)
}

@Test("a structure that may be null has a byte in front, which is 1 when it is there")
func nullableStructures() throws {
  var writer = ByteWriter()
  DescribeTopicPartitionsRequest(responsePartitionLimit: 1).encode(to: &writer, version: 0)
  DescribeTopicPartitionsRequest(responsePartitionLimit: 1, cursor: .init(topicName: "t", partitionIndex: 2))
    .encode(to: &writer, version: 0)
  let bytes = writer.finishJoined().array
  #expect(bytes == [1, 0, 0, 0, 1, 0xff, 0] + [1, 0, 0, 0, 1, 1, 2, 116, 0, 0, 0, 2, 0, 0])
  // As Kafka reads it, any other byte that is not negative says that the structure follows.
  var reader = ByteReader(Bytes([1, 0, 0, 0, 1, 0, 2, 116, 0, 0, 0, 2, 0, 0]))
  #expect(try DescribeTopicPartitionsRequest(from: &reader, version: 0).cursor?.partitionIndex == 2)
}

@Test("a number that is none keeps its bits")
func floatingPoint() throws {
  let bits: [UInt8] = [0x7f, 0xf4, 0, 0, 0, 0, 0, 9]
  let bytes: [UInt8] = [0, 0, 0, 1] + [0, 0, 0, 0] + [0, 0, 0, 1, 0, 1, 107] + bits + [1, 1]
  let recoded = try recode(AlterClientQuotasRequest.self, bytes, version: 0)
  #expect(recoded.bytes == bytes && recoded.isStable)
}

@Test("fields that a version does not have keep their defaults")
func absentFields() throws {
  var writer = ByteWriter()
  FetchRequest(maxWaitMilliseconds: 5, sessionID: 9, rackID: "r").encode(to: &writer, version: 4)
  var reader = ByteReader(writer.finishJoined())
  let read = try FetchRequest(from: &reader, version: 4)
  #expect(read == FetchRequest(maxWaitMilliseconds: 5))
}

@Test("unknown tagged fields are skipped, and known ones are not read in versions that lack them")
func unknownTags() throws {
  // Heartbeat v4: group, generation, member, no instance, one tagged field 200 of three bytes.
  let bytes: [UInt8] = [2, 103, 0, 0, 0, 1, 2, 109, 0, 1, 0xc8, 1, 3, 7, 8, 9]
  var reader = ByteReader(Bytes(bytes))
  #expect(
    try HeartbeatRequest(from: &reader, version: 4)
      == HeartbeatRequest(groupID: "g", generationID: 1, memberID: "m"))
  #expect(reader.remaining == 0)
  // Produce response v9 knows no tag 0; v10 reads it as node endpoints.
  let tagged: [UInt8] = [1, 0, 0, 0, 0, 1, 0, 1, 1]
  reader = ByteReader(Bytes(tagged))
  #expect(try ProduceResponse(from: &reader, version: 9) == ProduceResponse())
}

@Test("a count or length that exceeds the bytes left is refused before anything is allocated")
func hugeCounts() {
  func refuses<Message: KafkaMessage>(_ type: Message.Type, _ bytes: [UInt8], version: Int16) {
    #expect(throws: DecodingError.self, "\(type) \(bytes)") { try decode(type, Bytes(bytes), version: version) }
  }
  refuses(MetadataRequest.self, [0x7f, 0xff, 0xff, 0xff], version: 1)
  refuses(MetadataRequest.self, [0x80, 0, 0, 0], version: 1)
  refuses(MetadataRequest.self, [0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1, 1], version: 9)
  #expect(throws: DecodingError("array of 2 needs more than the 2 bytes left", at: 0)) {
    try decode(DescribeGroupsRequest.self, Bytes([0, 0, 0, 2, 0, 0]), version: 0)
  }
  refuses(HeartbeatRequest.self, [0x7f, 0xff, 65], version: 0)
  refuses(HeartbeatRequest.self, [0xff, 0xfe, 65], version: 0)
  refuses(HeartbeatRequest.self, [2, 0xff, 0, 0, 0, 1, 2, 109, 0, 0], version: 4)  // not UTF-8
  refuses(HeartbeatRequest.self, [2, 103, 0, 0, 0, 1, 2, 109, 0, 0xff, 0xff, 3], version: 4)  // 65,535 tags
}

@Test("a compact string longer than a classic one can be is refused, and a longer text is cut at a character's border")
func longStrings() throws {
  var writer = ByteWriter()
  writer.unsignedVarint(32_769)
  writer.utf8(String(repeating: "a", count: 32_768) + "\0\0\0\0\0\0\0\0")
  #expect(throws: DecodingError.self) { try decode(HeartbeatRequest.self, writer.finishJoined(), version: 4) }
  for version: Int16 in [0, 4] {
    var writer = ByteWriter()
    let text = String(repeating: "é", count: 20_000)
    HeartbeatRequest(groupID: text).encode(to: &writer, version: version)
    var reader = ByteReader(writer.finishJoined())
    let read = try HeartbeatRequest(from: &reader, version: version)
    #expect(read.groupID == String(repeating: "é", count: 16_383))
    #expect(reader.remaining == 0)
  }
}

@Test("records are slices of what was received, and are spliced into what is sent")
func zeroCopy() throws {
  let batch = Bytes([UInt8](repeating: 7, count: 20_000))
  let sent = ProduceRequest(topicData: [.init(name: "t", partitionData: [.init(index: 0, records: batch)])])
  let pieces = KafkaFrame.request(sent, version: 9, correlationID: 1)
  #expect(pieces.contains { $0.start == batch.start && $0.count == batch.count })
  let frame = Bytes(pieces.flatMap(\.array))
  #expect(frame.count == 4 + Int(frame[2]) << 8 + Int(frame[3]))
  let received = try KafkaFrame.decodeRequest(ProduceRequest.self, from: frame[4..<frame.count]).body
  let records = try #require(received.topicData[0].partitionData[0].records)
  #expect(records == batch)
  #expect(records.owner === frame.owner)
}

@Test("a fetch response gathers its pieces, which are read back as one")
func gatheredRecords() throws {
  let pieces = [Bytes([1, 2]), Bytes([UInt8](repeating: 9, count: 10_000)), Bytes(), Bytes([3])]
  for version in FetchResponse.versions {
    let sent = FetchResponse(responses: [.init(partitions: [.init(records: pieces), .init(records: [])])])
    let frame = Bytes(KafkaFrame.response(sent, version: version, correlationID: 5).flatMap(\.array).dropFirst(4) + [])
    let answer = try KafkaFrame.decodeResponse(to: FetchRequest.self, version: version, from: frame)
    #expect(answer.correlationID == 5)
    let partitions = answer.body.responses[0].partitions
    #expect(partitions[0].records.map(\.array) == [pieces.flatMap(\.array)])
    #expect(partitions[1].records.isEmpty)
  }
}

@Test("null records in a fetch response are read as no pieces")
func nullFetchRecords() throws {
  var writer = ByteWriter()
  FetchResponse(responses: [.init(partitions: [.init()])]).encode(to: &writer, version: 4)
  var bytes = writer.finishJoined().array
  #expect(bytes.suffix(4) == [0, 0, 0, 0])
  bytes.replaceSubrange(bytes.count - 4..<bytes.count, with: [255, 255, 255, 255])
  var reader = ByteReader(Bytes(bytes))
  #expect(try FetchResponse(from: &reader, version: 4).responses[0].partitions[0].records.isEmpty)
}

@Test("a version that a message does not have is refused with its versions")
func wrongVersion() {
  #expect(throws: DecodingError("ProduceRequest has versions 3 to 13, not 2", at: 0)) {
    try decode(ProduceRequest.self, Bytes(), version: 2)
  }
}
