// ResourceSettings: the settings of a group and of a subscription to clients' metrics, with their rules.

import MillraceMetadata

/// Settings of a consumer group by Kafka's names.
public enum GroupSettings {
  /// All that can be set.
  public static let table: [Setting] = [
    Setting(
      "consumer.session.timeout.ms", .int, "45000", range: 1...86_400_000, honoured: false, dynamic: true,
      "Silence after which a member is gone, in ms, for groups that the broker assigns."),
    Setting(
      "consumer.heartbeat.interval.ms", .int, "5000", range: 1...86_400_000, honoured: false, dynamic: true,
      "How often a member says that it lives, in ms, for groups that the broker assigns."),
  ]
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
