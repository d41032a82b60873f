// TopicRoutes: topics made, described, configured and deleted.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceModel

enum TopicRoutes {
  static let partition = HTTPSchema.object([
    .required("partition", .count), .required("startOffset", .count, "Offset of the oldest record."),
    .required("endOffset", .count, "Offset that the next record will have, of those that are durable."),
    .required("sizeBytes", .count),
  ])
  static let topic = HTTPSchema.object([
    .required("name", .string), .required("id", .string), .required("internal", .boolean),
    .required("createdAt", .number64, "Milliseconds since 1970."),
    .required("partitions", .array(partition)),
    .required("settings", .map(.string), "Settings that differ from the standard."),
  ])
  static let summary = HTTPSchema.object([
    .required("name", .string), .required("id", .string), .required("internal", .boolean),
    .required("partitions", .count), .required("length", .count, "Offsets between start and end, over all partitions."),
    .required("sizeBytes", .count),
  ])
  static let settings = HTTPSchema.map(.nullable(.string))
  static let topicName = HTTPParameter("topic", .text(1...249), "The topic.")
  static let describe = HTTPAccess.needs([HTTPRequirement(.describe, .topic, .path("topic"))])

  static let all: [HTTPRoute] = [
    HTTPRoute(
      .get, "/api/v1/topics", "Topics", "Lists topics in the order of their names.", .filtered(.describe, .topic),
      query: [
        HTTPParameter("internal", .boolean, "Also topics that Millrace keeps for itself."),
        HTTPParameter("after", .text(0...249), "Only names behind this one."),
        HTTPParameter("limit", .integer(1...10_000), "Most topics (default 1000)."),
      ],
      response: .json(
        .object([
          .required("topics", .array(summary)), .required("next", .nullable(.string), "Where to go on (`after`)."),
        ])),
      handler: list),
    HTTPRoute(
      .get, "/api/v1/topics/{topic}", "Topics", "Describes a topic.", describe, path: [topicName],
      response: .json(topic), handler: show),
    HTTPRoute(
      .put, "/api/v1/topics/{topic}", "Topics", "Creates a topic.",
      .needs([HTTPRequirement(.create, .topic, .path("topic"))]), path: [topicName],
      request: .json(
        .object([
          .optional("partitions", .integer(1...10_000), "How many (default: num.partitions)."),
          .optional("settings", .map(.string), "Settings by Kafka's names."),
        ])), isBodyOptional: true, status: .created, response: .json(topic), handler: create),
    HTTPRoute(
      .patch, "/api/v1/topics/{topic}", "Topics", "Changes settings of a topic, and adds partitions.",
      .needs([HTTPRequirement(.alterConfigs, .topic, .path("topic")), HTTPRequirement(.alter, .topic, .path("topic"))]),
      path: [topicName],
      request: .json(
        .object([
          .optional("partitions", .integer(1...10_000), "How many there are to be; never fewer."),
          .optional("settings", settings, "New values by Kafka's names; null goes back to the standard."),
        ])), response: .json(topic), handler: change),
    HTTPRoute(
      .delete, "/api/v1/topics/{topic}", "Topics", "Deletes a topic with its records.",
      .needs([HTTPRequirement(.delete, .topic, .path("topic"))]), path: [topicName], status: .noContent,
      response: .nothing, handler: delete),
    HTTPRoute(
      .get, "/api/v1/topics/{topic}/settings", "Topics", "Lists the settings of a topic with their sources.",
      .needs([HTTPRequirement(.describeConfigs, .topic, .path("topic"))]), path: [topicName],
      response: .json(.object([.required("settings", .array(SettingJSON.schema))])), handler: settings),
  ]

  static func found(_ call: HTTPCall) throws(HTTPProblem) -> TopicMetadata {
    guard let topic = call.broker.topic(call.path("topic")) else {
      throw HTTPProblem.unknownTopic(call.path("topic"))
    }
    return topic
  }

  static func list(_ call: HTTPCall) {
    let limit = Int(call.number("limit") ?? 1000)
    let after = call.query("after") ?? ""
    let showsInternal = call.flag("internal")
    // Names alone are sorted; permission is asked for those that are shown, and one more.
    var names: [String] = []
    for topic in call.broker.topics.values where showsInternal || !topic.isInternal {
      if topic.name > after { names.append(topic.name) }
    }
    names.sort()
    var shown: [TopicMetadata] = []
    for name in names where call.allows(.describe, .topic, name) {
      guard let topic = call.broker.topic(name) else { continue }
      shown.append(topic)
      if shown.count > limit { break }
    }
    let isMore = shown.count > limit
    call.answerObject { json in
      json.name("topics")
      json.array { json in
        for topic in shown.prefix(limit) {
          let logs = (0..<topic.partitions.count).compactMap { call.broker.partition(topic, Int32($0)) }
          json.object { json in
            head(topic, to: &json)
            json.name("partitions")
            json.number(topic.partitions.count)
            json.name("length")
            json.number(logs.reduce(0) { $0 + $1.highWatermark - $1.startOffset })
            json.name("sizeBytes")
            json.number(logs.reduce(0) { $0 + $1.size })
          }
        }
      }
      json.name("next")
      if isMore, let last = shown.prefix(limit).last { json.string(last.name) } else { json.null() }
    }
  }

  private static func head(_ topic: TopicMetadata, to json: inout JSONWriter) {
    json.name("name")
    json.string(topic.name)
    json.name("id")
    json.string(topic.id.description)
    json.name("internal")
    json.bool(topic.isInternal)
  }

  static func show(_ call: HTTPCall) throws(HTTPProblem) { answer(try found(call), .ok, call) }

  private static func answer(_ topic: TopicMetadata, _ status: HTTPStatus, _ call: HTTPCall) {
    call.answerObject(status) { json in
      head(topic, to: &json)
      json.name("createdAt")
      json.number(topic.created.milliseconds)
      json.name("partitions")
      json.array { json in
        for index in 0..<topic.partitions.count {
          guard let log = call.broker.partition(topic, Int32(index)) else { continue }
          json.object { json in
            json.name("partition")
            json.number(index)
            json.name("startOffset")
            json.number(log.startOffset)
            json.name("endOffset")
            json.number(log.highWatermark)
            json.name("sizeBytes")
            json.number(log.size)
          }
        }
      }
      json.name("settings")
      json.object { json in
        for (name, value) in topic.configs.sorted(by: { $0.key < $1.key }) {
          json.name(name)
          json.string(value)
        }
      }
    }
  }

  static func create(_ call: HTTPCall) throws(HTTPProblem) {
    let body = try call.json()
    var configs: [String: String] = [:]
    if case .object(let members)? = body?["settings"] {
      for member in members { configs[member.name] = member.value.string }
    }
    let name = call.path("topic")
    let count = body?["partitions"]?.integer.map { Int($0) }
    do throws(BrokerError) {
      try call.broker.checkNewTopic(name, partitions: count ?? call.broker.settings.partitions, configs: configs)
    } catch {
      throw HTTPProblem(error)
    }
    call.broker.createTopic(name, partitions: count, configs: configs) { result in
      switch result {
      case .success(let topic): answer(topic, .created, call)
      case .failure(let error): call.fail(HTTPProblem(error))
      }
    }
  }

  static func change(_ call: HTTPCall) throws(HTTPProblem) {
    let topic = try found(call)
    let body = try call.json()
    let broker = call.broker
    let changes = SettingJSON.changes(body?["settings"])
    let total = body?["partitions"]?.integer.map { Int($0) }
    let checked: [String: String?]
    do throws(BrokerError) {
      guard !topic.isInternal else { throw BrokerError(.invalidTopic, "topic \(topic.name) is internal") }
      checked = try broker.check(changes, of: topic)
      if let total { try broker.checkPartitions(of: topic, total: total) }
    } catch {
      throw HTTPProblem(error)
    }
    func show(_ error: BrokerError?) {
      call.answer(error) {
        guard let now = broker.topic(topic.id) else { return call.fail(.unknownTopic(topic.name)) }
        answer(now, .ok, call)
      }
    }
    broker.configure(topic, checked) { error in
      guard error == nil, let total else { return show(error) }
      broker.addPartitions(to: topic.id, total: total) { result in
        switch result {
        case .success: show(nil)
        case .failure(let error): show(error)
        }
      }
    }
  }

  static func delete(_ call: HTTPCall) throws(HTTPProblem) {
    let topic = try found(call)
    guard !topic.isInternal else {
      throw HTTPProblem(.conflict, "internal-topic", "topic \(topic.name) is internal", at: "path topic")
    }
    call.broker.deleteTopic(topic) { error in call.answer(error) { call.answerNothing() } }
  }

  static func settings(_ call: HTTPCall) throws(HTTPProblem) {
    let topic = try found(call)
    call.answerObject { json in
      json.name("settings")
      json.array { json in
        for setting in TopicSettings.table {
          let own = topic.configs[setting.name]
          SettingJSON.write(
            setting, value: call.broker.setting(setting.name, of: topic) ?? setting.standard,
            source: own != nil ? "topic" : "standard", to: &json)
        }
      }
    }
  }
}
