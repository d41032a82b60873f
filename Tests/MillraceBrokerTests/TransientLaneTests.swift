import MillraceBase
import MillraceDelivery
import MillraceIO
import MillraceLog
import MillraceModel
import MillraceRouting
import Testing

@testable import MillraceBroker

/// Messages that no log keeps go to disk before memory is short, and come back in order.
@Suite struct TransientLaneTests {
  /// A world whose queues may hold little in memory.
  private func smallWorld(limit: Int = 4 << 20) throws -> QueueHostWorld {
    let world = try QueueHostWorld()
    world.queues.memoryLimit = limit
    return world
  }

  /// Files in the scratch folder, with their sizes.
  private func scratch(_ world: QueueHostWorld) -> [Int] {
    world.machine.disk.contents().filter { $0.path.contains("/scratch/") }.map(\.bytes.count)
  }

  private func body(_ number: Int) -> String { "\(number) " + String(repeating: "x", count: 1000) }

  private func fill(_ world: QueueHostWorld, _ queue: String, _ count: Int) throws {
    for start in stride(from: 0, to: count, by: 500) {
      try world.publishAndWait((start..<min(count, start + 500)).map(body), to: queue)
      // As a publisher that is told to wait does.
      try world.until { world.queues.pressure == nil }
    }
  }

  private func numbers(_ notes: DeliveryNotes) -> [Int] {
    notes.bodies.map { Int($0.prefix { $0 != " " }) ?? -1 }
  }

  @Test("a backlog of four times the memory is on disk, is consumed in order, and leaves no file behind")
  func spill() throws {
    let world = try smallWorld()
    try world.declare("q", isDurable: false, isExclusive: true)
    try fill(world, "q", 10_000)
    #expect(world.queues.memoryUsed <= 4 << 20)
    #expect(scratch(world).reduce(0, +) > 6 << 20)
    let status = try world.queues.inspect("q", in: "/", owner: world.owner)
    #expect(status.messageCount == 10_000)
    let notes = DeliveryNotes()
    let consumer = try world.consume("q", credit: 1000, into: notes)
    var seen: [Int] = []
    while seen.count < 10_000 {
      try world.until { !notes.deliveries.isEmpty }
      seen += numbers(notes)
      notes.acknowledgeAll()
    }
    #expect(seen == Array(0..<10_000))
    consumer.cancel()
    try world.pass(.seconds(1))
    #expect(scratch(world).isEmpty && world.queues.memoryUsed < 1 << 20)
  }

  @Test("what is requeued comes again in its place, though it lies on disk")
  func requeue() throws {
    let world = try smallWorld()
    try world.declare("q", isDurable: false, isExclusive: true)
    try fill(world, "q", 5000)
    let notes = DeliveryNotes()
    let first = try world.consume("q", credit: 3000, into: notes)
    try world.until { notes.deliveries.count == 3000 }
    // Every third one is done; the others go back.
    for (index, (delivery, consumer)) in notes.deliveries.enumerated() where index % 3 == 0 {
      consumer.settle(delivery.position, .acknowledge)
    }
    first.cancel()
    first.close(isFailure: false)
    notes.deliveries = []
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 4000 }
    #expect(numbers(notes) == (0..<5000).filter { $0 >= 3000 || $0 % 3 != 0 })
  }

  @Test("purging and deleting give the disk back")
  func giveBack() throws {
    let world = try smallWorld()
    try world.declare("a", isDurable: false, isExclusive: true)
    try world.declare("b", isDurable: false, isExclusive: true)
    try fill(world, "a", 3000)
    try fill(world, "b", 3000)
    #expect(!scratch(world).isEmpty)
    let purged = try world.machine.wait { world.queues.purge("a", in: "/", owner: world.owner, completion: $0) }
    #expect(try purged.get() == 3000)
    _ = try world.machine.wait {
      world.queues.delete("b", in: "/", owner: world.owner, completion: $0)
    }.get()
    try world.pass(.seconds(1))
    #expect(scratch(world).isEmpty && world.queues.memoryUsed < 1 << 20)
    try fill(world, "a", 10)
    let notes = DeliveryNotes()
    _ = try world.consume("a", into: notes)
    try world.until { notes.deliveries.count == 10 }
  }

  @Test("what lies on disk can be browsed, and dead letters are read from there")
  func browseAndLetters() throws {
    let world = try smallWorld()
    try world.declare(
      "q", isDurable: false, isExclusive: true,
      ["x-dead-letter-exchange": .string(""), "x-dead-letter-routing-key": .string("dead")])
    try world.declare("dead", isDurable: false, isExclusive: true)
    try fill(world, "q", 5000)
    var seen: [String] = []
    var from: Position? = nil
    repeat {
      let page = try world.machine.wait {
        world.queues.browse("q", in: "/", owner: world.owner, from: from, limit: 1500, completion: $0)
      }.get()
      seen += page.messages.map { $0.message.body.text }
      from = page.next
    } while from != nil
    #expect(seen == (0..<5000).map(body))
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == 5000 }
    for (delivery, consumer) in notes.deliveries { consumer.settle(delivery.position, .discard) }
    let dead = DeliveryNotes()
    _ = try world.consume("dead", into: dead)
    try world.until { dead.deliveries.count == 5000 }
    #expect(numbers(dead) == Array(0..<5000))
  }

  @Test("with a full disk publishers wait, and nothing is lost")
  func fullDisk() throws {
    let world = try smallWorld()
    try world.declare("q", isDurable: false, isExclusive: true)
    world.machine.disk.capacity = world.machine.disk.usedBytes + 2_500_000
    var published = 0
    while world.queues.pressure == nil {
      try world.publishAndWait((published..<published + 500).map(body), to: "q")
      published += 500
      try world.pass(.milliseconds(20))
      try #require(published < 10_000)
    }
    #expect(published > 3000)
    world.machine.disk.capacity += 100_000_000
    try world.until { world.queues.pressure == nil }
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.count == published }
    #expect(numbers(notes) == Array(0..<published))
  }

  @Test(
    "a block that changed on disk, or cannot be read, is not delivered; the queue goes on behind it",
    arguments: [true, false])
  func damage(isFlipped: Bool) throws {
    let world = try smallWorld()
    try world.declare("q", isDurable: false, isExclusive: true)
    try fill(world, "q", 5000)
    try world.pass(.seconds(1))
    if isFlipped {
      let file = try world.machine.disk.open("/data/scratch/1", .write)
      #expect(Bytes([0x99]).withBuffer { try? file.write($0, at: 5000) } != nil)
    } else {
      world.machine.disk.faults.predicate = { operation in
        operation.path.contains("/scratch/") && operation.kind == .read && operation.position == 0 ? .failed : nil
      }
    }
    let notes = DeliveryNotes()
    _ = try world.consume("q", into: notes)
    try world.until { notes.deliveries.last?.delivery.message.body.text.hasPrefix("4999 ") ?? false }
    let seen = Set(numbers(notes))
    // One block of at most 2 MiB.
    #expect((3400..<5000).contains(seen.count) && seen.count == notes.deliveries.count)
    #expect(numbers(notes) == numbers(notes).sorted())
    #expect(try world.queues.inspect("q", in: "/", owner: world.owner).messageCount == 0)
  }

  @Test("the next start removes what a power loss left")
  func leftovers() throws {
    let world = try smallWorld()
    try world.declare("q", isDurable: false, isExclusive: true)
    try fill(world, "q", 5000)
    #expect(!scratch(world).isEmpty)
    try world.restart()
    #expect(scratch(world).isEmpty)
  }

  @Test("any history of publishing, settling and spilling gives the messages of a plain list", arguments: 0..<15)
  func histories(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    let world = try QueueHostWorld()
    let files = world.broker.log.scratch
    var limits = TransientLane.Limits()
    limits.front = (messages: 20, bytes: 12_000)
    limits.run = (messages: 15, bytes: 8000)
    limits.fewestBytes = 3000
    var lane = TransientLane(limits: limits)
    var left: [Offset: String] = [:]
    var freed = 0
    var written = 0
    for step in 0..<200 {
      switch Int.random(in: 0..<6, using: &random) {
      case 0, 1, 2:
        for _ in 0..<Int.random(in: 1...30, using: &random) {
          let text = "\(lane.end) of \(step)"
          left[lane.end] = text
          lane.append(Message(offset: lane.end, timestamp: Timestamp(milliseconds: 1), body: Bytes(text)))
        }
      case 3:
        guard lane.end > 0 else { continue }
        let low = Offset.random(in: 0..<lane.end, using: &random)
        // Mostly in order, as consumers do.
        let start = Bool.random(using: &random) ? left.keys.min() ?? low : low
        let range = start..<min(lane.end, start + Offset.random(in: 1...40, using: &random))
        for offset in range { left[offset] = nil }
        lane.remove(range) {
          files.free($0); freed += 1
        }
      default:
        guard let chunk = lane.nextChunk() else { continue }
        #expect(chunk.messages.allSatisfy { chunk.range.contains($0.offset) })
        let bytes = QueueBroker.block(of: chunk.messages)
        let block = try world.machine.wait { files.write({ bytes }, completion: $0) }.get()
        written += 1
        lane.spilled(chunk, to: block) {
          files.free($0); freed += 1
        }
      }
      var found: [Offset: String] = [:]
      var at: Offset = 0
      while at < lane.end {
        switch lane.place(from: at, limit: 25) {
        case .memory(let messages, let end):
          #expect(end > at)
          for message in messages { found[message.offset] = message.body.text }
          at = end
        case .disk(let run):
          #expect(run.range.contains(at) && !run.left.isEmpty)
          guard step % 10 == 9 else {
            // Trusting it, so that not every step reads.
            for offset in at..<run.range.upperBound where run.left.contains(offset) {
              found[offset] = left[offset] ?? "?"
            }
            at = run.range.upperBound
            continue
          }
          let bytes = try world.machine.wait { files.read(run.block, completion: $0) }.get()
          let read = try world.queues.messages(
            in: [bytes], PartitionLogID(0), 0, from: at, count: .max, bytes: .max)
          for message in read.messages where run.left.contains(message.offset) {
            found[message.offset] = message.body.text
          }
          at = run.range.upperBound
        }
      }
      try #require(found == left, "step \(step)")
    }
    lane.remove(0..<lane.end) {
      files.free($0); freed += 1
    }
    #expect(freed == written && lane.bytes < 1024)
  }
}
