// CleanupLedger: which records of a topic that is cleaned up may be missing when it is read, and which may not.
//
// A record that was acknowledged is there, as it was sent, at its offset, unless one of these holds:
// 1. It lies below the start, and that may have moved past it: somebody asked for that (DeleteRecords), or the topic's
//    `retention.ms` had run out for the record, or `retention.bytes` and more lie behind it.
// 2. The topic is compacted, and a later record of the same key, committed, is old enough for `min.compaction.lag.ms`, as
//    the missing one is.
// 3. The topic is compacted, and the record is a tombstone that is older than `delete.retention.ms` and the lag.
// 4. Its transaction was not committed, and the reader wants what is committed or the topic is compacted.
//
// So the newest committed record of a key is always there, or a tombstone whose time has come. Nothing is there that
// was not sent, nothing twice, and one producer's records are in the order of sending.

import MillraceModel

/// What a topic's settings say about old records.
public struct CleanupRules: Sendable {
  /// `cleanup.policy` has `compact`, `delete`.
  public var compacts: Bool
  /// See ``compacts``.
  public var deletes: Bool
  /// `retention.ms`
  public var retentionTime: Int64?
  /// `retention.bytes`
  public var retentionBytes: Int64?
  /// `delete.retention.ms`
  public var deleteRetention: Int64 = 0
  /// `min.compaction.lag.ms`
  public var minCompactionLag: Int64 = 0

  /// Without limits.
  public init(compacts: Bool, deletes: Bool) {
    self.compacts = compacts
    self.deletes = deletes
  }
}

/// A record with a key, as it was sent.
public struct KeyedRecord: Hashable, Sendable {
  /// The key.
  public var key: Int
  /// Who sent it.
  public var name: RecordName
  /// Without a value.
  public var isTombstone: Bool
  /// In ms.
  public var timestamp: Int64

  /// A record.
  public init(key: Int, name: RecordName, isTombstone: Bool = false, timestamp: Int64) {
    self.key = key
    self.name = name
    self.isTombstone = isTombstone
    self.timestamp = timestamp
  }
}

/// How a record's transaction ended. Records without one are committed.
public enum RecordFate: Sendable {
  /// It may be visible, and stays so.
  case committed
  /// It must never be visible to readers of committed records.
  case aborted
  /// Nobody knows, or it is under way.
  case unknown
}

/// One reading of a whole partition.
public struct KeyedReading: Sendable {
  /// What was there, by offset.
  public var records: [Offset: KeyedRecord] = [:]
  /// The highest start that the reader was told.
  public var start: Offset = 0
  /// Offset after the last that was looked at.
  public var end: Offset = 0
  /// Aborted records were left out.
  public var isCommittedOnly: Bool
  /// ``CleanupLedger/acknowledgedCount`` when it began.
  public var since: Int
  /// ``CleanupLedger/deletedBelow`` when it began.
  public var leastStart: Offset = 0
  /// The latest that the wall clock has been, in ms, up to the end of the reading.
  public var latestTime: Int64 = .max

  /// Nothing read yet.
  public init(isCommittedOnly: Bool, since: Int) {
    self.isCommittedOnly = isCommittedOnly
    self.since = since
  }
}

/// What was sent to, acknowledged by and read of one partition. Calls return rules that are broken, in words.
public struct CleanupLedger: Sendable {
  /// Most bytes of a transaction's marker; now they are 78.
  public static let largestMarker: Int64 = 100

  private struct Sent {
    var record: KeyedRecord
    var transaction: Int?
    var bytes: Int64
    var offset: Offset?
    var isAcknowledged = false
  }

  private let partition: TopicPartition
  private let rules: CleanupRules
  private var sent: [RecordName: Sent] = [:]
  /// In the order of their acknowledgements.
  private var acknowledged: [RecordName] = []
  private var fates: [Int: RecordFate] = [:]
  /// The partition never begins below this offset any more.
  public private(set) var deletedBelow: Offset = 0
  private var mayBeDeletedBelow: Offset = 0
  /// Bytes of all markers that there may be.
  private var markerBytes: Int64 = 0
  /// Records acknowledged so far.
  public var acknowledgedCount: Int { acknowledged.count }
  /// Records missing from readings because they were superseded, and because the start moved past them.
  public private(set) var compactedAway = 0
  /// See ``compactedAway``.
  public private(set) var expired = 0

  /// Nothing sent yet.
  public init(_ partition: TopicPartition, _ rules: CleanupRules) {
    self.partition = partition
    self.rules = rules
  }

  // MARK: Producers

  /// Records are sent for the first time, in one batch of so many bytes.
  public mutating func sending(_ records: [KeyedRecord], bytes: Int, transaction: Int? = nil) {
    for (index, record) in records.enumerated() {
      sent[record.name] = Sent(record: record, transaction: transaction, bytes: index == 0 ? Int64(bytes) : 0)
    }
    if let transaction, fates[transaction] == nil { fates[transaction] = .unknown }
  }

  /// The partition is asked to be added to a transaction: its end leaves a marker here, also when it writes nothing here.
  public mutating func adding() { markerBytes += CleanupLedger.largestMarker }

  /// A batch was acknowledged.
  public mutating func acknowledged(_ records: [KeyedRecord], at base: Offset) -> String? {
    for (index, record) in records.enumerated() {
      guard var entry = sent[record.name], entry.offset == nil || entry.offset == base + Int64(index) else {
        return
          "\(partition): record \(record.name) was acknowledged at \(base + Int64(index)), but it was read elsewhere"
      }
      entry.offset = base + Int64(index)
      if !entry.isAcknowledged {
        entry.isAcknowledged = true
        acknowledged.append(record.name)
      }
      sent[record.name] = entry
    }
    return nil
  }

  /// How a transaction ended is known now.
  public mutating func ended(_ transaction: Int, _ fate: RecordFate) { fates[transaction] = fate }

  // MARK: DeleteRecords

  /// The records below an offset are asked to be deleted.
  public mutating func deleting(below offset: Offset) { mayBeDeletedBelow = max(mayBeDeletedBelow, offset) }

  /// That was acknowledged: the partition never begins below again.
  public mutating func deleted(below offset: Offset) { deletedBelow = max(deletedBelow, offset) }

  // MARK: Readers

  private func fate(_ entry: Sent) -> RecordFate { entry.transaction.map { fates[$0] ?? .unknown } ?? .committed }

  /// Holds one reading of the whole partition against everything that is known.
  /// - Returns: rules that are broken, `.cleanupKeeps` or `.cleanupShows`, with words.
  public mutating func check(_ reading: KeyedReading) -> [(rule: Rule, text: String)] {
    var problems = present(reading).map { (rule: Rule.cleanupShows, text: $0) }
    if reading.start < reading.leastStart {
      let text = "\(partition) begins at \(reading.start), although all below \(reading.leastStart) was deleted"
      problems.append((.cleanupShows, text))
    }
    let context = Context(newest: newest(reading), behind: behind(reading))
    for name in acknowledged.prefix(reading.since) {
      guard let entry = sent[name], let offset = entry.offset, offset < reading.end, reading.records[offset] == nil
      else { continue }
      if let problem = missing(name, entry, offset, reading, context) { problems.append((.cleanupKeeps, problem)) }
    }
    return problems
  }

  private mutating func present(_ reading: KeyedReading) -> [String] {
    var last: [Int: Int] = [:]
    for (offset, record) in reading.records.sorted(by: { $0.key < $1.key }) {
      guard let entry = sent[record.name], entry.record == record else {
        return ["\(partition) offset \(offset): \(record) was never sent"]
      }
      if let other = entry.offset, other != offset {
        return ["\(partition) offset \(offset): record \(record.name) stands there, but also stood at \(other)"]
      }
      if reading.isCommittedOnly, fate(entry) == .aborted {
        return ["\(partition) offset \(offset): record \(record.name) of an aborted transaction is shown"]
      }
      if let before = last.updateValue(record.name.number, forKey: record.name.producer), before >= record.name.number {
        return ["\(partition) offset \(offset): record \(record.name) stands there behind \(before)"]
      }
      sent[record.name]?.offset = offset
    }
    return []
  }

  /// Why a record must not be missing, nil when it may.
  private mutating func missing(
    _ name: RecordName, _ entry: Sent, _ offset: Offset, _ reading: KeyedReading, _ context: Context
  ) -> String? {
    let fate = fate(entry)
    if fate != .committed, reading.isCommittedOnly || rules.compacts { return nil }
    let what = "\(partition): record \(name), key \(entry.record.key), at offset \(offset)"
    if offset < reading.start {
      if mayExpire(entry, offset, reading, context) {
        expired += 1
        return nil
      }
      // It may have been compacted away before.
      guard rules.compacts else { return "\(what) lies below the start \(reading.start), but nothing allows that" }
    }
    guard rules.compacts else { return "\(what) is missing from \(reading.start)..<\(reading.end)" }
    guard entry.record.timestamp <= youngest(reading) else {
      return "\(what) is missing, although it is younger than min.compaction.lag.ms"
    }
    let isSuperseded = context.newest[entry.record.key].map { $0 > offset } ?? false
    let isForgotten =
      entry.record.isTombstone && entry.record.timestamp + rules.deleteRetention <= reading.latestTime
    guard isSuperseded || isForgotten else {
      return "\(what) is missing, although it is the newest of its key"
    }
    compactedAway += 1
    return nil
  }

  private func mayExpire(_ entry: Sent, _ offset: Offset, _ reading: KeyedReading, _ context: Context) -> Bool {
    if offset < mayBeDeletedBelow { return true }
    guard rules.deletes else { return false }
    if let time = rules.retentionTime, entry.record.timestamp < reading.latestTime - time { return true }
    guard let size = rules.retentionBytes else { return false }
    return context.bytes(behind: offset) + markerBytes >= size
  }

  /// What is found out once for all records of a reading.
  private struct Context {
    /// The last offset of each key that may supersede others; the highest of all for what was not acknowledged.
    var newest: [Int: Offset]
    /// Bytes of all batches from an offset on, by rising offset.
    var behind: [(offset: Offset, bytes: Int64)]

    func bytes(behind offset: Offset) -> Int64 {
      var low = 0
      var high = behind.count
      while low < high {
        let middle = (low + high) / 2
        if behind[middle].offset > offset { high = middle } else { low = middle + 1 }
      }
      return low < behind.count ? behind[low].bytes : 0
    }
  }

  private func youngest(_ reading: KeyedReading) -> Int64 {
    reading.latestTime.subtractingReportingOverflow(rules.minCompactionLag).partialValue
  }

  private func newest(_ reading: KeyedReading) -> [Int: Offset] {
    guard rules.compacts else { return [:] }
    let youngest = youngest(reading)
    var newest: [Int: Offset] = [:]
    for entry in sent.values where entry.record.timestamp <= youngest && fate(entry) != .aborted {
      let offset = entry.offset ?? .max
      newest[entry.record.key] = max(newest[entry.record.key] ?? -1, offset)
    }
    return newest
  }

  private func behind(_ reading: KeyedReading) -> [(offset: Offset, bytes: Int64)] {
    guard rules.retentionBytes != nil, reading.start > 0 else { return [] }
    var behind = sent.values.filter { $0.bytes > 0 }.map { (offset: $0.offset ?? .max, bytes: $0.bytes) }
    behind.sort { $0.offset < $1.offset }
    for index in behind.indices.dropLast().reversed() { behind[index].bytes += behind[index + 1].bytes }
    return behind
  }
}
