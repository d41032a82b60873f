// MetadataEvent+Description: events in words, a line each, for people who look into a journal.

import MillraceBase
import MillraceDelivery
import MillraceModel
import MillraceRouting

extension MetadataEvent: CustomStringConvertible {
  /// What the event says, on one line; names are quoted, with what cannot be printed escaped.
  public var description: String {
    switch self {
    case .started(let epoch, let clusterID): "started: leader epoch \(epoch), cluster \(quoted(clusterID))"
    case .topicCreated(let name, let id, let partitions, let configs, _):
      "topic \(quoted(name)) created: id \(id), \(numbers(partitions)), settings \(settings(configs.mapValues { $0 }))"
    case .topicDeleted(let id): "topic deleted: id \(id)"
    case .offsetsCommitted(let group, let offsets):
      "group \(quoted(group)): offsets committed in \(offsets.count) partitions"
    case .producerIDsReserved(let next): "producer ids below \(next) reserved"
    case .jobStarted(let name, let epoch): "job \(quoted(name)) started: epoch \(epoch)"
    case .jobOwned(let name, let epoch, let owner):
      "job \(quoted(name)) started: epoch \(epoch), by worker \(String(owner, radix: 16))"
    case .jobStopped(let name, let isStopped): "job \(quoted(name)) \(isStopped ? "stopped" : "resumed")"
    case .partitionsAdded(let id, let partitions): "topic of id \(id): \(numbers(partitions)) added"
    case .topicConfigured(let id, let changes): "topic of id \(id): settings \(settings(changes))"
    case .resourceConfigured(let resource, let changes):
      "\(resource.kind) \(quoted(resource.name)): settings \(settings(changes))"
    case .groupDeleted(let group): "group \(quoted(group)) deleted"
    case .offsetsDeleted(let group, let partitions):
      "group \(quoted(group)): offsets deleted in \(partitions.count) partitions"
    case .quotasChanged(let entity, let limits):
      "limits of \(entity): \(settings(limits.mapValues { $0.map { "\($0)" } }))"
    case .transaction(let event): event.description
    case .groupEpochsReserved(let group, let next): "group \(quoted(group)): epochs below \(next) reserved"
    case .consumerGroupEnded(let group): "group \(quoted(group)): no longer of the consumer protocol"
    case .queue(let event): event.description
    case .share(let event): event.description
    case .security(let event): event.description
    }
  }
}

extension SecurityEvent: CustomStringConvertible {
  /// As that of ``MetadataEvent``; nothing of a credential.
  public var description: String {
    switch self {
    case .userSet(let name, let tags): "user \(quoted(name)): tags \(tags.map { quoted($0) }.joined(separator: " "))"
    case .userRemoved(let name): "user \(quoted(name)) removed"
    case .credentialSet(let user, let credential):
      "user \(quoted(user)): \(credential.mechanism.name) credential set"
    case .credentialRemoved(let user, let mechanism): "user \(quoted(user)): \(mechanism.name) credential removed"
    case .serverKeySet: "server key set"
    case .rulesChanged(let added, let removed):
      "rules: "
        + (added.map { "added \(quoted($0.description))" } + removed.map { "removed \(quoted($0.description))" })
        .joined(separator: "; ")
    }
  }
}

extension ShareEvent: CustomStringConvertible {
  /// As that of ``MetadataEvent``.
  public var description: String {
    switch self {
    case .began(let group, let partition, let start):
      "share group \(quoted(group)): partition \(partition) from offset \(start) on"
    case .changed(let group, let partition, let changes):
      "share group \(quoted(group)): partition \(partition): " + changes.map(words).joined(separator: "; ")
    case .forgotten(let group, let topics):
      "share group \(quoted(group)): topics forgotten, ids " + topics.map(\.description).joined(separator: " ")
    }
  }
}

extension TransactionEvent: CustomStringConvertible {
  /// As that of ``MetadataEvent``.
  public var description: String {
    let what =
      switch self {
      case .initialised(_, let producer, _, _, _): "producer \(producer) initialised"
      case .partitionsAdded(_, let partitions, _): "\(partitions.count) partitions added"
      case .groupAdded(_, let group, _): "group \(quoted(group)) added"
      case .offsetsAdded(_, let group, let offsets, _):
        "offsets of group \(quoted(group)) in \(offsets.count) partitions"
      case .ended(_, let isCommit, let producer, _, _):
        "\(isCommit ? "committed" : "aborted"), next producer \(producer)"
      case .expired: "forgotten"
      }
    return "transactional id \(quoted(id)): \(what)"
  }
}

extension QueueEvent: CustomStringConvertible {
  /// As that of ``MetadataEvent``.
  public var description: String {
    switch self {
    case .virtualHostCreated(let name): "vhost \(quoted(name)) created"
    case .virtualHostDeleted(let name): "vhost \(quoted(name)) deleted"
    case .exchangeDeclared(let virtualHost, let exchange):
      "vhost \(quoted(virtualHost)): exchange \(quoted(exchange.name)) declared, \(exchange.type.rawValue)"
    case .bound(let virtualHost, let binding): "vhost \(quoted(virtualHost)): bound \(words(binding))"
    case .removed(let virtualHost, let removal): "vhost \(quoted(virtualHost)): \(words(removal))"
    case .queueCreated(let queue):
      "queue \(queue.number) created: \(quoted(queue.name)) in vhost \(quoted(queue.virtualHost)), \(numbers(queue.lanes))"
    case .queueDeleted(let number): "queue \(number) deleted"
    case .changed(let number, let changes): "queue \(number): " + changes.map(words).joined(separator: "; ")
    case .published(let number, let lane, let bytes): "queue \(number): \(bytes) B published to lane \(lane)"
    }
  }
}

private func quoted(_ text: String) -> String { text.debugDescription }

private func numbers(_ partitions: [PartitionLogID]) -> String {
  "partition numbers " + partitions.map(\.description).joined(separator: " ")
}

private func settings(_ changes: [String: String?]) -> String {
  let words = changes.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.map(quoted) ?? "standard")" }
  return words.isEmpty ? "none" : words.joined(separator: " ")
}

private func words(_ destination: Destination) -> String { "\(destination.kind) \(quoted(destination.name))" }

private func words(_ binding: Binding) -> String {
  "exchange \(quoted(binding.source)) to \(words(binding.destination)), key \(quoted(binding.key.text))"
}

private func words(_ removal: RoutingRemoval) -> String {
  let cause =
    switch removal.cause {
    case .binding(let binding): "unbound \(words(binding))"
    case .destination(let destination): "bindings to \(words(destination)) removed"
    case .exchange(let name): "exchange \(quoted(name)) deleted"
    }
  return removal.autoDeleted.isEmpty
    ? cause : "\(cause), with exchanges \(removal.autoDeleted.map(quoted).joined(separator: " "))"
}

private func words(_ change: QueueChange) -> String {
  switch change {
  case .done(let lane, let ranges, let bytes):
    "lane \(lane) done "
      + ranges.map { "\($0.lowerBound)..<\($0.upperBound)" }.joined(separator: " ") + " (\(bytes) B)"
  case .counted(let lane, let offset, let count): "lane \(lane) offset \(offset) failed \(count) times"
  case .delayed(let lane, let offset, let until):
    "lane \(lane) offset \(offset) waits until \(Logger.iso8601(until))"
  }
}

private func words(_ change: ShareChange) -> String {
  func words(_ ranges: [Range<Offset>]) -> String {
    ranges.map { "\($0.lowerBound)..<\($0.upperBound)" }.joined(separator: " ")
  }
  return switch change {
  case .done(let ranges): "done \(words(ranges))"
  case .counted(let ranges, let deliveries): "delivered \(deliveries) times \(words(ranges))"
  }
}
