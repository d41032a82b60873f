// SnapshotPages: partitions as they were last encoded for a snapshot, so that idle ones cost nothing the next time.

import MillraceBase
import MillraceModel

/// Says whether a page must be encoded again; shared by the page and its partitions.
final class SnapshotMark {
  var isStale = true
}

/// Partitions whose numbers lie close together, with the bytes that stand for them in a snapshot.
///
/// A page is encoded again only when one of its partitions has changed since. With 100,000 partitions, of which a few
/// are written to, a snapshot costs the reactor those few pages instead of all of them.
final class SnapshotPage {
  /// How many partition numbers share a page.
  static let span: Int64 = 128
  /// After this time a page is encoded again although nothing has changed, so that silent producers are forgotten, in ms.
  static let longestLife: Int64 = 3_600_000

  let mark = SnapshotMark()
  private(set) var logs: [PartitionLog] = []
  private var encoded = Bytes()
  private var encodedAt: Int64 = 0

  func add(_ log: PartitionLog) {
    logs.insert(log, at: logs.partitioningIndex { $0.id < log.id })
    log.mark = mark
    mark.isStale = true
  }

  func remove(_ log: PartitionLog) {
    logs.removeAll { $0 === log }
    mark.isStale = true
  }

  /// The page's partitions in a snapshot's encoding; producers silent since before `expired` (ms) are forgotten.
  func bytes(expired: Int64) -> Bytes {
    guard mark.isStale || expired - encodedAt >= SnapshotPage.longestLife else { return encoded }
    var writer = ByteWriter(capacity: 4096)
    for log in logs {
      for (id, state) in log.producers
      where state.lastAppend.milliseconds < expired && log.transactions.open[id] == nil { log.producers[id] = nil }
      Snapshot.write(log.snapshot, to: &writer)
    }
    encoded = writer.finishJoined()
    encodedAt = expired
    mark.isStale = false
    return encoded
  }
}

extension PartitionLog {
  /// The partition's state as a snapshot holds it.
  var snapshot: SnapshotPartition {
    SnapshotPartition(
      id: id, startOffset: startOffset, nextOffset: nextOffset, size: size, compactedTo: compactedTo, epochs: epochs,
      producers: producers.sorted { $0.key < $1.key }.map { (id: $0.key, state: $0.value) },
      transactions: transactions, extents: extents)
  }
}
