// HTTPSettings: the broker's settings of the HTTP API and the metrics.

extension BrokerSettings {
  /// Limits.
  static let httpTable: [Setting] = [
    Setting(
      "metrics.max.entities", .int, "10000", range: 0...1_000_000, dynamic: true,
      "Queues, partitions, and groups' topics that the metrics show one by one, so many of each; the others are summed up."
    )
  ]

  /// `metrics.max.entities`
  public var largestMetrics: Int { text("metrics.max.entities").flatMap { Int($0) } ?? 10_000 }
}
