// ConsumeRun: one run of `millrace consume`: where to read, what to write, when to commit and when to end.

import MillraceBase
import MillraceIO
import MillraceModel

/// Reads a topic and writes its records. What is committed was written before.
final class ConsumeRun {
  private let client: KafkaClient
  private let interruption: Interruption
  private let output = OutputStream.standardOutput
  private let name: String
  private let partition: Int32?
  private let isJSON: Bool
  private let maximum: Int64
  private let idleLimit: Duration?
  private let from: StartPosition
  private let isCommittedOnly: Bool
  private let fetcher: RecordFetcher
  private let member: GroupMember?
  private var topic: ClientTopic?
  private var buffer: [UInt8] = []
  private var json = JSONWriter()
  private var written: Int64 = 0
  private var isOutputClosed = false
  private var uncommitted: [TopicPartition: Offset] = [:]
  private var nextCommit = MonotonicTime.now
  private var lastRecord = MonotonicTime.now

  /// How long one fetch waits: also how soon a signal is noticed.
  private static let wait = Duration.milliseconds(250)
  private static let commitInterval = Duration.seconds(1)
  /// How long a lost server is tried again.
  private static let patience = Duration.seconds(30)

  /// A run with these arguments.
  init(_ arguments: Arguments, _ client: KafkaClient, _ interruption: Interruption) {
    self.client = client
    self.interruption = interruption
    name = arguments.operands[0]
    partition = arguments.integer("--partition").map { Int32($0) }
    isJSON = arguments.has("--json")
    maximum = arguments.integer("--max") ?? .max
    idleLimit = arguments.seconds("--timeout")
    from = arguments.text("--from").flatMap { StartPosition($0) } ?? .latest
    isCommittedOnly = arguments.text("--isolation") != "read_uncommitted"
    fetcher = RecordFetcher(client, isCommittedOnly: isCommittedOnly)
    member = arguments.text("--group").map { GroupMember(client, group: $0, topic: arguments.operands[0]) }
  }

  // MARK: Where to read

  /// Finds the topic and the positions to begin at; in a group, joins it.
  func start() throws(ClientError) {
    let topic = try client.topic(name)
    self.topic = topic
    if member != nil { return try join() }
    var partitions = topic.partitions
    if let partition {
      guard partitions.contains(partition) else {
        throw ClientError(
          .refused(.unknownTopicOrPartition),
          "topic \(name) has no partition \(partition), only 0 to \(partitions.count - 1)")
      }
      partitions = [partition]
    }
    fetcher.assign(try begin(partitions), of: [topic])
  }

  /// Where to begin in each of these partitions, as `--from` says.
  private func begin(_ partitions: [Int32]) throws(ClientError) -> [TopicPartition: Offset] {
    guard !partitions.isEmpty else { return [:] }
    guard case .offset(let offset) = from else {
      let offsets = try client.offsets(name, partitions, from, isCommittedOnly: isCommittedOnly)
      return Dictionary(
        offsets.map { (TopicPartition(name, $0.key), $0.value) }, uniquingKeysWith: { first, _ in first })
    }
    let earliest = try client.offsets(name, partitions, .earliest)
    let latest = try client.offsets(name, partitions, .latest, isCommittedOnly: isCommittedOnly)
    var positions: [TopicPartition: Offset] = [:]
    for partition in partitions {
      let range = (earliest[partition] ?? 0)...max(latest[partition] ?? 0, earliest[partition] ?? 0)
      guard range.contains(offset) else {
        throw ClientError(
          .refused(.offsetOutOfRange),
          "\(name)-\(partition) has offsets \(range.lowerBound) to \(range.upperBound), not \(offset)"
            + (partitions.count > 1 ? "; --partition chooses one partition" : ""))
      }
      positions[TopicPartition(name, partition)] = offset
    }
    return positions
  }

  private func join() throws(ClientError) {
    guard let member, let topic else { return }
    let partitions: [TopicPartition]
    do throws(ClientError) {
      partitions = try member.join()
    } catch {
      guard error.code == .interrupted else { throw error }
      return fetcher.assign([:], of: [topic])
    }
    var positions = try member.committed(partitions)
    let fresh = partitions.filter { positions[$0] == nil }
    positions.merge(try begin(fresh.map(\.partition)), uniquingKeysWith: { held, _ in held })
    fetcher.assign(positions, of: [topic])
  }

  // MARK: The loop

  private var isOver: Bool {
    if written >= maximum || isOutputClosed || interruption.isRequested { return true }
    // What fits into the pipe is written without an error, so that a reader's end has to be asked for.
    if output.isClosed { return true }
    if let idleLimit, MonotonicTime.now - lastRecord >= idleLimit { return true }
    return false
  }

  /// Reads and writes until there is a reason to end.
  func loop() throws(CommandFailure) {
    var lost: MonotonicTime?
    while !isOver {
      do throws(ClientError) {
        let fetched = try step()
        lost = nil
        try write(fetched)
        if member != nil, MonotonicTime.now >= nextCommit { try commit() }
      } catch {
        switch error.code {
        case .interrupted: return
        case .lost, .unreachable:
          let since = lost ?? .now
          lost = since
          if MonotonicTime.now - since > ConsumeRun.patience { throw CommandFailure(error) }
          SystemClock.sleep(.milliseconds(200))
        default: throw CommandFailure(error)
        }
      }
    }
  }

  private func step() throws(ClientError) -> RecordFetcher.Fetched {
    if let member, try member.mustRejoin() {
      try commit()
      try join()
    }
    let fetched = try fetcher.fetch(wait: ConsumeRun.wait)
    for partition in fetched.outOfRange {
      let earliest = try client.offsets(partition.topic, [partition.partition], .earliest)
      warn("\(partition): offset \(fetcher.positions[partition] ?? 0) is gone, going on at the oldest record")
      fetcher.seek(partition, to: earliest[partition.partition] ?? 0)
    }
    return fetched
  }

  private func write(_ fetched: RecordFetcher.Fetched) throws(ClientError) {
    if !fetched.records.isEmpty { lastRecord = .now }
    var pending: [TopicPartition: Offset] = [:]
    var count: Int64 = 0
    for record in fetched.records {
      if written + count >= maximum { break }
      append(record)
      fetcher.took(record)
      pending[record.partition] = record.record.offset + 1
      count += 1
      if buffer.count >= 1 << 20 { try flush(&pending, &count) }
      if isOutputClosed { return }
    }
    if !fetched.records.isEmpty { try flush(&pending, &count) }
    // Behind the last record there may be batches without any for readers, such as a transaction's end.
    guard !isOutputClosed, written < maximum else { return }
    for (partition, end) in fetched.ends where end > fetcher.positions[partition] ?? .max {
      if member != nil { uncommitted[partition] = end }
    }
    fetcher.tookAll(of: fetched)
  }

  private func append(_ fetched: FetchedRecord) {
    if isJSON {
      json.reset()
      RecordJSON.write(fetched, to: &json)
      buffer.append(contentsOf: json.bytes)
    } else {
      fetched.record.value?.withBuffer { buffer.append(contentsOf: $0) }
    }
    buffer.append(UInt8(ascii: "\n"))
  }

  /// Writes what is held; only then it counts as read.
  private func flush(_ pending: inout [TopicPartition: Offset], _ count: inout Int64) throws(ClientError) {
    do throws(IOError) {
      try buffer.span.withUnsafeBytes { bytes throws(IOError) in try output.write(bytes) }
    } catch {
      guard error.isBrokenPipe else { throw ClientError(.malformed, error.description) }
      isOutputClosed = true
      return
    }
    buffer.removeAll(keepingCapacity: true)
    written += count
    count = 0
    uncommitted.merge(pending, uniquingKeysWith: { _, new in new })
    pending = [:]
  }

  private func commit() throws(ClientError) {
    nextCommit = .now + ConsumeRun.commitInterval
    guard let member, !uncommitted.isEmpty else { return }
    if try !member.commit(uncommitted) {
      warn("the group went on without this member; another one may write some records again")
    }
    uncommitted = [:]
  }

  /// Commits what was written and leaves the group.
  func finish() throws(ClientError) {
    guard let member else { return }
    try commit()
    try member.leave()
  }

  private func warn(_ text: String) {
    // Nobody can be told when standard error itself is gone.
    do throws(IOError) { try OutputStream.standardError.write("millrace: \(text)\n") } catch {}
  }
}
