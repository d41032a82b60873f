// CommittedReadTests: readers of committed records while what they read from disk changes.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceBroker

/// Passes jobs on, or holds one back.
///
/// Safety: as its world, used by one thread.
private final class HoldingExecutor: BlockingExecutor, @unchecked Sendable {
  private let inner: SimulatedExecutor
  private var held: (@Sendable () -> Void)?
  var holdsNext = false
  var isHolding: Bool { held != nil }

  init(_ inner: SimulatedExecutor) { self.inner = inner }

  func submit(_ job: @escaping @Sendable () -> Void) {
    guard holdsNext else { return inner.submit(job) }
    holdsNext = false
    held = job
  }

  func release() {
    guard let job = held else { return }
    held = nil
    inner.submit(job)
  }
}

@Test(
  "a committed read whose records were deleted meanwhile is refused: nobody is told any more which of them are void")
func startMovesDuringCommittedRead() throws {
  let world = SimulatedWorld(seed: 5)
  defer { world.tearDown() }
  let background = HoldingExecutor(SimulatedExecutor(world: world))
  var log = LogConfiguration(directory: "/data")
  log.journalFileSize = 64 << 10
  log.firstJournalFileSize = 64 << 10
  log.hotTailSize = 64 << 10
  let broker = try Broker(
    log: log, settings: BrokerSettings(), fileSystem: SimulatedFileSystem(world: world),
    reactor: SimulatedReactor(world: world, name: "broker"), writer: SimulatedExecutor(world: world),
    background: background, logger: .silent, seed: 1)
  func wait<Value>(_ call: (@escaping (Value) -> Void) -> Void) throws -> Value {
    var answer: Value?
    call { answer = $0 }
    try #require(world.run { answer != nil })
    return try #require(answer)
  }
  let topic = try wait { broker.createTopic("t", partitions: 1, configs: [:], completion: $0) }.get()
  let partition = try #require(broker.partition(topic, 0))
  func append(_ batch: Bytes) throws {
    let header = try RecordBatchHeader.checked(batch)
    _ = try wait { broker.log.append(AppendUnit(partition, batch, header), completion: $0) }.get()
  }
  func batch(_ size: Int, producer: Int64 = -1) -> Bytes {
    var builder = RecordBatchBuilder()
    builder.append(Record(value: Bytes(Array(repeating: 7, count: size)), timestamp: Timestamp(milliseconds: 1)))
    return builder.finish(
      producerID: producer, producerEpoch: producer < 0 ? -1 : 0, baseSequence: producer < 0 ? -1 : 0,
      isTransactional: producer >= 0, compress: { $0 })
  }
  try append(batch(100, producer: 9))
  try append(
    TransactionMarker(producerID: 9, producerEpoch: 0, isCommit: false, coordinatorEpoch: 0).batch(at: world.wallClock))
  for _ in 0..<100 { try append(batch(3000)) }
  world.run(for: .seconds(3))
  #expect(partition.abortedTransactions(from: 0, to: 2).count == 1)
  var answer: [FetchedPartition]?
  background.holdsNext = true
  broker.fetch(
    [FetchTarget(partition: partition, offset: 0, limit: 1 << 20, isCommittedOnly: true)], minimum: 0, limit: 1 << 20,
    wait: .zero
  ) { answer = $0 }
  #expect(background.isHolding && answer == nil, "the disk is asked")
  _ = try wait { broker.deleteRecords(topic, 0, before: 3, completion: $0) }.get()
  #expect(partition.abortedTransactions(from: 0, to: 2).isEmpty)
  background.release()
  try #require(world.run { answer != nil })
  let fetched = try #require(answer?.first)
  #expect(fetched.error?.code == .offsetOutOfRange && fetched.batches.isEmpty)
}
