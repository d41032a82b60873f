// ConsumerProtocol: what consumers of a classic group say to each other through JoinGroup and SyncGroup.
//
//   subscription v0   version int16, topics []string, user data nullable bytes
//                v1   + owned partitions [](topic string, partitions []int32)
//                v2   + generation id int32
//                v3   + rack id nullable string
//   assignment   v0-3 version int16, partitions [](topic string, partitions []int32), user data nullable bytes
//
// The broker carries these without looking inside. A reader takes a higher version for the highest it knows and ignores
// what follows. Source: Kafka, ConsumerProtocolSubscription.json and ConsumerProtocolAssignment.json.

import MillraceBase

/// A topic and some of its partitions.
public struct ConsumerTopicPartitions: KafkaStructure {
  /// Topic name.
  public var topic: String
  /// Partition indexes.
  public var partitions: [Int32]

  /// Partitions of a topic.
  public init(topic: String, partitions: [Int32]) {
    self.topic = topic
    self.partitions = partitions
  }

  /// Reads name and partitions; all versions are alike.
  public init(from reader: inout ByteReader, version: Int16) throws(DecodingError) {
    topic = try reader.string(compact: false)
    partitions = try reader.int32Array(compact: false)
  }

  /// Writes name and partitions; all versions are alike.
  public func encode(to writer: inout ByteWriter, version: Int16) {
    writer.string(topic, compact: false)
    writer.int32Array(partitions, compact: false)
  }
}

/// What a member of a consumer group wants to read, sent with JoinGroup.
public struct ConsumerProtocolSubscription: Equatable, Sendable {
  /// Versions that can be written; higher ones are read as version 3.
  public static let versions: ClosedRange<Int16> = 0...3

  /// Topics to read.
  public var topics: [String] = []
  /// What the assignor adds for itself.
  public var userData: Bytes?
  /// Partitions the member holds (version 1 and up).
  public var ownedPartitions: [ConsumerTopicPartitions] = []
  /// Generation in which it got them (version 2 and up).
  public var generationID: Int32 = -1
  /// The member's rack (version 3).
  public var rackID: String?

  /// A subscription to `topics`.
  public init(topics: [String] = []) { self.topics = topics }

  /// The version that a subscription is written in, 3 for a higher one: an assignment in the same is understood.
  /// - Throws: when bytes are missing or the version is negative.
  public static func version(of bytes: Bytes) throws(DecodingError) -> Int16 {
    var reader = ByteReader(bytes)
    return try reader.consumerProtocolVersion()
  }

  /// Reads the version and what it holds.
  /// - Throws: when bytes are missing or the version is negative.
  public init(_ bytes: Bytes) throws(DecodingError) {
    var reader = ByteReader(bytes)
    let version = try reader.consumerProtocolVersion()
    topics = try reader.stringArray(compact: false)
    userData = try reader.nullableBytes(compact: false)
    if version >= 1 { ownedPartitions = try reader.array(compact: false, version: version, minimumElementSize: 6) }
    if version >= 2 { generationID = try reader.int32() }
    if version >= 3 { rackID = try reader.nullableString(compact: false) }
  }

  /// The version and what it holds.
  public func encoded(version: Int16) -> Bytes {
    precondition(Self.versions.contains(version), "a subscription has versions 0 to 3, not \(version)")
    var writer = ByteWriter()
    writer.int16(version)
    writer.stringArray(topics, compact: false)
    writer.bytes(userData, compact: false)
    if version >= 1 { writer.array(ownedPartitions, compact: false, version: version) }
    if version >= 2 { writer.int32(generationID) }
    if version >= 3 { writer.string(rackID, compact: false) }
    return writer.finishJoined()
  }
}

/// What a member of a consumer group is to read, sent with SyncGroup.
public struct ConsumerProtocolAssignment: Equatable, Sendable {
  /// Versions that can be written; higher ones are read as version 3.
  public static let versions: ClosedRange<Int16> = 0...3

  /// Partitions by topic.
  public var assignedPartitions: [ConsumerTopicPartitions] = []
  /// What the assignor adds for itself.
  public var userData: Bytes?

  /// An assignment of `partitions`.
  public init(_ partitions: [ConsumerTopicPartitions] = []) { assignedPartitions = partitions }

  /// Reads the version and what it holds; no bytes at all are an empty assignment.
  /// - Throws: when bytes are missing or the version is negative.
  public init(_ bytes: Bytes) throws(DecodingError) {
    if bytes.isEmpty { return }
    var reader = ByteReader(bytes)
    let version = try reader.consumerProtocolVersion()
    assignedPartitions = try reader.array(compact: false, version: version, minimumElementSize: 6)
    userData = try reader.nullableBytes(compact: false)
  }

  /// The version and what it holds.
  public func encoded(version: Int16) -> Bytes {
    precondition(Self.versions.contains(version), "an assignment has versions 0 to 3, not \(version)")
    var writer = ByteWriter()
    writer.int16(version)
    writer.array(assignedPartitions, compact: false, version: version)
    writer.bytes(userData, compact: false)
    return writer.finishJoined()
  }
}

extension ByteReader {
  fileprivate mutating func consumerProtocolVersion() throws(DecodingError) -> Int16 {
    let version = try int16()
    guard version >= 0 else { throw DecodingError("consumer protocol version \(version)", at: 0) }
    return min(version, 3)
  }
}
