// GroupOffsets: OffsetCommit and OffsetFetch.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel

extension KafkaConnection {
  func handleOffsetCommit(_ request: OffsetCommitRequest, _ context: RequestContext<OffsetCommitResponse>) {
    var response = OffsetCommitResponse()
    var refusal: BrokerError?
    do throws(BrokerError) {
      try require(.read, .group, request.groupID)
      try broker.groups.checkCommit(
        group: request.groupID, memberID: request.memberID, instanceID: request.groupInstanceID,
        generation: request.generationIDOrMemberEpoch,
        partitions: request.topics.flatMap { topic in
          let id = context.version >= 10 ? topic.topicID : broker.topic(topic.name)?.id ?? .zero
          return topic.partitions.map { TopicIDPartition(id, $0.partitionIndex) }
        })
    } catch {
      refusal = error
    }
    var offsets: [PartitionOffset] = []
    for topic in request.topics {
      // From version 10 on by id.
      let found = context.version >= 10 ? broker.topic(topic.topicID) : broker.topic(topic.name)
      let name = found?.name ?? topic.name
      // An id that no topic has stands for nothing that could be denied.
      let isAllowed = refusal != nil || name.isEmpty || client.allows(.read, .topic, name)
      var answer = OffsetCommitResponse.OffsetCommitResponseTopic(name: topic.name, topicID: topic.topicID)
      for wish in topic.partitions {
        var code = refusal.map { KafkaErrorCode(group: $0) } ?? .none
        let metadata = wish.committedMetadata
        if code == .none, !isAllowed { code = .topicAuthorizationFailed }
        if code == .none, found.flatMap({ broker.partition($0, wish.partitionIndex) }) == nil {
          code = context.version >= 10 && found == nil ? .unknownTopicID : .unknownTopicOrPartition
        }
        if code == .none, metadata?.utf8.count ?? 0 > broker.settings.largestOffsetMetadata {
          code = .offsetMetadataTooLarge
        }
        if code == .none {
          offsets.append(
            PartitionOffset(
              partition: TopicPartition(name, wish.partitionIndex),
              committed: CommittedOffset(
                offset: wish.committedOffset, leaderEpoch: wish.committedLeaderEpoch, metadata: metadata,
                time: broker.reactor.wallClock)))
        }
        answer.partitions.append(.init(partitionIndex: wish.partitionIndex, errorCode: code))
      }
      response.topics.append(answer)
    }
    let prepared = response
    broker.groups.commit(group: request.groupID, offsets: offsets) { error in
      guard let error else { return context.answer(prepared) }
      var failed = prepared
      for topic in failed.topics.indices {
        for partition in failed.topics[topic].partitions.indices
        where failed.topics[topic].partitions[partition].errorCode == .none {
          failed.topics[topic].partitions[partition].errorCode = KafkaErrorCode(group: error)
        }
      }
      context.answer(failed)
    }
  }

  /// Answers when all that was committed so far is durable, so that no consumer starts from an offset that is lost. Who
  /// requires stable offsets is told to wait where a transaction is about to commit one.
  func handleOffsetFetch(_ request: OffsetFetchRequest, _ context: RequestContext<OffsetFetchResponse>) {
    // What is told is what holds now: by the time that is durable, something newer may hold that is not.
    let told = offsets(request, context.version, failure: nil)
    broker.whenDurable { [self] error in
      context.answer(error == nil ? told : offsets(request, context.version, failure: error))
    }
  }

  private func offsets(
    _ request: OffsetFetchRequest, _ version: Int16, failure error: BrokerError?
  ) -> OffsetFetchResponse {
    var response = OffsetFetchResponse()
    if version >= 8 {
      response.groups = request.groups.firstOfEach(\.groupID).map { group in
        var answer = OffsetFetchResponse.OffsetFetchResponseGroup(groupID: group.groupID)
        if let error {
          answer.errorCode = KafkaErrorCode(group: error)
          return answer
        }
        do throws(BrokerError) {
          try require(.describe, .group, group.groupID)
          try broker.groups.checkFetch(group: group.groupID, memberID: group.memberID, epoch: group.memberEpoch)
        } catch {
          answer.errorCode = KafkaErrorCode(group: error)
          return answer
        }
        // From version 10 on by id; the id of a topic that is not there stands with the name that no topic has.
        let usesIDs = version >= 10
        let wanted = group.topics?.map { wish in
          (usesIDs ? broker.topic(wish.topicID)?.name ?? "" : wish.name, wish.partitionIndexes)
        }
        let unstable = request.requireStable ? broker.groups.pendingPartitions(group.groupID) : []
        let found = committed(group.groupID, wanted)
        answer.topics = found.enumerated().compactMap { index, topic in
          let (name, partitions) = topic
          let id = group.topics?[index].topicID ?? broker.topic(name)?.id
          if usesIDs, id == nil { return nil }
          let isAllowed = isDescribable(name)
          return .init(
            name: usesIDs && !isAllowed ? "" : name, topicID: id ?? .zero,
            partitions: partitions.map { number, offset in
              guard isAllowed else {
                return .init(partitionIndex: number, committedOffset: -1, errorCode: .topicAuthorizationFailed)
              }
              if unstable.contains(TopicPartition(name, number)) {
                return .init(partitionIndex: number, committedOffset: -1, errorCode: .unstableOffsetCommit)
              }
              return .init(
                partitionIndex: number, committedOffset: offset?.offset ?? -1,
                committedLeaderEpoch: offset?.leaderEpoch ?? -1, metadata: offset?.metadata ?? "",
                errorCode: usesIDs && name.isEmpty ? .unknownTopicID : .none)
            })
        }
        return answer
      }
    } else {
      var code = error.map { KafkaErrorCode(group: $0) } ?? .none
      let wanted = request.topics?.map { ($0.name, $0.partitionIndexes) }
      if !client.allows(.describe, .group, request.groupID) {
        code = .groupAuthorizationFailed
        response.errorCode = code
        // Before version 2 there is no other place for the code.
        response.topics = (request.topics ?? []).map { topic in
          .init(
            name: topic.name,
            partitions: topic.partitionIndexes.map {
              .init(partitionIndex: $0, committedOffset: -1, errorCode: code)
            })
        }
        return response
      }
      response.errorCode = code
      let unstable = request.requireStable ? broker.groups.pendingPartitions(request.groupID) : []
      response.topics = committed(request.groupID, wanted).map { name, partitions in
        let isAllowed = isDescribable(name)
        return .init(
          name: name,
          partitions: partitions.map { number, offset in
            guard isAllowed else {
              return .init(partitionIndex: number, committedOffset: -1, errorCode: .topicAuthorizationFailed)
            }
            if unstable.contains(TopicPartition(name, number)) {
              return .init(partitionIndex: number, committedOffset: -1, errorCode: .unstableOffsetCommit)
            }
            return .init(
              partitionIndex: number, committedOffset: offset?.offset ?? -1,
              committedLeaderEpoch: offset?.leaderEpoch ?? -1, metadata: offset?.metadata ?? "",
              errorCode: version < 2 ? code : .none)
          })
      }
    }
    return response
  }

  /// An id that no topic has stands for nothing that could be denied.
  private func isDescribable(_ name: String) -> Bool { name.isEmpty || client.allows(.describe, .topic, name) }

  /// The offsets of a group for what is wanted; when that is nil, for all topics that the client may describe.
  private func committed(
    _ group: String, _ wanted: [(String, [Int32])]?
  ) -> [(String, [(Int32, CommittedOffset?)])] {
    let offsets = broker.groups.offsets(group)
    if let wanted {
      return wanted.map { name, partitions in (name, partitions.map { ($0, offsets[TopicPartition(name, $0)]) }) }
    }
    var byTopic: [String: [(Int32, CommittedOffset?)]] = [:]
    for (partition, offset) in offsets where client.sees(.describe, .topic, partition.topic) {
      byTopic[partition.topic, default: []].append((partition.partition, offset))
    }
    return byTopic.sorted { $0.key < $1.key }.map { ($0.key, $0.value.sorted { $0.0 < $1.0 }) }
  }
}
