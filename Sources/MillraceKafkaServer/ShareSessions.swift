// ShareSessions: what members of share groups fetch, remembered between requests. A session is a group's member's.
//
// A request names an epoch:
//   0    a new session; one that the member has ends, but what it has acquired stays with it
//   n    the session goes on if n is its next epoch; the request holds changes only
//   −1   the session ends, and what the member has is given back
//
// A session ends with the connection that used it last; then what the member has goes to others at once.
// Source: KIP-932, "Share sessions".

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel

final class ShareSession {
  let group: String
  let memberID: String
  fileprivate(set) var nextEpoch: Int32 = 1
  /// Where records were found goes to the end, so that none starves.
  private(set) var partitions: [TopicIDPartition] = []
  fileprivate var connection: UInt64

  init(group: String, memberID: String, connection: UInt64) {
    self.group = group
    self.memberID = memberID
    self.connection = connection
  }

  fileprivate func update(adding added: [TopicIDPartition], forgetting forgotten: Set<TopicIDPartition>) {
    if !added.isEmpty {
      var known = Set(partitions)
      for one in added where known.insert(one).inserted { partitions.append(one) }
    }
    if !forgotten.isEmpty { partitions.removeAll { forgotten.contains($0) } }
  }

  /// Puts the partitions that had records behind the others.
  func rotate(_ hadData: Set<TopicIDPartition>) {
    guard !hadData.isEmpty, hadData.count < partitions.count else { return }
    partitions = partitions.filter { !hadData.contains($0) } + partitions.filter { hadData.contains($0) }
  }
}

/// All share sessions of a server.
struct ShareSessions {
  enum Outcome {
    case opened(ShareSession)
    case continued(ShareSession)
    /// The session is over: what the request says is still to be done.
    case closed(ShareSession)
    case refused(KafkaErrorCode, String)
  }

  private struct Key: Hashable {
    let group: String
    let memberID: String
  }

  private var sessions: [Key: ShareSession] = [:]
  private(set) var partitionCount = 0
  let limit: Int
  /// Partitions that all sessions may remember: a request may name millions, which need not exist.
  let partitionLimit: Int

  init(limit: Int, partitionLimit: Int = FetchSessions.usualPartitionLimit) {
    self.limit = limit
    self.partitionLimit = partitionLimit
  }

  /// Sessions held.
  var count: Int { sessions.count }

  /// Takes over what a request for records says of its session.
  mutating func fetch(_ request: ShareFetchRequest, group: String, memberID: String, connection: UInt64) -> Outcome {
    let named = request.topics.flatMap { topic in
      topic.partitions.map { TopicIDPartition(topic.topicID, $0.partitionIndex) }
    }
    let key = Key(group: group, memberID: memberID)
    if request.shareSessionEpoch == 0 {
      guard request.topics.allSatisfy({ $0.partitions.allSatisfy(\.acknowledgementBatches.isEmpty) }) else {
        return .refused(.invalidRequest, "a new share session has no records to acknowledge")
      }
      end(key)
      guard sessions.count < limit else {
        return .refused(.shareSessionLimitReached, "\(sessions.count) share sessions are held; no more can be")
      }
      let session = ShareSession(group: group, memberID: memberID, connection: connection)
      session.update(adding: named, forgetting: [])
      guard partitionCount + session.partitions.count <= partitionLimit else {
        return .refused(
          .shareSessionLimitReached,
          "\(session.partitions.count) partitions, \(partitionCount) are in share sessions; \(partitionLimit) can be")
      }
      sessions[key] = session
      partitionCount += session.partitions.count
      return .opened(session)
    }
    let outcome = goOn(key, epoch: request.shareSessionEpoch, connection)
    guard case .continued(let session) = outcome else { return outcome }
    let before = session.partitions.count
    var forgotten: Set<TopicIDPartition> = []
    for topic in request.forgottenTopicsData {
      for partition in topic.partitions { forgotten.insert(TopicIDPartition(topic.topicID, partition)) }
    }
    session.update(adding: named, forgetting: forgotten)
    partitionCount += session.partitions.count - before
    guard partitionCount <= partitionLimit else {
      end(key)
      return .refused(.shareSessionNotFound, "there is no room for the partitions of this share session")
    }
    return outcome
  }

  /// Takes over what a request that only acknowledges says of its session.
  mutating func acknowledge(epoch: Int32, group: String, memberID: String, connection: UInt64) -> Outcome {
    guard epoch != 0 else {
      return .refused(.invalidShareSessionEpoch, "a share session does not begin with an acknowledgement")
    }
    return goOn(Key(group: group, memberID: memberID), epoch: epoch, connection)
  }

  private mutating func goOn(_ key: Key, epoch: Int32, _ connection: UInt64) -> Outcome {
    guard let session = sessions[key] else {
      return .refused(.shareSessionNotFound, "member \(key.memberID) of group \(key.group) has no share session")
    }
    if epoch == -1 {
      end(key)
      return .closed(session)
    }
    guard epoch == session.nextEpoch else {
      return .refused(
        .invalidShareSessionEpoch, "share session epoch \(epoch), the next one is \(session.nextEpoch)")
    }
    session.nextEpoch = epoch == .max ? 1 : epoch + 1
    session.connection = connection
    return .continued(session)
  }

  private mutating func end(_ key: Key) {
    if let session = sessions.removeValue(forKey: key) { partitionCount -= session.partitions.count }
  }

  /// Forgets the session of a member that is gone.
  mutating func end(group: String, memberID: String) { end(Key(group: group, memberID: memberID)) }

  /// Forgets the sessions that a connection used last, because it is gone.
  /// - Returns: they, in order.
  mutating func end(connection: UInt64) -> [ShareSession] {
    let gone = sessions.filter { $0.value.connection == connection }
    for key in gone.keys { end(key) }
    return gone.values.sorted { ($0.group, $0.memberID) < ($1.group, $1.memberID) }
  }
}
