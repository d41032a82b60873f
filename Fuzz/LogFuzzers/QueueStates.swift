// QueueStates: the durable bytes of message queues.

import FuzzHarness
import MillraceBase
import MillraceDelivery
import MillraceModel

/// A queue's snapshot, then changes that are applied to it. What is accepted must survive writing and reading again, and a
/// queue must start on it.
let queueStates = FuzzTarget(
  name: "queue-states",
  seeds: {
    var state = QueueState(start: 3)
    let changes: [QueueChange] = [
      .done(lane: 0, ranges: [5..<7, 9..<400], bytes: 77), .counted(lane: 0, offset: 4, count: 3),
      .delayed(lane: 0, offset: 8, until: Timestamp(milliseconds: 123_456)), .done(lane: 9, ranges: [0..<2], bytes: 1),
    ]
    for change in changes { state.apply(change) }
    var writer = ByteWriter()
    state.encode(to: &writer)
    for change in changes { change.encode(to: &writer) }
    return [writer.finishJoined().array]
  }
) { input in
  var reader = ByteReader(input)
  do throws(DecodingError) {
    var state = try QueueState(from: &reader)
    while reader.remaining > 0 { state.apply(try QueueChange(from: &reader)) }
    var writer = ByteWriter()
    state.encode(to: &writer)
    var again = ByteReader(writer.finishJoined())
    let read = try QueueState(from: &again)
    precondition(read == state, "a state was read back as another one")
    // Logs that go on, as far as their published sizes say.
    let backlog = state.lanes.keys.sorted().map { LaneBacklog(lane: $0, end: 500, bytes: .max - Int64($0)) }
    var queue = MessageQueue(id: 1, state: state, backlog: backlog, now: Timestamp(milliseconds: 0))
    let length = queue.length
    _ = queue.takeLoads()
    _ = (queue.durableState(), queue.lengthBytes)
    precondition(queue.purge() == length, "a purge of fewer than \(length) messages")
    _ = queue.takeCommit()
  } catch {}
}
