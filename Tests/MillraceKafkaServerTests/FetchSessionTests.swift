// FetchSessionTests: what fetch sessions remember, and when they end.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import Testing

@testable import MillraceKafkaServer

/// A fetch of partitions of topic `t`, from offset 0.
private func request(_ id: Int32, _ epoch: Int32, _ partitions: [Int32] = [], forget: [Int32] = []) -> FetchRequest {
  var request = FetchRequest()
  request.sessionID = id
  request.sessionEpoch = epoch
  if !partitions.isEmpty {
    request.topics = [.init(topic: "t", partitions: partitions.map { .init(partition: $0) })]
  }
  if !forget.isEmpty { request.forgottenTopicsData = [.init(topic: "t", partitions: forget)] }
  return request
}

/// Sessions with a clock that the test sets.
private final class Sessions {
  var sessions: FetchSessions
  var now = MonotonicTime(nanoseconds: 0)

  init(limit: Int = 10, partitionLimit: Int = 1000, seed: UInt64 = 1) {
    sessions = FetchSessions(limit: limit, partitionLimit: partitionLimit, seed: seed)
  }

  func begin(_ request: FetchRequest, version: Int16 = 12, connection: UInt64 = 1) -> FetchSessions.Outcome {
    sessions.begin(request, version: version, connection: connection, now: now)
  }

  /// A new session's id; nil when none was made.
  func new(_ partitions: [Int32] = [0, 1, 2], connection: UInt64 = 1) -> Int32? {
    guard case .full(let session) = begin(request(0, 0, partitions), connection: connection) else { return nil }
    return session?.id
  }

  func partitions(_ request: FetchRequest) -> [Int32]? {
    guard case .incremental(let session) = begin(request) else { return nil }
    return session.partitions.map(\.key.partition)
  }

  func refusal(_ request: FetchRequest, version: Int16 = 12) -> KafkaErrorCode? {
    guard case .refused(let code) = begin(request, version: version) else { return nil }
    return code
  }
}

@Test("a session remembers its partitions: changes add, change and forget some")
func changes() throws {
  let world = Sessions()
  let id = try #require(world.new())
  #expect(world.partitions(request(id, 1)) == [0, 1, 2])
  #expect(world.partitions(request(id, 2, [7, 1], forget: [0])) == [1, 2, 7])
  #expect(world.partitions(request(id, 3, forget: [1, 2, 7, 9])) == [])
  #expect(world.partitions(request(id, 4, [3])) == [3])
}

@Test("an unknown session, a wrong epoch and a change of how topics are named are refused, and change nothing")
func refusals() throws {
  let world = Sessions()
  let id = try #require(world.new())
  #expect(world.refusal(request(id &+ 1, 1)) == .fetchSessionIDNotFound)
  #expect(world.refusal(request(0, 5)) == .fetchSessionIDNotFound)
  for epoch: Int32 in [2, -2, .max] { #expect(world.refusal(request(id, epoch, [9])) == .invalidFetchSessionEpoch) }
  #expect(world.refusal(request(id, 1), version: 13) == .fetchSessionTopicIDError)
  #expect(world.partitions(request(id, 1)) == [0, 1, 2])
  #expect(world.refusal(request(id, 1)) == .invalidFetchSessionEpoch, "an epoch counts once")
}

@Test("a full request ends the session that it names, and begins another unless its epoch is -1")
func fullRequests() throws {
  let world = Sessions()
  let first = try #require(world.new())
  guard case .full(let second?) = world.begin(request(first, 0, [5])) else {
    Issue.record("no session")
    return
  }
  #expect(second.partitions.map(\.key.partition) == [5] && second.id != first && world.sessions.count == 1)
  guard case .full(nil) = world.begin(request(second.id, -1, [5])) else {
    Issue.record("a session began")
    return
  }
  #expect(world.sessions.count == 0)
}

@Test("without room a reader goes without a session, until one has been unused for two minutes")
func eviction() throws {
  let world = Sessions(limit: 2)
  let first = try #require(world.new())
  world.now = world.now + .seconds(60)
  let second = try #require(world.new())
  #expect(world.new() == nil && world.sessions.count == 2)
  #expect(world.partitions(request(first, 1)) != nil, "the others lose nothing")
  world.now = world.now + .seconds(120)
  #expect(world.partitions(request(first, 2)) != nil)
  let third = try #require(world.new())
  #expect(world.refusal(request(second, 1)) == .fetchSessionIDNotFound)
  #expect(world.partitions(request(first, 3)) != nil && world.partitions(request(third, 1)) != nil)
  let none = Sessions(limit: 0)
  #expect(none.new() == nil)
}

@Test("a session ends with the connection that used it last")
func connectionEnds() throws {
  let world = Sessions()
  let first = try #require(world.new(connection: 1))
  let second = try #require(world.new(connection: 2))
  _ = world.begin(request(second, 1), connection: 3)
  world.sessions.end(connection: 2)
  #expect(world.sessions.count == 2)
  world.sessions.end(connection: 3)
  #expect(world.partitions(request(first, 1)) != nil && world.sessions.count == 1)
}

@Test("after a restart an id of old meets nobody else's session")
func idsAfterRestart() {
  let before = Sessions(seed: 1)
  let after = Sessions(seed: 2)
  let old = Set((0..<10).compactMap { _ in before.new() })
  let new = Set((0..<10).compactMap { _ in after.new() })
  #expect(old.count == 10 && new.count == 10 && old.isDisjoint(with: new))
}

@Test("epochs begin again at 1 behind the largest number")
func epochWrap() {
  let world = Sessions()
  guard case .full(let session?) = world.begin(request(0, 0, [0])) else {
    Issue.record("no session")
    return
  }
  session.nextEpoch = .max
  #expect(world.partitions(request(session.id, .max)) == [0] && world.partitions(request(session.id, 1)) == [0])
}

@Test("partitions that had data go behind the others")
func rotation() {
  let world = Sessions()
  guard case .full(let session?) = world.begin(request(0, 0, [0, 1, 2])) else {
    Issue.record("no session")
    return
  }
  session.rotate([session.partitions[0].key])
  #expect(session.partitions.map(\.key.partition) == [1, 2, 0])
}

@Test("sessions remember no more partitions than they may, in all; who wants more goes without")
func boundedPartitions() throws {
  let world = Sessions(partitionLimit: 10)
  #expect(world.new(Array(0..<11)) == nil)
  let first = try #require(world.new(Array(0..<6)))
  #expect(world.new(Array(0..<5), connection: 2) == nil)
  let second = try #require(world.new(Array(0..<4), connection: 2))
  #expect(world.sessions.partitionCount == 10)
  #expect(world.partitions(request(second, 1, [0, 1])) == [0, 1, 2, 3])
  #expect(world.refusal(request(second, 2, [9])) == .fetchSessionIDNotFound, "it ends, and its client begins anew")
  #expect(world.sessions.partitionCount == 6 && world.sessions.count == 1)
  #expect(world.partitions(request(first, 1, forget: [0, 1])) == [2, 3, 4, 5] && world.sessions.partitionCount == 4)
  // The oldest makes room when it was not used for long, however few there are.
  world.now = world.now + FetchSessions.evictionAge
  #expect(world.new(Array(0..<7), connection: 3) != nil && world.sessions.count == 1)
  world.sessions.end(connection: 3)
  #expect(world.sessions.partitionCount == 0)
}
