// WordWatch: follows the topic of counts for the demo's table of top words.

import MillraceBase
import MillraceBroker
import MillraceLog
import MillraceMetadata
import MillraceModel

/// The newest count of each word, as far as it was seen. Belongs to the broker's reactor.
final class WordWatch {
  private let broker: Broker
  private let topic: String
  private var offsets: [Int32: Offset] = [:]
  private var counts: [String: UInt64] = [:]
  private static let readBytes = 4 << 20
  /// How far back a start looks: frequent words come again soon, so the top of the table does not need the rest.
  private static let lookBack: Offset = 200_000
  /// Rare words are forgotten when there are more than this.
  private static let mostWords = 100_000

  init(broker: Broker, topic: String) {
    self.broker = broker
    self.topic = topic
  }

  /// Reads what is new, some MiB at most, then calls back.
  func update(_ done: @escaping () -> Void) {
    guard let found = broker.topic(topic) else { return done() }
    var targets: [FetchTarget] = []
    for index in found.partitions.indices {
      let number = Int32(index)
      guard let log = broker.partition(found, number) else { continue }
      let first = max(log.startOffset, log.highWatermark - WordWatch.lookBack)
      targets.append(
        FetchTarget(
          partition: log, offset: max(offsets[number] ?? 0, first), limit: WordWatch.readBytes, isCommittedOnly: true))
    }
    broker.fetch(targets, minimum: 0, limit: WordWatch.readBytes, wait: .zero) { [self] results in
      for (index, result) in results.enumerated() {
        for run in result.batches { take(run, Int32(index), result.aborted) }
      }
      done()
    }
  }

  private func take(_ run: Bytes, _ partition: Int32, _ aborted: [AbortedTransaction]) {
    var rest = RecordBatchRun(run)
    do {
      while let (batch, header) = try rest.next() {
        offsets[partition] = header.nextOffset
        if aborted.letSee(header) { take(batch, header) }
      }
    } catch {
      broker.logger.log(.warning, "demo", "a run of batches cannot be walked", ["error": "\(error)"])
    }
    guard counts.count > WordWatch.mostWords else { return }
    let kept = top(WordWatch.mostWords / 2)
    counts = Dictionary(uniqueKeysWithValues: kept)
  }

  private func take(_ batch: Bytes, _ header: RecordBatchHeader) {
    do {
      try Broker.plainRecords(of: batch, header: header).withBuffer { buffer throws(RecordBatchError) in
        try RecordReader.forEach(in: buffer, count: Int(header.recordCount)) { record in
          let word = String(decoding: record.key, as: UTF8.self)
          counts[word] = UInt64(String(decoding: record.value, as: UTF8.self))
        }
      }
    } catch {
      // Somebody else may write anything into the topic; the table leaves it out.
      broker.logger.log(.debug, "demo", "a batch cannot be read", ["error": "\(error)"])
    }
  }

  /// The words with the highest counts, highest first.
  func top(_ count: Int) -> [(String, UInt64)] {
    Array(counts.map { ($0.key, $0.value) }.sorted { ($0.1, $1.0) > ($1.1, $0.0) }.prefix(count))
  }
}
