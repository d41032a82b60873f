// ShareSessionTests: which requests begin, continue and end share sessions, and what these remember.

import MillraceKafkaProtocol
import MillraceModel
import Testing

@testable import MillraceKafkaServer

private let topic = TopicID(high: 1, low: 2)

private func request(_ epoch: Int32, _ partitions: [Int32] = [], forgetting forgotten: [Int32] = [])
  -> ShareFetchRequest
{
  ShareFetchRequest(
    shareSessionEpoch: epoch,
    topics: partitions.isEmpty ? [] : [.init(topicID: topic, partitions: partitions.map { .init(partitionIndex: $0) })],
    forgottenTopicsData: forgotten.isEmpty ? [] : [.init(topicID: topic, partitions: forgotten)])
}

extension ShareSessions {
  fileprivate mutating func fetch(_ request: ShareFetchRequest, _ member: String = "m", on connection: UInt64 = 1)
    -> Outcome
  {
    fetch(request, group: "g", memberID: member, connection: connection)
  }
}

private func partitions(_ outcome: ShareSessions.Outcome) -> [Int32]? {
  switch outcome {
  case .opened(let session), .continued(let session), .closed(let session): session.partitions.map(\.partition)
  case .refused: nil
  }
}

private func code(_ outcome: ShareSessions.Outcome) -> KafkaErrorCode? {
  if case .refused(let code, _) = outcome { code } else { nil }
}

@Test("a share session remembers its partitions from request to request, and goes by its epochs")
func shareSessionLife() {
  var sessions = ShareSessions(limit: 10)
  #expect(partitions(sessions.fetch(request(0, [3, 1, 3]))) == [3, 1])
  #expect(partitions(sessions.fetch(request(1, [2], forgetting: [3]))) == [1, 2])
  #expect(code(sessions.fetch(request(1))) == .invalidShareSessionEpoch)
  guard case .continued(let session) = sessions.fetch(request(2)) else {
    Issue.record("the session does not go on")
    return
  }
  session.rotate([TopicIDPartition(topic, 1)])
  #expect(session.partitions.map(\.partition) == [2, 1])
  #expect(sessions.partitionCount == 2)
  #expect(code(sessions.acknowledge(epoch: 0, group: "g", memberID: "m", connection: 1)) == .invalidShareSessionEpoch)
  #expect(code(sessions.acknowledge(epoch: 3, group: "g", memberID: "m", connection: 1)) == nil)
  #expect(code(sessions.acknowledge(epoch: 4, group: "g", memberID: "other", connection: 1)) == .shareSessionNotFound)
  // A new one takes its place.
  #expect(partitions(sessions.fetch(request(0, [7]))) == [7])
  #expect(partitions(sessions.fetch(request(-1))) == [7])
  #expect(code(sessions.fetch(request(1))) == .shareSessionNotFound)
  #expect(sessions.count == 0 && sessions.partitionCount == 0)
}

@Test("share sessions end with the connection that used them last, and there are no more than the settings allow")
func shareSessionLimits() {
  var sessions = ShareSessions(limit: 2, partitionLimit: 5)
  #expect(partitions(sessions.fetch(request(0, [1]), "a", on: 1)) == [1])
  #expect(partitions(sessions.fetch(request(0, [1]), "b", on: 1)) == [1])
  #expect(code(sessions.fetch(request(0, [1]), "c", on: 1)) == .shareSessionLimitReached)
  #expect(partitions(sessions.fetch(request(1), "a", on: 2)) == [1])
  #expect(sessions.end(connection: 1).map(\.memberID) == ["b"])
  #expect(code(sessions.fetch(request(0, [1, 2, 3, 4, 5]), "c", on: 1)) == .shareSessionLimitReached)
  #expect(partitions(sessions.fetch(request(0, [1, 2, 3, 4]), "c", on: 1)) == [1, 2, 3, 4])
  #expect(code(sessions.fetch(request(1, [5]), "c", on: 1)) == .shareSessionNotFound)
  #expect(sessions.count == 1 && sessions.partitionCount == 1)
  sessions.end(group: "g", memberID: "a")
  #expect(sessions.partitionCount == 0)
}

@Test("a share session does not begin with acknowledgements")
func shareSessionFirstRequest() {
  var sessions = ShareSessions(limit: 2)
  var first = request(0, [1])
  first.topics[0].partitions[0].acknowledgementBatches = [.init(firstOffset: 0, lastOffset: 0, acknowledgeTypes: [1])]
  #expect(code(sessions.fetch(first)) == .invalidRequest)
  #expect(sessions.count == 0)
}
