// FetchSessions: what a consumer fetches, remembered between requests, so that it sends and gets only what changed.
//
// A request names a session id and an epoch:
//   id any, epoch −1   no session (an existing one ends), everything is in the request
//   id any, epoch 0    a new session (an existing one ends), everything is in the request
//   id > 0, epoch n    the session goes on if n is its next epoch; the request holds changes only
//
// Ids are random, so that a client that comes back after a restart with an id of old does not meet another one's session.
// A session ends with the connection that used it last: clients begin anew on a new connection.
// Source: KIP-227.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel

/// A partition as a fetch request names it: by name before version 13, by id from then on.
struct FetchKey: Hashable {
  /// The topic alone.
  struct Topic: Hashable {
    let name: String
    let id: TopicID
  }

  var name: String
  var id: TopicID
  var partition: Int32

  var topic: Topic { Topic(name: name, id: id) }
}

/// One partition of a session.
struct FetchSessionPartition {
  var key: FetchKey
  var wish: FetchRequest.FetchPartition
  /// What the client was told last.
  var highWatermark: Int64 = -1
  var startOffset: Int64 = -1
}

final class FetchSession {
  let id: Int32
  /// Partitions are named by topic id, as from version 13 on.
  let usesTopicIDs: Bool
  var nextEpoch: Int32 = 1
  /// In the order in which the client added them; where data was found they go to the end, so that none starves.
  var partitions: [FetchSessionPartition] = []
  var lastUse: MonotonicTime
  /// The connection that used it last.
  var connection: UInt64

  init(id: Int32, usesTopicIDs: Bool, connection: UInt64, now: MonotonicTime) {
    self.id = id
    self.usesTopicIDs = usesTopicIDs
    self.connection = connection
    lastUse = now
  }

  /// Takes over what an incremental request changes.
  func update(_ request: FetchRequest) {
    var places: [FetchKey: Int] = [:]
    for (index, partition) in partitions.enumerated() { places[partition.key] = index }
    for topic in request.topics {
      for wish in topic.partitions {
        let key = FetchKey(name: topic.topic, id: topic.topicID, partition: wish.partition)
        if let at = places[key] {
          partitions[at].wish = wish
        } else {
          places[key] = partitions.count
          partitions.append(FetchSessionPartition(key: key, wish: wish))
        }
      }
    }
    var forgotten: Set<FetchKey> = []
    for topic in request.forgottenTopicsData {
      for partition in topic.partitions {
        forgotten.insert(FetchKey(name: topic.topic, id: topic.topicID, partition: partition))
      }
    }
    if !forgotten.isEmpty { partitions.removeAll { forgotten.contains($0.key) } }
  }

  /// Puts the partitions that had data behind the others.
  func rotate(_ hadData: Set<FetchKey>) {
    guard !hadData.isEmpty, hadData.count < partitions.count else { return }
    partitions = partitions.filter { !hadData.contains($0.key) } + partitions.filter { hadData.contains($0.key) }
  }
}

/// All fetch sessions of a server; when there is no room the one used longest ago ends, if that was long ago.
struct FetchSessions {
  enum Outcome {
    /// Everything is in the request; `session` is new, nil when none was asked for or there is no room.
    case full(session: FetchSession?)
    case incremental(FetchSession)
    case refused(KafkaErrorCode)
  }

  private var sessions: [Int32: FetchSession] = [:]
  /// Partitions that all sessions remember.
  private(set) var partitionCount = 0
  private var random: SeededRandom
  let limit: Int
  /// Partitions that all sessions may remember: a request may name millions, which need not exist.
  let partitionLimit: Int
  static let usualPartitionLimit = 1_000_000
  /// A session must have been unused for this long to make room for another: were any taken, more readers than there is
  /// room for would end each other's sessions all the time. Source: Kafka, `min.incremental.fetch.session.eviction.ms`.
  static let evictionAge = Duration.seconds(120)

  init(limit: Int, partitionLimit: Int = usualPartitionLimit, seed: UInt64) {
    self.limit = limit
    self.partitionLimit = partitionLimit
    random = SeededRandom(seed: seed)
  }

  /// Sessions held.
  var count: Int { sessions.count }

  /// Forgets the sessions that a connection used last, because it is gone.
  mutating func end(connection: UInt64) {
    for (id, session) in sessions where session.connection == connection { end(id) }
  }

  private mutating func end(_ id: Int32) {
    if let session = sessions.removeValue(forKey: id) { partitionCount -= session.partitions.count }
  }

  private mutating func makeRoom(for partitions: Int, _ now: MonotonicTime) -> Bool {
    guard partitions <= partitionLimit else { return false }
    while partitionCount + partitions > partitionLimit { if !endOldest(now) { return false } }
    return sessions.count < limit || endOldest(now)
  }

  private mutating func endOldest(_ now: MonotonicTime) -> Bool {
    guard let oldest = sessions.values.min(by: { ($0.lastUse, $0.id) < ($1.lastUse, $1.id) }),
      now - oldest.lastUse >= FetchSessions.evictionAge
    else { return false }
    end(oldest.id)
    return true
  }

  mutating func begin(
    _ request: FetchRequest, version: Int16, connection: UInt64, now: MonotonicTime
  ) -> Outcome {
    if request.sessionEpoch == -1 || request.sessionEpoch == 0 {
      if request.sessionID != 0 { end(request.sessionID) }
      let named = request.topics.reduce(0) { $0 + $1.partitions.count }
      guard request.sessionEpoch == 0, makeRoom(for: named, now) else { return .full(session: nil) }
      var id = Int32.random(in: 1 ... .max, using: &random)
      while sessions[id] != nil { id = Int32.random(in: 1 ... .max, using: &random) }
      let session = FetchSession(id: id, usesTopicIDs: version >= 13, connection: connection, now: now)
      session.update(request)
      sessions[session.id] = session
      partitionCount += session.partitions.count
      return .full(session: session)
    }
    guard let session = sessions[request.sessionID] else { return .refused(.fetchSessionIDNotFound) }
    guard session.nextEpoch == request.sessionEpoch else { return .refused(.invalidFetchSessionEpoch) }
    guard session.usesTopicIDs == (version >= 13) else { return .refused(.fetchSessionTopicIDError) }
    session.nextEpoch = session.nextEpoch == .max ? 1 : session.nextEpoch + 1
    session.lastUse = now
    session.connection = connection
    let before = session.partitions.count
    session.update(request)
    partitionCount += session.partitions.count - before
    guard partitionCount <= partitionLimit else {
      // The client begins anew, and gets a session if there is room for all of it.
      end(session.id)
      return .refused(.fetchSessionIDNotFound)
    }
    return .incremental(session)
  }
}
