// LogImages: a data directory with journal, segments, snapshot and metadata, damaged, under a broker that starts on it.

import FuzzHarness
import FuzzStorage
import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceModel
import MillraceRouting
import MillraceSimulation

@testable import MillraceIO
@testable import MillraceLog

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
      if position >= 4096, memory.count >= 4096 {
        let length = Int(clamping: UnsafeRawBufferPointer(memory).number(40, UInt64.self))
        if length <= memory.count - 4096 {
          put(4096, 4096 + length, at: 48)
        }
      }
      return put(8, 64, at: 4)
    }
    var block = position / 4096 * 4096
    if block == 0 { return put(8, 64, at: 4) }
    let buffer = UnsafeRawBufferPointer(memory)
    while block > 0, buffer.number(block, UInt32.self) != JournalFormat.commitMagic { block -= 4096 }
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
  write(files, to: disk)
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
