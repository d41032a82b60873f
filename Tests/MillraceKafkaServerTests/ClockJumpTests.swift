// ClockJumpTests: what clients wait for and what keeps them in a group does not depend on the time of day.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import Testing

@testable import MillraceKafkaServer

private let jumps: [Duration] = [.seconds(2 * 86_400), .seconds(-5 * 86_400), .seconds(3600), .seconds(-1)]

@Test("a fetch waits as long as it says, whatever is done to the wall clock meanwhile", arguments: jumps)
func longPollThroughJumps(_ jump: Duration) throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  var request = FetchRequest()
  request.maxWaitMilliseconds = 500
  request.minBytes = 1
  request.topics = [.init(topic: "t", partitions: [.init(partition: 0, fetchOffset: 0, partitionMaxBytes: 1 << 20)])]
  connection.receive(frame(request, 11, 1))
  world.world.run(for: .milliseconds(100))
  world.world.jumpWallClock(by: jump)
  world.world.run(for: .milliseconds(300))
  #expect(connection.answers.ids == [], "it ended early")
  world.world.run(for: .milliseconds(200))
  #expect(connection.answers.ids == [1], "it goes on waiting")
}

@Test("a member stays in its group while it sends heartbeats and leaves when it does not", arguments: jumps)
func sessionThroughJumps(_ jump: Duration) throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  connection.receive(
    frame(
      JoinGroupRequest(
        groupID: "g", sessionTimeoutMilliseconds: 10_000, rebalanceTimeoutMilliseconds: 10_000,
        protocolType: "consumer", protocols: [.init(name: "range", metadata: Bytes("m"))]), 2, 1))
  try world.wait(connection, answers: 1)
  let joined = try connection.last(JoinGroupRequest.self, 2)
  #expect(joined.errorCode == .none)
  var answers = 1
  func heartbeat() throws -> KafkaErrorCode {
    answers += 1
    connection.receive(
      frame(
        HeartbeatRequest(groupID: "g", generationID: joined.generationID, memberID: joined.memberID), 0,
        Int32(answers)))
    try world.wait(connection, answers: answers)
    return try connection.last(HeartbeatRequest.self, 0).errorCode
  }
  answers += 1
  connection.receive(
    frame(
      SyncGroupRequest(
        groupID: "g", generationID: joined.generationID, memberID: joined.memberID,
        assignments: [.init(memberID: joined.memberID, assignment: Bytes("a"))]), 0, 2))
  try world.wait(connection, answers: answers)
  for _ in 0..<3 {
    world.world.jumpWallClock(by: jump)
    world.world.run(for: .seconds(8))
    #expect(try heartbeat() == .none)
  }
  world.world.jumpWallClock(by: jump)
  world.world.run(for: .seconds(12))
  #expect(try heartbeat() == .unknownMemberID)
}
