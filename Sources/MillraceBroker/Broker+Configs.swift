// Broker+Configs: settings of topics, of the broker itself and of other resources, changed while the program runs.

import MillraceBase
import MillraceMetadata
import MillraceModel

/// A change of one setting.
public enum SettingChange: Equatable, Sendable {
  /// A new value.
  case set(String)
  /// Back to the standard.
  case delete
  /// More words of a list.
  case append(String)
  /// Fewer words of a list.
  case subtract(String)
}

extension Broker {
  /// What changes of a topic's settings would make of them.
  ///
  /// - Parameter replacing: what is not named goes back to its standard.
  /// - Throws: `.invalidConfig` for an unknown name, a value outside its rule, or words added to what is no list;
  ///   `.invalidRequest` for a name that stands twice.
  public func check(
    _ changes: [(name: String, change: SettingChange)], of topic: TopicMetadata, replacing: Bool = false
  ) throws(BrokerError) -> [String: String?] {
    let result = try Broker.apply(
      changes, to: topic.configs, table: TopicSettings.table, what: "topic setting", replacing: replacing)
    var all = topic.configs
    for (name, value) in result { all[name] = value }
    try TopicSettings.check(all)
    return result
  }

  /// Changes a topic's settings; `completion` follows when that is durable. They count from the call on.
  /// - Parameter changes: what ``check(_:of:replacing:)-(_,TopicMetadata,_)`` returned.
  public func configure(
    _ topic: TopicMetadata, _ changes: [String: String?], completion: @escaping (BrokerError?) -> Void
  ) {
    if changes.isEmpty { return whenDurable(completion) }
    record(.topicConfigured(id: topic.id, changes: changes)) { [self] error in
      if error == nil {
        logger.log(
          .info, "broker", "topic configured",
          ["topic": topic.name, "changes": Broker.text(changes, of: TopicSettings.table)])
      }
      completion(error)
    }
  }

  /// What changes of a resource's settings would make of those that were set before.
  ///
  /// - Throws: as for a topic; `.invalidRequest` also for what can only be set at the start.
  public func check(
    _ changes: [(name: String, change: SettingChange)], of resource: ConfigResource, replacing: Bool = false
  ) throws(BrokerError) -> [String: String?] {
    let current = metadata.resourceConfigs[resource] ?? [:]
    for (name, _) in changes {
      if let setting = resource.kind.settings.first(where: { $0.name == name }), !setting.isDynamic {
        throw BrokerError(.invalidRequest, "\(name) can only be set at the start")
      }
    }
    let result = try Broker.apply(
      changes, to: current, table: resource.kind.settings, what: "setting", replacing: replacing)
    if resource.kind == .broker {
      var would = settings
      var configs = dynamicSettings
      for (name, value) in result {
        if resource.name.isEmpty { configs.cluster[name] = value } else { configs.node[name] = value }
      }
      would.setDynamic(cluster: configs.cluster, node: configs.node)
      try would.checkTogether()
    }
    if resource.kind == .group {
      var would = current
      would.merge(result.compactMapValues { $0 }) { _, new in new }
      for (name, value) in result where value == nil { would[name] = nil }
      try GroupSettings.check(would, settings)
    }
    return result
  }

  /// Changes a resource's settings; `completion` follows when that is durable. They count from the call on.
  /// - Parameter changes: what ``check(_:of:replacing:)-(_,ConfigResource,_)`` returned.
  public func configure(
    _ resource: ConfigResource, _ changes: [String: String?], completion: @escaping (BrokerError?) -> Void
  ) {
    if changes.isEmpty { return whenDurable(completion) }
    record(.resourceConfigured(resource, changes: changes)) { [self] error in
      if error == nil {
        logger.log(
          .info, "broker", "settings changed",
          [
            "kind": "\(resource.kind)", "name": resource.name,
            "changes": Broker.text(changes, of: resource.kind.settings),
          ])
      }
      completion(error)
    }
  }

  /// A resource's settings that differ from the standard.
  public func configs(of resource: ConfigResource) -> [String: String] { metadata.resourceConfigs[resource] ?? [:] }

  /// All resources that have settings, besides topics, in order.
  public var configuredResources: [ConfigResource] { metadata.resourceConfigs.keys.sorted() }

  /// The name of the one node among the resources of kind ``ConfigResource/Kind/broker``.
  static let nodeName = "0"

  private var dynamicSettings: (cluster: [String: String], node: [String: String]) {
    (configs(of: ConfigResource(.broker, "")), configs(of: ConfigResource(.broker, Broker.nodeName)))
  }

  /// Takes over the settings that were changed while the program ran, this time or earlier.
  func takeDynamicSettings() {
    let configs = dynamicSettings
    settings.setDynamic(cluster: configs.cluster, node: configs.node)
    access.refresh()
    onSettingsChange()
  }

  /// Changes for a log line; values that are secrets are left out.
  /// - Parameter table: where settings of the resource are found.
  static func text(_ changes: [String: String?], of table: [Setting]) -> String {
    changes.sorted { $0.key < $1.key }.map { name, value in
      let setting = table.first { $0.name == name }
      return "\(name)=\(value.map { setting?.shown($0) ?? LogRedaction.mark } ?? "(standard)")"
    }.joined(separator: " ")
  }

  /// Works out new values and checks each for itself.
  private static func apply(
    _ changes: [(name: String, change: SettingChange)], to current: [String: String], table: [Setting], what: String,
    replacing: Bool
  ) throws(BrokerError) -> [String: String?] {
    var result: [String: String?] = [:]
    for (name, change) in changes {
      guard let setting = table.first(where: { $0.name == name }) else {
        throw BrokerError(.invalidConfig, "unknown \(what) \"\(name)\"")
      }
      let value: String?
      switch change {
      case .set(let text): value = text
      case .delete: value = nil
      case .append(let words), .subtract(let words):
        guard setting.type == .list else {
          throw BrokerError(.invalidConfig, "\(name) is no list: nothing can be added to it or taken out of it")
        }
        let named = words.split(separator: ",").map { $0.trimmingBlanks }
        var list = (current[name] ?? setting.standard).split(separator: ",").map { $0.trimmingBlanks }
        if case .append = change {
          for word in named where !list.contains(word) { list.append(word) }
        } else {
          list.removeAll { named.contains($0) }
        }
        value = list.joined(separator: ",")
      }
      if let value, let problem = setting.problem(with: value) { throw BrokerError(.invalidConfig, problem) }
      guard result.updateValue(value, forKey: name) == nil else {
        throw BrokerError(.invalidRequest, "\(name) stands in the request more than once")
      }
    }
    if replacing {
      for name in current.keys where result[name] == nil { result.updateValue(nil, forKey: name) }
    }
    return result
  }
}

extension Substring {
  /// Without blanks at both ends.
  fileprivate var trimmingBlanks: String {
    String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
  }
}
