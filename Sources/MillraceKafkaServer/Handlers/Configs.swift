// Configs: DescribeConfigs, AlterConfigs, IncrementalAlterConfigs and ListConfigResources.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceSecurity

/// Where a value comes from. Source: Kafka, `ConfigEntry.ConfigSource`.
enum ConfigSource {
  static let topic: Int8 = 1
  static let node: Int8 = 2
  static let cluster: Int8 = 3
  static let start: Int8 = 4
  static let standard: Int8 = 5
  static let logger: Int8 = 6
  static let clientMetrics: Int8 = 7
  static let group: Int8 = 8

  static func of(_ source: BrokerSettings.Source) -> Int8 {
    switch source {
    case .node: node
    case .cluster: cluster
    case .commandLine, .environment, .file, .start: start
    case .standard: standard
    }
  }
}

/// Types of resources. Source: Kafka, `ConfigResource.Type`.
enum ConfigType {
  static let topic: Int8 = 2
  static let broker: Int8 = 4
  static let brokerLogger: Int8 = 8
  static let clientMetrics: Int8 = 16
  static let group: Int8 = 32
}

/// A value of a setting, by the name under which it was set.
typealias ConfigValue = (name: String, value: String, source: Int8)

extension KafkaConnection {
  private static let nodeName = "\(KafkaServer.nodeID)"

  /// All values of a topic's setting, the one that counts first.
  func values(ofTopic configs: [String: String], _ setting: Setting) -> [ConfigValue] {
    var values: [ConfigValue] = []
    if let own = configs[setting.name] { values.append((setting.name, own, ConfigSource.topic)) }
    if let name = TopicSettings.brokerNames[setting.name] {
      values += broker.settings.values(of: name).map { (name, $0.value, ConfigSource.of($0.source)) }
    } else {
      values.append((setting.name, setting.standard, ConfigSource.standard))
    }
    return values
  }

  // MARK: DescribeConfigs

  func handleDescribeConfigs(_ request: DescribeConfigsRequest, _ context: RequestContext<DescribeConfigsResponse>) {
    var response = DescribeConfigsResponse()
    for resource in request.resources.firstOfEach({ [String($0.resourceType), $0.resourceName] }) {
      var result = DescribeConfigsResponse.DescribeConfigsResult(
        errorMessage: nil, resourceType: resource.resourceType, resourceName: resource.resourceName)
      do throws(BrokerError) {
        try requireConfigs(.describeConfigs, resource.resourceType, resource.resourceName)
        result.configs = try describe(resource, request)
      } catch {
        result.errorCode = KafkaErrorCode(error)
        result.errorMessage = error.reason
      }
      response.results.append(result)
    }
    context.answer(response)
  }

  private typealias Entry = DescribeConfigsResponse.DescribeConfigsResourceResult
  private typealias Resource = DescribeConfigsRequest.DescribeConfigsResource

  private func describe(_ resource: Resource, _ request: DescribeConfigsRequest) throws(BrokerError) -> [Entry] {
    let name = resource.resourceName
    switch resource.resourceType {
    case ConfigType.topic:
      guard let topic = broker.topic(name) else {
        throw BrokerError(.unknownTopicOrPartition, "topic \(name) does not exist")
      }
      return entries(TopicSettings.table, resource, request) { values(ofTopic: topic.configs, $0) }
    case ConfigType.broker where name.isEmpty:
      // Only what was set for all nodes has its place here. Source: Kafka, `ConfigHelper`.
      let configs = broker.configs(of: ConfigResource(.broker, ""))
      return entries(BrokerSettings.table.filter { configs[$0.name] != nil }, resource, request) { setting in
        [(setting.name, configs[setting.name] ?? setting.standard, ConfigSource.cluster)]
      }
    case ConfigType.broker:
      try checkNode(name)
      return entries(BrokerSettings.table, resource, request, isBroker: true) { setting in
        broker.settings.values(of: setting.name).map { (setting.name, $0.value, ConfigSource.of($0.source)) }
      }
    case ConfigType.brokerLogger:
      try checkNode(name)
      return entries([KafkaConnection.rootLogger], resource, request) { setting in
        [(setting.name, server.logger.minimum.kafkaName, ConfigSource.logger)]
      }
    case ConfigType.clientMetrics, ConfigType.group:
      let found = try self.resource(resource.resourceType, name)
      let source = found.kind == .group ? ConfigSource.group : ConfigSource.clientMetrics
      let configs = broker.configs(of: found)
      return entries(found.kind.settings, resource, request) { setting in
        let own: [ConfigValue] = configs[setting.name].map { [(setting.name, $0, source)] } ?? []
        if found.kind == .group, let name = GroupSettings.brokerNames[setting.name] {
          return own + broker.settings.values(of: name).map { (name, $0.value, ConfigSource.of($0.source)) }
        }
        return own + [(setting.name, setting.standard, ConfigSource.standard)]
      }
    default: throw unknownType(resource.resourceType)
    }
  }

  private func entries(
    _ table: [Setting], _ resource: Resource, _ request: DescribeConfigsRequest, isBroker: Bool = false,
    _ values: (Setting) -> [ConfigValue]
  ) -> [Entry] {
    table.filter { resource.configurationKeys?.contains($0.name) ?? true }.map {
      KafkaConnection.entry($0, values($0), request, isBroker: isBroker)
    }
  }

  /// A setting with its values, the one that counts first. Those of a secret are not told.
  static func entry(
    _ setting: Setting, _ all: [ConfigValue], _ request: DescribeConfigsRequest, isBroker: Bool
  ) -> DescribeConfigsResponse.DescribeConfigsResourceResult {
    var entry = Entry(
      name: setting.name, value: setting.isSecret ? nil : all[0].value, readOnly: isBroker && !setting.isDynamic,
      configSource: all[0].source, isSensitive: setting.isSecret, configType: setting.type.rawValue,
      documentation: nil)
    if request.includeSynonyms {
      entry.synonyms = all.map {
        .init(name: $0.name, value: setting.isSecret ? nil : $0.value, source: $0.source)
      }
    }
    if request.includeDocumentation {
      entry.documentation = setting.isHonoured ? setting.text : setting.text + " Accepted, but without effect."
    }
    return entry
  }

  /// Settings of a topic or group are that one's; all others are the cluster's. Source: Kafka, `ConfigHelper`.
  private func requireConfigs(_ operation: AccessOperation, _ type: Int8, _ name: String) throws(BrokerError) {
    switch type {
    case ConfigType.topic: try require(operation, .topic, name)
    case ConfigType.group: try require(operation, .group, name)
    default: try requireCluster(operation)
    }
  }

  private func checkNode(_ name: String) throws(BrokerError) {
    guard name == KafkaConnection.nodeName else {
      throw BrokerError(.invalidRequest, "there is no node \"\(name)\", only \(KafkaConnection.nodeName)")
    }
  }

  private func unknownType(_ type: Int8) -> BrokerError {
    BrokerError(.invalidRequest, "there are no resources of type \(type)")
  }

  /// A resource that the broker keeps settings of.
  private func resource(_ type: Int8, _ name: String) throws(BrokerError) -> ConfigResource {
    guard let kind = ConfigResource.Kind(rawValue: UInt8(bitPattern: type)) else { throw unknownType(type) }
    if kind == .broker {
      if !name.isEmpty { try checkNode(name) }
    } else if name.isEmpty {
      throw BrokerError(.invalidRequest, "a resource of type \(type) needs a name")
    }
    return ConfigResource(kind, name)
  }

  // MARK: Changes

  /// What stands in a request about one resource.
  private struct Wish {
    var type: Int8
    var name: String
    var changes: Result<[(name: String, change: SettingChange)], BrokerError>
    var isReplacing: Bool
  }

  func handleIncrementalAlterConfigs(
    _ request: IncrementalAlterConfigsRequest, _ context: RequestContext<IncrementalAlterConfigsResponse>
  ) {
    let wishes = request.resources.map { resource in
      Wish(
        type: resource.resourceType, name: resource.resourceName,
        changes: Result { () throws(BrokerError) in
          var changes: [(name: String, change: SettingChange)] = []
          for config in resource.configs {
            changes.append((config.name, try change(config.name, config.configOperation, config.value)))
          }
          return changes
        }, isReplacing: false)
    }
    alter(wishes, validateOnly: request.validateOnly) { answers in
      context.answer(
        IncrementalAlterConfigsResponse(
          responses: zip(wishes, answers).map { wish, error in
            .init(
              errorCode: error.map { KafkaErrorCode($0) } ?? .none, errorMessage: error?.reason,
              resourceType: wish.type, resourceName: wish.name)
          }))
    }
  }

  func handleAlterConfigs(_ request: AlterConfigsRequest, _ context: RequestContext<AlterConfigsResponse>) {
    let wishes = request.resources.map { resource in
      Wish(
        type: resource.resourceType, name: resource.resourceName,
        changes: Result { () throws(BrokerError) in
          var changes: [(name: String, change: SettingChange)] = []
          for config in resource.configs { changes.append((config.name, try change(config.name, 0, config.value))) }
          return changes
        }, isReplacing: true)
    }
    alter(wishes, validateOnly: request.validateOnly) { answers in
      context.answer(
        AlterConfigsResponse(
          responses: zip(wishes, answers).map { wish, error in
            .init(
              errorCode: error.map { KafkaErrorCode($0) } ?? .none, errorMessage: error?.reason,
              resourceType: wish.type, resourceName: wish.name)
          }))
    }
  }

  /// Source of the numbers: Kafka, `AlterConfigOp.OpType`.
  private func change(_ name: String, _ operation: Int8, _ value: String?) throws(BrokerError) -> SettingChange {
    if operation == 1 { return .delete }
    guard let value else { throw BrokerError(.invalidRequest, "\(name) has no value") }
    switch operation {
    case 0: return .set(value)
    case 2: return .append(value)
    case 3: return .subtract(value)
    default: throw BrokerError(.invalidRequest, "\(name): there is no operation \(operation)")
    }
  }

  private func alter(_ wishes: [Wish], validateOnly: Bool, _ completion: @escaping ([BrokerError?]) -> Void) {
    let gathering = Gathering<BrokerError?>(wishes.count, completion)
    var names: [String: Int] = [:]
    for wish in wishes { names["\(wish.type) \(wish.name)", default: 0] += 1 }
    for (index, wish) in wishes.enumerated() {
      do throws(BrokerError) {
        guard names["\(wish.type) \(wish.name)"] == 1 else {
          throw BrokerError(.invalidRequest, "\(wish.name) stands in the request more than once")
        }
        try requireConfigs(.alterConfigs, wish.type, wish.name)
        try alter(wish, try wish.changes.get(), validateOnly) { gathering.put(index, $0) }
      } catch {
        gathering.put(index, error)
      }
    }
  }

  /// Checks first, so that a refusal changes nothing; `done` follows when the change is durable.
  private func alter(
    _ wish: Wish, _ changes: [(name: String, change: SettingChange)], _ validateOnly: Bool,
    _ done: @escaping (BrokerError?) -> Void
  ) throws(BrokerError) {
    switch wish.type {
    case ConfigType.topic:
      guard let topic = broker.topic(wish.name) else {
        throw BrokerError(.unknownTopicOrPartition, "topic \(wish.name) does not exist")
      }
      guard !topic.isInternal else { throw BrokerError(.invalidTopic, "topic \(wish.name) is internal") }
      let checked = try broker.check(changes, of: topic, replacing: wish.isReplacing)
      if validateOnly { return done(nil) }
      broker.configure(topic, checked, completion: done)
    case ConfigType.brokerLogger:
      try checkNode(wish.name)
      let levels = try levels(changes, isReplacing: wish.isReplacing)
      if !validateOnly, let level = levels.last { server.logger.minimum = level }
      done(nil)
    default:
      let resource = try resource(wish.type, wish.name)
      let checked = try broker.check(changes, of: resource, replacing: wish.isReplacing)
      if validateOnly { return done(nil) }
      broker.configure(resource, checked, completion: done)
    }
  }

  // MARK: The log lines' level

  /// There is one logger; its level is what `serve --log-level` sets, and as in Kafka a change lasts until the next start.
  private static let rootLogger = Setting.rootLogger

  private func levels(
    _ changes: [(name: String, change: SettingChange)], isReplacing: Bool
  ) throws(BrokerError) -> [LogLevel] {
    guard !isReplacing else {
      throw BrokerError(.invalidRequest, "the level of log lines is changed incrementally only")
    }
    var levels: [LogLevel] = []
    for (name, change) in changes {
      guard name == KafkaConnection.rootLogger.name else {
        throw BrokerError(.invalidConfig, "there is no logger \"\(name)\", only \(KafkaConnection.rootLogger.name)")
      }
      guard case .set(let value) = change else {
        throw BrokerError(.invalidRequest, "the level of \(name) can only be set")
      }
      guard let level = LogLevel.allCases.first(where: { $0.kafkaName == value }) else {
        throw BrokerError(
          .invalidConfig, KafkaConnection.rootLogger.problem(with: value) ?? "\(name) cannot be \"\(value)\"")
      }
      levels.append(level)
    }
    return levels
  }

  // MARK: ListConfigResources

  func handleListConfigResources(
    _ request: ListConfigResourcesRequest, _ context: RequestContext<ListConfigResourcesResponse>
  ) {
    let all = [
      ConfigType.topic, ConfigType.broker, ConfigType.brokerLogger, ConfigType.clientMetrics, ConfigType.group,
    ]
    let types =
      context.version == 0 ? [ConfigType.clientMetrics] : request.resourceTypes.isEmpty ? all : request.resourceTypes
    guard types.allSatisfy({ all.contains($0) }) else {
      // Source: KIP-1142.
      return context.answer(ListConfigResourcesResponse(errorCode: .unsupportedVersion))
    }
    guard client.allowsCluster(.describeConfigs) else {
      return context.answer(ListConfigResourcesResponse(errorCode: .clusterAuthorizationFailed))
    }
    var response = ListConfigResourcesResponse()
    for type in all where types.contains(type) {
      let names =
        switch type {
        case ConfigType.topic: broker.topics.keys.sorted()
        case ConfigType.broker, ConfigType.brokerLogger: [KafkaConnection.nodeName]
        default: broker.configuredResources.filter { $0.kind.rawValue == UInt8(type) }.map(\.name)
        }
      response.configResources += names.map { .init(resourceName: $0, resourceType: type) }
    }
    context.answer(response)
  }
}

extension LogLevel {
  /// Kafka's name of the level.
  fileprivate var kafkaName: String {
    switch self {
    case .debug: "DEBUG"
    case .info: "INFO"
    case .warning: "WARN"
    case .error: "ERROR"
    }
  }
}
