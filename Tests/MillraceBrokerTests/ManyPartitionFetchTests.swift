// ManyPartitionFetchTests: fetches from many partitions at once, some in memory, some on disk.

import MillraceBase
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceBroker
@testable import MillraceLog

@Test("partitions of one fetch come in their order, whole, and within the limit, wherever their records lie")
func manyPartitions() throws {
  for seed: UInt64 in 1...8 {
    let world = SimulatedWorld(seed: seed)
    defer { world.tearDown() }
    var random = SeededRandom(seed: seed)
    var configuration = LogConfiguration(directory: "/data")
    configuration.journalFileSize = 64 << 10
    configuration.firstJournalFileSize = 16 << 10
    configuration.hotTailSize = 32 << 10
    if seed.isMultiple(of: 2) { configuration.readWindowsSize = 0 }
    let broker = try Broker(
      log: configuration, settings: BrokerSettings(), fileSystem: SimulatedFileSystem(world: world),
      reactor: SimulatedReactor(world: world, name: "broker"), writer: SimulatedExecutor(world: world),
      background: SimulatedExecutor(world: world), logger: .silent, seed: seed)
    var made: Result<TopicMetadata, BrokerError>?
    broker.createTopic("t", partitions: 9) { made = $0 }
    try #require(world.run { made != nil })
    let topic = try #require(made).get()
    var sizes = [[Int]](repeating: [], count: 9)
    for _ in 0..<180 {
      var builder = RecordBatchBuilder()
      let size = Int.random(in: 10...3000, using: &random)
      builder.append(Record(value: Bytes([UInt8](repeating: 1, count: size)), timestamp: world.wallClock))
      // The last partition stays empty.
      let partition = Int.random(in: 0..<8, using: &random)
      let batch = builder.finish()
      sizes[partition].append(batch.count)
      var result: Result<AppendedBatch, BrokerError>?
      broker.produce(topic, Int32(partition), records: batch) { result = $0 }
      try #require(world.run { result != nil })
    }
    world.run(for: .seconds(2))
    for _ in 0..<40 {
      let offsets = sizes.map { Int.random(in: 0...$0.count, using: &random) }
      let limit = [1, 500, 5000, 40_000, 1 << 20].randomElement(using: &random) ?? 1
      let each = [1, 3000, 1 << 20].randomElement(using: &random) ?? 1
      let order = (0..<9).shuffled(using: &random)
      var answer: [FetchedPartition]?
      let targets = order.map {
        FetchTarget(partition: broker.partition(topic, Int32($0)), offset: Offset(offsets[$0]), limit: each)
      }
      broker.fetch(targets, minimum: 0, limit: limit, wait: .zero) { answer = $0 }
      try #require(world.run { answer != nil })
      let results = try #require(answer)
      try #require(results.count == targets.count)
      var total = 0
      for (partition, result) in zip(order, results) {
        try #require(result.error == nil)
        var next = offsets[partition]
        var size = 0
        for run in result.batches {
          var at = 0
          while at < run.count {
            let header = try RecordBatchHeader.checked(run[at..<run.count])
            #expect(header.baseOffset == Offset(next) && header.totalSize == sizes[partition][next])
            next += 1
            at += header.totalSize
            size += header.totalSize
          }
        }
        #expect(size <= each || next == offsets[partition] + 1, "more than a batch may take at most what is asked for")
        // Only the first batch of all may exceed the limit.
        #expect(size == 0 || total + size <= limit || (total == 0 && next == offsets[partition] + 1))
        total += size
        if limit == 1 << 20, offsets[partition] < sizes[partition].count {
          #expect(next > offsets[partition], "there is room for some of each")
        }
      }
      let isSomethingThere = (0..<9).contains { offsets[$0] < sizes[$0].count }
      #expect(total > 0 || !isSomethingThere)
    }
  }
}
