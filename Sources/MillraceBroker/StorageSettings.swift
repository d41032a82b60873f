// StorageSettings: the broker's settings of what becomes of stored records.

import MillraceLog

extension BrokerSettings {
  /// Retention, compaction, scrubbing, free space.
  static let storageTable: [Setting] = [
    Setting(
      "log.retention.ms", .long, "604800000", range: -1...Int64.max, dynamic: true,
      "How long records are kept, in ms; -1 for no limit; a topic's retention.ms overrides it."),
    Setting(
      "log.retention.bytes", .long, "-1", range: -1...Int64.max, dynamic: true,
      "How much is kept of a partition, in bytes; -1 for no limit; a topic's retention.bytes overrides it."),
    Setting(
      "log.retention.check.interval.ms", .long, "300000", range: 1...86_400_000, dynamic: true,
      "How often records that have expired are looked for, in ms."),
    Setting(
      "log.retention.clock.hold.ms", .long, "3600000", range: 0...Int64.max,
      "How long a clock that has jumped forwards by more than ten minutes, or is so far ahead at a start, must go on evenly "
        + "before records expire by it, in ms; 0 for at once."),
    Setting("log.cleaner.enable", .boolean, "true", "Compact topics whose cleanup.policy says so."),
    Setting(
      "log.cleaner.backoff.ms", .long, "15000", range: 1...86_400_000, dynamic: true,
      "How often something to compact is looked for, in ms."),
    Setting(
      "log.cleaner.dedupe.buffer.size", .long, "134217728", range: 1024...4_294_967_296, unit: .bytes,
      "Most memory for the keys of a partition that is compacted, in bytes; with more keys it takes several passes."),
    Setting(
      "log.cleaner.io.max.bytes.per.second", .long, "67108864", range: 1024...Int64.max,
      "Compaction and merging of segments read no faster than this."),
    Setting(
      "log.scrub.bytes.per.second", .long, "8388608", range: 0...Int64.max,
      "How fast all segments are read and verified in the background; 0 for never."),
    Setting(
      "log.scrub.interval.ms", .long, "604800000", range: 1...Int64.max,
      "Pause between two rounds through all segments, in ms."),
    Setting(
      "disk.low.bytes", .long, "0", range: 0...Int64.max,
      "With less free space than this, spare journal files included, producers are refused until there is more; 0 to go on "
        + "until the disk is full."),
  ]

  private func number(_ name: String) -> Int64 { Int64(integer(name)) }

  /// `log.retention.check.interval.ms`
  var retentionCheckInterval: Int64 { number("log.retention.check.interval.ms") }
  /// `log.cleaner.backoff.ms`
  var cleanerBackoff: Int64 { number("log.cleaner.backoff.ms") }
  /// `log.cleaner.enable`
  var isCleanerEnabled: Bool { text("log.cleaner.enable") == "true" }

  /// Takes over what the log is told at its start.
  func configure(_ log: inout LogConfiguration) {
    log.producerExpiration = producerExpiration
    log.clockHold = number("log.retention.clock.hold.ms")
    log.keyMapSize = Int(number("log.cleaner.dedupe.buffer.size"))
    log.cleanerBytesPerSecond = Int(number("log.cleaner.io.max.bytes.per.second"))
    log.scrubBytesPerSecond = Int(number("log.scrub.bytes.per.second"))
    log.scrubInterval = number("log.scrub.interval.ms")
    log.lowSpace = number("disk.low.bytes")
  }
}
