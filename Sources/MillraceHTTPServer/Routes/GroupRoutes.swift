// GroupRoutes: consumer groups, how far they are behind, and where they go on.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceModel
import MillraceSecurity

enum GroupRoutes {
  static let groupName = HTTPParameter("group", .text(1...249), "The group.")
  static func needs(_ operation: AccessOperation) -> HTTPAccess {
    .needs([HTTPRequirement(operation, .group, .path("group"))])
  }
  private static let members: [HTTPMember] = [
    .required("name", .string), .required("kind", .words(["classic", "consumer", "share"])),
    .required("state", .string), .required("members", .count), .required("lag", .count, "Records behind, in all."),
  ]
  private static let offset = HTTPSchema.object([
    .required("topic", .string), .required("partition", .count),
    .required("committed", .count, "The next record that the group will read."), .required("endOffset", .count),
    .required("lag", .count), .required("metadata", .string),
  ])
  private static let group = HTTPSchema.object(
    members + [
      .required("protocol", .string), .required("assignor", .string),
      .required(
        "clients",
        .array(
          .object([
            .required("id", .string), .required("instanceId", .nullable(.string)), .required("clientId", .string),
            .required("host", .string),
          ]))), .required("offsets", .array(offset)),
    ])

  static let all: [HTTPRoute] = [
    HTTPRoute(
      .get, "/api/v1/groups", "Groups", "Lists groups in the order of their names.", .filtered(.describe, .group),
      response: .json(.object([.required("groups", .array(.object(members)))])), handler: list),
    HTTPRoute(
      .get, "/api/v1/groups/{group}", "Groups", "Describes a group: members, committed offsets and lag.",
      needs(.describe), path: [groupName], response: .json(group), handler: show),
    HTTPRoute(
      .post, "/api/v1/groups/{group}/offsets", "Groups",
      "Sets where a group without members goes on: in these partitions, or in all that it has committed offsets for.",
      needs(.read), path: [groupName],
      request: .json(
        .object([
          .optional("to", .words(["earliest", "latest"]), "An end of each partition; else `offset` or `timestamp`."),
          .optional("offset", .count, "This offset; within each partition the nearest one that there is."),
          .optional("timestamp", .count, "The first record of this time or later, in milliseconds since 1970."),
          .optional(
            "partitions",
            .array(.object([.required("topic", .name), .optional("partition", .integer(0...Int64(Int32.max)))])),
            "Without `partition`, all of the topic."),
        ])),
      response: .json(
        .object([
          .required(
            "offsets",
            .array(
              .object([
                .required("topic", .string), .required("partition", .count), .required("before", .nullable(.count)),
                .required("after", .count),
              ])))
        ])), handler: reset),
    HTTPRoute(
      .delete, "/api/v1/groups/{group}", "Groups", "Deletes a group without members, with its offsets.",
      needs(.delete), path: [groupName], status: .noContent, response: .nothing, handler: delete),
  ]

  private static func head(_ name: String, _ call: HTTPCall, to json: inout JSONWriter) {
    let broker = call.broker
    let group = broker.groups.describe(name)
    json.name("name")
    json.string(name)
    json.name("kind")
    json.string(group.kind.rawValue)
    json.name("state")
    json.string(group.state)
    json.name("members")
    json.number(group.members.count)
    json.name("lag")
    json.number(broker.lag(ofGroup: name).reduce(0) { $0 + $1.lag })
  }

  static func list(_ call: HTTPCall) {
    call.answerObject { json in
      json.name("groups")
      json.array { json in
        for name in call.broker.groups.names where call.allows(.describe, .group, name) {
          json.object { json in head(name, call, to: &json) }
        }
      }
    }
  }

  private static func checkExists(_ call: HTTPCall) throws(HTTPProblem) {
    let name = call.path("group")
    guard call.broker.groups.kind(name) != nil else {
      throw HTTPProblem(.notFound, "unknown-group", "group \(name) does not exist", at: "path group")
    }
  }

  static func show(_ call: HTTPCall) throws(HTTPProblem) {
    try checkExists(call)
    let broker = call.broker
    let name = call.path("group")
    let group = broker.groups.describe(name)
    let offsets = broker.groups.offsets(name).sorted {
      ($0.key.topic, $0.key.partition) < ($1.key.topic, $1.key.partition)
    }
    call.answerObject { json in
      head(name, call, to: &json)
      json.name("protocol")
      json.string(group.protocolType)
      json.name("assignor")
      json.string(group.protocolName)
      json.name("clients")
      json.array { json in
        for member in group.members {
          json.object { json in
            json.name("id")
            json.string(member.id)
            json.name("instanceId")
            if let instance = member.instanceID { json.string(instance) } else { json.null() }
            json.name("clientId")
            json.string(member.clientID)
            json.name("host")
            json.string(member.clientHost)
          }
        }
      }
      json.name("offsets")
      json.array { json in
        for (place, committed) in offsets {
          let log = broker.topic(place.topic).flatMap { broker.partition($0, place.partition) }
          let end = log?.highWatermark ?? committed.offset
          json.object { json in
            json.name("topic")
            json.string(place.topic)
            json.name("partition")
            json.number(place.partition)
            json.name("committed")
            json.number(committed.offset)
            json.name("endOffset")
            json.number(end)
            json.name("lag")
            json.number(max(0, end - max(committed.offset, log?.startOffset ?? 0)))
            json.name("metadata")
            json.string(committed.metadata ?? "")
          }
        }
      }
    }
  }

  static func delete(_ call: HTTPCall) throws(HTTPProblem) {
    let name = call.path("group")
    do throws(BrokerError) {
      try call.broker.groups.checkDeletion(of: name)
    } catch {
      throw HTTPProblem(error)
    }
    call.broker.groups.delete(name) { error in call.answer(error) { call.answerNothing() } }
  }

  // MARK: Reset

  static func reset(_ call: HTTPCall) throws(HTTPProblem) {
    let body = try call.json()
    let broker = call.broker
    let name = call.path("group")
    guard ["to", "offset", "timestamp"].filter({ body?[$0] != nil }).count == 1 else {
      throw HTTPProblem(
        .badRequest, "invalid-value", "one of to, offset and timestamp must say where to go on", at: "/")
    }
    guard broker.groups.kind(name) != .share else {
      throw HTTPProblem(.conflict, "share-group", "group \(name) is a share group, whose offsets Kafka's tools reset")
    }
    let places = try wanted(call, body)
    guard !places.isEmpty else {
      throw HTTPProblem(
        .notFound, "unknown-group", "group \(name) has committed nothing; `partitions` says where a new one begins")
    }
    do throws(BrokerError) {
      let members = broker.groups.describe(name).members.count
      guard members == 0 else { throw BrokerError(.groupNotEmpty, "group \(name) has \(members) members") }
      try broker.groups.checkCommit(group: name, memberID: "", instanceID: nil, generation: -1)
    } catch {
      throw HTTPProblem(error)
    }
    let query: OffsetQuery =
      if let time = body?["timestamp"]?.integer {
        .time(Timestamp(milliseconds: time))
      } else {
        body?["to"]?.string == "latest" ? .latest : .earliest
      }
    let run = Reset(call, places)
    for (place, log) in places {
      if let offset = body?["offset"]?.integer {
        run.found(place, min(max(offset, log.startOffset), log.highWatermark))
        continue
      }
      broker.offset(for: query, in: log) { result in
        switch result {
        case .success(let found): run.found(place, found.offset < 0 ? log.highWatermark : found.offset)
        case .failure(let error): run.failed(error)
        }
      }
    }
  }

  private static func wanted(
    _ call: HTTPCall, _ body: JSONValue?
  ) throws(HTTPProblem) -> [(TopicPartition, PartitionLog)] {
    let broker = call.broker
    var places: Set<TopicPartition> = []
    if let list = body?["partitions"]?.array {
      for (index, one) in list.enumerated() {
        let name = one["topic"]?.string ?? ""
        guard let topic = broker.topic(name) else {
          throw HTTPProblem(
            .notFound, "unknown-topic", "topic \(name) does not exist", at: "/partitions/\(index)/topic")
        }
        if let number = one["partition"]?.integer {
          guard number < topic.partitions.count else {
            throw HTTPProblem(
              .notFound, "unknown-partition", "topic \(name) has no partition \(number)",
              at: "/partitions/\(index)/partition")
          }
          places.insert(TopicPartition(name, Int32(number)))
        } else {
          for number in 0..<topic.partitions.count { places.insert(TopicPartition(name, Int32(number))) }
        }
      }
    } else {
      places = Set(broker.groups.offsets(call.path("group")).keys)
    }
    for topic in Set(places.map(\.topic)).sorted() { try call.require(.read, .topic, topic) }
    return places.sorted { ($0.topic, $0.partition) < ($1.topic, $1.partition) }.compactMap { place in
      broker.topic(place.topic).flatMap { broker.partition($0, place.partition) }.map { (place, $0) }
    }
  }

  /// The partitions of one request, until where each goes on is known.
  private final class Reset {
    private let call: HTTPCall
    private let places: [(TopicPartition, PartitionLog)]
    private var offsets: [TopicPartition: Offset] = [:]
    private var hasFailed = false

    init(_ call: HTTPCall, _ places: [(TopicPartition, PartitionLog)]) {
      self.call = call
      self.places = places
    }

    func failed(_ error: BrokerError) {
      if !hasFailed { call.fail(HTTPProblem(error)) }
      hasFailed = true
    }

    func found(_ place: TopicPartition, _ offset: Offset) {
      offsets[place] = offset
      guard offsets.count == places.count, !hasFailed else { return }
      let broker = call.broker
      let name = call.path("group")
      let before = broker.groups.offsets(name)
      let now = broker.reactor.wallClock
      let commits = places.map { place, log in
        PartitionOffset(
          partition: place,
          committed: CommittedOffset(
            offset: offsets[place] ?? 0, leaderEpoch: log.epoch(ofOffset: offsets[place] ?? 0), metadata: "", time: now)
        )
      }
      broker.groups.commit(group: name, offsets: commits) { [self] error in
        call.answer(error) {
          call.answerObject { json in
            json.name("offsets")
            json.array { json in
              for (place, _) in places {
                json.object { json in
                  json.name("topic")
                  json.string(place.topic)
                  json.name("partition")
                  json.number(place.partition)
                  json.name("before")
                  if let old = before[place] { json.number(old.offset) } else { json.null() }
                  json.name("after")
                  json.number(offsets[place] ?? 0)
                }
              }
            }
          }
        }
      }
    }
  }
}
