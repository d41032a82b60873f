// FetchSessions: what a consumer fetches, remembered between requests, so that it sends and gets only what changed.
//
// A request names a session id and an epoch:
//   id any, epoch −1   no session (an existing one ends), everything is in the request
//   id any, epoch 0    a new session (an existing one ends), everything is in the request
//   id > 0, epoch n    the session goes on if n is its next epoch; the request holds changes only
// Source: KIP-227.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel

/// A partition as a fetch request names it: by name before version 13, by id from then on.
struct FetchKey: Hashable {
  var name: String
  var id: TopicID
  var partition: Int32
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
  var nextEpoch: Int32 = 1
  /// In the order in which the client added them; where data was found they go to the end, so that none starves.
  var partitions: [FetchSessionPartition] = []
  var lastUse: UInt64 = 0

  init(id: Int32) { self.id = id }

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

/// All fetch sessions of a server; when there is no room the one used longest ago ends.
struct FetchSessions {
  enum Outcome {
    /// Everything is in the request; `session` is new, nil when none was asked for or there is no room.
    case full(session: FetchSession?)
    case incremental(FetchSession)
    case refused(KafkaErrorCode)
  }

  private var sessions: [Int32: FetchSession] = [:]
  private var uses: UInt64 = 0
  private var nextID: Int32 = 1
  let limit: Int

  init(limit: Int) { self.limit = limit }

  /// Sessions held.
  var count: Int { sessions.count }

  mutating func begin(_ request: FetchRequest) -> Outcome {
    uses += 1
    if request.sessionEpoch == -1 || request.sessionEpoch == 0 {
      if request.sessionID != 0 { sessions[request.sessionID] = nil }
      guard request.sessionEpoch == 0, limit > 0 else { return .full(session: nil) }
      if sessions.count >= limit, let oldest = sessions.values.min(by: { $0.lastUse < $1.lastUse }) {
        sessions[oldest.id] = nil
      }
      while sessions[nextID] != nil { nextID = nextID == .max ? 1 : nextID + 1 }
      let session = FetchSession(id: nextID)
      nextID = nextID == .max ? 1 : nextID + 1
      session.lastUse = uses
      session.update(request)
      sessions[session.id] = session
      return .full(session: session)
    }
    guard let session = sessions[request.sessionID] else { return .refused(.fetchSessionIDNotFound) }
    guard session.nextEpoch == request.sessionEpoch else { return .refused(.invalidFetchSessionEpoch) }
    session.nextEpoch = session.nextEpoch == .max ? 1 : session.nextEpoch + 1
    session.lastUse = uses
    session.update(request)
    return .incremental(session)
  }
}
