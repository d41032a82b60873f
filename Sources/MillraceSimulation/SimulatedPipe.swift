// SimulatedPipe: one direction of a simulated connection: a bounded window of bytes that arrive late and in pieces.

import MillraceBase
import MillraceIO

/// Bytes on their way from a writer to a reader.
final class SimulatedPipe {
  private let world: SimulatedWorld
  private let capacity: Int
  private var bytes: [UInt8] = []
  private var head = 0
  /// Bytes that the reader may take.
  private(set) var arrived = 0
  private var isEnded = false
  private(set) var isBroken = false
  private var isAbandoned = false
  private var isUnderWay = false
  /// How many bytes had been written by which time, as far back as somebody may ask.
  private var writes: [(end: Int, at: MonotonicTime)] = []
  private var written = 0
  private static let remembered = 4096
  private var writerWaits = false
  /// Something arrived: bytes, the end, or word that the connection is broken.
  var onReadable: () -> Void = {}
  /// There is room again after a write that was cut short.
  var onRoom: () -> Void = {}

  private static let delay: ClosedRange<Duration> = .microseconds(10) ... .milliseconds(2)

  init(world: SimulatedWorld) {
    self.world = world
    capacity = Int.random(in: 1...64, using: &world.random) * 4096
  }

  private var held: Int { bytes.count - head }
  /// The writer ended, and the reader has had everything.
  var hasEnded: Bool { isEnded && held == 0 && !isBroken }

  /// The writer ended, and the reader can know it, though it may not have read everything.
  var endHasArrived: Bool { isEnded && held == arrived && !isBroken }

  /// Takes as much of `buffer` as the window has room for.
  func write(_ buffer: UnsafeRawBufferPointer) -> Int {
    guard !isEnded, !isBroken, !isAbandoned else { return buffer.count }
    let count = min(buffer.count, capacity - held)
    bytes += UnsafeRawBufferPointer(rebasing: buffer[..<count])
    writerWaits = count < buffer.count
    if count > 0 {
      written += count
      writes.append((written, world.now))
      if writes.count > 2 * SimulatedPipe.remembered { writes.removeFirst(SimulatedPipe.remembered) }
      deliver()
    }
    return count
  }

  /// When the byte at `position`, counted from the connection's first one, was written.
  func writtenAt(_ position: Int) -> MonotonicTime {
    var low = 0
    var high = writes.count
    while low < high {
      let middle = (low + high) / 2
      if writes[middle].end <= position { low = middle + 1 } else { high = middle }
    }
    return low < writes.count ? writes[low].at : world.now
  }

  /// The writer has no more.
  func end() {
    guard !isEnded else { return }
    isEnded = true
    deliver()
  }

  /// Moves arrived bytes into `room`.
  func read(into room: UnsafeMutableRawBufferPointer) -> Int {
    let count = min(room.count, arrived)
    guard count > 0 else { return 0 }
    bytes.withUnsafeBytes {
      room.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[head..<(head + count)]))
    }
    head += count
    arrived -= count
    if head == bytes.count || head > 1 << 16 {
      bytes.removeFirst(head)
      head = 0
    }
    if writerWaits {
      writerWaits = false
      world.schedule(after: world.randomDelay(SimulatedPipe.delay)) { [self] in onRoom() }
    }
    return count
  }

  /// The connection is cut: what has not arrived is lost, and both sides hear of it.
  func breakOff() {
    guard !isBroken else { return }
    isBroken = true
    bytes = []
    head = 0
    arrived = 0
    world.schedule(after: world.randomDelay(SimulatedPipe.delay)) { [self] in
      onReadable()
      onRoom()
    }
  }

  /// The reader is gone: what is written from now on goes nowhere, as it does until a real writer hears of it.
  func abandon() {
    isAbandoned = true
    bytes = []
    head = 0
    arrived = 0
    onReadable = {}
    if writerWaits {
      writerWaits = false
      world.schedule(after: world.randomDelay(SimulatedPipe.delay)) { [self] in onRoom() }
    }
  }

  private func deliver() {
    guard !isUnderWay else { return }
    isUnderWay = true
    let pause = world.network.decidesToStall() ?? .zero
    world.schedule(after: world.randomDelay(SimulatedPipe.delay) + pause) { [self] in arrive() }
  }

  private func arrive() {
    isUnderWay = false
    guard !isBroken, !isAbandoned else { return }
    if world.network.decidesToCut() {
      world.network.cut(self)
      return
    }
    let onTheWay = held - arrived
    if onTheWay > 0 {
      arrived += world.random.oneIn(2) ? onTheWay : Int.random(in: 1...onTheWay, using: &world.random)
      world.note("bytes arrived", UInt64(arrived))
    }
    onReadable()
    if held > arrived { deliver() }
  }
}
