// BacklogFetchTests: readers of many partitions that are far behind: answers of a bounded size, the next ones read ahead.

import MillraceBase
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceBroker
@testable import MillraceLog

/// A broker whose topic `t` lies in segments, but for its newest records.
private final class Backlog {
  static let partitions = 24
  let world: SimulatedWorld
  let disk: SimulatedFileSystem
  let broker: Broker
  let topic: TopicMetadata
  private(set) var ends = [Offset](repeating: 0, count: partitions)
  private(set) var bytes = 0
  private(set) var reads = 0

  init(batches: Int = 200, size: Int = 100_000, fileSize: Int = 4 << 20) throws {
    world = SimulatedWorld(seed: 1)
    disk = SimulatedFileSystem(world: world)
    var configuration = LogConfiguration(directory: "/data")
    configuration.journalFileSize = fileSize
    configuration.firstJournalFileSize = fileSize
    configuration.hotTailSize = 1 << 20
    broker = try Broker(
      log: configuration, settings: BrokerSettings(), fileSystem: disk,
      reactor: SimulatedReactor(world: world, name: "broker"), writer: SimulatedExecutor(world: world),
      background: SimulatedExecutor(world: world), logger: .silent, seed: 1)
    var made: Result<TopicMetadata, BrokerError>?
    broker.createTopic("t", partitions: Backlog.partitions) { made = $0 }
    _ = world.run { made != nil }
    topic = try #require(made).get()
    for number in 0..<batches {
      try produce(number % Backlog.partitions, size)
    }
    world.run(for: .seconds(5))
    disk.faults.predicate = { [unowned self] operation in
      if operation.kind == .read { reads += 1 }
      return nil
    }
  }

  deinit { world.tearDown() }

  func produce(_ partition: Int, _ size: Int) throws {
    var builder = RecordBatchBuilder()
    builder.append(Record(value: Bytes([UInt8](repeating: 1, count: size)), timestamp: world.wallClock))
    let batch = builder.finish()
    var result: Result<AppendedBatch, BrokerError>?
    broker.produce(topic, Int32(partition), records: batch) { result = $0 }
    _ = world.run { result != nil }
    _ = try #require(result).get()
    ends[partition] += 1
    bytes += batch.count
  }

  /// One fetch, and whether it was answered at once.
  func fetch(
    _ order: [Int], _ offsets: [Offset], isRotating: Bool = false, minimum: Int = 1, limit: Int = 50 << 20
  ) throws -> (results: [FetchedPartition], isAtOnce: Bool) {
    var answer: [FetchedPartition]?
    let targets = order.map {
      FetchTarget(partition: broker.partition(topic, Int32($0)), offset: offsets[$0], limit: 8 << 20)
    }
    broker.fetch(targets, minimum: minimum, limit: { limit }, wait: .milliseconds(500), isRotating: isRotating) {
      answer = $0
    }
    let isAtOnce = answer != nil
    _ = world.run { answer != nil }
    return (try #require(answer), isAtOnce)
  }

  /// Takes over what a fetch gave: every record once, in order. Returns the partitions that had records, and all bytes.
  func take(_ order: [Int], _ results: [FetchedPartition], _ offsets: inout [Offset]) throws -> (had: [Int], bytes: Int)
  {
    var had: [Int] = []
    for (partition, result) in zip(order, results) {
      try #require(result.error == nil && result.highWatermark == ends[partition])
      for run in result.batches {
        for (_, header) in try RecordBatchRun.headers(in: run) {
          try #require(header.baseOffset == offsets[partition])
          offsets[partition] = header.nextOffset
        }
      }
      if result.size > 0 { had.append(partition) }
    }
    return (had, results.reduce(0) { $0 + $1.size })
  }
}

/// In which order a client names its partitions in the next request.
private enum Order: CaseIterable {
  /// Always the same.
  case fixed
  /// Beginning one further each time, as librdkafka.
  case turning
  /// Those that had records go to the end, as Java's consumer, and fetch sessions.
  case servedLast
}

@Test(
  "a reader of a backlog gets all of it in answers of some megabytes, which wait for the disk only at first",
  arguments: Order.allCases)
private func backlog(order kind: Order) throws {
  let backlog = try Backlog()
  var offsets = [Offset](repeating: 0, count: Backlog.partitions)
  var order = Array(0..<Backlog.partitions)
  var answers = 0
  var waited = 0
  while offsets != backlog.ends {
    let (results, isAtOnce) = try backlog.fetch(order, offsets, isRotating: kind == .servedLast)
    let (had, bytes) = try backlog.take(order, results, &offsets)
    try #require(!had.isEmpty)
    // What memory has of the journal, a megabyte here, counts for nothing.
    #expect(bytes <= FetchRun.usualStoredLimit + (1 << 20) + 200_000)
    answers += 1
    if !isAtOnce { waited += 1 }
    switch kind {
    case .fixed: break
    case .turning: order = Array(order[1...] + [order[0]])
    case .servedLast: order = order.filter { !had.contains($0) } + had
    }
    // The client works on its answer.
    backlog.world.run(for: .milliseconds(100))
  }
  #expect(answers <= 2 * backlog.bytes / FetchRun.usualStoredLimit + 4, "\(answers) answers")
  #expect(waited <= 2, "\(waited) of \(answers) answers had to wait")
  // One by one, each run of a partition in a segment would take two reads: one for its index part, one for its batches.
  let runs = (0..<Backlog.partitions).reduce(0) {
    $0 + (backlog.broker.partition(backlog.topic, Int32($1))?.extents.count ?? 0)
  }
  #expect(backlog.reads * 3 <= runs * 2, "\(backlog.reads) reads of \(runs) runs")
}

@Test("a reader gets as much of a backlog as it wants at least, and no more than it wants at most")
func wantedFromBacklog() throws {
  // Large files, since one read gets no more of a partition than one segment holds.
  let backlog = try Backlog(fileSize: 16 << 20)
  var offsets = [Offset](repeating: 0, count: Backlog.partitions)
  let order = Array(0..<Backlog.partitions)
  let usual = try backlog.take(order, try backlog.fetch(order, offsets).results, &offsets)
  #expect(usual.bytes >= FetchRun.usualStoredLimit / 2 && usual.bytes <= FetchRun.usualStoredLimit + 110_000)
  let minimum = FetchRun.usualStoredLimit + (2 << 20)
  let least = try backlog.take(order, try backlog.fetch(order, offsets, minimum: minimum).results, &offsets)
  #expect(least.bytes >= minimum, "\(least.bytes) bytes")
  let most = try backlog.take(order, try backlog.fetch(order, offsets, limit: 300_000).results, &offsets)
  #expect(most.bytes > 0 && most.bytes <= 300_000)
}

@Test("records in memory come with every answer, however much of segments is wanted before them")
func liveBesideBacklog() throws {
  let backlog = try Backlog()
  var offsets = [Offset](repeating: 0, count: Backlog.partitions)
  let last = Backlog.partitions - 1
  offsets[last] = backlog.ends[last]
  let order = Array(0..<Backlog.partitions)
  for _ in 0..<4 {
    try backlog.produce(last, 1000)
    let before = offsets[last]
    _ = try backlog.take(order, try backlog.fetch(order, offsets).results, &offsets)
    #expect(offsets[last] == before + 1)
  }
}

@Test("a reader in memory alone makes nobody read")
func noReadsAtTheEnd() throws {
  let backlog = try Backlog(batches: 60)
  var offsets = backlog.ends
  let order = Array(0..<Backlog.partitions)
  for number in 0..<20 {
    try backlog.produce(number % Backlog.partitions, 1000)
    let (results, isAtOnce) = try backlog.fetch(order, offsets)
    #expect(isAtOnce)
    _ = try backlog.take(order, results, &offsets)
  }
  backlog.world.run(for: .seconds(1))
  #expect(offsets == backlog.ends && backlog.reads == 0)
}
