// ConnectionSettings: the settings of how many connections there may be, and how much memory.

extension BrokerSettings {
  static let connectionTable: [Setting] = [
    Setting(
      "max.connections", .int, "10000", range: 1...1_000_000, dynamic: true,
      "Most connections at once, of all protocols together. When they are open, those whose clients have not said who they are make room for new ones."
    ),
    Setting(
      "max.connections.per.ip", .int, "2147483647", range: 0...2_147_483_647, dynamic: true,
      "Most connections at once of one IPv4 address, or of the first 64 bits of an IPv6 address."),
    Setting(
      "max.connections.per.ip.overrides", .string, "", dynamic: true, check: overridesProblem,
      "Other such limits for single addresses, as ADDRESS=COUNT (or ADDRESS:COUNT for IPv4), with commas between them."),
    Setting(
      "max.connection.creation.rate", .int, "2147483647", range: 1...2_147_483_647, dynamic: true,
      "Most new connections in a second, of all protocols together; those beyond it are closed. The quota connection_creation_rate limits single addresses."
    ),
    Setting(
      "memory.high.watermark.percent", .int, "70", range: 1...100, dynamic: true,
      "Share of the memory that this process may have (the machine's, or its control group's), beyond which producers and publishers have to wait, until it holds less again; 100 for never."
    ),
  ]

  /// ADDRESS=COUNT and so on; nil when it cannot be read.
  fileprivate static func override(_ text: Substring) -> (address: String, count: Int)? {
    let parts = text.split(separator: text.contains("=") ? "=" : ":", omittingEmptySubsequences: false)
    guard parts.count == 2, let count = Int(parts[1].trimmed), count >= 0 else { return nil }
    let address = parts[0].trimmed
    return Broker.isAddress(address) ? (address, count) : nil
  }

  private static func overridesProblem(_ value: String) -> String? {
    for part in value.split(separator: ",") where override(part) == nil {
      return "max.connections.per.ip.overrides: \"\(part)\" is no ADDRESS=COUNT"
    }
    return nil
  }

  /// `max.connections`
  public var connections: Int { integer("max.connections") }

  /// `memory.high.watermark.percent` as a share of all; nil for no limit.
  var memoryHighWatermark: Double? {
    let percent = integer("memory.high.watermark.percent")
    return percent == 100 ? nil : Double(percent) / 100
  }
}

extension ConnectionLimits {
  /// Those that are set.
  init(_ settings: BrokerSettings) {
    all = settings.connections
    ofAddress = settings.integer("max.connections.per.ip")
    for part in (settings.text("max.connections.per.ip.overrides") ?? "").split(separator: ",") {
      if let (address, count) = BrokerSettings.override(part) { ofNamed[address] = count }
    }
    let rate = settings.integer("max.connection.creation.rate")
    if rate < Int(Int32.max) { self.rate = rate }
  }
}

extension Substring {
  /// Without spaces at its ends.
  fileprivate var trimmed: String {
    var rest = self
    while rest.first == " " { rest.removeFirst() }
    while rest.last == " " { rest.removeLast() }
    return String(rest)
  }
}
