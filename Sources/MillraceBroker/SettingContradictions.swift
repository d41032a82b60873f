// SettingContradictions: what is wrong with settings of the broker that are right each for itself.

/// Settings that do not go together.
public struct SettingContradiction: Equatable, Sendable {
  /// Their names.
  public let names: [String]
  /// What is wrong, with the values.
  public let text: String
}

extension BrokerSettings {
  /// All that does not go together; empty when the broker can work with these settings.
  public var contradictions: [SettingContradiction] {
    sessionContradictions + consumerContradictions + ShareSettings.contradictions(self)
  }

  /// Checks what single values cannot show.
  /// - Throws: `.invalidConfig` with the first of the ``contradictions``.
  func checkTogether() throws(BrokerError) {
    if let first = contradictions.first { throw BrokerError(.invalidConfig, first.text) }
  }

  private var sessionContradictions: [SettingContradiction] {
    let (least, most) = ("group.min.session.timeout.ms", "group.max.session.timeout.ms")
    guard integer(least) > integer(most) else { return [] }
    return [
      SettingContradiction(
        names: [least, most], text: "\(least) would be \(integer(least)), more than \(most), \(integer(most))")
    ]
  }

  private var consumerContradictions: [SettingContradiction] {
    var found = bounds("group.consumer", ["session.timeout.ms", "heartbeat.interval.ms"])
    if (text("group.consumer.assignors") ?? "").split(separator: ",").isEmpty {
      found.append(
        SettingContradiction(names: ["group.consumer.assignors"], text: "group.consumer.assignors is empty"))
    }
    return found
  }

  /// Values of which the broker has a smallest and a largest, and a heartbeat that must be shorter than the session.
  func bounds(_ prefix: String, _ bounded: [String]) -> [SettingContradiction] {
    var found: [SettingContradiction] = []
    for short in bounded {
      let names = ["\(prefix).\(short)", "\(prefix).min.\(short)", "\(prefix).max.\(short)"]
      let (value, least, most) = (integer(names[0]), integer(names[1]), integer(names[2]))
      if value < least || value > most {
        found.append(
          SettingContradiction(
            names: names, text: "\(names[0]) is \(value), \(names[1]) \(least), \(names[2]) \(most)"))
      }
    }
    let (interval, session) = ("\(prefix).heartbeat.interval.ms", "\(prefix).session.timeout.ms")
    if integer(interval) >= integer(session) {
      found.append(SettingContradiction(names: [interval, session], text: "\(interval) must be below \(session)"))
    }
    return found
  }
}
