// AdminClient: one connection that asks one thing after the other and gets its answers.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import Testing

@testable import MillraceKafkaServer

final class AdminClient {
  let world: ServerWorld
  let connection: PlayedConnection
  let handler: KafkaConnection
  private var sent: Int32 = 0

  init(_ world: ServerWorld) {
    self.world = world
    (connection, handler) = world.connect()
  }

  /// Asks in the newest version that is served, or the one given.
  func ask<Request: KafkaRequest>(_ request: Request, _ version: Int16? = nil) throws -> Request.Response {
    let version = version ?? Request.api.supportedVersions.upperBound
    send(request, version)
    try world.wait(connection, answers: Int(sent))
    return try connection.last(Request.self, version)
  }

  /// Asks one of Millrace's own requests; gets its id and the answer's frame.
  func ask(_ request: (_ correlationID: Int32) -> [Bytes]) throws -> (id: Int32, frame: Bytes) {
    sent += 1
    connection.receive(request(sent).flatMap(\.array))
    try world.wait(connection, answers: Int(sent))
    return (sent, connection.answers.last)
  }

  func send<Request: KafkaRequest>(_ request: Request, _ version: Int16) {
    sent += 1
    connection.receive(frame(request, version, sent))
  }

  /// Appends one record of `size` bytes to partition 0 of `t`.
  func append(_ size: Int = 10) throws {
    let answer = try ask(produce(size), 9)
    try #require(answer.responses[0].partitionResponses[0].errorCode == .none)
  }

  /// Commits an offset for partitions of `t`, as a client outside the group's membership.
  func commit(_ group: String, _ offsets: [Int32: Int64]) throws {
    let answer = try ask(
      OffsetCommitRequest(
        groupID: group, generationIDOrMemberEpoch: -1,
        topics: [
          .init(
            name: "t",
            partitions: offsets.sorted { $0.key < $1.key }.map {
              .init(partitionIndex: $0.key, committedOffset: $0.value)
            })
        ]), 8)
    try #require(answer.topics.flatMap(\.partitions).allSatisfy { $0.errorCode == .none })
  }

  /// Joins a group of the classic protocol, as its only member; subscribes to `topics`.
  func join(_ group: String, _ topics: [String]) throws -> String {
    var request = JoinGroupRequest(
      groupID: group, sessionTimeoutMilliseconds: 10_000, rebalanceTimeoutMilliseconds: 10_000,
      protocolType: "consumer",
      protocols: [.init(name: "range", metadata: ConsumerProtocolSubscription(topics: topics).encoded(version: 0))])
    request.memberID = try ask(request, 5).memberID
    return try ask(request, 5).memberID
  }

  /// Changes settings of topic `t`.
  func alter(
    _ changes: [(String, Int8, String?)]
  ) throws -> IncrementalAlterConfigsResponse.AlterConfigsResourceResponse {
    try alter(2, "t", changes)
  }

  func alter(
    _ type: Int8, _ name: String, _ changes: [(String, Int8, String?)], validateOnly: Bool = false
  ) throws -> IncrementalAlterConfigsResponse.AlterConfigsResourceResponse {
    try ask(
      IncrementalAlterConfigsRequest(
        resources: [
          .init(
            resourceType: type, resourceName: name,
            configs: changes.map { .init(name: $0.0, configOperation: $0.1, value: $0.2) })
        ], validateOnly: validateOnly)
    ).responses[0]
  }

  /// Value, source and whether it is read-only, by name.
  func describe(_ type: Int8 = 2, _ name: String = "t") throws -> [String: DescribeConfigsResponse
    .DescribeConfigsResourceResult]
  {
    let result = try ask(
      DescribeConfigsRequest(
        resources: [.init(resourceType: type, resourceName: name, configurationKeys: nil)], includeSynonyms: true)
    ).results[0]
    try #require(result.errorCode == .none, "\(result.errorMessage ?? "")")
    return Dictionary(uniqueKeysWithValues: result.configs.map { ($0.name, $0) })
  }
}
