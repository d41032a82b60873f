// StateTests: what is durable, what is held in memory, and what is read from the log.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceDelivery

@Test("a backlog of 100 million messages is not held, only a window of it")
func largeBacklog() throws {
  var options = QueueOptions()
  options.windowMessages = 100
  var queue = MessageQueue(id: 7, options: options, backlog: [LaneBacklog(end: 100_000_000)], now: ms(0))
  #expect(queue.length == 100_000_000)
  #expect(queue.heldSlots == 0)
  // Without consumers the head alone, for its time to live.
  #expect(queue.takeLoads().map(\.count) == [1])
  _ = queue.purge()
  #expect(queue.takeCommit()?.changes == [.done(lane: 0, ranges: [0..<100_000_000], bytes: 0)])
  #expect(queue.durableState().lanes[0] == QueueState.Lane(start: 100_000_000))
}

@Test("a straggler does not make the ring long, and is settled all the same")
func stragglers() throws {
  var queue = queue()
  _ = try queue.consumer()
  for offset in 0..<100_000 as Range<Offset> {
    queue.published(message(offset))
    #expect(queue.offsets() == [offset])
    if offset % 10_000 != 0 { queue.settle(offset, .acknowledge) }
  }
  #expect(queue.inFlightCount == 10)
  #expect(queue.heldSlots < 2000)
  #expect(queue.settle(lane: 0, 0..<50_000, .acknowledge, now: ms(0)) == 5)
  #expect(queue.durableState().lanes[0]?.start == 50_000)
  queue.settle(50_000, .requeue(isFailure: false))
  #expect(queue.offsets() == [50_000])
}

@Test("what the log has lost counts as done, and a load may be answered in part")
func lostMessages() throws {
  var queue = MessageQueue(id: 7, backlog: [LaneBacklog(end: 10)], now: ms(0))
  _ = try queue.consumer()
  var load = queue.takeLoads()[0]
  #expect(load.offset == 0 && load.count == 10)
  queue.loaded(load, messages: [message(1), message(3)], through: 5)
  #expect(queue.offsets() == [1, 3])
  #expect(queue.takeCommit()?.changes == [.done(lane: 0, ranges: [0..<1, 2..<3, 4..<5], bytes: 0)])
  load = queue.takeLoads()[0]
  #expect(load.offset == 5)
  queue.loaded(load, messages: [], through: 10)
  #expect(queue.length == 0)
}

@Test("gaps between publications are done")
func gaps() throws {
  var queue = queue(1)
  queue.published(message(5))
  queue.published(message(500))
  _ = try queue.consumer()
  #expect(queue.offsets() == [0, 5])
  queue.settle(lane: 0, 0..<6, .acknowledge, now: ms(0))
  #expect(queue.takeLoads().map(\.offset) == [500])
  #expect(queue.takeCommit()?.changes == [.done(lane: 0, ranges: [0..<500], bytes: 2)])
}

@Test("content in flight beyond the window's bytes is let go of, and read again when it comes back")
func contentIsLetGo() throws {
  var queue = queue { $0.windowBytes = 10 }
  _ = try queue.consumer()
  for offset in 0..<4 as Range<Offset> {
    queue.published(message(offset, size: 6))
    #expect(queue.offsets() == [offset])
  }
  #expect(queue.heldBytes == 6)
  queue.settle(2, .requeue(isFailure: false))
  #expect(queue.offsets() == [])
  let load = queue.takeLoads()[0]
  #expect(load.offset == 2 && load.kind == .returned)
  #expect(queue.takeLoads() == [])
  queue.loaded(load, messages: [message(2, size: 6), message(3, size: 6)], through: 4)
  #expect(queue.offsets() == [2])
}

@Test("a restart delivers again what was not settled, and nothing that was")
func restart() throws {
  var queue = queue(6)
  _ = try queue.consumer()
  _ = queue.offsets(limit: 4)
  queue.settle(1, .acknowledge)
  queue.settle(2, .requeue(isFailure: true))
  var state = QueueState()
  for change in queue.takeCommit()?.changes ?? [] { state.apply(change) }
  #expect(state == queue.durableState())
  var restarted = MessageQueue(id: 7, state: state, backlog: [LaneBacklog(end: 6, bytes: 6)], now: ms(0))
  #expect(restarted.lengthBytes == 5)
  _ = try restarted.consumer()
  for load in restarted.takeLoads() {
    restarted.loaded(load, messages: (0..<6).map { message($0) }, through: 6)
  }
  let deliveries = restarted.next(now: ms(0))
  #expect(deliveries.map(\.position.offset) == [0, 2, 3, 4, 5])
  #expect(deliveries.map(\.deliveryCount) == [0, 1, 0, 0, 0])
  #expect(deliveries.map(\.isRedelivered) == [true, true, false, false, false])
}

@Test("a long run that was done before a restart is not delivered, also when the log has it", arguments: [true, false])
func longDoneRun(logHasIt: Bool) throws {
  var state = QueueState()
  state.apply(.done(lane: 0, ranges: [10..<200], bytes: 190))
  var queue = MessageQueue(id: 7, state: state, backlog: [LaneBacklog(end: 300, bytes: 300)], now: ms(0))
  _ = try queue.consumer()
  var offsets: [Offset] = []
  for _ in 0..<5 {
    for load in queue.takeLoads() {
      let end = min(300, load.offset + Offset(load.count))
      let found = (load.offset..<end).filter { logHasIt || !state.lanes[0]!.isDone($0) }
      queue.loaded(load, messages: found.map { message($0) }, through: end)
    }
    offsets += queue.offsets(limit: 5)
    offsets += queue.offsets()
  }
  #expect(offsets == Array(0..<10) + Array(200..<300))
  #expect(queue.settle(lane: 0, 0..<300, .acknowledge, now: ms(0)) == 110)
  #expect(queue.durableState().lanes[0]?.start == 300)
  #expect(queue.durableState().lanes[0]?.doneBytes == 300)
}

@Test("a purge takes all but what is in flight, and browsing changes nothing")
func purgeAndBrowse() throws {
  var queue = queue(5)
  _ = try queue.consumer { $0.credit = 2 }
  _ = queue.offsets()
  queue.settle(1, .requeue(isFailure: true))
  let entries = queue.browse(lane: 0, limit: 10)
  #expect(entries.map(\.position.offset) == [0, 1, 2, 3, 4])
  #expect(entries.map(\.isInFlight) == [true, false, false, false, false])
  #expect(entries.map(\.deliveryCount) == [0, 1, 0, 0, 0])
  #expect(queue.browse(lane: 0, from: 3, limit: 1).map(\.position.offset) == [3])
  #expect(queue.purge() == 4)
  #expect(queue.length == 0)
  #expect(queue.inFlightCount == 1)
  #expect(queue.settle(0, .acknowledge) == true)
  queue.published(message(5))
  #expect(queue.offsets() == [5])
}

@Test("applying changes is total and idempotent")
func applyIsTotal() {
  var state = QueueState(start: 10)
  let changes: [QueueChange] = [
    .done(lane: 0, ranges: [0..<5, 12..<14, 14..<14], bytes: -3), .counted(lane: 0, offset: 13, count: 1),
    .counted(lane: 0, offset: 2, count: 1), .delayed(lane: 0, offset: 12, until: ms(1)),
    .counted(lane: 0, offset: 20, count: 2), .delayed(lane: 0, offset: 11, until: ms(9)),
  ]
  for _ in 0..<2 { for change in changes { state.apply(change) } }
  #expect(state.lanes[0]?.start == 10)
  #expect(state.lanes[0]?.done.ranges == [12..<14])
  #expect(state.lanes[0]?.counts == [20: 2])
  #expect(state.lanes[0]?.delays == [11: ms(9)])
  state.apply(.done(lane: 0, ranges: [Offset.min..<12], bytes: .max))
  #expect(state.lanes[0]?.start == 14)
  state.apply(.done(lane: 0, ranges: [0..<Offset.max], bytes: .max))
  #expect(state.lanes[0]?.counts == [:])
}

@Test("every cut of a snapshot is refused, and no changed byte is fatal")
func damagedSnapshots() throws {
  var state = QueueState(start: 3)
  for change in [
    QueueChange.done(lane: 0, ranges: [5..<7, 9..<400], bytes: 77), .counted(lane: 0, offset: 4, count: 3),
    .delayed(lane: 0, offset: 8, until: ms(123_456)), .done(lane: 9, ranges: [1..<2], bytes: 1),
  ] { state.apply(change) }
  var writer = ByteWriter()
  state.encode(to: &writer)
  let bytes = writer.finishJoined().array
  var reader = ByteReader(Bytes(bytes))
  #expect(try QueueState(from: &reader) == state)
  for length in 0..<bytes.count {
    #expect(throws: DecodingError.self) {
      var reader = ByteReader(Bytes(Array(bytes[..<length])))
      _ = try QueueState(from: &reader)
    }
  }
  var accepted = 0
  for index in bytes.indices {
    for bit in 0..<8 {
      var changed = bytes
      changed[index] ^= 1 << bit
      var reader = ByteReader(Bytes(changed))
      // Whatever is accepted can be written and read again.
      guard let other = try? QueueState(from: &reader) else { continue }
      accepted += 1
      var writer = ByteWriter()
      other.encode(to: &writer)
      var second = ByteReader(writer.finishJoined())
      #expect(try QueueState(from: &second) == other)
    }
  }
  #expect(accepted > 0)
}

@Test("numbers as large as a snapshot can hold can be added up, and larger ones are refused")
func largestNumbers() throws {
  let limit = QueueState.largestOffset
  var state = QueueState()
  for lane in UInt8.min...UInt8.max {
    state.apply(.done(lane: lane, ranges: [limit - 1..<limit], bytes: .max))
  }
  var writer = ByteWriter()
  state.encode(to: &writer)
  var reader = ByteReader(writer.finishJoined())
  let read = try QueueState(from: &reader)
  #expect(read == state)
  let backlog = (UInt8.min...UInt8.max).map { LaneBacklog(lane: $0, end: 500, bytes: $0 % 2 == 0 ? .max : .min) }
  for backlog in [[], backlog] {
    var queue = MessageQueue(id: 1, state: read, backlog: backlog, now: ms(0))
    #expect(queue.length == 256 * Int(limit - 1))
    #expect(queue.lengthBytes >= 0)
    #expect(queue.durableState().lanes.count == 256)
    #expect(queue.purge() == 256 * Int(limit - 1))
    #expect(queue.length == 0)
    _ = queue.takeCommit()
    // What comes now is added to sums that are as large as they may be.
    queue.published(message(limit, lane: 3))
    #expect(queue.purge() == 1)
    _ = queue.takeCommit()
    #expect(queue.durableState().lanes[3]?.start == limit + 1)
  }
  func refuses(_ state: QueueState) -> Bool {
    var writer = ByteWriter()
    state.encode(to: &writer)
    var reader = ByteReader(writer.finishJoined())
    return (try? QueueState(from: &reader)) == nil
  }
  func refuses(_ change: QueueChange) -> Bool {
    var writer = ByteWriter()
    change.encode(to: &writer)
    var reader = ByteReader(writer.finishJoined())
    return (try? QueueChange(from: &reader)) == nil
  }
  state.apply(.done(lane: 7, ranges: [limit..<limit + 1], bytes: 0))
  #expect(refuses(state))
  #expect(!refuses(QueueState(start: limit)) && refuses(QueueState(start: limit + 1)))
  for isLarge in [false, true] {
    let offset = isLarge ? limit + 1 : limit
    #expect(refuses(.done(lane: 0, ranges: [0..<offset], bytes: 1)) == isLarge)
    #expect(refuses(.counted(lane: 0, offset: offset, count: 1)) == isLarge)
    #expect(refuses(.delayed(lane: 0, offset: offset, until: ms(1))) == isLarge)
  }
}

@Test("ranges merge, are looked up and cut")
func offsetRanges() {
  var random = SeededRandom(seed: 1)
  for _ in 0..<300 {
    var set = OffsetRanges()
    var naive: Set<Offset> = []
    for _ in 0..<20 {
      let low = Offset.random(in: 0..<40, using: &random)
      let range = low..<low + .random(in: 0...6, using: &random)
      set.insert(range)
      naive.formUnion(range)
    }
    let cut = Offset.random(in: 0..<40, using: &random)
    let gap = cut..<cut + 5
    let without = set.subtracting(gap)
    #expect((0..<50).filter { without.contains($0) } == naive.subtracting(gap).sorted())
    set.remove(below: cut)
    naive = naive.filter { $0 >= cut }
    #expect((0..<50).filter { set.contains($0) } == naive.sorted())
    #expect(set.count == naive.count)
    #expect(zip(set.ranges, set.ranges.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
  }
}

@Test("counts and delays that come behind later ones, because they had to wait for room, change nothing")
func lateChanges() {
  var state = QueueState()
  state.apply(.counted(lane: 0, offset: 3, count: 2))
  state.apply(.counted(lane: 0, offset: 3, count: 1))
  state.apply(.delayed(lane: 0, offset: 3, until: ms(70)))
  state.apply(.delayed(lane: 0, offset: 3, until: ms(40)))
  #expect(state.lanes[0]?.counts[3] == 2)
  #expect(state.lanes[0]?.delays[3] == ms(70))
  state.apply(.delayed(lane: 0, offset: 3, until: ms(90)))
  #expect(state.lanes[0]?.delays[3] == ms(90))
}
