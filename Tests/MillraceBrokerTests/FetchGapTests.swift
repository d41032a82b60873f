// FetchGapTests: readers of committed records that stand in a gap left by compaction.

import MillraceBase
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceBroker
@testable import MillraceLog

@Test(
  "a reader of committed records in a gap before the last stable offset waits for that to move, and is not answered over and over"
)
func gapIsWaitedIn() throws {
  let world = SimulatedWorld(seed: 1)
  defer { world.tearDown() }
  var configuration = LogConfiguration(directory: "/data")
  configuration.journalFileSize = 32 << 10
  configuration.firstJournalFileSize = 16 << 10
  let reactor = SimulatedReactor(world: world, name: "broker")
  let broker = try Broker(
    log: configuration, settings: BrokerSettings(), fileSystem: SimulatedFileSystem(world: world),
    reactor: reactor, writer: SimulatedExecutor(world: world),
    background: SimulatedExecutor(world: world), logger: .silent, seed: 1)
  var made: Result<TopicMetadata, BrokerError>?
  broker.createTopic("t", partitions: 1) { made = $0 }
  try #require(world.run { made != nil })
  let topic = try #require(made).get()
  let log = try #require(broker.partition(topic, 0))
  // Enough for a first run of batches in a segment.
  for _ in 0..<60 {
    var builder = RecordBatchBuilder()
    builder.append(Record(value: Bytes([UInt8](repeating: 1, count: 1000)), timestamp: world.wallClock))
    var result: Result<AppendedBatch, BrokerError>?
    broker.produce(topic, 0, records: builder.finish()) { result = $0 }
    try #require(world.run { result != nil })
  }
  world.run(for: .seconds(2))
  var extent = try #require(log.extents.first)
  // As compaction and merging leave it: nothing between the run's last batch and an open transaction behind it.
  let gap = extent.nextOffset
  extent.nextOffset = gap + 20
  log.extents = [extent]
  log.recent = Deque()
  log.nextOffset = gap + 20
  log.highWatermark = gap + 20
  log.transactions.wrote(7, at: gap + 10)
  #expect(log.lastStableOffset == gap + 10)
  let target = FetchTarget(partition: log, offset: gap + 5, limit: 1000, isCommittedOnly: true)
  var answers = 0
  var last: [FetchedPartition] = []
  func fetch() {
    broker.fetch([target], minimum: 1, limit: 1000, wait: .milliseconds(500)) {
      answers += 1
      last = $0
      if answers < 1000 { reactor.schedule(after: .milliseconds(1)) { fetch() } }
    }
  }
  fetch()
  world.run(for: .seconds(5))
  #expect(answers >= 2 && answers <= 12, "\(answers) answers in 5 s")
  #expect(last.first?.error == nil && last.first?.batches.isEmpty == true)
  // A reader before the gap is served all the same.
  var served: [FetchedPartition] = []
  broker.fetch(
    [FetchTarget(partition: log, offset: 0, limit: 1000, isCommittedOnly: true)], minimum: 1, limit: 1000,
    wait: .milliseconds(500)
  ) { served = $0 }
  world.run(for: .milliseconds(200))
  #expect(served.first?.batches.isEmpty == false)
}
