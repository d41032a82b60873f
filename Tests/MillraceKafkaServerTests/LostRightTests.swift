// LostRightTests: a fetch that waits for records when its client's right goes is refused like one that comes then.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceSecurity
import Testing

@testable import MillraceKafkaServer

@Test("a fetch that waits when the right goes is refused, and one whose right stays gets what comes")
func lostRight() throws {
  for isTaken in [true, false] {
    let world = try ServerWorld()
    let (writer, reader) = (AdminClient(world), AdminClient(world))
    try writer.append()
    reader.send(
      FetchRequest(
        maxWaitMilliseconds: 60_000, minBytes: 1, maxBytes: 1 << 20,
        topics: [
          .init(topic: "t", partitions: [.init(partition: 0, fetchOffset: 1, partitionMaxBytes: 1 << 20)])
        ]), 11)
    world.world.run(for: .seconds(1))
    #expect(reader.connection.answers.ids.isEmpty)
    var isDone = false
    let rule = AccessRule(.init(.topic, isTaken ? "t" : "u"), .anonymous, .read, isAllowed: false)
    world.broker.changeRules(adding: [rule, AccessRule(.init(.topic, "t"), .anonymous, .all)]) { _ in isDone = true }
    try #require(world.world.run { isDone })
    try writer.append()
    try world.wait(reader.connection, answers: 1)
    let answer = try #require(try reader.connection.last(FetchRequest.self, 11).responses.first?.partitions.first)
    #expect(answer.errorCode == (isTaken ? .topicAuthorizationFailed : .none))
    #expect(answer.records.isEmpty == isTaken)
  }
}
