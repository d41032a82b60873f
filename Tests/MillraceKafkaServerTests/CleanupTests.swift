// CleanupTests: topics' settings of retention, compaction and times, as the broker acts on them.

import MillraceBase
import MillraceBroker
import MillraceLog
import MillraceModel
import Testing

/// One batch with these keys, all with the same time.
private func batch(_ keys: [String?], time: Int64, size: Int = 10) -> Bytes {
  var builder = RecordBatchBuilder()
  for key in keys {
    builder.append(
      Record(
        key: key.map { Bytes($0) }, value: Bytes([UInt8](repeating: 1, count: size)),
        timestamp: Timestamp(milliseconds: time)))
  }
  return builder.finish()
}

extension ServerWorld {
  fileprivate func create(_ name: String, _ configs: [String: String]) throws -> TopicMetadata {
    var made: Result<TopicMetadata, BrokerError>?
    broker.createTopic(name, partitions: 1, configs: configs) { made = $0 }
    try #require(world.run { made != nil })
    return try #require(made).get()
  }

  @discardableResult
  fileprivate func produce(_ topic: TopicMetadata, _ bytes: Bytes) throws -> Offset {
    var result: Result<AppendedBatch, BrokerError>?
    broker.produce(topic, 0, records: bytes) { result = $0 }
    try #require(world.run { result != nil })
    return try #require(result).get().baseOffset
  }

  fileprivate func refusal(_ topic: TopicMetadata, _ bytes: Bytes) -> BrokerError.Code? {
    do {
      try produce(topic, bytes)
      return nil
    } catch {
      return (error as? BrokerError)?.code
    }
  }
}

@Test(
  "retention.ms and retention.bytes are looked at every log.retention.check.interval.ms, the broker's where a topic has none"
)
func retentionIsChecked() throws {
  let server = try ServerWorld()
  let now = server.world.wallClock.milliseconds
  let short = try server.create("short", ["retention.ms": "1000"])
  let small = try server.create("small", ["retention.bytes": "150", "retention.ms": "-1"])
  let plain = try server.create("plain", [:])
  let compacted = try server.create("compacted", ["cleanup.policy": "compact", "retention.ms": "1000"])
  for topic in [short, plain, compacted] { try server.produce(topic, batch(["a"], time: now)) }
  for _ in 0..<3 { try server.produce(small, batch(["a"], time: 1)) }
  // Older than the broker's seven days.
  let old = try server.create("old", [:])
  try server.produce(old, batch(["a"], time: now - 8 * 86_400_000))
  func starts() -> [Offset] {
    [short, small, plain, compacted, old].map { server.broker.partition($0, 0)?.startOffset ?? -1 }
  }
  server.world.run(for: .seconds(290))
  #expect(starts() == [0, 0, 0, 0, 0])
  server.world.run(for: .seconds(20))
  // Two batches of some 80 bytes are left of the small one.
  #expect(starts() == [1, 1, 0, 0, 1])
}

@Test("records without a key are refused where a topic is compacted, whatever the codec, and taken elsewhere")
func keysAreNeeded() throws {
  let server = try ServerWorld()
  let compacted = try server.create("compacted", ["cleanup.policy": "compact,delete"])
  let plain = try server.create("plain", ["retention.ms": "1000"])
  #expect(server.refusal(compacted, batch(["a", nil], time: 1)) == .invalidRecord)
  #expect(server.refusal(compacted, batch(["a", ""], time: 1)) == nil)
  #expect(server.refusal(plain, batch([nil], time: 1)) == nil)
  #expect(server.broker.partition(compacted, 0)?.nextOffset == 2)
}

@Test("times too far ahead of the broker's clock, or behind it, are refused where a topic says so")
func timesAreChecked() throws {
  let server = try ServerWorld()
  let now = server.world.wallClock.milliseconds
  let topic = try server.create(
    "strict", ["message.timestamp.after.max.ms": "60000", "message.timestamp.before.max.ms": "120000"])
  #expect(server.refusal(topic, batch(["a"], time: now + 90_000)) == .invalidTimestamp)
  #expect(server.refusal(topic, batch(["a"], time: now - 150_000)) == .invalidTimestamp)
  #expect(server.refusal(topic, batch(["a"], time: now + 30_000)) == nil)
  #expect(server.refusal(topic, batch(["a"], time: now - 90_000)) == nil)
  let free = try server.create("free", [:])
  #expect(server.refusal(free, batch(["a"], time: now + 90_000_000)) == nil)
}

@Test("a compacted topic keeps the newest record of each key, and readers get over the gaps")
func topicsAreCompacted() throws {
  let server = try ServerWorld {
    $0.journalFileSize = 64 << 10
    $0.firstJournalFileSize = 64 << 10
    $0.journalFileLimit = 4
    $0.hotTailSize = 64 << 10
  }
  let topic = try server.create("latest", ["cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0"])
  let partition = try #require(server.broker.partition(topic, 0))
  for index in 0..<400 {
    try server.produce(topic, batch(["key-\(index % 10)"], time: server.world.wallClock.milliseconds, size: 1000))
  }
  let before = partition.size
  server.world.run(for: .seconds(60))
  #expect(partition.size < before / 2)
  var next: Offset = 0
  var newest: [String: Offset] = [:]
  var count = 0
  while next < partition.highWatermark {
    var results: [FetchedPartition]?
    server.broker.fetch(
      [FetchTarget(partition: partition, offset: next, limit: 1 << 20)], minimum: 1, limit: 1 << 20,
      wait: .seconds(1)
    ) { results = $0 }
    try #require(server.world.run { results != nil })
    let runs = try #require(results?.first).batches
    try #require(!runs.isEmpty, "nothing at \(next)")
    for run in runs {
      var batches = RecordBatchRun(run)
      while let (bytes, header) = try batches.next() {
        let body = bytes[RecordBatchHeader.size..<bytes.count]
        for record in try RecordReader.records(body, header: header) where record.offset >= next {
          newest[record.key?.text ?? ""] = record.offset
          count += 1
        }
        next = header.nextOffset
      }
    }
  }
  #expect(count < 300 && newest == Dictionary(uniqueKeysWithValues: (390..<400).map { ("key-\($0 % 10)", Int64($0)) }))
}
