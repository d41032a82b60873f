// Logs: what lies in a data directory: journal, segments, snapshot, metadata; and recordings of file operations.

import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceMetadata
import MillraceModel
import MillraceRouting
import MillraceSimulation

@testable import MillraceIO
@testable import MillraceLog

/// Events as they lie in the journal; what is accepted must survive writing and reading again.
let metadataEvents = FuzzTarget(
  name: "metadata-events",
  // A snapshot of few bytes may name many virtual hosts, each of which has its own tables once something is declared.
  allowance: 8 << 20,
  seeds: {
    let queue = DurableQueue.Definition(
      number: 1, virtualHost: "/", name: "q", isAutoDelete: false, arguments: ["x-max-priority": .int64(1)],
      lanes: [PartitionLogID(3), PartitionLogID(4)], created: Timestamp(milliseconds: 5))
    let events: [MetadataEvent] = [
      .started(epoch: 3, clusterID: "c"),
      .topicCreated(
        name: "t", id: TopicID(high: 1, low: 2), partitions: [PartitionLogID(1), PartitionLogID(2)],
        configs: ["a": "b"], time: Timestamp(milliseconds: 5)), .topicDeleted(id: TopicID(high: 1, low: 2)),
      .offsetsCommitted(
        group: "g",
        offsets: [
          PartitionOffset(
            partition: TopicPartition("t", 1),
            committed: CommittedOffset(
              offset: 7, leaderEpoch: -1, metadata: "m", time: Timestamp(milliseconds: 5)))
        ]), .producerIDsReserved(next: 1000), .jobStarted(name: "j", epoch: 4),
      .queue(.virtualHostCreated("v")), .queue(.queueCreated(queue)),
      .queue(.bound(virtualHost: "/", Binding(source: "amq.topic", destination: .queue("q"), key: "#.a"))),
      .queue(
        .changed(1, [.done(lane: 0, ranges: [0..<5, 7..<9], bytes: 99), .counted(lane: 1, offset: 3, count: 2)])),
      .queue(.published(1, lane: 0, bytes: 99)),
      .topicCreated(
        name: "s", id: TopicID(high: 3, low: 4), partitions: [PartitionLogID(9)], configs: [:],
        time: Timestamp(milliseconds: 5)),
      .share(.began(group: "g", TopicIDPartition(TopicID(high: 3, low: 4), 0), start: 2)),
      .share(
        .changed(
          group: "g", TopicIDPartition(TopicID(high: 3, low: 4), 0),
          [.done([2..<5, 7..<9]), .counted([5..<6, 12..<20], deliveries: 3)])),
      .share(.forgotten(group: "h", [TopicID(high: 3, low: 4)])),
    ]
    var seeds = events.map { [0] + $0.encoded().array } + (0...255).map { [0, $0, 1, 0, 0, 0, 0] }
    let world = SimulatedWorld(seed: 1)
    defer { world.tearDown() }
    let metadata = Metadata()
    do throws(LogError) {
      let log = try store(world, metadata)
      for event in events { try metadata.apply(event.encoded(), log: log) }
    } catch {
      preconditionFailure("a seed's event is refused: \(error)")
    }
    seeds.append([1] + metadata.snapshot().array)
    return seeds + [[1, 0, 0, 0, 1]]
  }
) { input in
  var choices = Choices(input)
  if choices.byte() % 2 == 0 {
    do throws(DecodingError) {
      let event = try MetadataEvent(choices.rest())
      let again = try MetadataEvent(event.encoded())
      // By their bytes: what is no number does not equal itself.
      precondition(again.encoded() == event.encoded(), "an event changes when written and read again: \(event)")
    } catch {
      return
    }
  } else {
    // A snapshot of the state that events have led to. The log is asked for nothing that outlasts the input.
    let snapshot = choices.rest()
    let world = SimulatedWorld(seed: 1)
    defer { world.tearDown() }
    let metadata = Metadata()
    do throws(LogError) {
      try metadata.restore(snapshot, log: try store(world, metadata))
    } catch {
      return
    }
    let written = metadata.snapshot()
    let again = Metadata()
    do throws(LogError) {
      try again.restore(written, log: try store(world, again))
    } catch {
      preconditionFailure("a snapshot that was written is refused: \(error)")
    }
    precondition(again.snapshot() == written, "a snapshot changes when written and read again")
  }
}

/// A log in which partitions can be made, and nothing else is.
private func store(_ world: SimulatedWorld, _ metadata: Metadata) throws(LogError) -> LogStore {
  var random = SeededRandom(seed: 1)
  return LogStore(
    replaying: metadata, configuration: Machine.configuration, fileSystem: SimulatedFileSystem(world: world),
    reactor: SimulatedReactor(world: world, name: "log"), logger: .silent, random: &random)
}

/// The headers and entries of journal files, with right checksums.
let journalBlocks = FuzzTarget(
  name: "journal-blocks",
  seeds: {
    [
      [UInt8](repeating: 0, count: 64),
      [2, 1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 104, 97, 108, 108, 111, 0, 0, 0],
      // Records of eight bytes, and another partition's with the same.
      [2] + [1, 1, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1] + [UInt8](repeating: 7, count: 8)
        + [4, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 2] + [0, 0, 0, 96, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5],
    ]
  }
) { input in
  input.withBuffer { buffer in
    _ = JournalFileHeader(buffer)
    _ = CommitHeader(buffer)
  }
  guard input.count > 1 else { return }
  var bytes = input.array
  if bytes.count >= 64 {
    let header = Array(bytes[..<64])
    bytes.withUnsafeMutableBytes { memory in
      memory.storeBytes(of: JournalFormat.fileMagic.bigEndian, as: UInt32.self)
      memory.storeBytes(of: JournalFormat.version.bigEndian, toByteOffset: 8, as: UInt32.self)
      let crc = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: memory[8..<64]))
      memory.storeBytes(of: crc.bigEndian, toByteOffset: 4, as: UInt32.self)
      precondition(
        JournalFileHeader(UnsafeRawBufferPointer(memory)) != nil, "a header with a right checksum is refused")
    }
    bytes.replaceSubrange(..<64, with: header)
  }
  // A commit whose payload is the input, and whose header says how many entries there are.
  let payload = Array(bytes.dropFirst())
  let header = CommitHeader(
    sequence: 1, durable: 0, payloadLength: payload.count, entryCount: Int(bytes[0]), previous: 0,
    payloadCRC: Bytes(payload).crc32c, identity: JournalIdentity(high: 1, low: 2), fileNumber: 1,
    time: Timestamp(milliseconds: 1))
  let commit = Bytes([UInt8](repeating: 0, count: JournalFormat.commitHeaderSize) + payload)
  commit.withBuffer { buffer in
    do throws(LogError) {
      try JournalEntry.forEach(in: buffer, header: header) { entry throws(LogError) in
        precondition(
          entry.position >= JournalFormat.commitHeaderSize && entry.position + entry.length <= buffer.count,
          "entry at \(entry.position) of \(entry.length) bytes in \(buffer.count)")
      }
    } catch {
      return
    }
  }
}

/// A data directory with journal, segments and snapshot, as a broker left it.
private let image: [(path: String, bytes: [UInt8])] = {
  let machine: Machine
  do throws(BrokerError) {
    machine = try Machine()
  } catch {
    preconditionFailure("the broker does not start: \(error)")
  }
  defer { machine.end() }
  var made = 0
  for topic in ["t", "u"] { machine.broker.createTopic(topic, partitions: 1) { _ in made += 1 } }
  machine.world.run { made == 2 }
  let client = machine.connect()
  for number in 0..<24 {
    client.send(
      produceRequest(number % 3 == 0 ? "u" : "t", records: 2, size: 100 + 60 * number), version: 7, Int32(number))
    machine.world.run(for: .milliseconds(20))
  }
  do throws(RoutingError) {
    try fan(machine)
  } catch {
    preconditionFailure("the queues cannot be made: \(error)")
  }
  machine.world.run(for: .seconds(2))
  machine.world.crash(.processKill)
  return machine.disk.contents().filter { !$0.path.hasSuffix("lock") }
}()

/// Queues that have messages in common, at offsets of their own.
private let fannedQueues = ["a", "b"]

private func fan(_ machine: Machine) throws(RoutingError) {
  // Without the type it would be an optional.
  let queues: QueueBroker = machine.broker.queues
  queues.sharedBodySize = 1
  var made = 0
  for name in fannedQueues {
    queues.declare(QueueDeclaration(name: name, virtualHost: "/", isDurable: true), in: "/", owner: nil) { _ in
      let binding = Binding(source: "amq.fanout", destination: .queue(name), key: "")
      queues.bind(binding, in: "/", owner: nil) { _ in made += 1 }
    }
  }
  machine.world.run { made == fannedQueues.count }
  let publisher = QueuePublisher(queues) { _, _ in }
  for number in 0..<16 {
    let isForAll = number % 3 > 0
    let publication = Publication(
      virtualHost: "/", exchange: Bytes(isForAll ? "amq.fanout" : ""), routingKey: Bytes(isForAll ? "" : "a"),
      format: AMQPMessageFormat.shared, properties: Bytes([0, 0]),
      body: Bytes([UInt8](repeating: UInt8(number), count: 200 + 150 * number)), facts: MessageFacts())
    _ = try publisher.publish(publication, tag: 0)
    machine.world.run(for: .milliseconds(20))
  }
}

/// Reads what a queue holds, which may be nothing that can be read.
private func browse(_ queue: String, _ machine: Machine) {
  var isAnswered = false
  machine.broker.queues.browse(queue, in: "/", owner: nil, limit: 100) { _ in isAnswered = true }
  machine.world.run(atMost: 10_000) { isAnswered }
}

/// The image above with the input's changes: each is a file, a place, a kind and some bytes. Checksums of the journal and
/// the snapshot are put right when the change says so. A broker must start on it or say why not, and serve whole batches.
let logImages = FuzzTarget(
  name: "log-images", allowance: 24 << 20, limit: .milliseconds(400),
  seeds: { (0..<image.count).flatMap { file in (0..<6).map { [UInt8(file), 0, 16, 0, UInt8($0), 4, 1, 2, 3, 4] } } }
) { input in
  var files = image
  var choices = Choices(input)
  while !choices.isEmpty { change(&files, &choices) }
  inspect(files)
  do throws(BrokerError) {
    let machine = try Machine(files)
    defer { machine.end() }
    for name in ["t", "u"] {
      guard let topic = machine.broker.topic(name), let partition = machine.broker.partition(topic, 0) else { continue }
      readAll(partition, machine)
    }
    for queue in fannedQueues { browse(queue, machine) }
  } catch {
    return
  }
}

private func change(_ files: inout [(path: String, bytes: [UInt8])], _ choices: inout Choices) {
  let file = choices.number(below: max(1, files.count))
  guard file < files.count else { return choices = Choices(Bytes()) }
  let size = files[file].bytes.count
  let place = choices.byte() << 16 | choices.byte() << 8 | choices.byte()
  let position = size == 0 ? 0 : place % size
  let kind = choices.byte()
  switch kind % 8 {
  case 0: files[file].bytes.removeLast(size - position)
  case 1 where files.count > 1: files.remove(at: file)
  case 2: files[file].bytes += choices.bytes(choices.byte()).array
  default:
    let bytes = choices.bytes(1 + choices.byte() % 32).array
    for (index, byte) in bytes.enumerated() where position + index < size { files[file].bytes[position + index] = byte }
    if kind % 2 == 0 { mend(&files[file].bytes, at: position, isJournal: files[file].path.hasSuffix(".journal")) }
  }
}

/// Puts the checksum right that covers `position`.
private func mend(_ bytes: inout [UInt8], at position: Int, isJournal: Bool) {
  bytes.withUnsafeMutableBytes { memory in
    func put(_ start: Int, _ end: Int, at place: Int) {
      guard end <= memory.count, start < end else { return }
      let crc = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: memory[start..<end]))
      memory.storeBytes(of: crc.bigEndian, toByteOffset: place, as: UInt32.self)
    }
    guard isJournal else {
      // A snapshot's slot: the body's checksum stands in the header.
      if position >= JournalFormat.blockSize, memory.count >= JournalFormat.blockSize {
        let length = Int(clamping: UnsafeRawBufferPointer(memory).number(40, UInt64.self))
        if length <= memory.count - JournalFormat.blockSize {
          put(JournalFormat.blockSize, JournalFormat.blockSize + length, at: 48)
        }
      }
      return put(8, 64, at: 4)
    }
    var block = position / JournalFormat.blockSize * JournalFormat.blockSize
    if block == 0 { return put(8, 64, at: 4) }
    let buffer = UnsafeRawBufferPointer(memory)
    while block > 0, buffer.number(block, UInt32.self) != JournalFormat.commitMagic { block -= JournalFormat.blockSize }
    guard block > 0, block + JournalFormat.commitHeaderSize <= memory.count else { return }
    let start = block + JournalFormat.commitHeaderSize
    let length = Int(buffer.number(block + 24, UInt32.self))
    if length <= memory.count - start { put(start, start + length, at: block + 40) }
    put(block + 8, start, at: block + 4)
  }
}

private func inspect(_ files: [(path: String, bytes: [UInt8])]) {
  let world = SimulatedWorld(seed: 1)
  defer { world.tearDown() }
  let disk = SimulatedFileSystem(world: world)
  Machine.write(files, to: disk)
  do throws(LogError) {
    _ = try LogInspection.run(directory: "/data", fileSystem: disk)
  } catch {
    return
  }
}

private func readAll(_ partition: PartitionLog, _ machine: Machine) {
  var offset = partition.startOffset
  for _ in 0..<200 where offset < partition.highWatermark {
    var answer: FetchedPartition?
    let target = FetchTarget(partition: partition, offset: offset, limit: 4 << 10)
    machine.broker.fetch([target], minimum: 0, limit: 4 << 10, wait: .zero) { answer = $0.first }
    machine.world.run(atMost: 10_000) { answer != nil }
    guard let answer, answer.error == nil else { return }
    let before = offset
    for run in answer.batches {
      do throws(RecordBatchError) {
        var at = 0
        while at < run.count {
          let header = try RecordBatchHeader.checked(run[at..<run.count])
          offset = max(offset, header.nextOffset)
          at += header.totalSize
        }
      } catch {
        preconditionFailure("a batch was served that is not whole: \(error)")
      }
    }
    if offset == before { return }
  }
}

/// Recordings: as they are behind the head, or made of operations with right checksums, and then replayed.
let recordings = FuzzTarget(
  name: "recordings", allowance: 8 << 20,
  seeds: { [[0, 0, 0, 0, 53, 0, 0, 0, 0]] + (0..<8).map { [1, 0, 1, 0, 0, 2, 97, 7, UInt8($0), 1, 0, 0, 2, 97, 1] } }
) { input in
  var choices = Choices(input)
  let isRaw = choices.byte() % 2 == 0
  var bytes = RecordedOperation.head.array
  if isRaw {
    bytes += choices.rest().array
  } else {
    var sequence: UInt64 = 0
    while !choices.isEmpty {
      sequence += 1
      bytes += operation(&choices, sequence).encoded().array
    }
  }
  let world = SimulatedWorld(seed: 1)
  defer { world.tearDown() }
  let disk = SimulatedFileSystem(world: world)
  Machine.write([("/recording", bytes)], to: disk)
  do throws(IOError) {
    let recording = try Recording("/recording", from: disk)
    guard !isRaw else { return }
    try recording.replay(
      prefix: recording.operations.count, into: "/out", of: disk, unflushed: .mixed(seed: UInt64(input.count)))
  } catch {
    return
  }
}

private func operation(_ choices: inout Choices, _ sequence: UInt64) -> RecordedOperation {
  let kinds = RecordedOperation.Kind.allCases
  var out = RecordedOperation(kinds[choices.number(below: kinds.count)])
  out.sequence = sequence
  out.file = UInt32(choices.byte())
  out.position = Int64(choices.number(below: 1 << 12)) - 1
  out.options = OpenOptions(rawValue: Int32(choices.byte()))
  out.path = "/" + String(decoding: choices.bytes(choices.byte() % 4).array, as: UTF8.self)
  out.target = "/" + String(decoding: choices.bytes(choices.byte() % 4).array, as: UTF8.self)
  out.bytes = choices.bytes(choices.byte())
  out.length = out.bytes.isEmpty ? Int64(choices.number(below: 1 << 12)) - 1 : Int64(out.bytes.count)
  return out
}
