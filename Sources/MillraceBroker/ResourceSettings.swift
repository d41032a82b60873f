// ResourceSettings: the settings of a group and of a subscription to clients' metrics, with their rules.

import MillraceMetadata

/// Settings of a consumer group or a share group by Kafka's names.
public enum GroupSettings {
  /// All that can be set.
  public static let table: [Setting] = ownTable + ShareSettings.groupTable

  private static let ownTable: [Setting] = [
    Setting(
      "consumer.session.timeout.ms", .int, "45000", range: 1...86_400_000, dynamic: true,
      "Silence after which a member of a consumer group is gone, in ms; within group.consumer.min.session.timeout.ms "
        + "and group.consumer.max.session.timeout.ms. The standard is group.consumer.session.timeout.ms."),
    Setting(
      "consumer.heartbeat.interval.ms", .int, "5000", range: 1...86_400_000, dynamic: true,
      "How often members of a consumer group are told to report, in ms; within group.consumer.min.heartbeat.interval.ms "
        + "and group.consumer.max.heartbeat.interval.ms. The standard is group.consumer.heartbeat.interval.ms."),
    streams("streams.session.timeout.ms", "45000", range: 1...86_400_000),
    streams("streams.heartbeat.interval.ms", "5000", range: 1...86_400_000),
    streams("streams.num.standby.replicas", "0", range: 0...2),
  ]

  private static func streams(_ name: String, _ standard: String, range: ClosedRange<Int64>) -> Setting {
    Setting(
      name, .int, standard, range: range, honoured: false, dynamic: true,
      "There are no groups of Kafka Streams' own protocol.")
  }

  /// The broker's settings that count where a group has none of its own, by the group's name for them.
  public static let brokerNames = consumerNames.merging(ShareSettings.brokerNames) { own, _ in own }

  private static let consumerNames = [
    "consumer.session.timeout.ms": "group.consumer.session.timeout.ms",
    "consumer.heartbeat.interval.ms": "group.consumer.heartbeat.interval.ms",
  ]

  /// Checks what a group's settings would be against the broker's limits.
  /// - Throws: `.invalidConfig`
  static func check(_ configs: [String: String], _ broker: BrokerSettings) throws(BrokerError) {
    try ShareSettings.check(configs, broker)
    var values: [String: Int] = [:]
    for (name, brokerName) in consumerNames.sorted(by: { $0.key < $1.key }) {
      let short = String(name.dropFirst("consumer.".count))
      let allowed = broker.consumerGroupRange(short)
      let own = configs[name].flatMap { Int($0) }
      if let own, !allowed.contains(own) {
        throw BrokerError(
          .invalidConfig,
          "\(name) would be \(own); group.consumer.min.\(short) is \(allowed.lowerBound), "
            + "group.consumer.max.\(short) \(allowed.upperBound)")
      }
      values[short] = own ?? broker.text(brokerName).flatMap { Int($0) }
    }
    guard let interval = values["heartbeat.interval.ms"], let session = values["session.timeout.ms"] else { return }
    guard interval < session else {
      throw BrokerError(
        .invalidConfig,
        "consumer.heartbeat.interval.ms would be \(interval), consumer.session.timeout.ms \(session): it must be less")
    }
  }

  /// Puts a group's own settings in the place of the broker's. The broker's limits, which another start may have given
  /// it, come first.
  static func apply(_ configs: [String: String], to rules: inout ConsumerGroupRules, _ broker: BrokerSettings) {
    func value(_ short: String) -> Duration? {
      guard let own = configs["consumer.\(short)"].flatMap({ Int($0) }) else { return nil }
      let allowed = broker.consumerGroupRange(short)
      return .milliseconds(min(max(own, allowed.lowerBound), allowed.upperBound))
    }
    rules.sessionTimeout = value("session.timeout.ms") ?? rules.sessionTimeout
    rules.heartbeatInterval = value("heartbeat.interval.ms") ?? rules.heartbeatInterval
  }
}

/// Settings of a subscription to clients' metrics by Kafka's names. They are kept and shown; nothing asks clients for
/// their metrics.
public enum ClientMetricsSettings {
  /// All that can be set.
  public static let table: [Setting] = [
    Setting("metrics", .list, "", honoured: false, dynamic: true, "Prefixes of the metrics' names."),
    Setting(
      "interval.ms", .int, "300000", range: 100...3_600_000, honoured: false, dynamic: true, "How often, in ms."),
    Setting("match", .list, "", honoured: false, dynamic: true, "Which clients."),
  ]
}

extension ConfigResource.Kind {
  /// What can be set for a resource of this kind.
  public var settings: [Setting] {
    switch self {
    case .broker: BrokerSettings.table
    case .clientMetrics: ClientMetricsSettings.table
    case .group: GroupSettings.table
    }
  }
}

extension Setting {
  /// The level of the log lines, the one thing that can be set of a broker's loggers.
  public static let rootLogger = Setting(
    "root", .string, "INFO", words: ["DEBUG", "INFO", "WARN", "ERROR"], dynamic: true,
    "The least important log lines to write.")
}
