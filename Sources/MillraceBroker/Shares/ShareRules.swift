// ShareRules: what holds for a share group, from the broker's settings and its own.

import MillraceBase
import MillraceDelivery

/// Where a share group begins in a partition that it has not read yet.
enum ShareStart: Equatable, Sendable {
  /// With the next record.
  case latest
  /// With the oldest record.
  case earliest
  /// With the first record that is no older than this.
  case by(Duration)

  /// Reads `latest`, `earliest` or `by_duration:` with a duration as ISO 8601 has it, such as `PT1H30M` or `P7D`.
  init?(_ text: String) {
    switch text {
    case "latest": self = .latest
    case "earliest": self = .earliest
    default:
      let prefix = "by_duration:"
      guard text.hasPrefix(prefix), let duration = ShareStart.duration(text.dropFirst(prefix.count)) else { return nil }
      self = .by(duration)
    }
  }

  /// `PnDTnHnMn.nS`, each part once and in this order, all but one of them left out at will.
  private static func duration(_ text: Substring) -> Duration? {
    guard text.first == "P" else { return nil }
    var rest = text.dropFirst()
    var milliseconds: Int64 = 0
    var isTime = false
    var units: [(unit: Character, milliseconds: Int64)] = [("D", 86_400_000)]
    var count = 0
    while let first = rest.first {
      if first == "T", !isTime {
        isTime = true
        units = [("H", 3_600_000), ("M", 60_000), ("S", 1000)]
        rest = rest.dropFirst()
        continue
      }
      let digits = rest.prefix { ("0"..."9").contains($0) }
      rest = rest.dropFirst(digits.count)
      var fraction: Int64 = 0
      var isFraction = false
      if rest.first == "." {
        let part = rest.dropFirst().prefix { ("0"..."9").contains($0) }
        guard !part.isEmpty, part.count <= 9 else { return nil }
        fraction = Int64((part + "000").prefix(3)) ?? 0
        isFraction = true
        rest = rest.dropFirst(part.count + 1)
      }
      guard let number = Int64(digits), number <= 1_000_000_000_000, let unit = rest.first,
        let index = units.firstIndex(where: { $0.unit == unit }), !isFraction || unit == "S"
      else { return nil }
      let (product, isTooLarge) = number.multipliedReportingOverflow(by: units[index].milliseconds)
      let (sum, isOver) = milliseconds.addingReportingOverflow(product)
      guard !isTooLarge, !isOver, sum < .max - 1000 else { return nil }
      milliseconds = sum + fraction
      units.removeFirst(index + 1)
      rest = rest.dropFirst()
      count += 1
    }
    // Beyond 292 years a duration in ns is none.
    guard count > 0, text.last != "T", milliseconds <= 9_000_000_000_000 else { return nil }
    return .milliseconds(milliseconds)
  }
}

/// What holds for a share group.
struct ShareRules: Equatable, Sendable {
  var sessionTimeout: Duration
  var heartbeatInterval: Duration
  var largestSize: Int
  var limits: ShareLimits
  var start: ShareStart
  var isCommittedOnly: Bool
  var allowsRenewal: Bool
}

/// Settings of share groups by Kafka's names: the broker's, and those that a group may have of its own.
enum ShareSettings {
  static let brokerTable: [Setting] = [
    Setting(
      "group.share.session.timeout.ms", .int, "45000", range: 1...86_400_000,
      "Silence after which a member of a share group is gone, in ms."),
    Setting(
      "group.share.min.session.timeout.ms", .int, "45000", range: 1...86_400_000,
      "Shortest group.share.session.timeout.ms, in ms."),
    Setting(
      "group.share.max.session.timeout.ms", .int, "60000", range: 1...86_400_000,
      "Longest group.share.session.timeout.ms, in ms."),
    Setting(
      "group.share.heartbeat.interval.ms", .int, "5000", range: 1...86_400_000,
      "How often members of a share group are told to report, in ms."),
    Setting(
      "group.share.min.heartbeat.interval.ms", .int, "5000", range: 1...86_400_000,
      "Shortest group.share.heartbeat.interval.ms, in ms."),
    Setting(
      "group.share.max.heartbeat.interval.ms", .int, "15000", range: 1...86_400_000,
      "Longest group.share.heartbeat.interval.ms, in ms."),
    Setting("group.share.max.size", .int, "200", range: 1...1000, "Most members of a share group."),
    Setting(
      "group.share.record.lock.duration.ms", .int, "30000", range: 1...3_600_000,
      "How long a record stays with the member of a share group that got it, in ms."),
    Setting(
      "group.share.min.record.lock.duration.ms", .int, "15000", range: 1...3_600_000,
      "Shortest group.share.record.lock.duration.ms, in ms."),
    Setting(
      "group.share.max.record.lock.duration.ms", .int, "60000", range: 1...3_600_000,
      "Longest group.share.record.lock.duration.ms, in ms."),
    Setting(
      "group.share.delivery.count.limit", .int, "5", range: 1...100,
      "A record that a share group got so often without accepting it is given up."),
    Setting(
      "group.share.partition.max.record.locks", .int, "2000", range: 1...100_000,
      "Most records of a partition that a share group has in flight."),
    Setting(
      "group.share.max.share.sessions", .int, "2000", range: 0...100_000, "Most share sessions held."),
  ]

  static let groupTable: [Setting] = [
    Setting(
      "share.session.timeout.ms", .int, "45000", range: 1...86_400_000, dynamic: true,
      "Silence after which a member of a share group is gone, in ms; within group.share.min.session.timeout.ms and "
        + "group.share.max.session.timeout.ms. The standard is group.share.session.timeout.ms."),
    Setting(
      "share.heartbeat.interval.ms", .int, "5000", range: 1...86_400_000, dynamic: true,
      "How often members of a share group are told to report, in ms; within group.share.min.heartbeat.interval.ms and "
        + "group.share.max.heartbeat.interval.ms. The standard is group.share.heartbeat.interval.ms."),
    Setting(
      "share.record.lock.duration.ms", .int, "30000", range: 1...3_600_000, dynamic: true,
      "How long a record stays with the member that got it, in ms; within group.share.min.record.lock.duration.ms and "
        + "group.share.max.record.lock.duration.ms. The standard is group.share.record.lock.duration.ms."),
    Setting(
      "share.delivery.count.limit", .int, "5", range: 1...100, dynamic: true,
      "A record that the group got so often without accepting it is given up. The standard is "
        + "group.share.delivery.count.limit."),
    Setting(
      "share.partition.max.record.locks", .int, "2000", range: 1...100_000, dynamic: true,
      "Most records of a partition that the group has in flight. The standard is "
        + "group.share.partition.max.record.locks."),
    Setting(
      "share.auto.offset.reset", .string, "latest", dynamic: true,
      "Where a share group begins in a partition: latest, earliest, or by_duration: and a duration, such as PT1H."),
    Setting(
      "share.isolation.level", .string, "read_uncommitted", words: ["read_committed", "read_uncommitted"],
      dynamic: true, "Whether a share group waits for transactions to end, and passes over those that were aborted."),
    Setting(
      "share.renew.acknowledge.enable", .boolean, "true", dynamic: true,
      "Whether members may have their locks begin anew."),
  ]

  /// The broker's settings that count where a group has none of its own, by the group's name for them.
  static let brokerNames = [
    "share.session.timeout.ms": "group.share.session.timeout.ms",
    "share.heartbeat.interval.ms": "group.share.heartbeat.interval.ms",
    "share.record.lock.duration.ms": "group.share.record.lock.duration.ms",
    "share.delivery.count.limit": "group.share.delivery.count.limit",
    "share.partition.max.record.locks": "group.share.partition.max.record.locks",
  ]

  /// The times of which the broker has a shortest and a longest.
  private static let bounded = ["session.timeout.ms", "heartbeat.interval.ms", "record.lock.duration.ms"]

  private static func number(_ name: String, _ broker: BrokerSettings) -> Int {
    guard let number = broker.text(name).flatMap({ Int($0) }) else { preconditionFailure("no number setting \(name)") }
    return number
  }

  private static func range(_ short: String, _ broker: BrokerSettings) -> ClosedRange<Int> {
    let least = number("group.share.min.\(short)", broker)
    return least...max(least, number("group.share.max.\(short)", broker))
  }

  /// What single values of the broker's cannot show.
  static func contradictions(_ broker: BrokerSettings) -> [SettingContradiction] {
    broker.bounds("group.share", bounded)
  }

  /// Checks what a group's settings would be against the broker's limits.
  /// - Throws: `.invalidConfig`
  static func check(_ configs: [String: String], _ broker: BrokerSettings) throws(BrokerError) {
    for short in bounded {
      guard let own = configs["share.\(short)"].flatMap({ Int($0) }) else { continue }
      let allowed = range(short, broker)
      guard allowed.contains(own) else {
        throw BrokerError(
          .invalidConfig,
          "share.\(short) would be \(own); group.share.min.\(short) is \(allowed.lowerBound), "
            + "group.share.max.\(short) \(allowed.upperBound)")
      }
    }
    if let start = configs["share.auto.offset.reset"], ShareStart(start) == nil {
      throw BrokerError(
        .invalidConfig,
        "share.auto.offset.reset must be latest, earliest or by_duration: and a duration such as PT1H, not \"\(start)\""
      )
    }
    let rules = rules(configs, broker)
    guard rules.heartbeatInterval < rules.sessionTimeout else {
      throw BrokerError(
        .invalidConfig,
        "share.heartbeat.interval.ms would be \(rules.heartbeatInterval.inMilliseconds), share.session.timeout.ms "
          + "\(rules.sessionTimeout.inMilliseconds): it must be less")
    }
  }

  /// What holds for a group with these settings of its own. The broker's limits, which another start may have given it, come
  /// first.
  static func rules(_ configs: [String: String], _ broker: BrokerSettings) -> ShareRules {
    func value(_ short: String) -> Int {
      guard let own = configs["share.\(short)"].flatMap({ Int($0) }) else {
        return number("group.share.\(short)", broker)
      }
      guard bounded.contains(short) else { return own }
      let allowed = range(short, broker)
      return min(max(own, allowed.lowerBound), allowed.upperBound)
    }
    return ShareRules(
      sessionTimeout: .milliseconds(value("session.timeout.ms")),
      heartbeatInterval: .milliseconds(value("heartbeat.interval.ms")),
      largestSize: number("group.share.max.size", broker),
      limits: ShareLimits(
        lockDuration: .milliseconds(value("record.lock.duration.ms")), locks: value("partition.max.record.locks"),
        deliveries: Int16(clamping: value("delivery.count.limit"))),
      start: configs["share.auto.offset.reset"].flatMap { ShareStart($0) } ?? .latest,
      isCommittedOnly: configs["share.isolation.level"] == "read_committed",
      allowsRenewal: configs["share.renew.acknowledge.enable"] != "false")
  }
}

extension BrokerSettings {
  /// `group.share.max.share.sessions`
  public var shareSessions: Int { text("group.share.max.share.sessions").flatMap { Int($0) } ?? 0 }
}
