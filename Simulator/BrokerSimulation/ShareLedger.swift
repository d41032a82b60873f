// ShareLedger: what members of the run's share group were given and have settled, and the rules that this is held against.
//
// 1. What a member has accepted or rejected, with an answer that says so, nobody is given on a request that is sent later.
// 2. Such an answer is given once for a record, whoever asks.
// 3. At the end every record has been given to somebody.

import MillraceModel

/// The history of one share group. Calls return the rule that they show to be broken, in words, or nil.
struct ShareLedger {
  private struct Entry {
    var isGiven = false
    /// When it was settled, in answers; nil when nobody was told so.
    var settled: Int?
  }

  private var entries: [TopicPartition: [Offset: Entry]] = [:]
  /// Answers that have settled something, so far.
  private(set) var moment = 0
  private(set) var given = 0

  /// A record was given to a member.
  /// - Parameter since: ``moment`` when the request was sent.
  mutating func gave(_ partition: TopicPartition, _ offset: Offset, to member: String, since: Int) -> String? {
    var entry = entries[partition]?[offset] ?? Entry()
    entry.isGiven = true
    given += 1
    entries[partition, default: [:]][offset] = entry
    guard let settled = entry.settled, settled <= since else { return nil }
    return "\(partition): offset \(offset), which is done, was given to \(member)"
  }

  /// An answer said that these records are done.
  mutating func settled(_ partition: TopicPartition, _ offsets: some Sequence<Offset>, by member: String) -> String? {
    moment += 1
    for offset in offsets {
      var entry = entries[partition]?[offset] ?? Entry()
      if entry.settled != nil { return "\(partition): offset \(offset) was done twice, the second time by \(member)" }
      entry.settled = moment
      entries[partition, default: [:]][offset] = entry
    }
    return nil
  }

  /// Records below `end` that nobody was given, as far as the first of them.
  func missing(_ partition: TopicPartition, below end: Offset) -> Offset? {
    let known = entries[partition] ?? [:]
    return (0..<max(0, end)).first { known[$0]?.isGiven != true }
  }
}
