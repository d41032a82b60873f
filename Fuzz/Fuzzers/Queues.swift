// Queues: the durable bytes of message queues, and of messages in their logs.

import MillraceBase
import MillraceBroker
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
    var queue = MessageQueue(id: 1, state: state, now: Timestamp(milliseconds: 0))
    _ = queue.takeLoads()
    _ = queue.purge()
    _ = queue.takeCommit()
  } catch {}
}

/// What the log of a lane holds, read as a queue reads it; first as it is, then with a header put right around it.
let queueRecords = FuzzTarget(
  name: "queue-records",
  seeds: {
    var builder = RecordBatchBuilder()
    for index in 0..<3 as Range<Int64> {
      let message = Message(
        offset: index, timestamp: Timestamp(milliseconds: 1000 + index), exchange: "amq.topic", routingKey: "a.b",
        properties: Bytes([0x80, 0, 1, 97]), body: Bytes("body \(index)"),
        expiration: Timestamp(milliseconds: index == 0 ? -1 : 5000), notBefore: Timestamp(milliseconds: index - 1),
        groupKey: index == 1 ? Bytes("g") : nil, deduplicationID: index == 2 ? Bytes("id") : nil,
        format: MessageRecord.amqpProperties)
      MessageRecord.append(message, to: &builder)
    }
    return [builder.finish().array]
  }
) { input in
  read(input)
  guard input.count >= RecordBatchHeader.size else { return }
  read(mended(input))
}

private func read(_ run: Bytes) {
  let run = run.withBuffer { Bytes(copying: $0) }
  var reader = MessageReader(partition: PartitionLogID(1), lane: 3)
  do throws(MessageRecordError) {
    let found = try reader.read([run], from: 0, count: .max, bytes: .max)
    guard let last = found.messages.last else { return }
    precondition(last.offset < found.end, "offset \(last.offset) behind \(found.end)")
    var builder = RecordBatchBuilder()
    for message in found.messages { MessageRecord.append(message, to: &builder) }
    let again = try reader.read([builder.finish()], from: 0, count: .max, bytes: .max).messages
    precondition(again.count == found.messages.count, "\(again.count) of \(found.messages.count) messages")
    for (message, copy) in zip(found.messages, again) {
      precondition(
        copy.body == message.body && copy.properties == message.properties && copy.size == message.size
          && copy.exchange == message.exchange && copy.routingKey == message.routingKey
          && copy.groupKey == message.groupKey && copy.deduplicationID == message.deduplicationID,
        "a message changes when written and read again")
    }
    // A queue takes them, whatever their numbers are.
    var queue = MessageQueue(id: 1, now: Timestamp(milliseconds: 0))
    for message in found.messages { queue.published(message) }
    _ = queue.purge()
    _ = queue.takeCommit()
  } catch {}
}
